"""
The connection to a Redis Cluster: which node has what, and who is asked when that has changed.

Each node has a `Link` of its own, with its own connections and its own turn for calls, so that one
that is away holds up nobody who asks another. redis-py's client for clusters makes all wait for a
new map then.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeAlias, TypeVar

import anyio
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError

from asgi_batch.errors import StoreUnavailable
from asgi_batch.stores._redis_address import Address, address_of
from asgi_batch.stores._redis_errors import mapped_errors
from asgi_batch.stores._redis_link import BOUND, PAUSE, WAIT, Argument, Link, Survey
from asgi_batch.stores._redis_scripts import Script

logger = logging.getLogger("asgi_batch")

T = TypeVar("T")
Place: TypeAlias = tuple[str, int]
Command: TypeAlias = Sequence[Argument]
Read: TypeAlias = Callable[..., Coroutine[Any, Any, list[Any]]]

#: Seconds for one node to say which has what; there are others.
MAP_WAIT: Final = 0.5


def link_to(url: str, max_connections: int) -> AnyLink:
    """
    A way to the server or to the cluster that *url* names; it connects when it is used.
    """
    address = address_of(url)
    return (ClusterLink if address.nodes else Link)(address, max_connections)


class Node(Link):
    """
    One node, which may send its callers elsewhere.
    """

    async def _check_mode(self, mode: str | None) -> None:
        pass

    def _is_passing(self, error: Exception) -> bool:
        return not isinstance(error, AskError) and super()._is_passing(error)


class ClusterLink:
    """
    What `Link` is for one server, for all nodes of a cluster.

    Args:
        address: Of the cluster.
        max_connections: Calls at a time to each node.
    """

    def __init__(self, address: Address, max_connections: int) -> None:
        self._address = address
        self._max_connections = max_connections
        self._links: dict[Place, Node] = {}
        #: Who has which slot; None as long as nobody is known to.
        self._owners: list[Place | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        #: Nodes that have not answered since the others were asked who has what.
        self._doubted: set[Place] = set()
        #: Nodes that are missing in surveys, so that each silence is told once.
        self._missed: set[Place] = set()

    async def check(self, probe: Script, keys: Sequence[str], *, is_eviction_allowed: bool) -> None:
        """
        `Link.check` of each node, replicas included.
        """

        async def look(place: Place) -> None:
            try:
                node = self._at(place)
                await node.check(probe, keys, is_eviction_allowed=is_eviction_allowed)
            except StoreUnavailable as error:
                # Who does not have the keys says so after all else has been seen.
                if not isinstance(error.__cause__, AskError):
                    raise

        async with self._bound(is_opening=True):
            await _together(look(place) for place in await self._ask_for_owners())

    async def aclose(self) -> None:
        """
        Close all connections.
        """
        for link in self._links.values():
            await link.aclose()

    async def run(self, script: Script, keys: Sequence[str], *args: Argument) -> Any:
        """
        Run *script*; its answer as it came.
        """
        async with self._bound():
            slot = _slot_of(keys[0])
            place = await self._owner(slot)
            try:
                with self._watched(place):
                    return await self._at(place).run(script, keys, *args)
            except StoreUnavailable as error:
                way = await self._elsewhere(place, slot, error)
            return await self._one(*way, slot, ("EVAL", script.text, len(keys), *keys, *args))

    async def read(self, *commands: Command) -> list[Any]:
        """
        The answers to *commands*, which change nothing, from one round trip to each node.
        """
        return await self._read(Node.read, commands)

    async def ask(self, *commands: Command) -> list[Any]:
        """
        `read` for clients, who stand in a line of their own: no holder waits behind them.
        """
        return await self._read(Node.ask, commands)

    async def survey(self, *commands: Command) -> list[Survey]:
        """
        `read`, by each node with its time, without those that do not answer.
        """

        async def look(place: Place, part: Sequence[Command]) -> Survey | Exception:
            try:
                async with asyncio.timeout(WAIT):
                    *answers, time = await self._part(Node.read, place, (*part, ("TIME",)))
            except (StoreUnavailable, TimeoutError) as error:
                return error
            return time, answers

        async with self._bound():
            parts = await self._parts(commands)
            found = await _together(look(*part) for part in parts.items())
            heard = [each for each in found if not isinstance(each, Exception)]
            if not heard:
                raise next(each for each in found if isinstance(each, Exception))
            pairs = zip(parts, found, strict=True)
            self._tell({place for place, each in pairs if isinstance(each, Exception)})
            return heard

    def _tell(self, silent: set[Place]) -> None:
        for host, port in silent - self._missed:
            logger.warning("Redis node %s:%d does not answer; its batches wait.", host, port)
        self._missed = silent

    async def _read(self, read: Read, commands: Sequence[Command]) -> list[Any]:
        async with self._bound():
            parts = await self._parts(commands)
            found = await _together(self._part(read, *part) for part in parts.items())
            answers = {
                command: answer
                for part, each in zip(parts.values(), found, strict=True)
                for command, answer in zip(part, each, strict=True)
            }
            return [answers[command] for command in commands]

    async def _parts(self, commands: Sequence[Command]) -> dict[Place, list[Command]]:
        """
        Which of *commands* are for which node.
        """
        parts: dict[Place, list[Command]] = {}
        for command in commands:
            parts.setdefault(await self._owner(_slot_of(command[1])), []).append(command)
        return parts

    async def _part(self, read: Read, place: Place, commands: Sequence[Command]) -> list[Any]:
        """
        The answers to *commands*, whose keys one node has, or had.
        """
        slot = _slot_of(commands[0][1])
        try:
            with self._watched(place):
                return await read(self._at(place), *commands)
        except StoreUnavailable as error:
            place, _ = await self._elsewhere(place, slot, error)
        answers = []
        for command in commands:
            # What has no key is asked of the node that has the others.
            slot = _slot_of(command[1]) if len(command) > 1 else slot
            answers.append(await self._one(await self._owner(slot), (), slot, command))
        return answers

    async def _one(
        self, place: Place, first: Sequence[Command], slot: int, command: Command
    ) -> Any:
        """
        The answer to *command*, wherever its slot is by now.
        """
        while True:
            try:
                with self._watched(place):
                    return (await self._at(place).read(*first, command))[-1]
            except StoreUnavailable as error:
                place, first = await self._elsewhere(place, slot, error)
            # Nodes may send callers to and fro before they agree.
            await asyncio.sleep(random.uniform(0.5, 1.0) * PAUSE)  # noqa: S311

    async def _elsewhere(
        self, place: Place, slot: int, error: StoreUnavailable
    ) -> tuple[Place, Sequence[Command]]:
        """
        Which node is to be asked instead of that at *place*, and what it has to be told first.

        Raises:
            StoreUnavailable: There is none; it is *error*.
        """
        cause = error.__cause__
        if isinstance(cause, AskError):
            # Without a host it is the same with another port.
            target = (cause.host or place[0], cause.port)
            if not isinstance(cause, MovedError):
                return target, (("ASKING",),)
            self._owners[cause.slot_id] = target
            return target, ()
        if _is_silence(error) and (owner := await self._owner(slot)) != place:
            return owner, ()
        raise error

    async def _owner(self, slot: int) -> Place:
        if self._owners[slot] in self._doubted:
            await self._ask_for_owners()
        while (place := self._owners[slot]) is None:
            await self._ask_for_owners()
            if self._owners[slot] is None:
                await asyncio.sleep(PAUSE)
        return place

    async def _ask_for_owners(self) -> set[Place]:
        """
        Learn from one node which of them have what; all of them, replicas included.
        """
        known = sorted(
            {*self._links, *self._address.nodes},
            key=lambda place: (place in self._doubted, random.random()),  # noqa: S311
        )
        for number, place in enumerate(known, 1):
            try:
                async with asyncio.timeout(MAP_WAIT):
                    (ranges,) = await self._at(place).read(("CLUSTER SLOTS",))
            except (StoreUnavailable, TimeoutError) as error:
                if number == len(known):
                    raise error.__cause__ or error from None
            else:
                break
        return await self._learn(ranges, place[0])

    async def _learn(self, ranges: Sequence[Sequence[Any]], host: str) -> set[Place]:
        owners: list[Place | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        places: set[Place] = set()
        for first, last, *servers in ranges:
            # A node that knows no name of its own, or of another, leaves it out.
            here, *others = (((name or b"").decode() or host, port) for name, port, *_ in servers)
            owners[first : last + 1] = [here] * (last + 1 - first)
            places |= {here, *others}
        self._owners = owners
        self._doubted = set()
        gone = self._links.keys() - places - {*self._address.nodes}
        for link in [self._links.pop(place) for place in gone]:
            await link.aclose()
        return places

    def _at(self, place: Place) -> Node:
        if place not in self._links:
            self._links[place] = Node(self._address.at(*place), self._max_connections)
        return self._links[place]

    @contextmanager
    def _watched(self, place: Place) -> Iterator[None]:
        """
        Doubt a node that does not answer.
        """
        try:
            yield
        except (StoreUnavailable, asyncio.CancelledError) as error:
            if _is_silence(error):
                self._doubted.add(place)
            raise

    @asynccontextmanager
    async def _bound(self, *, is_opening: bool = False) -> AsyncIterator[None]:
        with mapped_errors(is_opening=is_opening), anyio.CancelScope(shield=True):
            async with asyncio.timeout(BOUND):
                yield


AnyLink: TypeAlias = Link | ClusterLink


async def _together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    # The others are not cut short by an error, which would cost them their connections.
    found = await asyncio.gather(*calls, return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            raise each
    # mypy does not see that no error is left.
    answers: Any = found
    return list(answers)


def _slot_of(key: Argument) -> int:
    return key_slot(str(key).encode())


def _is_silence(error: BaseException) -> bool:
    """
    Whether a node has not answered, or can say nothing of its slots.
    """
    cause = error.__cause__
    return not isinstance(cause, ResponseError) or isinstance(cause, ClusterDownError)
