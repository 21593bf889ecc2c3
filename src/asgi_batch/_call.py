"""
Calls the app for one operation, in a context of its own, and keeps what it raises from others.

The app runs in its caller's task, so that no task has to be made for each operation; only its
context variables are its own.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context, ContextVar
from types import coroutine
from typing import Any, Protocol, TypeAlias, TypeVar

import anyio

from asgi_batch._core.models import CurrentOperation
from asgi_batch._core.reports import short
from asgi_batch._subrequest import ABORTED, COMPLETE, Subrequest

Call: TypeAlias = Coroutine[Any, Any, None]


class Caller(Protocol):
    """
    Whoever runs a call; *is_waiting* while the app waits for something.
    """

    is_waiting: bool


CallerT = TypeVar("CallerT", bound=Caller)

logger = logging.getLogger("asgi_batch")

_current_operation: ContextVar[CurrentOperation] = ContextVar("asgi_batch_current_operation")


def current_operation() -> CurrentOperation | None:
    """
    The operation that the calling code is answering; None outside of a batch.

    Works wherever context variables travel: in sync endpoints, in tasks and threads that the
    app starts, and in background tasks.
    """
    return _current_operation.get(None)


def mark_context(context: Context, current: CurrentOperation) -> Context:
    """
    A copy of *context* in which `current_operation` is *current*.
    """
    marked = context.copy()
    marked.run(_current_operation.set, current)
    return marked


def as_coroutine(call: Awaitable[None]) -> Call:
    """
    *call* as something that can be run step by step.
    """
    return call if isinstance(call, Coroutine) else _awaiting(call)


@coroutine
def go_on(
    call: Call,
    paused_for: Any,
    context: Context,
    on_pause: Callable[[CallerT], None],
    caller: CallerT,
) -> Generator[Any, Any, None]:
    """
    Carry *call* on from its first pause, each of its steps inside *context*.

    To the event loop it looks as if the calling task ran the app itself, so that cancel scopes
    and timeouts work as ever; only the context variables are the operation's own. *on_pause* is
    called with *caller* whenever the app waits for something.
    """
    run = context.run
    while True:
        caller.is_waiting = True
        on_pause(caller)
        try:
            answer = yield paused_for
        except GeneratorExit:
            run(call.close)
            raise
        except BaseException as error:
            step: Callable[[Any], Any] = call.throw
            answer = error
        else:
            step = call.send
        caller.is_waiting = False
        try:
            paused_for = run(step, answer)
        except StopIteration:
            return


async def _awaiting(call: Awaitable[None]) -> None:
    await call


def contain(
    error: BaseException, subrequest: Subrequest, batch_id: str, *, may_be_obeyed: bool
) -> None:
    """
    Make *error* the result of the operation that raised it, unless the caller has to obey it.

    Args:
        error: What came out of the app.
        subrequest: The operation.
        batch_id: For the log.
        may_be_obeyed: Whether a cancellation can be the caller's own, and not one that the app
            brought about in a cancel scope that it has not left.

    Raises:
        BaseException: *error* itself, where it is a cancellation of the task that ran the
            operation, or a `KeyboardInterrupt`.
    """
    if isinstance(error, KeyboardInterrupt):
        raise error
    if may_be_obeyed and anyio.current_effective_deadline() == -math.inf:
        cancelled = anyio.get_cancelled_exc_class()
        if isinstance(error, cancelled):
            raise error
        if isinstance(error, BaseExceptionGroup):
            ours, _ = error.split(cancelled)
            if ours is not None:
                raise ours
    error_id = secrets.token_hex(6)
    index, phase = subrequest.operation.index, subrequest.phase
    if phase == COMPLETE:
        logger.error("Operation %d raised an exception after its answer.", index, exc_info=error)
        return
    level = logging.DEBUG if phase == ABORTED else logging.ERROR
    message = "Operation %d of batch %s… raised an exception (error id %s)."
    logger.log(level, message, index, short(batch_id), error_id, exc_info=error)
    subrequest.crash(error_id)
