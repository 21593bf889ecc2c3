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

_UNKNOWN: Final = object()


class TaskGuard:
    """
    Remembers the state of the task in which it is made; for tasks of trio.
    """

    __slots__ = ("_holder", "_scope")

    _attribute = "_cancel_status"

    def __init__(self) -> None:
        self._holder = self._find_holder()
        self._scope = getattr(self._holder, self._attribute, _UNKNOWN)

    def is_in_scope(self) -> bool:
        """
        Whether the task is in the same cancel scope as then.
        """
        return getattr(self._holder, self._attribute, None) is self._scope

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

    def absorb(self) -> None:
        """
        Forget a cancellation that has been caught and that nobody but the app asked for.
        """

    def _find_holder(self) -> Any:
        return sys.modules["trio"].lowlevel.current_task()


class _AsyncioGuard(TaskGuard):
    """
    The same for tasks of asyncio, where anyone can cancel a task without a cancel scope.
    """

    __slots__ = ("_task",)

    _attribute = "cancel_scope"

    def is_clean(self) -> bool:
        return self.is_in_scope() and not self._task.cancelling()

    def absorb(self) -> None:
        while self._task.cancelling():
            self._task.uncancel()

    def _find_holder(self) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        return getattr(anyio_asyncio, "_task_states", {}).get(task)


def guard_task() -> TaskGuard:
    """
    A guard for the running task.
    """
    is_asyncio = anyio.get_cancelled_exc_class() is asyncio.CancelledError
    return _AsyncioGuard() if is_asyncio else TaskGuard()
