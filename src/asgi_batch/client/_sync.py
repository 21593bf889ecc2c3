"""
The client for code that blocks, with httpx or httpx2.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
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
    TypeVar,
    Unpack,
    cast,
)

from asgi_batch.client._batch import Composition
from asgi_batch.client._effects import Answer, Ask, Effect, Flow, Give, Pause, Pull, Reply
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

# Seconds in which a batch can be cancelled that nobody waits for any more.
_FAREWELL: Final = 5.0


class Stream(Generic[T]):
    """
    What comes from the server, as it comes: an iterator.

    Whoever leaves it early uses it as a context manager, so that it comes to its end as well::

        with client.stream(operations) as results:
            for result in results:
                ...
    """

    def __init__(
        self,
        line: Line,
        flow: Flow[Any],
        *,
        source: Iterable[AnyOperation] = (),
        timeout: float | None = None,
        farewell: Callable[[], Flow[None]] | None = None,
    ) -> None:
        self._line = line
        self._flow = flow
        self._source = iter(source)
        self._timeout = timeout
        self._deadline: float | None = None
        self._farewell = farewell
        self._things: deque[T] = deque()
        self._answer: Answer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        try:
            while not self._things:
                if not self._goes_on():
                    raise StopIteration
        except BaseException:
            self.close()
            raise
        return self._things.popleft()

    def close(self) -> None:
        """
        Come to an end; a batch in the background that is not finished is cancelled.
        """
        farewell, self._farewell = self._farewell, None
        self._flow.close()
        if farewell is not None:
            with suppress(Exception):
                finish(self._line, farewell(), time.monotonic() + _FAREWELL)

    def _goes_on(self) -> bool:
        if self._timeout is not None and self._deadline is None:
            self._deadline = time.monotonic() + self._timeout
        try:
            effect = self._flow.send(self._answer)
        except StopIteration:
            return False
        self._answer = None
        if isinstance(effect, Give):
            self._things.extend(effect.things)
        elif isinstance(effect, Pull):
            operation = next(self._source, None)
            self._answer = None if operation is None else prepare(operation, effect.index)
        else:
            self._answer = perform(self._line, effect, self._deadline)
        return True


def perform(line: Line, effect: Effect, deadline: float | None) -> Answer:
    """
    Do what a flow asks for.

    Raises:
        TimeoutError: The *deadline* has come before.
    """
    left = None if deadline is None else deadline - time.monotonic()
    if isinstance(effect, Pause):
        time.sleep(effect.seconds if left is None else max(0.0, min(left, effect.seconds)))
        answer: Answer = None
    else:
        assert isinstance(effect, Ask)
        try:
            answer = line.reply(line.http.request(**line.arguments(effect, left)))
        except line.errors as error:
            answer = line.lost(error)
    if deadline is not None and not isinstance(answer, Reply) and time.monotonic() >= deadline:
        raise TimeoutError
    return answer


def finish(line: Line, flow: Flow[T], deadline: float | None = None) -> T:
    """
    What *flow* returns in the end.
    """
    answer: Answer = None
    while True:
        try:
            effect = flow.send(answer)
        except StopIteration as end:
            return cast("T", end.value)
        answer = perform(line, effect, deadline)


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
