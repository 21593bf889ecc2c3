"""
The nodes of a Redis Cluster, and which of them has which slot; it asks nothing for the store.

Each node has a `Link` of its own, with its own connections and its own turn for calls, so that one
that is away holds up nobody who asks another. redis-py has a client for clusters, which says ASKING
on one connection and asks on another, so that nothing is found while a slot is moved.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, ResponseError

from asgi_batch.errors import StoreUnavailable
from asgi_batch.stores._redis_address import Address
from asgi_batch.stores._redis_link import PAUSE, Argument, Link
from asgi_batch.stores._redis_time import ended_after

Place: TypeAlias = tuple[str, int]

#: Seconds for one node to say which has what; there are others.
MAP_WAIT: Final = 0.5


class Node(Link):
    """
    One node, which may send its callers elsewhere.
    """

    async def _check_mode(self, mode: str | None) -> None:
        pass

    def _is_passing(self, error: Exception) -> bool:
        return not isinstance(error, AskError) and super()._is_passing(error)


class Nodes:
    """
    All of them, as far as they are known.

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
        #: Nodes that have not answered since another was asked who has what.
        self._doubted: set[Place] = set()

    async def aclose(self) -> None:
        """
        Close all connections.
        """
        for link in self._links.values():
            await link.aclose()

    def move(self, slot: int, place: Place) -> None:
        """
        Believe that the node at *place* has *slot*.
        """
        self._owners[slot] = place

    async def owner(self, slot: int) -> Place:
        """
        Where the node is that has *slot*.
        """
        if self._owners[slot] in self._doubted:
            await self.learn()
        while (place := self._owners[slot]) is None:
            await self.learn()
            if self._owners[slot] is None:
                await asyncio.sleep(PAUSE)
        return place

    async def learn(self) -> set[Place]:
        """
        Learn from one node which of them have what; all of them, replicas included.
        """
        known = sorted(
            {*self._links, *self._address.nodes},
            key=lambda place: (place in self._doubted, random.random()),  # noqa: S311
        )
        silent: set[Place] = set()
        failure: BaseException = TimeoutError()
        for place in known:
            try:
                async with ended_after(MAP_WAIT):
                    (ranges,) = await self.at(place).read(("CLUSTER SLOTS",))
            except TimeoutError:
                silent.add(place)
            except StoreUnavailable as error:
                silent.add(place)
                failure = error.__cause__ or error
            else:
                self._doubted = silent
                return await self._note(ranges, place[0])
        raise failure

    async def _note(self, ranges: Sequence[Sequence[Any]], host: str) -> set[Place]:
        owners: list[Place | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        places: set[Place] = set()
        for first, last, *servers in ranges:
            # A node that knows no name of its own, or of another, leaves it out.
            here, *others = (((name or b"").decode() or host, port) for name, port, *_ in servers)
            owners[first : last + 1] = [here] * (last + 1 - first)
            places |= {here, *others}
        self._owners = owners
        gone = self._links.keys() - places - {*self._address.nodes}
        for link in [self._links.pop(place) for place in gone]:
            await link.aclose()
        return places

    def at(self, place: Place) -> Node:
        """
        The node at *place*.
        """
        if place not in self._links:
            self._links[place] = Node(self._address.at(*place), self._max_connections)
        return self._links[place]

    @contextmanager
    def watched(self, place: Place) -> Iterator[None]:
        """
        Doubt a node that does not answer.
        """
        try:
            yield
        except (StoreUnavailable, asyncio.CancelledError) as error:
            if is_silence(error):
                self._doubted.add(place)
            raise


def slot_of(key: Argument) -> int:
    """
    The slot of a key.
    """
    return key_slot(str(key).encode())


def is_silence(error: BaseException) -> bool:
    """
    Whether a node has not answered, or can say nothing of its slots.
    """
    cause = error.__cause__
    return not isinstance(cause, ResponseError) or isinstance(cause, ClusterDownError)
