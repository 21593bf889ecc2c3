"""
One task of a batch: what is known of it, how it ends, and how long it runs before it gives way.

What it runs is decided in `_executor`.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable
from time import monotonic
from typing import Final, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from asgi_batch._loop import way_to_give_way
from asgi_batch._subrequest import COMPLETE, Subrequest
from asgi_batch._task_guard import TaskGuard

T = TypeVar("T")

# Seconds that the workers of a batch run on without giving way to other tasks, when no operation
# ever waits; then the same in the background, where nobody waits for the batch; then where it is
# one of several there, and more is paid for giving way so that requests wait little.
_TIME_SLICE: Final = 0.002
_BACKGROUND_SLICE: Final = 0.0005
_SHARED_SLICE: Final = 0.00005


class Turns:
    """
    Lets batches of the background run their slices of time one at a time.

    Between two of them everything else gets its turn: a request takes several, and would otherwise
    have to wait for all batches in each of them.
    """

    __slots__ = ("_batches", "_lock")

    def __init__(self) -> None:
        self._batches = 0
        self._lock = anyio.Lock(fast_acquire=True)

    def __enter__(self) -> None:
        """
        Let another batch take part.
        """
        self._batches += 1

    def __exit__(self, *_: object) -> None:
        self._batches -= 1

    @property
    def slice(self) -> float:
        """
        Seconds that a batch may take when it is its turn.
        """
        return _SHARED_SLICE if self._batches > 1 else _BACKGROUND_SLICE

    async def take(self) -> None:
        """
        Give way, at least once, until it is the caller's turn.
        """
        async with self._lock:
            await checkpoint()


class Pace:
    """
    When the workers of one batch give way to other tasks.

    Args:
        turns: Of the batches of the background, if this is one of them.

    Attributes:
        due: When they have to do so next.
        fence: When they may not start another operation, unless it is put off before.
    """

    __slots__ = ("_give_way", "_turns", "due", "fence")

    def __init__(self, turns: Turns | None = None) -> None:
        self._turns = turns
        self._give_way = way_to_give_way() if turns is None else turns.take
        self.due = self.fence = math.inf

    def start(self) -> None:
        """
        Let a time slice begin.
        """
        length = _TIME_SLICE if self._turns is None else self._turns.slice
        self.due = min(monotonic() + length, self.fence)

    async def breathe(self) -> bool:
        """
        Give way once; true where the fence has not been reached.
        """
        await self._give_way()
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
        is_aside: Its operation waits for others, and does not count until it goes on.
        was_aside: It has been aside since it last gave way, or could have done so.
        has_token: It holds a token of the gate.
    """

    __slots__ = (
        "deadline",
        "guard",
        "has_token",
        "is_abandoned",
        "is_aside",
        "is_spent",
        "is_tail",
        "is_waiting",
        "scope",
        "subrequest",
        "was_aside",
    )

    guard: TaskGuard

    def __init__(self, scope: anyio.CancelScope) -> None:
        self.scope = scope
        self.subrequest: Subrequest | None = None
        self.deadline = math.inf
        self.is_abandoned = False
        self.is_spent = False
        self.is_tail = False
        self.is_waiting = False
        self.is_aside = False
        self.was_aside = False
        self.has_token = False

    @property
    def is_busy(self) -> bool:
        """
        Whether it is at an operation that has not answered in full.
        """
        return self.subrequest is not None and self.subrequest.phase != COMPLETE

    def gives_way(self) -> bool:
        """
        Whether it leaves its place to an operation that has waited aside, as it does but for the
        first time after it has been there itself.
        """
        self.is_spent = self.is_spent or not self.was_aside
        self.was_aside = False
        return self.is_spent

    def is_cancelled_from_outside(self) -> bool:
        """
        Whether somebody has cancelled the whole batch, and not this worker or its operation.
        """
        is_own = self.is_abandoned or not self.guard.is_in_scope()
        return not is_own and self.guard.is_cancelled()

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


async def in_turns(parts: Iterable[T], often: int = 32) -> AsyncIterator[T]:
    """
    Give way to other tasks each time that so many of *parts* have been made: to make them all takes
    longer than a request.
    """
    for number, part in enumerate(parts, 1):
        yield part
        if number % often == 0:
            await checkpoint()
