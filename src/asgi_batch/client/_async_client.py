"""
The client for code that awaits, with httpx or httpx2, on asyncio and trio.
"""

from __future__ import annotations

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

import anyio

from asgi_batch.client._async_stream import AsyncOperations, AsyncStream, finish
from asgi_batch.client._batch import Composition
from asgi_batch.client._limits import ServerLimits
from asgi_batch.client._line import Line
from asgi_batch.client._operations import AnyOperation
from asgi_batch.client._results import Result
from asgi_batch.client._run import Run
from asgi_batch.client._talk import Accepted, Outcome, Status, Talk
from asgi_batch.client._terms import Terms, TermsOptions, document_of

if TYPE_CHECKING:
    import httpx
    import httpx2


class AsyncBatchClient:
    """
    Sends operations in batches, for code that awaits.

    Args:
        http: Sends the requests, with its headers, cookies, authentication and time limits.
        path: Of the batch endpoint; a URL, where *http* has no base URL.
        retries: How often a request or an operation is repeated that may be repeated.
    """

    def __init__(
        self,
        http: httpx.AsyncClient | httpx2.AsyncClient,
        path: str = "/batch",
        *,
        retries: int = 3,
    ) -> None:
        self._line = Line(http, path, "AsyncClient")
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
    ) -> AsyncBatch:
        """
        A batch that is put together call by call.

        Args:
            atomic: All operations in one transaction.
            on_error: Whether others go on after one has failed.
            timeout: Seconds for all of it.
        """
        return AsyncBatch(self, atomic=atomic, on_error=on_error, timeout=timeout)

    async def send(self, operations: AsyncOperations, **options: Any) -> list[Result]:
        """
        All results, in the order of the operations; options are those of `stream`.
        """
        async with self.stream(operations, **options) as results:
            return [result async for result in results]

    def stream(
        self,
        operations: AsyncOperations,
        *,
        timeout: float | None = None,
        detach: bool = False,
        **terms: Unpack[TermsOptions],
    ) -> AsyncStream[Result]:
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
        return AsyncStream(
            self._line,
            run.flow(),
            source=operations,
            timeout=timeout,
            farewell=None if detach else run.leave,
        )

    async def limits(self) -> ServerLimits:
        """
        What the server lets a batch have.
        """
        return await finish(self._line, self._talk.limits())

    async def submit(
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
        return await finish(self._line, self._talk.submit(content, key))

    async def status(self, batch_id: str) -> Status:
        """
        How far a batch is.
        """
        return await finish(self._line, self._talk.status(batch_id))

    def watch(self, batch_id: str) -> AsyncStream[Status]:
        """
        How far a batch is, each time that it has got further, until its end.
        """
        return AsyncStream(self._line, self._talk.watch(batch_id))

    async def wait(self, batch_id: str, *, timeout: float | None = None) -> Status:  # noqa: ASYNC109
        """
        How far a batch is at its end.

        Raises:
            TimeoutError: It has not come within *timeout* seconds; the batch goes on.
        """
        with anyio.fail_after(timeout):
            return await finish(self._line, self._talk.wait(batch_id))

    def results(self, batch_id: str, *, status: Outcome | None = None) -> AsyncStream[Result]:
        """
        The results of a batch in order, as they come, until its end.

        Args:
            batch_id: The batch.
            status: Only those that have ended so.
        """
        return AsyncStream(self._line, self._talk.results(batch_id, status))

    async def cancel(self, batch_id: str) -> Status:
        """
        Let no further operation of a batch start.
        """
        return await finish(self._line, self._talk.cancel(batch_id))

    async def retry(self, batch_id: str, *, key: str | None = None) -> Accepted:
        """
        Have what has not succeeded carried out again, as a new batch in the background.
        """
        return await finish(self._line, self._talk.retry(batch_id, key))


class AsyncBatch(Composition):
    """
    Operations that are put together call by call, and sent at the end of a context or by `send`.
    """

    def __init__(
        self,
        client: AsyncBatchClient,
        *,
        atomic: bool,
        on_error: Literal["continue", "stop"],
        timeout: float | None,
    ) -> None:
        super().__init__()
        self._send = partial(client.send, atomic=atomic, on_error=on_error, timeout=timeout)

    async def send(self) -> list[Result]:
        """
        Send what has been added; all handles have their results then.
        """
        results = await self._send(self._operations())
        self._hand_out(results)
        return results

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.send()
