"""
The client for code that blocks, with httpx or httpx2.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Self,
    Unpack,
)

from asgi_batch.client._batch import Composition
from asgi_batch.client._limits import ServerLimits
from asgi_batch.client._line import Line
from asgi_batch.client._operations import AnyOperation
from asgi_batch.client._results import Result
from asgi_batch.client._run import Run
from asgi_batch.client._sync_stream import Stream, finish
from asgi_batch.client._talk import Accepted, Outcome, Status, Talk
from asgi_batch.client._terms import Terms, TermsOptions, document_of

if TYPE_CHECKING:
    import httpx
    import httpx2


class BatchClient:
    """
    Sends operations in batches, for code that blocks.

    Args:
        http: Sends the requests, with its headers, cookies, authentication and time limits.
        path: Of the batch endpoint; a URL, where *http* has no base URL.
        retries: How often a request or an operation is repeated that may be repeated.
    """

    def __init__(
        self,
        http: httpx.Client | httpx2.Client,
        path: str = "/batch",
        *,
        retries: int = 3,
    ) -> None:
        self._line = Line(http, path, "Client")
        self._talk = Talk(retries)

    @property
    def keeps_batches(self) -> bool:
        """
        Whether the server knows a batch again that it is sent twice, as far as is known.
        """
        return self._talk.keeps

    def batch(
        self,
        *,
        atomic: bool = False,
        on_error: Literal["continue", "stop"] = "continue",
        timeout: float | None = None,
    ) -> Batch:
        """
        A batch that is put together call by call.

        Args:
            atomic: All operations in one transaction.
            on_error: Whether others go on after one has failed.
            timeout: Seconds for all of it.
        """
        return Batch(self, atomic=atomic, on_error=on_error, timeout=timeout)

    def send(self, operations: Iterable[AnyOperation], **options: Any) -> list[Result]:
        """
        All results, in the order of the operations; options are those of `stream`.
        """
        with self.stream(operations, **options) as results:
            return list(results)

    def stream(
        self,
        operations: Iterable[AnyOperation],
        *,
        timeout: float | None = None,
        detach: bool = False,
        **terms: Unpack[TermsOptions],
    ) -> Stream[Result]:
        """
        Results as they come, in the order of the operations, of which there may be any number.

        Operations are taken as they are needed, and no more is held than one batch and its results.

        Args:
            operations: What is to be done.
            timeout: Seconds until the last result; then `TimeoutError` is raised.
            detach: Whether a batch in the background goes on when this is left early.
            terms: How operations are carried out: ``atomic``, ``on_error``, ``key``, ``first``,
                ``invalid``, ``on_batch`` and ``on_status``.
        """
        run = Run(self._talk, Terms(**terms))
        return Stream(
            self._line,
            run.flow(),
            source=operations,
            timeout=timeout,
            farewell=None if detach else run.leave,
        )

    def limits(self) -> ServerLimits:
        """
        What the server lets a batch have.
        """
        return finish(self._line, self._talk.limits())

    def submit(
        self, operations: Iterable[AnyOperation], *, key: str | None = None, atomic: bool = False
    ) -> Accepted:
        """
        Have one batch carried out in the background, and wait for nothing.

        Args:
            operations: What is to be done; no more than one batch may have.
            key: Its idempotency key; the same key and operations are the same batch.
            atomic: All operations in one transaction.
        """
        content = document_of(operations, atomic=atomic)
        return finish(self._line, self._talk.submit(content, key))

    def status(self, batch_id: str) -> Status:
        """
        How far a batch is.
        """
        return finish(self._line, self._talk.status(batch_id))

    def watch(self, batch_id: str) -> Stream[Status]:
        """
        How far a batch is, each time that it has got further, until its end.
        """
        return Stream(self._line, self._talk.watch(batch_id))

    def wait(self, batch_id: str, *, timeout: float | None = None) -> Status:
        """
        How far a batch is at its end.

        Raises:
            TimeoutError: It has not come within *timeout* seconds; the batch goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        return finish(self._line, self._talk.wait(batch_id), deadline)

    def results(self, batch_id: str, *, status: Outcome | None = None) -> Stream[Result]:
        """
        The results of a batch in order, as they come, until its end.

        Args:
            batch_id: The batch.
            status: Only those that have ended so.
        """
        return Stream(self._line, self._talk.results(batch_id, status))

    def cancel(self, batch_id: str) -> Status:
        """
        Let no further operation of a batch start.
        """
        return finish(self._line, self._talk.cancel(batch_id))

    def retry(self, batch_id: str, *, key: str | None = None) -> Accepted:
        """
        Have what has not succeeded carried out again, as a new batch in the background.
        """
        return finish(self._line, self._talk.retry(batch_id, key))


class Batch(Composition):
    """
    Operations that are put together call by call, and sent at the end of a context or by `send`.
    """

    def __init__(
        self,
        client: BatchClient,
        *,
        atomic: bool,
        on_error: Literal["continue", "stop"],
        timeout: float | None,
    ) -> None:
        super().__init__()
        self._send = partial(client.send, atomic=atomic, on_error=on_error, timeout=timeout)

    def send(self) -> list[Result]:
        """
        Send what has been added; all handles have their results then.
        """
        results = self._send(self._operations())
        self._hand_out(results)
        return results

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.send()
