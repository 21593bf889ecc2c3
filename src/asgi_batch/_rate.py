"""
Counts what each caller sends, and refuses what is too much; it sends no answers.

The windows are those of the `limits` library: a counter for this window and one for the last, of
which as much counts as still lies within the time. What is refused is not counted.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeAlias

from asgi_batch.errors import RateLimited, RateLimitUnavailable, StoreFull, StoreUnavailable
from asgi_batch.limits import Quota, RateLimit
from asgi_batch.types import Scope

logger = logging.getLogger("asgi_batch")

#: Fields of a header, as ASGI wants them.
Fields: TypeAlias = list[tuple[bytes, bytes]]


class Count(NamedTuple):
    """
    What a caller has sent: in the last window, of which some seconds are left, and in this one.
    """

    before: int
    before_left: float
    now: int
    now_left: float


class Counter(Protocol):
    """
    Where it is counted.
    """

    async def open(self) -> None:
        """
        Get ready in this event loop.
        """
        ...

    async def aclose(self) -> None:
        """
        Give back what `open` took.
        """
        ...

    def in_time(self) -> AbstractContextManager[object]:
        """
        What is asked within it ends in good time, if need be with a `TimeoutError`.
        """
        ...

    async def take(self, quota: Quota, key: str, cost: int) -> bool:
        """
        Count *cost* if it is within *quota*.
        """
        ...

    async def count(self, quota: Quota, key: str) -> Count:
        """
        What has been counted.
        """
        ...


class Limiter:
    """
    Keeps callers within what `RateLimit` allows.

    Args:
        settings: What is allowed.
        counter: Where it is counted.
    """

    def __init__(self, settings: RateLimit, counter: Counter) -> None:
        self._settings = settings
        self._quotas = settings.quotas
        self._counter = counter
        self._is_out = False
        policies = (f'"{each.name}";q={each.operations};w={each.seconds}' for each in self._quotas)
        self._policy = (b"ratelimit-policy", ", ".join(policies).encode())

    @property
    def counts_direct(self) -> bool:
        """
        Whether requests outside of batches count.
        """
        return self._settings.direct

    async def open(self) -> None:
        """
        Get ready in this event loop.

        Raises:
            ConfigurationError: The counter cannot be used in it.
        """
        await self._counter.open()

    async def aclose(self) -> None:
        """
        Give back what `open` took.
        """
        await self._counter.aclose()

    async def charge(self, scope: Scope, cost: int) -> Fields:
        """
        Count *cost* operations of the caller, all or none.

        Returns:
            Header fields that tell how much is left.

        Raises:
            RateLimited: It is too much.
            RateLimitUnavailable: It cannot be counted, and nothing passes uncounted.
        """
        name = self._settings.key(scope).encode("utf-8", "surrogatepass")
        key = hashlib.sha256(name).hexdigest()[:32]
        try:
            with self._counter.in_time():
                is_within = await self._take(key, cost)
                counts = await self._counts(key)
        except (StoreUnavailable, StoreFull, TimeoutError) as error:
            return self._do_without(error)
        self._is_out = False
        fields = [self._policy, _left(self._quotas, counts)]
        if not is_within:
            raise _refusal(self._quotas, counts, cost, fields)
        return fields

    async def _take(self, key: str, cost: int) -> bool:
        """
        Count *cost* in all windows, if it is within all of them.
        """
        if len(self._quotas) > 1:
            # Nothing is ever given back: the window may have turned since, and would go below zero.
            counts = await self._counts(key)
            if not all(map(_has_room, self._quotas, counts, [cost] * len(counts))):
                return False
        for quota in self._quotas:
            if not await self._counter.take(quota, key, cost):
                return False
        return True

    async def _counts(self, key: str) -> list[Count]:
        return [await self._counter.count(each, key) for each in self._quotas]

    def _do_without(self, error: Exception) -> Fields:
        if not self._is_out:
            self._is_out = True
            logger.warning("Operations cannot be counted: %s", error)
        if self._settings.on_error == "deny":
            raise RateLimitUnavailable("Requests cannot be counted just now; try again.") from None
        return []


def _weight(quota: Quota, count: Count, later: float = 0.0) -> float:
    """
    What counts of *count*, or will some seconds *later* if nothing is added.
    """
    turn = max(count.now_left - quota.seconds, 0.0) if count.now else math.inf
    if later < turn:
        return count.before * max(count.before_left - later, 0.0) / quota.seconds + count.now
    return count.now * max(quota.seconds - (later - turn), 0.0) / quota.seconds


def _has_room(quota: Quota, count: Count, cost: int) -> bool:
    return math.floor(_weight(quota, count)) + cost <= quota.operations


def _wait(quota: Quota, count: Count, cost: int) -> float:
    """
    Seconds until *cost* is within *quota*, if nothing else is counted until then.
    """
    room = quota.operations - cost
    if _weight(quota, count) < room + 1:
        return 0.0
    if count.now <= room:
        # The last window has to fade: before * (left - wait) / seconds + now < room + 1.
        return count.before_left - (room + 1 - count.now) * quota.seconds / count.before
    turn = max(count.now_left - quota.seconds, 0.0)
    return turn + quota.seconds * max(1 - (room + 1) / count.now, 0.0)


def _left(quotas: Sequence[Quota], counts: Sequence[Count]) -> tuple[bytes, bytes]:
    """
    ``RateLimit`` of draft-ietf-httpapi-ratelimit-headers: what remains, seconds until more does.
    """
    told = []
    for quota, count in zip(quotas, counts, strict=True):
        remaining = max(quota.operations - math.floor(_weight(quota, count)), 0)
        is_whole = remaining == quota.operations
        reset = 0 if is_whole else math.ceil(_wait(quota, count, remaining + 1))
        told.append(f'"{quota.name}";r={remaining};t={reset}')
    return b"ratelimit", ", ".join(told).encode()


def _refusal(
    quotas: Sequence[Quota], counts: Sequence[Count], cost: int, fields: Fields
) -> RateLimited:
    most = min(quota.operations for quota in quotas)
    if cost > most:
        detail = f"A batch of {cost} operations can never pass; send at most {most} in one batch."
        return RateLimited(detail, None, fields)
    waits = (_wait(quota, count, cost) for quota, count in zip(quotas, counts, strict=True))
    seconds = math.floor(max(waits)) + 1
    return RateLimited(f"Too many operations; try again in {seconds} seconds.", seconds, fields)
