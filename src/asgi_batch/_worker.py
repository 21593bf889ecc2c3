"""
One task of a batch: what is known of it, how it ends, and how long it runs before it gives way.

What it runs is decided in `_executor`.
"""

from __future__ import annotations

import math
from time import monotonic
from typing import Final

import anyio
from anyio.lowlevel import checkpoint

from asgi_batch._subrequest import COMPLETE, Subrequest
from asgi_batch._task_guard import TaskGuard, guard_task

# Seconds that the workers of a batch run on without giving way to other tasks, when no operation
# ever waits; then the same for all batches of the background together, which nobody waits for.
_TIME_SLICE: Final = 0.002
_BACKGROUND_SLICE: Final = 0.0005


class Sharing:
    """
    Batches of the background share one slice of time, so that requests have not to wait for each.

    Attributes:
        count: How many there are.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    @property
    def slice(self) -> float:
        """
        Seconds for one of them.
        """
        return _BACKGROUND_SLICE / max(self.count, 1)


class Pace:
    """
    When the workers of one batch give way to other tasks.

    Args:
        sharing: Whom the batch shares its slice of time with, if anybody.

    Attributes:
        due: When they have to do so next.
        fence: When they may not start another operation, unless it is put off before.
    """

    __slots__ = ("_sharing", "due", "fence")

    def __init__(self, sharing: Sharing | None = None) -> None:
        self._sharing = sharing
        self.due = self.fence = math.inf

    def start(self) -> None:
        """
        Let a time slice begin.
        """
        length = _TIME_SLICE if self._sharing is None else self._sharing.slice
        self.due = min(monotonic() + length, self.fence)

    async def breathe(self) -> bool:
        """
        Give way once; true where the fence has not been reached.
        """
        await checkpoint()
        self.start()
        return monotonic() < self.fence


class Worker:
    """
    A task that runs one operation after the other.

    Attributes:
        scope: Ends the worker, and whatever operation it is at.
        guard: Tells what operations have left in the task.
        subrequest: The operation it is at; None while it stands in line.
        deadline: When that operation is late.
        is_abandoned: It is at an operation that was late, and may be stuck in it for good.
        is_spent: An operation left more behind than a result; it must not run another.
        is_tail: Its operation has answered and goes on, as background tasks do.
        is_waiting: Its operation waits for something.
    """

    __slots__ = (
        "deadline",
        "guard",
        "is_abandoned",
        "is_spent",
        "is_tail",
        "is_waiting",
        "scope",
        "subrequest",
    )

    guard: TaskGuard

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.subrequest: Subrequest | None = None
        self.deadline = math.inf
        self.is_abandoned = False
        self.is_spent = False
        self.is_tail = False
        self.is_waiting = False

    @property
    def is_busy(self) -> bool:
        """
        Whether it is at an operation that has not answered in full.
        """
        return self.subrequest is not None and self.subrequest.phase != COMPLETE

    def enter(self) -> None:
        """
        Take note of the task; called once, in its *scope*.
        """
        self.guard = guard_task()

    def is_cancelled_from_outside(self) -> bool:
        """
        Whether somebody has cancelled the whole batch, and not this worker or its operation.
        """
        return (
            anyio.current_effective_deadline() == -math.inf
            and self.guard.is_in_scope()
            and not self.scope.cancel_called
        )

    async def park(self, end: anyio.Event) -> None:
        """
        Keep a task that cannot end without an error out of the way until *end*.
        """
        while not end.is_set():
            try:
                with anyio.CancelScope(shield=True):
                    await end.wait()
            except anyio.get_cancelled_exc_class():
                self.guard.absorb()
