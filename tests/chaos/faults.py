"""
What can be done to a link between a worker and its store, and the plan of an iteration by its seed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Final

from asgi_batch.stores import _redis_scripts as scripts
from servers import HOST

_CHUNK: Final = 65_536
#: What is in each call of a verb of the store.
MARKERS: Final = {
    "create": scripts.CREATE.sha.encode(),
    "claim": scripts.CLAIM.sha.encode(),
    "save": scripts.SAVE.sha.encode(),
    "cancel": scripts.CANCEL.sha.encode(),
    "release": scripts.RELEASE.sha.encode(),
}

# How often each fault is drawn, and for how many seconds it lasts, from and to.
_FAULTS: Final[dict[str, tuple[int, float, float]]] = {
    "kill": (6, 0.0, 0.0),
    "term": (5, 0.0, 0.0),
    "restart of all": (2, 0.0, 0.0),
    "pause": (2, 0.1, 0.6),
    "long pause": (4, 1.2, 2.2),
    "drop": (5, 0.0, 0.0),
    "cut": (3, 0.0, 0.0),
    "dark": (2, 0.1, 0.5),
    "long dark": (4, 1.2, 2.4),
    "outage of a link": (2, 0.2, 1.5),
    "delay": (2, 0.5, 1.5),
    "freeze": (2, 0.1, 0.6),
    "long freeze": (2, 1.2, 2.2),
    "kill of Redis": (2, 0.0, 0.8),
}
_SPAN: Final = 1.2


@dataclass(frozen=True)
class Fault:
    """
    One fault of a plan.

    Args:
        at: Seconds after the beginning.
        name: What is done.
        place: To the worker of this number, where it is done to a worker or its link.
        seconds: For how long.
        verb: Of the call whose reply is dropped.
        is_lossy: Whether what was held back is lost in the end.
    """

    at: float
    name: str
    place: int
    seconds: float
    verb: str
    is_lossy: bool


def plan_of(rng: Random, places: int) -> list[Fault]:
    """
    The faults of one iteration, none in some.
    """
    count = rng.choice((0, 1, 1, 1, 2, 2, 3, 4))
    weights = [weight for weight, _, _ in _FAULTS.values()]
    plan = []
    for name in rng.choices(list(_FAULTS), weights, k=count):
        _, least, most = _FAULTS[name]
        plan.append(
            Fault(
                at=round(rng.uniform(0.1, _SPAN), 3),
                name=name,
                place=rng.randrange(places),
                seconds=round(rng.uniform(least, most), 3),
                verb=rng.choice(("save", "save", "save", *MARKERS)),
                is_lossy=rng.random() < 0.5,
            )
        )
    return sorted(plan, key=lambda fault: fault.at)


class _Pair:
    """
    A connection to the proxy and its other half.
    """

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.writers = [client]
        self.is_doomed = False

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Link:
    """
    What lies between one worker and Redis; it passes bytes on as they are, or not at all.

    Args:
        target_port: Of Redis.

    Attributes:
        delay: Seconds by which everything is late.
        is_down: Nobody gets through, and nobody waits.
        dropped: Replies that were lost.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._is_lit = asyncio.Event()
        self._is_lit.set()
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._marker: bytes | None = None
        self._on_drop = asyncio.Event()
        self.delay = 0.0
        self.is_down = False
        self.dropped = 0
        self.port = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Link]:
        """
        Listen, and cut all connections in the end.
        """
        server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """
        How many go through.
        """
        return len(self._pairs)

    def cut(self) -> None:
        """
        End all connections, whatever they are in the middle of.
        """
        for pair in list(self._pairs):
            pair.abort()

    def darken(self) -> None:
        """
        Hold everything back.
        """
        self._is_lit.clear()

    def light(self, *, is_lossy: bool = False) -> None:
        """
        Let everything pass again; what was held back as well, unless *is_lossy*.
        """
        if is_lossy:
            self.cut()
        self._is_lit.set()

    async def drop_reply_to(self, marker: bytes, seconds: float) -> bool:
        """
        Lose the reply to the next call with *marker* in it, and its connection; false where none
        came.
        """
        self._on_drop.clear()
        self._marker = marker
        try:
            async with asyncio.timeout(seconds):
                await self._on_drop.wait()
        except TimeoutError:
            return False
        finally:
            self._marker = None
        return True

    def heal(self) -> None:
        """
        Pass everything on from now on.
        """
        self.is_down, self.delay, self._marker = False, 0.0, None
        self.light()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        pair = _Pair(writer)
        self._pairs.add(pair)
        try:
            if not self.is_down:
                with contextlib.suppress(OSError):
                    await self._join(reader, pair)
        except asyncio.CancelledError:
            pass
        finally:
            pair.abort()
            self._pairs.discard(pair)
            self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, pair: _Pair) -> None:
        await self._is_lit.wait()
        from_redis, to_redis = await asyncio.open_connection(HOST, self._target_port)
        pair.writers.append(to_redis)
        pumps = [
            asyncio.create_task(self._requests(reader, to_redis, pair)),
            asyncio.create_task(self._replies(from_redis, pair.writers[0], pair)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: _Pair
    ) -> None:
        while data := await self._next(reader):
            if self._marker is not None and self._marker in data:
                self._marker, pair.is_doomed = None, True
            writer.write(data)
            await writer.drain()

    async def _replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: _Pair
    ) -> None:
        while data := await self._next(reader):
            if pair.is_doomed:
                self.dropped += 1
                self._on_drop.set()
                return
            writer.write(data)
            await writer.drain()

    async def _next(self, reader: asyncio.StreamReader) -> bytes:
        data = await reader.read(_CHUNK)
        if self.delay:
            await asyncio.sleep(self.delay)
        await self._is_lit.wait()
        return data
