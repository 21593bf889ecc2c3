"""
Gathers what operations of one batch ask of the same bulk function, until one call answers them all.

An operation that waits for such a call steps aside, so that others can come as far as it has. What
a call does, and what becomes of its errors, is in `bulk`.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Hashable, Sequence
from contextvars import Context, ContextVar
from functools import partial
from typing import Any, Final, TypeAlias

import anyio

from asgi_batch._bystanders import Bystanders
from asgi_batch._crew import Crew
from asgi_batch._garbage import SharedPatience
from asgi_batch._gate import Gate
from asgi_batch._group import Group, Outcome, Source, Waiter
from asgi_batch._loop import signal_factory
from asgi_batch._pending import Pending
from asgi_batch._tasks import Tasks
from asgi_batch._worker import Worker
from asgi_batch.errors import OperationAborted

#: Calls that have it in common can be one.
Name: TypeAlias = tuple[Source, Hashable]

#: That of the batch whose operation is running.
current_gathering: Final[ContextVar[Gathering]] = ContextVar("asgi_batch_gathering")


class Gathering:
    """
    All calls of one batch.

    Args:
        crew: The workers of the batch.
        pending: The operations that have not started.
        gate: What calls have to pass, and operations that come back.
        work: What a worker does.
        on_idle: Called when nothing goes on until more operations may start.

    Attributes:
        bystanders: Operations that wait for calls.
        is_open: Whether calls are gathered.
        ready: Those whose calls have been made, by operation, in the order of their turns.
    """

    __slots__ = (
        "_context",
        "_crew",
        "_door",
        "_due",
        "_groups",
        "_on_idle",
        "_patience",
        "_pending",
        "_running",
        "_signal",
        "_tasks",
        "_work",
        "bystanders",
        "is_open",
        "ready",
    )

    _context: Context

    def __init__(
        self,
        crew: Crew,
        pending: Pending,
        gate: Gate,
        *,
        work: Callable[[Worker], Coroutine[Any, Any, None]],
        on_idle: Callable[[], None],
    ) -> None:
        self._crew = crew
        self._pending = pending
        self._door = gate.door()
        self._work = work
        self._on_idle = on_idle
        self.is_open = False
        self._signal = signal_factory()
        self._patience = SharedPatience()
        self._tasks: Tasks | None = None
        self._groups: dict[Name, Group] = {}
        self._due: deque[Group] = deque()
        self._running: set[Group] = set()
        self.bystanders = Bystanders(crew, self._door)
        self.ready: OrderedDict[int, list[Waiter]] = OrderedDict()

    def open(self, tasks: Tasks, context: Context) -> None:
        """
        Gather from now on what is asked in copies of *context*; calls are made in *tasks*.
        """
        context.run(current_gathering.set, self)
        self._context = context
        self._tasks = tasks
        self.is_open = True

    async def gather(
        self, source: Source, key: Hashable, index: int, item: Any, *, in_thread: bool = False
    ) -> Outcome:
        """
        The outcome of *item*, of a call of *source* that may be for others as well.

        Args:
            source: What is called.
            key: Tells calls apart that must not be one.
            index: Of the operation that asks.
            item: Its part of the call.
            in_thread: Whether a thread waits for it.

        Raises:
            OperationAborted: The call will never be made.
        """
        waiter = Waiter(index, self._signal(), in_thread=in_thread)
        self._join((source, key), item, waiter)
        with self._patience:
            try:
                await waiter.may_go_on.wait()
            except BaseException:
                self._leave(waiter)
                raise
        if not waiter.is_answered:
            raise OperationAborted("The batch no longer waits for this operation.")
        if not self.bystanders.has_passed(index):
            await self.bystanders.pass_door(index)
        return waiter.outcome

    def grow(self) -> bool:
        """
        Give a free place to whoever is next: a call, an operation that has been answered, or a
        new one. Where nobody goes on and nobody can come, no call waits for more.

        Returns:
            Whether there was a place, and anybody for it.
        """
        if self._tasks is None:
            return False
        if self._crew.has_room:
            if self._advance():
                return True
            if self._pending:
                self._crew.expect()
                worker = Worker(self._tasks.new_scope())
                self._tasks.start_worker(partial(self._work, worker), worker.scope)
                return True
        if not (self._groups or self._due) or not self._crew.is_idle:
            return False
        if self._crew.has_room and not (self._pending.is_exhausted or self._crew.is_over):
            self._on_idle()
            return False
        self._due.extend(self._groups.values())
        self._groups.clear()
        return self._advance()

    def _advance(self) -> bool:
        while self._due:
            group = self._due.popleft()
            if not (group.may_start.is_set() or group.ended.is_set()):
                self._start(group)
                return True
        while self.ready:
            index = next(iter(self.ready))
            is_back = self.bystanders.take_back(index)
            self._let_go_on(index)
            if is_back:
                return True
        return False

    def _let_go_on(self, index: int) -> None:
        for waiter in self.ready.pop(index, ()):
            waiter.may_go_on.set()

    def call_no_more(self) -> None:
        """
        Make no further call, but let those come to their end that are being made.
        """
        self.is_open = False
        for group in self._running:
            if not group.may_start.is_set():
                group.scope.cancel()

    async def wait(self) -> None:
        """
        Wait until the calls have ended that there are.
        """
        for group in tuple(self._running):
            await group.ended.wait()

    def close(self) -> None:
        """
        Gather nothing more, and make the calls now that are still waited for.
        """
        self.is_open = False
        self._groups.clear()
        for group in self._running:
            if not group.may_start.is_set():
                self._start(group)

    def _join(self, name: Name, item: Any, waiter: Waiter) -> None:
        group = self._groups.get(name)
        if group is None or group.scope.cancel_called:
            assert self._tasks is not None
            group = self._groups[name] = Group(name[0])
            self._running.add(group)
            self._context.copy().run(self._tasks.start_soon, self._carry_out, group, name)
        group.add(item, waiter)
        if group.is_full:
            self._due.append(self._groups.pop(name))
        if waiter.in_thread:
            self._crew.blocked += 1
            self.grow()
        elif self.bystanders.wait(waiter.index):
            self.grow()

    def _leave(self, waiter: Waiter) -> None:
        waiter.has_left = True
        if not (waiter.is_answered or waiter.may_go_on.is_set()):
            self._end_wait(waiter)
        self.bystanders.come_back_at_once(waiter.index)
        self._let_go_on(waiter.index)
        for group in self._running:
            if group.is_forsaken:
                group.scope.cancel()

    def _start(self, group: Group) -> None:
        self._crew.expect()
        group.may_start.set()

    async def _carry_out(self, group: Group, name: Name) -> None:
        outcomes: Sequence[Outcome] = ()
        try:
            with group.scope:
                if not await group.fills_up():
                    self._call_late(group, name)
                    await group.may_start.wait()
                outcomes = await self._call(group)
        except anyio.get_cancelled_exc_class():
            # Where nobody has cancelled the batch, the function has cancelled itself.
            if anyio.current_effective_deadline() == -math.inf:
                raise
        finally:
            self._end(group, name)
            self._deliver(group, outcomes)

    async def _call(self, group: Group) -> Sequence[Outcome]:
        if group.has_threads:
            # Those keep their tokens, which may be all there are: it is made in their place.
            return await group.source.call(group.items)
        await self._door.acquire(group)
        try:
            return await group.source.call(group.items)
        finally:
            self._door.release(group)

    def _call_late(self, group: Group, name: Name) -> None:
        if self._groups.get(name) is group:
            del self._groups[name]
        if self._crew.is_strict:
            self._due.append(group)
            self.grow()
        else:
            # Others take their time: it is called beside them.
            self._start(group)

    def _end(self, group: Group, name: Name) -> None:
        group.ended.set()
        self._running.discard(group)
        if self._groups.get(name) is group:
            del self._groups[name]
        if group.may_start.is_set():
            self._crew.release()

    def _deliver(self, group: Group, outcomes: Sequence[Outcome]) -> None:
        if outcomes:
            group.answer(outcomes)
        for waiter in group.waiting():
            may_come_back = self._end_wait(waiter)
            if may_come_back and waiter.is_answered:
                self.ready.setdefault(waiter.index, []).append(waiter)
            else:
                self.bystanders.come_back_at_once(waiter.index)
                waiter.may_go_on.set()
        while self.grow():
            pass

    def _end_wait(self, waiter: Waiter) -> bool:
        if waiter.in_thread:
            self._crew.blocked -= 1
            return False
        return self.bystanders.end_wait(waiter.index)
