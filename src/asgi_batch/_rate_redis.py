"""
Counts in Redis, with the `limits` library; it decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, TypeVar

import anyio
from anyio.lowlevel import RunVar
from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import RedisClusterStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from asgi_batch._rate import Count
from asgi_batch.errors import ConfigurationError, StoreUnavailable
from asgi_batch.limits import Quota
from asgi_batch.stores._redis_cluster import settings_for
from asgi_batch.stores._redis_errors import mapped_errors
from asgi_batch.stores._redis_link import pool_for
from asgi_batch.stores._redis_time import ended_after

T = TypeVar("T")

_PREFIX: Final = "ab-rate"
_CONNECTIONS: Final = 10
# Seconds after which nothing more is asked for a request, and that one call may take: they add up.
_WAIT: Final = 1.0
_BOUND: Final = 1.0


class _Opened(NamedTuple):
    """
    What belongs to one event loop.
    """

    storage: RedisStorage
    connections: Any
    slots: anyio.Semaphore


class RedisCounter:
    """
    Counts for all processes that name the same server; each step is a script.

    Args:
        url: Of the server, as `RedisStore` takes it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        # A pool belongs to one event loop.
        self._opened: RunVar[_Opened | None] = RunVar("asgi_batch_rate_limit", None)

    async def open(self) -> None:
        """
        See that it can be used in this event loop.
        """
        if not _is_asyncio():
            raise ConfigurationError(
                "Counting in Redis needs asyncio, and this server runs trio: start it on asyncio,"
                ' or write RateLimit(…, storage="memory://").'
            )

    async def aclose(self) -> None:
        """
        Close all connections; what has been counted stays.
        """
        opened = self._opened.get()
        if opened is not None:
            self._opened.set(None)
            with mapped_errors():
                await opened.connections.aclose()

    def in_time(self) -> AbstractContextManager[object]:
        """
        What is asked within it takes two seconds at most.
        """
        return anyio.fail_after(_WAIT)

    async def take(self, quota: Quota, key: str, cost: int) -> bool:
        """
        Count *cost* if it is within *quota*.
        """
        return await self._ask(
            lambda each: SlidingWindowCounterRateLimiter(each).hit(_item(quota), key, cost=cost)
        )

    async def count(self, quota: Quota, key: str) -> Count:
        """
        What has been counted.
        """
        name = _item(quota).key_for(key)
        return Count(
            *await self._ask(lambda storage: storage.get_sliding_window(name, quota.seconds))
        )

    async def _ask(self, ask: Callable[[RedisStorage], Awaitable[T]]) -> T:
        if not _is_asyncio():
            raise StoreUnavailable("It is in Redis, and this event loop is not asyncio's.")
        opened = self._opened.get()
        if opened is None:
            opened = _open(self._url)
            self._opened.set(opened)
        with mapped_errors():
            await opened.slots.acquire()
            try:
                # A call is not cut short by a cancellation, so that it is counted or not.
                with anyio.CancelScope(shield=True):
                    async with ended_after(_BOUND):
                        answer = await ask(opened.storage)
            finally:
                opened.slots.release()
        return answer


def _open(url: str) -> _Opened:
    slots = anyio.Semaphore(_CONNECTIONS)
    # They go to redis-py as they are, which the library's types do not say.
    options: Any = settings_for(url, _CONNECTIONS)
    if options:
        storage: RedisStorage = RedisClusterStorage(
            "async+redis+cluster://", implementation="redispy", key_prefix=_PREFIX, **options
        )
        bridge: Any = storage.bridge
        return _Opened(storage, bridge.get_connection(), slots)
    pool = pool_for(url, _CONNECTIONS)
    options = {"connection_pool": pool}
    storage = RedisStorage(
        "async+redis://", implementation="redispy", key_prefix=_PREFIX, **options
    )
    return _Opened(storage, pool, slots)


def _is_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _item(quota: Quota) -> RateLimitItem:
    return RateLimitItemPerSecond(quota.operations, quota.seconds)
