"""
The connection to Redis: a pool, bounds in time, and Redis' errors as ours; it knows no batches.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeAlias, TypeVar

import anyio
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from asgi_batch.errors import ConfigurationError, StoreFull, StoreUnavailable
from asgi_batch.stores._redis_scripts import Script

T = TypeVar("T")
Argument: TypeAlias = str | bytes | int

#: Seconds that one call may take in all; what asks a store promises an answer within 2.5.
BOUND: Final = 2.2
#: Seconds of it that may be spent on waiting for a connection.
WAIT: Final = 1.0
#: Seconds before another try, where a server says that it cannot just now.
PAUSE: Final = 0.1
#: Redis 7.0 is the first that knows the flags of scripts.
OLDEST: Final = 7

_REFUSED: Final = (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
)
_PASSING: Final = (BusyLoadingError, ClusterDownError, ReadOnlyError, TryAgainError)
_PASSING_CODES: Final = ("BUSY ", "MISCONF ", "NOREPLICAS ")


@contextmanager
def mapped_errors(*, is_opening: bool = False) -> Iterator[None]:
    """
    The one place where errors of Redis become ours.

    Args:
        is_opening: Whether an error may be one of the settings.
    """
    try:
        yield
    except OutOfMemoryError as error:
        raise StoreFull("The store is full; try again later.") from error
    except (RedisError, TimeoutError) as error:
        if is_opening and (reason := _wrong_setting(error)):
            raise ConfigurationError(reason) from error
        raise StoreUnavailable("The store does not answer; try again later.") from error


def _wrong_setting(error: Exception) -> str | None:
    if isinstance(error, NoPermissionError):
        return f"Redis lets this user do too little: {error}. Allow INFO, scripts and the keys."
    if isinstance(error, _REFUSED):
        return f"Redis refuses the user or password of the store's URL: {error}."
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return f"Redis cannot be reached by TLS: {cause}. Check the store's URL."
        cause = cause.__cause__ or cause.__context__
    return None


def check_url(url: str) -> None:
    """
    Refuse a *url* that names no server.
    """
    try:
        parse_url(url)
    except ValueError as error:
        # Without the URL, which may have a password in it.
        raise ConfigurationError(f'store: {error} Write "redis://host:6379/0".') from error


class Link:
    """
    A pool of connections that belongs to one event loop.

    A call is not cut short by a cancellation but by its bound in time, so that no connection is
    left in the middle of an answer.

    Args:
        url: Of the server.
        max_connections: Calls at a time; more wait for their turn.
    """

    def __init__(self, url: str, max_connections: int) -> None:
        settings: dict[str, Any] = {
            **parse_url(url),
            "socket_timeout": 2,
            "socket_connect_timeout": 1,
            "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 2),
            "health_check_interval": 15,
            "protocol": 2,
            "decode_responses": False,
            "max_connections": max_connections,
        }
        self._pool = ConnectionPool(**settings)
        self._client = Redis(connection_pool=self._pool)
        self._slots = anyio.Semaphore(max_connections)

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
        with mapped_errors(is_opening=True):
            async with self._bound():
                server = await self._client.info("server")
                memory = await self._client.info("memory")
                _check_server(server, memory, is_eviction_allowed=is_eviction_allowed)
                await self._evaluate(probe, keys, ())

    async def aclose(self) -> None:
        """
        Close all connections.
        """
        with anyio.CancelScope(shield=True), mapped_errors():
            await self._pool.aclose()

    async def run(self, script: Script, keys: Sequence[str], *args: Argument) -> Any:
        """
        Run *script*; its answer as it came.
        """
        with mapped_errors():
            async with self._bound():
                return await self._insist(lambda: self._evaluate(script, keys, args))

    async def read(self, *commands: Sequence[Argument]) -> list[Any]:
        """
        The answers to *commands*, which change nothing, from one round trip.
        """
        with mapped_errors():
            async with self._bound():
                return await self._insist(lambda: self._send(commands))

    @asynccontextmanager
    async def _bound(self) -> AsyncIterator[None]:
        deadline = anyio.current_time() + BOUND
        with anyio.fail_after(WAIT):
            await self._slots.acquire()
        try:
            with anyio.CancelScope(shield=True):
                # Not a scope of anyio, which would cancel redis-py's cleaning up, too.
                async with asyncio.timeout_at(deadline):
                    yield
        finally:
            self._slots.release()

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await ask()
            except (BusyLoadingError, ResponseError) as error:
                if not _is_passing(error):
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
        answers: list[Any] = await pipeline.execute()
        return answers


def _is_passing(error: Exception) -> bool:
    return isinstance(error, _PASSING) or str(error).startswith(_PASSING_CODES)


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
