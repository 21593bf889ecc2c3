"""
Tells whether a task is as it was: what an app may leave behind in the task that ran it.

A cancel scope that is entered and never left, or a cancellation that the app asked for and nobody
took, would hit the next operation that runs in the same task. anyio has no public way to see
either, so each event loop is looked at in its own. Where that way is closed, no task counts as
clean: every operation then gets a task of its own, which costs speed and nothing else.
"""

from __future__ import annotations

import asyncio
import math
import sys
from typing import Any, Final

import anyio
from anyio._backends import _asyncio as anyio_asyncio

from asgi_batch._loop import is_asyncio

_UNKNOWN: Final = object()


class _NoState:
    """
    Stands for the state of a task where anyio keeps it elsewhere: no scope is ever its scope.
    """

    @property
    def cancel_scope(self) -> object:
        return object()


_NO_STATE: Final = _NoState()


class TaskGuard:
    """
    Remembers the cancel scope of the task in which it is made; for tasks of trio.
    """

    __slots__ = ("_scope", "_task")

    def __init__(self) -> None:
        self._task: Any = sys.modules["trio"].lowlevel.current_task()
        self._scope = getattr(self._task, "_cancel_status", _UNKNOWN)

    def is_in_scope(self) -> bool:
        """
        Whether the task is in the same cancel scope as then.
        """
        return getattr(self._task, "_cancel_status", None) is self._scope

    def is_clean(self) -> bool:
        """
        Whether the task is in the same cancel scope as then, and nobody has cancelled it.
        """
        return self.is_in_scope()

    def has_remains(self) -> bool:
        """
        Whether something is left in the task that nobody will clear up.
        """
        return not self.is_in_scope() or (
            not self.is_clean() and anyio.current_effective_deadline() != -math.inf
        )

    def is_cancelled(self) -> bool:
        """
        Whether the cancel scope of then, or one around it, has been cancelled.
        """
        return anyio.current_effective_deadline() == -math.inf

    def absorb(self) -> None:
        """
        Forget a cancellation that has been caught and that nobody but the app asked for.
        """


class _AsyncioGuard(TaskGuard):
    """
    The same for tasks of asyncio, which anyone can cancel without a cancel scope.
    """

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        states = getattr(anyio_asyncio, "_task_states", {})
        self._state: Any = states.get(self._task, _NO_STATE)
        self._scope = getattr(self._state, "cancel_scope", _UNKNOWN)

    def is_in_scope(self) -> bool:
        return self._state.cancel_scope is self._scope

    def is_clean(self) -> bool:
        return self._state.cancel_scope is self._scope and not self._task.cancelling()

    def is_cancelled(self) -> bool:
        # It is asked after each operation that has waited, and anyio's own way takes a system call.
        found: bool | None = getattr(self._scope, "_effectively_cancelled", None)
        return super().is_cancelled() if found is None else found

    def absorb(self) -> None:
        while self._task.cancelling():
            self._task.uncancel()


def guard_factory() -> type[TaskGuard]:
    """
    Makes guards for whatever task of the running event loop is running then.
    """
    return _AsyncioGuard if is_asyncio() else TaskGuard
