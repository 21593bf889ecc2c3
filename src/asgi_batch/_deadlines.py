"""
When the operations of one batch are late, and when to look for that; it waits for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from time import monotonic
from typing import Final

from asgi_batch._core.failures import Failure
from asgi_batch._core.models import Operation, Result
from asgi_batch._crew import Crew

# Seconds between two looks at the deadlines, at least.
_TICK: Final = 0.01


class Deadlines:
    """
    The deadlines of one batch.

    Args:
        crew: Who runs it.
        usual: Seconds for an operation that says nothing else.
        operations: All of them.

    Attributes:
        is_over: The time of the whole batch is over.
    """

    __slots__ = ("_batch", "_crew", "_shortest", "_usual", "is_over")

    def __init__(self, crew: Crew, usual: float, operations: Iterable[Operation]) -> None:
        self._crew = crew
        self._usual = usual
        self._shortest = min((each.timeout or usual for each in operations), default=usual)
        self._batch = math.inf
        self.is_over = False

    def start(self, timeout: float) -> None:
        """
        Let the whole batch have *timeout* seconds from now on.
        """
        self._batch = monotonic() + timeout

    def of(self, operation: Operation) -> float:
        """
        When *operation* is late if it starts now.
        """
        return monotonic() + (operation.timeout or self._usual)

    def expire(self) -> list[Result]:
        """
        Give up what is late.

        Returns:
            The results of the operations.
        """
        now = monotonic()
        self.is_over = now >= self._batch
        failure = Failure.BATCH_TIMEOUT if self.is_over else Failure.OPERATION_TIMEOUT
        late = self._crew.give_up_late(math.inf if self.is_over else now)
        return [Result.failed(operation, failure) for operation in late]

    def seconds_to_next(self) -> float:
        """
        Seconds until something may be late.
        """
        now = monotonic()
        # An operation that starts later cannot be due before the shortest timeout has passed.
        return max(self._crew.due(min(self._batch, now + self._shortest)) - now, _TICK)
