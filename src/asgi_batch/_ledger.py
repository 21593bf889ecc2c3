"""
The results of one batch as they come in: the first of each operation counts.

It counts, bounds and encodes; it starts and stops nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from asgi_batch._core.models import Batch, Result, Summary
from asgi_batch.errors import Failure

# Between two operations the encoder finds neither its code nor its data in the processor's caches,
# and takes twice as long as in a row.
_GROUP: Final = 64

# Bytes that so many results can take, none of them large.
_MARGIN: Final = 256 * 1024

Encode: TypeAlias = Callable[[Result], bytes]


class Ledger:
    """
    Results in the order of the operations.

    Args:
        batch: The operations that results are awaited for.
        encode: Writes a result.
        max_bytes: Size of all results; from there on answers are replaced by a failure.

    Attributes:
        open: Operations without a result.
        results: What they were answered, encoded; empty where there is no result yet.
        size: Bytes of the results.
        group: How many results may wait to be entered together; 1 where the next operation may
            not start before the last one's result has been entered.
    """

    __slots__ = (
        "_encode",
        "_failed",
        "_max_bytes",
        "_skipped",
        "_stops_on_error",
        "group",
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
        self.group = 1 if batch.stop_on_error or max_bytes < _MARGIN else _GROUP

    def record(self, result: Result) -> Failure | None:
        """
        Enter *result*, unless its operation has one.

        Returns:
            Why no further operation may start; None where it may.
        """
        return self.record_all((result,))

    def record_all(self, results: Iterable[Result]) -> Failure | None:
        """
        `record` several.
        """
        encode, entered, size, reason = self._encode, self.results, self.size, None
        for given in results:
            result, index = given, given.operation.index
            if entered[index]:
                continue
            encoded = encode(result)
            if size + len(encoded) > self._max_bytes and result.failure is None:
                result = Result.failed(result.operation, Failure.BATCH_RESPONSE_TOO_LARGE)
                encoded = encode(result)
            entered[index] = encoded
            size += len(encoded)
            self.open -= 1
            if result.status >= 400:
                reason = self._count_failure(result) or reason
        self.size = size
        if self._max_bytes - self.size < _MARGIN:
            self.group = 1
        return reason

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
