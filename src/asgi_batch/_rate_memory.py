"""
Counts in memory, with the `limits` library; it decides nothing.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Final

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter as Windows

from asgi_batch._rate import Count
from asgi_batch.limits import Quota

# Counts that are looked through for old ones at a time, so that none of it takes long.
_SOME: Final = 16


def _item(quota: Quota) -> RateLimitItem:
    return RateLimitItemPerSecond(quota.operations, quota.seconds)


class _Memory(MemoryStorage):
    """
    Forgets old counts as new ones come, where the library starts a thread to look for them.

    It is used in one thread, without a pause between reading and writing.
    """

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """
        Add to a count.
        """
        count = self.get(key) + amount
        if key not in self.expirations:
            self._forget_some()
            self.expirations[key] = time.time() + expiry
        self.storage[key] = count
        return count

    def _forget_some(self) -> None:
        now = time.time()
        for key in list(islice(self.expirations, _SOME)):
            expires_at = self.expirations.pop(key)
            if expires_at <= now:
                self.storage.pop(key, None)
            else:
                # Behind all others, so that each has its turn.
                self.expirations[key] = expires_at


class MemoryCounter:
    """
    Counts for this process.
    """

    def __init__(self) -> None:
        self._storage = _Memory()
        self._windows = Windows(self._storage)

    async def open(self) -> None:
        """
        There is nothing to do.
        """

    async def aclose(self) -> None:
        """
        There is nothing to do.
        """

    def in_time(self) -> AbstractContextManager[object]:
        """
        It never waits.
        """
        return nullcontext()

    async def take(self, quota: Quota, key: str, cost: int) -> bool:
        """
        Count *cost* if it is within *quota*.
        """
        return self._windows.hit(_item(quota), key, cost=cost)

    async def count(self, quota: Quota, key: str) -> Count:
        """
        What has been counted.
        """
        return Count(*self._storage.get_sliding_window(_item(quota).key_for(key), quota.seconds))
