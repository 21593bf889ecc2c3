"""
The connection to a Redis Cluster: each call to the node that it concerns, wherever that may be.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import anyio
from redis.asyncio import SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.exceptions import AskError, MovedError

from asgi_batch.errors import StoreUnavailable
from asgi_batch.stores._redis_address import Address, address_of
from asgi_batch.stores._redis_errors import mapped_errors
from asgi_batch.stores._redis_link import BOUND, PAUSE, WAIT, Argument, Link, Survey
from asgi_batch.stores._redis_nodes import Node, Nodes, Place, is_silence, slot_of
from asgi_batch.stores._redis_scripts import Script
from asgi_batch.stores._redis_time import ended_after

logger = logging.getLogger("asgi_batch")

T = TypeVar("T")
Command: TypeAlias = Sequence[Argument]
Read: TypeAlias = Callable[..., Coroutine[Any, Any, list[Any]]]


def link_to(url: str, max_connections: int) -> AnyLink:
    """
    A way to the server or to the cluster that *url* names; it connects when it is used.
    """
    address = address_of(url)
    return (ClusterLink if address.nodes else Link)(address, max_connections)


def settings_for(url: str, max_connections: int) -> dict[str, Any]:
    """
    What redis-py's own client for the cluster is given that *url* names; nothing for a server.
    """
    address = address_of(url)
    if not address.nodes:
        return {}
    settings: dict[str, Any] = dict(parse_url(address.url))
    del settings["host"]
    is_tls = settings.pop("connection_class", None) is SSLConnection
    return {
        **settings,
        "ssl": is_tls,
        "startup_nodes": [ClusterNode(*place) for place in address.nodes],
        "socket_timeout": 2,
        "socket_connect_timeout": 1,
        "protocol": 2,
        "max_connections": max_connections,
    }


class ClusterLink:
    """
    What `Link` is for one server, for all nodes of a cluster.

    Args:
        address: Of the cluster.
        max_connections: Calls at a time to each node.
    """

    def __init__(self, address: Address, max_connections: int) -> None:
        self._nodes = Nodes(address, max_connections)
        #: Nodes that are missing in surveys, so that each silence is told once.
        self._missed: set[Place] = set()

    async def check(self, probe: Script, keys: Sequence[str], *, is_eviction_allowed: bool) -> None:
        """
        `Link.check` of each node, replicas included.
        """

        async def look(place: Place) -> None:
            try:
                node = self._nodes.at(place)
                await node.check(probe, keys, is_eviction_allowed=is_eviction_allowed)
            except StoreUnavailable as error:
                # Who does not have the keys says so after all else has been seen.
                if not isinstance(error.__cause__, AskError):
                    raise

        async with self._bound(is_opening=True):
            await _together(look(place) for place in await self._nodes.learn())

    async def aclose(self) -> None:
        """
        Close all connections.
        """
        await self._nodes.aclose()

    async def run(self, script: Script, keys: Sequence[str], *args: Argument) -> Any:
        """
        Run *script*; its answer as it came.
        """
        async with self._bound():
            slot = slot_of(keys[0])
            place = await self._nodes.owner(slot)
            try:
                with self._nodes.watched(place):
                    return await self._nodes.at(place).run(script, keys, *args)
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
        silent: dict[Place, Exception] = {}

        async def look(place: Place, part: Sequence[Command]) -> list[Survey]:
            try:
                async with ended_after(WAIT):
                    *answers, time = await self._part(Node.read, place, (*part, ("TIME",)))
            except (StoreUnavailable, TimeoutError) as error:
                silent[place] = error
                return []
            return [(time, answers)]

        async with self._bound():
            parts = await self._parts(commands)
            found = await _together(look(*part) for part in parts.items())
            if len(silent) == len(parts):
                raise next(iter(silent.values()))
            self._tell({*silent})
            return [survey for each in found for survey in each]

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
            parts.setdefault(await self._nodes.owner(slot_of(command[1])), []).append(command)
        return parts

    async def _part(self, read: Read, place: Place, commands: Sequence[Command]) -> list[Any]:
        """
        The answers to *commands*, whose keys one node has, or had.
        """
        slot = slot_of(commands[0][1])
        try:
            with self._nodes.watched(place):
                return await read(self._nodes.at(place), *commands)
        except StoreUnavailable as error:
            place, _ = await self._elsewhere(place, slot, error)
        answers = []
        for command in commands:
            # What has no key is asked of the node that has the others.
            slot = slot_of(command[1]) if len(command) > 1 else slot
            answers.append(await self._one(await self._nodes.owner(slot), (), slot, command))
        return answers

    async def _one(
        self, place: Place, first: Sequence[Command], slot: int, command: Command
    ) -> Any:
        """
        The answer to *command*, wherever its slot is by now.
        """
        while True:
            try:
                with self._nodes.watched(place):
                    return (await self._nodes.at(place).read(*first, command))[-1]
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
            self._nodes.move(cause.slot_id, target)
            return target, ()
        if is_silence(error) and (owner := await self._nodes.owner(slot)) != place:
            return owner, ()
        raise error

    @asynccontextmanager
    async def _bound(self, *, is_opening: bool = False) -> AsyncIterator[None]:
        with mapped_errors(is_opening=is_opening), anyio.CancelScope(shield=True):
            async with ended_after(BOUND):
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
