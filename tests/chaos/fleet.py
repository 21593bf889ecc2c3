"""
One Redis and several workers, each with a link of its own; does to them what a plan says.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from chaos.faults import MARKERS, Fault, Link
from chaos.history import Disturbance, History, Kind
from chaos.settings import LEASE
from chaos.worker_proc import RedisProc, WorkerProc, ending

# Seconds in which a call comes along whose reply can be dropped.
_DROP: Final = 1.0


class Fleet:
    """
    Everything that can be hurt.

    Args:
        folder: Where it keeps its files.
        places: How many workers there are.
    """

    def __init__(self, folder: Path, places: int) -> None:
        self._folder = folder
        self._places = places
        self._locks = [asyncio.Lock() for _ in range(places)]
        self._link_locks = [asyncio.Lock() for _ in range(places)]
        self._redis_lock = asyncio.Lock()
        self._history = History()
        self.effects = folder / "effects.log"
        self.redis = RedisProc(folder / "redis")
        self.links: list[Link] = []
        self.workers: list[WorkerProc] = []
        #: What nobody has planned.
        self.surprises: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Fleet]:
        """
        Start all, and end all.
        """
        async with AsyncExitStack() as stack:
            stack.enter_context(ending(self.redis))
            await self.redis.up()
            env = {"EFFECTS": str(self.effects), "LEASE": str(LEASE)}
            for place in range(self._places):
                link = await stack.enter_async_context(Link(self.redis.port).running())
                folder = self._folder / f"worker-{place}"
                worker = WorkerProc("chaos.app:app", folder, env, link.port)
                stack.enter_context(ending(worker))
                self.links.append(link)
                self.workers.append(worker)
            yield self

    async def begin(self, history: History, queued: Collection[int]) -> None:
        """
        Have all workers up, and write down from now on in *history*.

        Args:
            queued: The places that have a queue, and are its workers.
        """
        self._history = history
        ports = [self.workers[place].port for place in queued]
        for place, worker in enumerate(self.workers):
            worker.set_queue(ports if place in queued else ())
        await asyncio.gather(*(self._up(place) for place in range(self._places)))

    async def heal(self) -> None:
        """
        Undo all that can be undone.
        """
        await self.redis.up()
        for link in self.links:
            link.heal()
        await asyncio.gather(*(self._up(place) for place in range(self._places)))

    async def hurt(self, fault: Fault) -> None:
        """
        Do what *fault* says, when it says so.
        """
        await asyncio.sleep(fault.at)
        if fault.name in ("freeze", "long freeze", "kill of Redis"):
            async with self._redis_lock:
                await self._hurt_redis(fault)
        elif fault.name == "restart of all":
            for place in range(self._places):
                async with self._locks[place]:
                    await self._stop(place)
        elif fault.name in ("kill", "term", "pause", "long pause"):
            async with self._locks[fault.place]:
                await self._hurt_worker(fault)
        else:
            async with self._link_locks[fault.place]:
                await self._hurt_link(fault)

    async def _hurt_redis(self, fault: Fault) -> None:
        start = time.monotonic()
        if fault.name == "kill of Redis":
            self.redis.kill()
            await asyncio.sleep(fault.seconds)
            await self.redis.up()
            self._note("outage", "all", start)
            return
        self.redis.signal(signal.SIGSTOP)
        await asyncio.sleep(fault.seconds)
        end = time.monotonic()
        self.redis.signal(signal.SIGCONT)
        self._note("freeze", "all", start, end)

    async def _hurt_worker(self, fault: Fault) -> None:
        worker, start = self.workers[fault.place], time.monotonic()
        pid = worker.pid
        if fault.name == "kill":
            self._history.deaths[pid] = worker.kill()
            self._note("kill", pid, start)
            await self._up(fault.place)
        elif fault.name == "term":
            await self._stop(fault.place)
        else:
            worker.signal(signal.SIGSTOP)
            await asyncio.sleep(fault.seconds)
            worker.signal(signal.SIGCONT)
            self._note("pause", pid, start)

    async def _stop(self, place: int) -> None:
        worker, start = self.workers[place], time.monotonic()
        worker.signal(signal.SIGTERM)
        self._history.deaths[worker.pid] = await worker.ended()
        self._note("term", worker.pid, start)
        await self._up(place)

    async def _hurt_link(self, fault: Fault) -> None:
        link, start, name = self.links[fault.place], time.monotonic(), str(fault.place)
        if fault.name == "drop":
            if await link.drop_reply_to(MARKERS[fault.verb], _DROP):
                self._note("drop", name, time.monotonic())
        elif fault.name == "cut":
            link.cut()
            self._note("cut", name, start)
        elif fault.name == "delay":
            link.delay = 0.03 + 0.06 * fault.seconds
            await asyncio.sleep(fault.seconds)
            link.delay = 0.0
            self._note("delay", name, start)
        elif fault.name == "outage of a link":
            link.is_down = True
            link.cut()
            await asyncio.sleep(fault.seconds)
            end = time.monotonic()
            link.is_down = False
            self._note("dark", name, start, end)
        else:
            link.darken()
            await asyncio.sleep(fault.seconds)
            end = time.monotonic()
            link.light(is_lossy=fault.is_lossy)
            self._note("dark", name, start, end)

    async def _up(self, place: int) -> None:
        worker = self.workers[place]
        planned = self._history.deaths
        is_first = place not in map(int, self._history.places.values())
        if not is_first and not worker.is_alive and worker.pid not in planned:
            self.surprises.append(
                f"worker {worker.pid} has ended by itself: {worker.log()[-2000:]}"
            )
        await worker.up()
        self._history.places[worker.pid] = str(place)

    def _note(self, kind: Kind, who: int | str, start: float, end: float | None = None) -> None:
        end = time.monotonic() if end is None else end
        self._history.disturbances.append(Disturbance(kind, who, start, end))
