"""
The results of one batch as they come in: the first of each operation counts.

It counts, bounds and encodes; it starts and stops nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from asgi_batch._core.models import Batch, Result, Summary
from asgi_batch.errors import Failure

Encode: TypeAlias = Callable[[Result], bytes]


class Ledger:
    """
    Results in the order of the operations.

    Args:
        batch: The operations that results are awaited for.
        encode: Writes a result.
        max_bytes: Size of all results; from there on answers are replaced by a failure.
    """

    __slots__ = (
        "_encode",
        "_failed",
        "_max_bytes",
        "_skipped",
        "_stops_on_error",
        "open",
        "results",
        "size",
    )

    def __init__(self, batch: Batch, encode: Encode, max_bytes: int) -> None:
        self._encode = encode
        self._max_bytes = max_bytes
        self._stops_on_error = batch.stop_on_error
        self._failed = 0
        self._skipped = 0
        self.open = len(batch.operations)
        self.results = [b""] * self.open
        self.size = 0

    def record(self, result: Result) -> Failure | None:
        """
        Enter *result*, unless its operation has one.

        Returns:
            Why no further operation may start; None where it may.
        """
        index = result.operation.index
        if self.results[index]:
            return None
        encoded = self._encode(result)
        if self.size + len(encoded) > self._max_bytes and result.failure is None:
            result = Result.failed(result.operation, Failure.BATCH_RESPONSE_TOO_LARGE)
            encoded = self._encode(result)
        self.results[index] = encoded
        self.size += len(encoded)
        self.open -= 1
        return self._count_failure(result) if result.status >= 400 else None

    def summary(self) -> Summary:
        """
        How the operations have ended so far.
        """
        total = len(self.results)
        succeeded = total - self.open - self._failed - self._skipped
        return Summary(total, succeeded, self._failed, self._skipped)

    def _count_failure(self, result: Result) -> Failure | None:
        if result.is_skipped:
            self._skipped += 1
            return None
        self._failed += 1
        if result.failure is Failure.BATCH_RESPONSE_TOO_LARGE:
            return Failure.SKIPPED_TOO_LARGE
        return Failure.SKIPPED if self._stops_on_error else None
