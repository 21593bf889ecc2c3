"""
How many operations may start before the store is told: many where they are fast, few where slow.

What may have started and is not safe to repeat is of unknown outcome after a crash, so it should be
no more than keeps the operations going while the store is asked.
"""

from __future__ import annotations

import math
from typing import Final

_MOST: Final = 512
# Seconds in which operations should be through that may start together.
_SECONDS: Final = 0.05


class Lookahead:
    """
    Plans for one batch.

    Args:
        first: Operations that may start together at first.
    """

    __slots__ = ("_ahead", "_allowed_at", "_first")

    def __init__(self, first: int) -> None:
        self._ahead = self._first = first
        self._allowed_at = -math.inf

    def plan(self, started: int, may_start: int, now: float, ended: int) -> int:
        """
        How many operations may have started next, all in all.

        Args:
            started: How many have.
            may_start: How many were allowed to so far.
            now: Seconds on any clock.
            ended: How many have ended; as many others can run in their places.
        """
        is_quick = now - self._allowed_at < _SECONDS
        if is_quick and started >= may_start:
            self._ahead = min(2 * self._ahead, _MOST)
        elif not is_quick and may_start:
            self._ahead = max(self._ahead // 2, 1)
        return max(started + self._ahead, ended + self._first, may_start)

    def allowed(self, now: float) -> None:
        """
        Note that what was planned has been allowed.
        """
        self._allowed_at = now
