"""
Runs one batch: so many operations at a time, each within its own time, each on its own.

A worker is a task that runs one operation after the other, every one in a context of its own.
What an operation may do to its neighbours ends here: its exception, its cancellation, its
leftovers and its lateness become its own result. Nothing here knows how a batch is written.
"""

from __future__ import annotations

import logging
import math
from contextvars import Context
from functools import partial
from time import monotonic
from types import CoroutineType
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from asgi_batch._call import Call, as_coroutine, contain, go_on
from asgi_batch._core.models import Batch, Result
from asgi_batch._engine import Engine
from asgi_batch._ledger import Ledger
from asgi_batch._pending import Pending
from asgi_batch._subrequest import COMPLETE, Subrequest
from asgi_batch._worker import Worker
from asgi_batch.errors import Failure

logger = logging.getLogger("asgi_batch")

# Seconds that workers run on without giving way to other tasks, when no operation ever waits.
_TIME_SLICE: Final = 0.002

# Seconds between two looks at the deadlines, at least.
_TICK: Final = 0.01

# Seconds that operations of a client that has gone get to end by themselves.
_ABORT_GRACE: Final = 0.5


class Execution:
    """
    One batch being carried out; made for one batch and used once.

    Args:
        engine: What to run with.
        batch: The operations.
        batch_id: Names the batch to the app and in logs.
        pending: Its calls.
        ledger: Where results go.
    """

    def __init__(
        self,
        engine: Engine,
        batch: Batch,
        *,
        batch_id: str,
        pending: Pending,
        ledger: Ledger,
    ) -> None:
        self._engine = engine
        self._limits = engine.limits
        self._gate = engine.gate
        self._batch_id = batch_id
        self._pending = pending
        self._ledger = ledger
        self._fresh: list[Result] = []
        self._usual_timeout = usual = engine.limits.operation_timeout
        self._shortest = min(operation.timeout or usual for operation in batch.operations)
        self._batch_deadline = math.inf
        self._breath_due = 0.0
        self._workers: set[Worker] = set()
        self._fronts = 0
        self._finished = anyio.Event()
        self._left = anyio.Event()
        self._is_over = self.is_aborted = False
        self.has_remains = False

    def start(self, tasks: TaskGroup) -> None:
        """
        Begin to run operations in *tasks*, which may have to wait for them beyond `wait`.
        """
        self._tasks = tasks
        now = monotonic()
        self._breath_due = now + _TIME_SLICE
        self._batch_deadline = now + self._limits.batch_timeout
        self._grow()

    async def wait(self) -> None:
        """
        Wait until every operation has its result, giving up those that are late.

        An operation that does not stop when told to is waited for by the task group, not here.
        """
        while not self._finished.is_set():
            now = monotonic()
            self._expire(now)
            with anyio.move_on_after(self._time_to_look(now)):
                await self._finished.wait()

    async def abort(self) -> None:
        """
        Stop, because nobody waits for the answer: start nothing more, and end what is running.
        """
        self.is_aborted = self._is_over = True
        self._finished.set()
        self._pending.drop()
        for worker in self._workers:
            if worker.subrequest is None:
                worker.scope.cancel()
            else:
                worker.subrequest.abort()
        with anyio.move_on_after(_ABORT_GRACE if self._workers else 0):
            await self._left.wait()
        self.close()

    def close(self) -> None:
        """
        Cancel what goes on although nothing is waited for any more.

        These are operations whose answer has been given up, and workers that stand in line for
        one. Operations that have answered are left alone: what they still do is background tasks.
        """
        self._is_over = True
        self._pending.drop()
        for worker in self._workers:
            if worker.subrequest is None:
                worker.scope.cancel()
            elif worker.is_busy:
                self._abandon(worker, worker.subrequest)
        if not self._workers:
            self._left.set()

    def _grow(self) -> None:
        if self._pending and self._fronts < self._limits.concurrency:
            self._fronts += 1
            self._tasks.start_soon(self._work)

    def _settle(self, result: Result) -> None:
        self._heed(self._ledger.record(result))

    def _enter_fresh(self) -> None:
        self._heed(self._ledger.record_all(self._fresh))
        self._fresh.clear()

    def _heed(self, reason: Failure | None) -> None:
        if reason is not None:
            self._skip_rest(reason)
        if not self._ledger.open:
            self._finished.set()

    def _settle_for(self, worker: Worker, result: Result) -> None:
        self._settle(result)
        if worker.is_waiting:
            # Another task of the app has answered.
            self._on_pause(worker)

    def _skip_rest(self, reason: Failure) -> None:
        for operation in self._pending.drop():
            self._settle(Result.failed(operation, reason))

    def _expire(self, now: float) -> None:
        is_over = now >= self._batch_deadline
        if is_over:
            self._skip_rest(Failure.SKIPPED_TIMEOUT)
        failure = Failure.BATCH_TIMEOUT if is_over else Failure.OPERATION_TIMEOUT
        for worker in self._workers:
            subrequest = worker.subrequest
            if subrequest is None or not worker.is_busy or worker.is_abandoned:
                continue
            if is_over or worker.deadline <= now:
                self._abandon(worker, subrequest)
                self._settle(Result.failed(subrequest.operation, failure))

    def _abandon(self, worker: Worker, subrequest: Subrequest) -> None:
        subrequest.abort()
        worker.scope.cancel()
        if not worker.is_abandoned:
            worker.is_abandoned = worker.is_spent = True
            self._gate.abandoned += 1

    def _time_to_look(self, now: float) -> float:
        # An operation that starts later cannot be due before the shortest timeout has passed.
        due = min(self._batch_deadline, now + self._shortest)
        for worker in self._workers:
            if worker.is_busy and not worker.is_abandoned:
                due = min(due, worker.deadline)
        return max(due - now, _TICK)

    async def _work(self) -> None:
        worker = Worker()
        self._workers.add(worker)
        try:
            with worker.scope:
                worker.enter()
                while self._pending and not worker.is_spent:
                    await self._gate.acquire(worker)
                    try:
                        await self._run_operations(worker)
                    finally:
                        self._gate.release(worker)
                if worker.guard.has_remains():
                    self.has_remains = True
                    self._dismiss(worker)
                    self._grow()
                    await worker.park(self._left)
        except RuntimeError:
            if not self.has_remains:
                raise
            logger.exception("An operation left a cancel scope open in the task that ran it.")
        finally:
            self._dismiss(worker)
        self._grow()

    def _dismiss(self, worker: Worker) -> None:
        if worker not in self._workers:
            return
        self._workers.discard(worker)
        self._fronts -= not worker.is_tail
        self._gate.abandoned -= worker.is_abandoned
        if self._is_over and not self._workers:
            self._left.set()

    async def _run_operations(self, worker: Worker) -> None:
        """
        Run operations until none is left, another batch waits, or *worker* is spent.
        """
        app, bounds, is_clean = self._engine.app, self._engine.bounds, worker.guard.is_clean
        pending, ready, gate = self._pending, self._pending.ready, self._gate
        fresh, ledger = self._fresh, self._ledger
        while ready or pending.refill(fresh.append, self._settle, bounds):
            if monotonic() > self._breath_due:
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
                self._stop_if_cancelled(worker)
                is_own = worker.guard.is_in_scope()
                contain(error, subrequest, self._batch_id, may_be_obeyed=is_own)
            if len(fresh) >= ledger.group:
                self._enter_fresh()
            if gate.waiting or worker.is_spent or not is_clean():
                break
        worker.is_spent = worker.is_spent or not is_clean()
        self._enter_fresh()

    async def _breathe(self) -> None:
        self._enter_fresh()
        await checkpoint()
        self._breath_due = monotonic() + _TIME_SLICE

    async def _go_on(
        self, worker: Worker, subrequest: Subrequest, call: Call, paused_for: Any, context: Context
    ) -> None:
        self._enter_fresh()
        worker.subrequest = subrequest
        worker.deadline = monotonic() + (subrequest.operation.timeout or self._usual_timeout)
        subrequest.settle = subrequest.settle_large = partial(self._settle_for, worker)
        try:
            await go_on(call, paused_for, context, self._on_pause, worker)
            self._stop_if_cancelled(worker)
        finally:
            worker.subrequest = None
            if worker.is_tail:
                self._return_to_front(worker)

    def _stop_if_cancelled(self, worker: Worker) -> None:
        # An operation that ignores a cancelled batch must not be followed by another.
        if worker.is_cancelled_from_outside():
            self._pending.drop()

    def _on_pause(self, worker: Worker) -> None:
        if not worker.is_tail and not worker.is_busy:
            worker.is_tail = True
            self._fronts -= 1
        self._grow()

    def _return_to_front(self, worker: Worker) -> None:
        worker.is_tail = self._fronts >= self._limits.concurrency
        worker.is_spent = worker.is_spent or worker.is_tail
        self._fronts += not worker.is_tail
