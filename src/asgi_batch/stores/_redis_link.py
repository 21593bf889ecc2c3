"""
The connection to a Redis server: a pool, bounds in time, and Redis' errors as ours; it knows no
batches.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar

import anyio
from redis.asyncio import ConnectionPool, Redis, SSLConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
)
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import BusyLoadingError, NoScriptError, ResponseError

from asgi_batch.errors import ConfigurationError
from asgi_batch.stores._redis_address import Address, address_of, taken_for_sentinels
from asgi_batch.stores._redis_errors import is_passing, mapped_errors
from asgi_batch.stores._redis_scripts import Script
from asgi_batch.stores._redis_time import ended_at

T = TypeVar("T")
Argument: TypeAlias = str | bytes | int
#: What one server says: its time, in seconds and microseconds, and its answers.
Survey: TypeAlias = tuple[tuple[int, int], list[Any]]

#: Seconds that one call may take in all; what asks a store promises an answer within 2.5.
BOUND: Final = 2.2
#: Seconds of it that may be spent on waiting for a connection.
WAIT: Final = 1.0
#: Seconds before another try, where a server says that it cannot just now.
PAUSE: Final = 0.1
#: Redis 7.0 is the first that knows the flags of scripts.
OLDEST: Final = 7

#: Pools that a forked process has inherited. They are kept from being closed, as that would reach
#: into the event loop of the process that they belong to.
_INHERITED: Final[list[ConnectionPool]] = []


def check_url(url: str) -> None:
    """
    Refuse a *url* that names no server.
    """
    try:
        parse_url(address_of(url).url)
    except ValueError as error:
        # Without the URL, which may have a password in it.
        raise ConfigurationError(f'store: {error} Write "redis://host:6379/0".') from error


class Link:
    """
    A pool of connections that belongs to one event loop.

    A call is not cut short by a cancellation but by its bound in time, so that no connection is
    left in the middle of an answer.

    Args:
        address: Of the server.
        max_connections: Calls at a time; more wait for their turn.
    """

    def __init__(self, address: Address, max_connections: int) -> None:
        self._address = address
        self._max_connections = max_connections
        self._connect()

    async def check(self, probe: Script, keys: Sequence[str], *, is_eviction_allowed: bool) -> None:
        """
        See whether the server can keep a store's promises.

        Args:
            probe: A script that changes nothing when it is run with *keys*.
            keys: Of a batch that is not there.
            is_eviction_allowed: Whether the server may throw keys away.

        Raises:
            ConfigurationError: It cannot.
        """

        async def look() -> None:
            server = await self._client.info("server")
            memory = await self._client.info("memory")
            _check_server(server, memory, is_eviction_allowed=is_eviction_allowed)
            await self._check_mode(server.get("redis_mode"))
            await self._evaluate(probe, keys, ())

        with mapped_errors(is_opening=True):
            async with self._bound() as until:
                await self._insist(look, until)

    async def aclose(self) -> None:
        """
        Close all connections.
        """
        self._leave_parent()
        with anyio.CancelScope(shield=True), mapped_errors():
            await self._pool.aclose()
            if isinstance(self._pool, SentinelConnectionPool):
                await self._pool.sentinel_manager.aclose()

    async def run(self, script: Script, keys: Sequence[str], *args: Argument) -> Any:
        """
        Run *script*; its answer as it came.
        """
        with mapped_errors():
            async with self._bound() as until:
                return await self._insist(lambda: self._evaluate(script, keys, args), until)

    async def read(self, *commands: Sequence[Argument]) -> list[Any]:
        """
        The answers to *commands*, which change nothing, from one round trip.
        """
        with mapped_errors():
            async with self._bound() as until:
                return await self._insist(lambda: self._send(commands), until)

    async def ask(self, *commands: Sequence[Argument]) -> list[Any]:
        """
        `read` for clients, who stand in a line of their own: no holder waits behind them.
        """
        self._leave_parent()
        deadline = anyio.current_time() + BOUND
        with mapped_errors():
            with anyio.fail_after(WAIT):
                await self._askers.acquire()
            try:
                async with self._bound(deadline) as until:
                    return await self._insist(lambda: self._send(commands), until)
            finally:
                self._askers.release()

    async def survey(self, *commands: Sequence[Argument]) -> list[Survey]:
        """
        `read` of what may lie on several servers, each of which tells its time.
        """
        time, *answers = await self.read(("TIME",), *commands)
        return [(time, answers)]

    def _connect(self) -> None:
        self._process = os.getpid()
        self._pool = _pool_of(self._address, self._max_connections)
        self._client = Redis(connection_pool=self._pool)
        self._slots = anyio.Semaphore(self._max_connections)
        # A quarter of the connections is left to those who hold batches, or claim them.
        kept = self._max_connections // 4
        self._askers = anyio.Semaphore(self._max_connections - kept)

    def _leave_parent(self) -> None:
        """
        Use no connection of the process that this one was forked from.
        """
        if self._process != os.getpid():
            _INHERITED.append(self._pool)
            self._connect()

    async def _check_mode(self, mode: str | None) -> None:
        if mode != "cluster":
            return
        execute: Any = self._client.execute_command
        cluster: dict[str, str] = await execute("CLUSTER INFO")
        if int(cluster["cluster_size"]) > 1:
            raise ConfigurationError(
                "Redis is one of several nodes of a cluster, and the store needs them all: "
                'write "redis+cluster://host:6379,host2".'
            )

    def _is_passing(self, error: Exception) -> bool:
        return is_passing(error)

    @asynccontextmanager
    async def _bound(self, deadline: float | None = None) -> AsyncIterator[float]:
        self._leave_parent()
        deadline = deadline or anyio.current_time() + BOUND
        with anyio.fail_after(WAIT):
            await self._slots.acquire()
        try:
            with anyio.CancelScope(shield=True):
                # Not a scope of anyio, which would cancel redis-py's cleaning up, too.
                async with ended_at(deadline):
                    yield deadline
        finally:
            self._slots.release()

    async def _insist(self, ask: Callable[[], Awaitable[T]], until: float) -> T:
        while True:
            try:
                return await ask()
            except (BusyLoadingError, ResponseError, RuntimeError) as error:
                # The end of the time may come where redis-py does not pass it on.
                if not self._is_passing(error) or anyio.current_time() >= until:
                    raise
                # What is behind the address may be another server by now.
                await self._pool.disconnect(inuse_connections=False)
                await asyncio.sleep(random.uniform(0.5, 1.0) * PAUSE)  # noqa: S311

    async def _evaluate(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        # redis-py's types are not complete here and below.
        execute: Any = self._client.execute_command
        try:
            return await execute("EVALSHA", script.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await execute("EVAL", script.text, len(keys), *keys, *args)

    async def _send(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        pipeline: Any = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        for answer in answers:
            # redis-py would put words of its own in front, and BUSY would no longer be one.
            if isinstance(answer, Exception):
                raise answer
        return answers


def pool_for(url: str, max_connections: int) -> ConnectionPool:
    """
    A pool of connections to the server that *url* names, which is looked for when it is used.
    """
    return _pool_of(address_of(url), max_connections)


def _pool_of(address: Address, max_connections: int) -> ConnectionPool:
    settings: dict[str, Any] = {
        **parse_url(address.url),
        "socket_timeout": 2,
        "socket_connect_timeout": 1,
        "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 2),
        "health_check_interval": 15,
        "protocol": 2,
        "decode_responses": False,
        "max_connections": max_connections,
    }
    return _sentinel_pool(address, settings) if address.sentinels else ConnectionPool(**settings)


def _sentinel_pool(address: Address, settings: dict[str, Any]) -> ConnectionPool:
    # redis-py's types are missing here.
    make_sentinel: Any = Sentinel
    make_pool: Any = SentinelConnectionPool
    is_tls = settings.pop("connection_class", None) is SSLConnection
    asking = {**taken_for_sentinels(settings), "ssl": is_tls, "retry": Retry(NoBackoff(), 0)}
    sentinel = make_sentinel(address.sentinels, sentinel_kwargs=asking)
    pool: ConnectionPool = make_pool(address.service, sentinel, ssl=is_tls, **settings)
    return pool


def _check_server(
    server: dict[str, Any], memory: dict[str, Any], *, is_eviction_allowed: bool
) -> None:
    version = str(server.get("redis_version", "?"))
    if not version.partition(".")[0].isdigit() or int(version.partition(".")[0]) < OLDEST:
        raise ConfigurationError(f"Redis is of version {version}; the store needs 7.0 or later.")
    policy = memory.get("maxmemory_policy")
    if policy != "noeviction" and not is_eviction_allowed:
        raise ConfigurationError(
            f"unsafe_eviction_policy: Redis may throw away batches, as its maxmemory-policy is "
            f'"{policy}". Set it to "noeviction", or give RedisStore(allow_unsafe_eviction=True).'
        )
