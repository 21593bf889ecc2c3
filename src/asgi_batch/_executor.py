"""
Runs one batch: so many operations at a time, each within its own time, each on its own.

A worker is a task that runs one operation after the other, every one in a context of its own.
What an operation may do to its neighbours ends here: its exception, its cancellation, its
leftovers and its lateness become its own result. Nothing here knows how a batch is written.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextvars import Context
from functools import partial
from time import monotonic
from types import CoroutineType
from typing import Any, Final

import anyio

from asgi_batch._call import Call, as_coroutine, contain, go_on
from asgi_batch._core.failures import Failure
from asgi_batch._core.models import Batch, Result
from asgi_batch._crew import Crew
from asgi_batch._deadlines import Deadlines
from asgi_batch._engine import Engine
from asgi_batch._gathering import Gathering
from asgi_batch._ledger import Ledger, nothing
from asgi_batch._pending import Pending
from asgi_batch._subrequest import COMPLETE, Subrequest
from asgi_batch._task_guard import guard_factory
from asgi_batch._tasks import Tasks
from asgi_batch._worker import Pace, Turns, Worker

logger = logging.getLogger("asgi_batch")

# Seconds that operations get to end that nobody waits for.
_GRACE: Final = 0.5


class Execution:
    """
    One batch being carried out; made for one batch and used once.

    Args:
        engine: What to run with.
        batch: The operations.
        batch_id: Names the batch to the app and in logs.
        pending: Its calls.
        ledger: Where results go.
        turns: Of the batches of the background, if this is one of them.
        on_idle: Called when nothing goes on until more operations may start.
    """

    def __init__(
        self,
        engine: Engine,
        batch: Batch,
        *,
        batch_id: str,
        pending: Pending,
        ledger: Ledger,
        turns: Turns | None = None,
        on_idle: Callable[[], None] = nothing,
    ) -> None:
        self._engine = engine
        self._gate = engine.gate
        self._door = engine.gate.door()
        self._batch_id = batch_id
        self._pending = pending
        self._ledger = ledger
        self._fresh: list[Result] = []
        self.pace = Pace(turns)
        most = 1 if batch.atomic else engine.limits.concurrency
        self._crew = Crew(most, engine.gate, is_strict=batch.atomic)
        self._deadlines = Deadlines(self._crew, engine.limits.operation_timeout, batch.operations)
        self._gathering = Gathering(
            self._crew, pending, engine.gate, work=self._work, on_idle=on_idle
        )
        self._guard = guard_factory()
        self._count = len(batch.operations)
        self._floor = 0
        self._finished = anyio.Event()
        self.is_aborted = False
        self.has_remains = False

    def start(self, tasks: Tasks, timeout: float = math.inf) -> None:
        """
        Begin to run operations in *tasks*, which may have to wait for them beyond `wait`; after
        *timeout* seconds they are given up.
        """
        self._floor = max(self._ledger.open - self._count, 0)
        if self._ledger.open <= self._floor:
            self._finished.set()
        self._deadlines.start(timeout)
        self._gathering.open(tasks, self._pending.context)
        self.pace.start()
        self.grow()

    async def wait(self) -> None:
        """
        Wait until every operation has its result, giving up those that are late.

        An operation that does not stop when told to is waited for by the task group, not here.
        """
        while not self._finished.is_set():
            self._expire()
            with anyio.move_on_after(self._deadlines.seconds_to_next()):
                await self._finished.wait()

    async def abort(self) -> None:
        """
        Stop, because nobody waits for the answer: start nothing more, and end what is running.
        """
        self.is_aborted = True
        self._finished.set()
        self._pending.drop()
        self._gathering.call_no_more()
        self._crew.abort()
        self._crew.end()
        with anyio.move_on_after(_GRACE):
            await self._crew.left.wait()
        self.close()

    async def end(self) -> None:
        """
        `close`, and wait for a moment until nothing goes on.
        """
        self.close()
        with anyio.move_on_after(_GRACE):
            await self._crew.left.wait()
            await self._gathering.wait()

    async def pause(self) -> None:
        """
        Start nothing more, and wait for what is running.
        """
        self._pending.hold_back()
        self._crew.end()
        self.grow()
        await self._crew.left.wait()

    def close(self) -> None:
        """
        Cancel what goes on although nothing is waited for any more.

        These are operations whose answer has been given up, and workers that stand in line for
        one. Operations that have answered are left alone: what they still do is background tasks.
        """
        self._pending.drop()
        self._gathering.close()
        self._crew.give_up()
        self._crew.end()

    def grow(self) -> bool:
        """
        Give a free place to whoever is next; true where there was one, and anybody for it.
        """
        return self._gathering.grow()

    def _settle(self, result: Result) -> None:
        self._heed(self._ledger.record(result))

    def _enter_fresh(self) -> None:
        if self._fresh:
            self._heed(self._ledger.record_all(self._fresh))
            self._fresh.clear()

    def _heed(self, reason: Failure | None) -> None:
        if reason is not None:
            self.skip_rest(reason)
        is_at_work = self._crew.is_strict and self._crew.is_at_work
        if self._ledger.open <= self._floor and not is_at_work:
            self._finished.set()

    def _settle_for(self, worker: Worker, result: Result) -> None:
        self._settle(result)
        if worker.is_waiting:
            # Another task of the app has answered.
            self._on_pause(worker)

    def skip_rest(self, reason: Failure) -> None:
        """
        Let no further operation start; each gets a result that says why.
        """
        for operation in self._pending.drop():
            self._settle(Result.failed(operation, reason))

    def _expire(self) -> None:
        late = self._deadlines.expire()
        if self._deadlines.is_over:
            self._gathering.call_no_more()
            self.skip_rest(Failure.SKIPPED_TIMEOUT)
        for result in late:
            self._heed(self._ledger.overrule(result))

    async def _work(self, worker: Worker) -> None:
        self._crew.workers.add(worker)
        try:
            with worker.scope:
                worker.guard = self._guard()
                while self._pending and not worker.is_spent:
                    await self._door.acquire(worker)
                    worker.has_token = True
                    try:
                        await self._run_operations(worker)
                    finally:
                        self._gathering.bystanders.give_up_token(worker)
                if worker.guard.has_remains():
                    self.has_remains = True
                    self._crew.dismiss(worker)
                    self.grow()
                    await worker.park(self._crew.left)
        except RuntimeError:
            if not self.has_remains:
                raise
            logger.exception("An operation left a cancel scope open in the task that ran it.")
        finally:
            self._crew.dismiss(worker)
        self.grow()

    async def _run_operations(self, worker: Worker) -> None:
        """
        Run operations until none is left, another batch waits, or *worker* is spent.
        """
        app, bounds, is_clean = self._engine.app, self._engine.bounds, worker.guard.is_clean
        pending, ready, gate = self._pending, self._pending.ready, self._gate
        fresh, ledger, pace = self._fresh, self._ledger, self.pace
        waiters = self._gathering.ready
        while not worker.is_spent and (ready or pending.refill(fresh.append, self._settle, bounds)):
            if monotonic() > pace.due:
                await self._breathe()
                continue
            subrequest, scope, context = ready.pop()
            try:
                call = context.run(app, scope, subrequest.receive, subrequest.send)
                if type(call) is not CoroutineType:
                    call = as_coroutine(call)
                try:
                    paused_for = context.run(call.send, None)
                except StopIteration:
                    pass
                else:
                    await self._go_on(worker, subrequest, call, paused_for, context)
                if subrequest.phase < COMPLETE:
                    subrequest.finish()
            except BaseException as error:
                self._contain(error, worker, subrequest)
            if len(fresh) >= ledger.group:
                self._enter_fresh()
            if gate.waiting or not is_clean() or (waiters and worker.gives_way()):
                break
        worker.is_spent = worker.is_spent or not is_clean()
        self._enter_fresh()

    def _contain(self, error: BaseException, worker: Worker, subrequest: Subrequest) -> None:
        self._stop_if_cancelled(worker)
        contain(error, subrequest, self._batch_id, may_be_obeyed=worker.guard.is_in_scope())
        if self._crew.is_strict and subrequest.phase == COMPLETE and not worker.is_abandoned:
            self._enter_fresh()
            failed = Result.failed(subrequest.operation, Failure.APP_EXCEPTION)
            self._heed(self._ledger.overrule(failed))

    async def _breathe(self) -> None:
        self._enter_fresh()
        if not await self.pace.breathe():
            self._pending.hold_back()

    async def _go_on(
        self, worker: Worker, subrequest: Subrequest, call: Call, paused_for: Any, context: Context
    ) -> None:
        worker.subrequest = subrequest
        self._enter_fresh()
        worker.deadline = self._deadlines.of(subrequest.operation)
        subrequest.settle = subrequest.settle_large = partial(self._settle_for, worker)
        bystanders, index = self._gathering.bystanders, subrequest.operation.index
        bystanders.register(index, worker)
        try:
            await go_on(call, paused_for, context, self._on_pause, worker)
            self._stop_if_cancelled(worker)
        finally:
            worker.subrequest = None
            bystanders.forget(index)
            if self._crew.is_strict:
                self._heed(None)
            if worker.is_tail:
                self._crew.step_forward(worker)

    def _stop_if_cancelled(self, worker: Worker) -> None:
        # An operation that ignores a cancelled batch must not be followed by another.
        if worker.is_cancelled_from_outside():
            self._pending.drop()

    def _on_pause(self, worker: Worker) -> None:
        self._crew.step_back(worker)
        if self.grow() and worker.is_aside:
            # Where one waits for a call, more will: they come sooner if it is two each time.
            self.grow()
