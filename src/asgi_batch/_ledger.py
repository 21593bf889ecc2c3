"""
The results of one batch as they come in: the first of each operation counts.

It counts, bounds and encodes; it starts and stops nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from asgi_batch._core.failures import Failure
from asgi_batch._core.models import Batch, Operation, Result, Summary
from asgi_batch._core.records import Entry, Outcome

# Between two operations the encoder finds neither its code nor its data in the processor's caches,
# and takes twice as long as in a row.
_GROUP: Final = 64

# Bytes that so many results can take, none of them large.
_MARGIN: Final = 256 * 1024

# Stands for a result that has been taken.
_TAKEN: Final = b"-"

Encode: TypeAlias = Callable[[Result], bytes]


def nothing() -> None:
    """
    What is done where nobody has to be told.
    """


class Ledger:
    """
    Results in the order of the operations.

    Args:
        batch: The operations that results are awaited for.
        encode: Writes a result.
        max_bytes: Size of all results; from there on answers are replaced by a failure.
        total: Operations of the whole batch, where *batch* is what is left of it.
        on_arrival: Called when results have come in.

    Attributes:
        open: Operations without a result.
        arrivals: The indexes of those with a result, in the order in which they came in.
        bad_ends: How those ended that did not succeed.
        results: What they were answered, encoded; empty where there is no result yet.
        size: Bytes of the results.
        group: How many results may wait to be entered together; 1 where the next operation may
            not start before the last one's result has been entered.
    """

    __slots__ = (
        "_count",
        "_encode",
        "_max_bytes",
        "_on_arrival",
        "_stops_on_error",
        "arrivals",
        "bad_ends",
        "group",
        "open",
        "results",
        "size",
    )

    def __init__(
        self,
        batch: Batch,
        encode: Encode,
        max_bytes: int,
        *,
        total: int | None = None,
        on_arrival: Callable[[], None] = nothing,
    ) -> None:
        self._encode = encode
        self._on_arrival = on_arrival
        self._max_bytes = max_bytes
        self._stops_on_error = batch.stop_on_error
        self.open = self._count = len(batch.operations)
        self.results = [b""] * (self.open if total is None else total)
        self.arrivals: list[int] = []
        self.bad_ends: dict[int, Outcome] = {}
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
        encode, entered, arrivals = self._encode, self.results, self.arrivals
        size, reason, known = self.size, None, len(arrivals)
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
            arrivals.append(index)
            self.open -= 1
            if result.status >= 400:
                reason = self._count_failure(result) or reason
        self.size = size
        if self._max_bytes - self.size < _MARGIN:
            self.group = 1
        if len(arrivals) > known:
            self._on_arrival()
        return reason

    def overrule(self, result: Result) -> Failure | None:
        """
        Enter *result* in place of any that its operation has.

        Returns:
            Why no further operation may start; None where it may.
        """
        index = result.operation.index
        if entered := self.results[index]:
            self.results[index] = b""
            self.size -= len(entered)
            self.open += 1
            self.arrivals.remove(index)
            self.bad_ends.pop(index, None)
        return self.record(result)

    def undo(self, operations: Iterable[Operation], failure: Failure) -> None:
        """
        Enter *failure* for each of *operations*, but for those that have failed themselves.
        """
        for operation in operations:
            if self.bad_ends.get(operation.index) != "failed":
                self.overrule(Result.failed(operation, failure))

    def take(self) -> list[Entry]:
        """
        Hand over the results that have come in since the last time.
        """
        results, bad_ends, arrivals = self.results, self.bad_ends, self.arrivals
        entries = [
            Entry(index, bad_ends.get(index, "succeeded"), results[index]) for index in arrivals
        ]
        for index in arrivals:
            results[index] = _TAKEN
        arrivals.clear()
        return entries

    def summary(self) -> Summary:
        """
        How the operations have ended so far.
        """
        skipped = sum(end == "skipped" for end in self.bad_ends.values())
        failed = len(self.bad_ends) - skipped
        succeeded = self._count - self.open - len(self.bad_ends)
        return Summary(self._count, succeeded, failed, skipped)

    def _count_failure(self, result: Result) -> Failure | None:
        if result.is_skipped:
            self.bad_ends[result.operation.index] = "skipped"
            return None
        self.bad_ends[result.operation.index] = "failed"
        if result.failure is Failure.BATCH_RESPONSE_TOO_LARGE:
            return Failure.SKIPPED_TOO_LARGE
        return Failure.SKIPPED if self._stops_on_error else None
