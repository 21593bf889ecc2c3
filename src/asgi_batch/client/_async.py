"""
The client for code that awaits, with httpx or httpx2, on asyncio and trio.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Literal,
    Self,
    TypeAlias,
    TypeVar,
    Unpack,
    cast,
)

import anyio

from asgi_batch.client._batch import Composition
from asgi_batch.client._effects import Answer, Ask, Effect, Flow, Give, Pause, Pull
from asgi_batch.client._limits import ServerLimits
from asgi_batch.client._line import Line
from asgi_batch.client._operations import AnyOperation, prepare
from asgi_batch.client._results import Result
from asgi_batch.client._run import Run, Terms, TermsOptions, document_of
from asgi_batch.client._talk import Accepted, Outcome, Status, Talk

if TYPE_CHECKING:
    import httpx
    import httpx2

T = TypeVar("T")

#: Operations, which may come one by one.
AsyncOperations: TypeAlias = Iterable[AnyOperation] | AsyncIterable[AnyOperation]

# Seconds in which a batch can be cancelled that nobody waits for any more.
_FAREWELL: Final = 5.0


class AsyncStream(Generic[T]):
    """
    What comes from the server, as it comes: an async iterator.

    Whoever leaves it early uses it as a context manager, so that it comes to its end as well::

        async with client.stream(operations) as results:
            async for result in results:
                ...
    """

    def __init__(
        self,
        line: Line,
        flow: Flow[Any],
        *,
        source: AsyncOperations = (),
        timeout: float | None = None,
        farewell: Callable[[], Flow[None]] | None = None,
    ) -> None:
        self._line = line
        self._flow = flow
        self._source = _each(source)
        self._timeout = timeout
        self._deadline: float | None = None
        self._farewell = farewell
        self._things: deque[T] = deque()
        self._answer: Answer = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            while not self._things:
                if not await self._goes_on():
                    raise StopAsyncIteration
        except BaseException:
            await self.aclose()
            raise
        return self._things.popleft()

    async def aclose(self) -> None:
        """
        Come to an end; a batch in the background that is not finished is cancelled.
        """
        farewell, self._farewell = self._farewell, None
        self._flow.close()
        await self._source.aclose()
        if farewell is not None:
            with anyio.move_on_after(_FAREWELL, shield=True), suppress(Exception):
                await finish(self._line, farewell())

    async def _goes_on(self) -> bool:
        if self._timeout is not None and self._deadline is None:
            self._deadline = anyio.current_time() + self._timeout
        try:
            effect = self._flow.send(self._answer)
        except StopIteration:
            return False
        if isinstance(effect, Give):
            self._things.extend(effect.things)
            self._answer = None
            return True
        left = None if self._deadline is None else self._deadline - anyio.current_time()
        with anyio.fail_after(left):
            if isinstance(effect, Pull):
                operation = await anext(self._source, None)
                self._answer = None if operation is None else prepare(operation, effect.index)
            else:
                self._answer = await perform(self._line, effect)
        return True


async def _each(source: AsyncOperations) -> AsyncGenerator[AnyOperation, None]:
    if isinstance(source, AsyncIterable):
        async for operation in source:
            yield operation
    else:
        for operation in source:
            yield operation


async def perform(line: Line, effect: Effect) -> Answer:
    """
    Do what a flow asks for.
    """
    if isinstance(effect, Ask):
        try:
            return line.reply(await line.http.request(**line.arguments(effect)))
        except line.errors as error:
            return line.lost(error)
    assert isinstance(effect, Pause)
    await anyio.sleep(effect.seconds)
    return None


async def finish(line: Line, flow: Flow[T]) -> T:
    """
    What *flow* returns in the end.
    """
    answer: Answer = None
    while True:
        try:
            effect = flow.send(answer)
        except StopIteration as end:
            return cast("T", end.value)
        answer = await perform(line, effect)


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
