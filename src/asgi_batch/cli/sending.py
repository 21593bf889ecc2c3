"""
One run through the operations of a file: sent, their results written, and remembered.

Operations are handed to the client in chunks that are the same each time, so that a run that goes
on with another one sends the same batches under the same keys, and the server knows them again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

from asgi_batch.cli.bar import Bar
from asgi_batch.cli.operations.source import Source
from asgi_batch.cli.sink import Sink
from asgi_batch.cli.state import State
from asgi_batch.cli.wire import line_of
from asgi_batch.client import BatchClient, Result

# Seconds between two times that the state is saved.
_SAVED_EVERY: Final = 1.0


class Sending:
    """
    Sends what is left of a run.

    Args:
        source: Where operations come from.
        sink: Where results go.
        state: How far the run is; kept up to date.
        save: Keeps the state; None where nobody can go on with it.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink,
        state: State,
        save: Callable[[State], None] | None,
    ) -> None:
        self._source = source
        self._sink = sink
        self._state = state
        self._save = save
        self._saved_at = time.monotonic()
        self._again = list(state.again)
        # In one piece, since Ctrl-C may come between any two steps: what was acknowledged, the
        # bytes that belong to it, and how many were good and not.
        self._mark = (state.acknowledged, state.offset, state.succeeded, state.failed)

    @property
    def completed(self) -> int:
        """
        Operations that have been sent at least once, and have their result.
        """
        return self._mark[0]

    @property
    def succeeded(self) -> int:
        """
        Results that are good.
        """
        return self._mark[2]

    @property
    def failed(self) -> int:
        """
        Results that are not, also those of operations that are to be sent again.
        """
        acknowledged, _, _, failed = self._mark
        waiting = len(self._again) - (acknowledged if self._state.stage else 0)
        return failed + waiting

    def remember(self) -> None:
        """
        Keep what has been acknowledged so far.
        """
        self._sink.flush()
        state = self._state
        state.acknowledged, state.offset, state.succeeded, state.failed = self._mark
        is_first = state.stage == 0
        state.again = [each for each in self._again if not is_first or each < state.acknowledged]
        if self._save is not None:
            self._save(state)
        self._saved_at = time.monotonic()

    def run(self, client: BatchClient, bar: Bar) -> None:
        """
        Send everything, and what has failed once more where that is asked for.
        """
        state = self._state
        if state.stage == 0:
            self._send(client, bar, self._source.operations())
            if self._state.retry_failed and self._again:
                self._mark = (0, *self._mark[1:])
                state.stage, state.sent = 1, 0
                self.remember()
        if state.stage == 1:
            self._send(client, bar, self._failed_operations())

    def _failed_operations(self) -> Iterator[dict[str, Any]]:
        again = iter(self._again)
        wanted = next(again, None)
        for index, operation in enumerate(self._source.operations()):
            if index == wanted:
                yield operation
                wanted = next(again, None)

    def _send(self, client: BatchClient, bar: Bar, operations: Iterator[dict[str, Any]]) -> None:
        state = self._state
        left = islice(operations, state.sent, None)
        while chunk := list(islice(left, state.chunk)):
            # A server that keeps no batches would run again what has its result.
            start = 0 if state.is_kept else self._mark[0] - state.sent
            with client.stream(
                chunk[start:],
                key=f"{state.key}.{state.stage}",
                first=state.sent + start,
                invalid="result",
                detach=self._save is not None,
            ) as results:
                for result in results:
                    if result.index >= self._mark[0]:
                        self._take(result)
                        bar.show(self.completed, succeeded=self.succeeded, failed=self.failed)
                    state.is_kept = client.keeps_batches
            state.sent += len(chunk)
            self.remember()

    def _take(self, result: Result) -> None:
        """
        Deal with *result*; from then on it is acknowledged.
        """
        _, offset, succeeded, failed = self._mark
        is_to_be_sent_again = (
            self._state.retry_failed and self._state.stage == 0 and not result.is_success
        )
        if is_to_be_sent_again:
            self._again.append(result.index)
        else:
            succeeded += result.is_success
            failed += not result.is_success
            if not (self._state.only_failed and result.is_success):
                self._sink.write(line_of(result))
                offset = self._sink.offset
        self._mark = (result.index + 1, offset, succeeded, failed)
        if time.monotonic() - self._saved_at >= _SAVED_EVERY:
            self.remember()
