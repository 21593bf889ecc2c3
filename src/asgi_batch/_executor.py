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
from dataclasses import dataclass
from time import monotonic
from typing import Final

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from asgi_batch._call import begin, contain, go_on
from asgi_batch._core.models import Batch, CurrentOperation, Operation, Result
from asgi_batch._core.scope import ScopeTemplate
from asgi_batch._ledger import Ledger
from asgi_batch._subrequest import COMPLETE, Subrequest
from asgi_batch.errors import Failure
from asgi_batch.limits import Gate, Limits
from asgi_batch.types import ASGIApp

logger = logging.getLogger("asgi_batch")

# Seconds that workers run on without giving way to other tasks of the process, when no operation
# ever waits for anything.
_TIME_SLICE: Final = 0.001

# Seconds between two looks at the deadlines, at least.
_TICK: Final = 0.01

# Seconds that a disconnected client's operations get to end by themselves, as they do when a
# server tells them of the disconnect, before they are cancelled.
_ABORT_GRACE: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """
    What all batches of one middleware run with.

    Args:
        app: What answers the operations.
        limits: Bounds in time and size.
        gate: Bounds what all batches do at a time.
        exposed: Names of the app's headers that results may show.
    """

    app: ASGIApp
    limits: Limits
    gate: Gate
    exposed: frozenset[bytes]


class _Worker:
    """
    A task of a batch, and what it is at.
    """

    __slots__ = ("deadline", "is_abandoned", "is_spent", "is_tail", "scope", "subrequest")

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.subrequest: Subrequest | None = None
        self.deadline = math.inf
        # An operation was late: the worker may be stuck in it for good.
        self.is_abandoned = False
        # An operation left more behind than its result: the worker must not run another.
        self.is_spent = False
        # The operation has answered and goes on, as background tasks do.
        self.is_tail = False

    @property
    def is_busy(self) -> bool:
        """
        Whether it is at an operation that has not answered in full.
        """
        return self.subrequest is not None and self.subrequest.phase != COMPLETE


class Execution:
    """
    One batch being carried out; made for one batch and used once.

    Args:
        engine: What to run with.
        batch: The operations.
        batch_id: Names the batch to the app and in logs.
        template: Makes the operations' scopes.
        context: The context variables that operations start from.
        ledger: Where results go.
    """

    def __init__(
        self,
        engine: Engine,
        batch: Batch,
        *,
        batch_id: str,
        template: ScopeTemplate,
        context: Context,
        ledger: Ledger,
    ) -> None:
        self._engine = engine
        self._limits = engine.limits
        self._gate = engine.gate
        self._operations = batch.operations
        self._batch_id = batch_id
        self._template = template
        self._context = context
        self._ledger = ledger
        self._next = 0
        self._total = len(batch.operations)
        self._shortest = min(map(self._timeout_of, batch.operations))
        self._batch_deadline = math.inf
        self._last_breath = 0.0
        self._workers: set[_Worker] = set()
        self._fronts = 0
        self._finished = anyio.Event()
        self._left: anyio.Event | None = None
        self.is_aborted = False

    def start(self, tasks: TaskGroup) -> None:
        """
        Begin to run operations in *tasks*, which may have to wait for them beyond `wait`.
        """
        self._tasks = tasks
        self._last_breath = monotonic()
        self._batch_deadline = self._last_breath + self._limits.batch_timeout
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
        self.is_aborted = True
        self._next = self._total
        for worker in self._workers:
            if worker.subrequest is not None:
                worker.subrequest.abort()
        self._finished.set()
        if self._workers:
            self._left = anyio.Event()
            with anyio.move_on_after(_ABORT_GRACE):
                await self._left.wait()
        self.cut()

    def cut(self) -> None:
        """
        Cancel the operations that go on although their answer has been given up.

        Those that have answered are left alone: what they still do are background tasks.
        """
        for worker in self._workers:
            if worker.is_busy:
                worker.scope.cancel()

    def _timeout_of(self, operation: Operation) -> float:
        return operation.timeout or self._limits.operation_timeout

    def _grow(self) -> None:
        if self._next < self._total and self._fronts < self._limits.concurrency:
            self._fronts += 1
            self._tasks.start_soon(self._work)

    def _settle(self, result: Result) -> None:
        size = self._ledger.size
        reason = self._ledger.record(result)
        self._gate.held_bytes += self._ledger.size - size
        if reason is not None:
            self._skip_rest(reason)
        if not self._ledger.open:
            self._finished.set()

    def _skip_rest(self, reason: Failure) -> None:
        rest = self._operations[self._next :]
        self._next = self._total
        for operation in rest:
            self._settle(Result.failed(operation, reason))

    def _expire(self, now: float) -> None:
        is_over = now >= self._batch_deadline
        if is_over:
            self._skip_rest(Failure.SKIPPED_TIMEOUT)
        failure = Failure.BATCH_TIMEOUT if is_over else Failure.OPERATION_TIMEOUT
        for worker in self._workers:
            if worker.is_busy and (is_over or worker.deadline <= now):
                self._give_up(worker, failure)

    def _give_up(self, worker: _Worker, failure: Failure) -> None:
        if worker.is_abandoned or worker.subrequest is None:
            return
        worker.is_abandoned = worker.is_spent = True
        self._gate.abandoned += 1
        worker.subrequest.abort()
        worker.scope.cancel()
        self._settle(Result.failed(worker.subrequest.operation, failure))

    def _time_to_look(self, now: float) -> float:
        # An operation that starts later cannot be due before the shortest timeout has passed.
        due = min(self._batch_deadline, now + self._shortest)
        for worker in self._workers:
            if worker.is_busy and not worker.is_abandoned:
                due = min(due, worker.deadline)
        return max(due - now, _TICK)

    async def _work(self) -> None:
        worker = _Worker()
        self._workers.add(worker)
        try:
            with worker.scope:
                while self._next < self._total and not worker.is_spent:
                    await self._gate.acquire(worker)
                    try:
                        await self._run_operations(worker)
                    finally:
                        self._gate.release(worker)
        except RuntimeError:
            logger.exception("An operation left a cancel scope open in the task that ran it.")
        finally:
            self._dismiss(worker)
        self._grow()

    def _dismiss(self, worker: _Worker) -> None:
        self._workers.discard(worker)
        self._fronts -= not worker.is_tail
        self._gate.abandoned -= worker.is_abandoned
        if self._left is not None and not self._workers:
            self._left.set()

    async def _run_operations(self, worker: _Worker) -> None:
        gate = self._gate
        while self._next < self._total and not worker.is_spent and not gate.waiting:
            now = monotonic()
            if now - self._last_breath > _TIME_SLICE:
                await checkpoint()
                self._last_breath = monotonic()
                continue
            operation = self._operations[self._next]
            self._next += 1
            worker.deadline = now + self._timeout_of(operation)
            await self._run(operation, worker)
            if worker.is_tail and not self._returns_to_front(worker):
                return

    async def _run(self, operation: Operation, worker: _Worker) -> None:
        limits = self._limits
        subrequest = worker.subrequest = Subrequest(
            operation,
            self._settle,
            self._engine.exposed,
            limits.max_result_bytes,
            limits.max_messages,
        )
        current = CurrentOperation(
            self._batch_id, operation.id, operation.index, self._total, 1, False
        )
        scope = self._template.scope_for(operation, current)
        context = self._context.copy()
        try:
            call, pause = context.run(begin, self._engine.app, scope, subrequest, current)
            await go_on(call, pause, context, lambda: self._on_pause(worker))
        except StopIteration:
            subrequest.finish()
        except BaseException as error:
            worker.is_spent = True
            contain(error, subrequest, current)
        else:
            subrequest.finish()

    def _on_pause(self, worker: _Worker) -> None:
        if not worker.is_tail and not worker.is_busy:
            worker.is_tail = True
            self._fronts -= 1
        self._grow()

    def _returns_to_front(self, worker: _Worker) -> bool:
        worker.is_spent = self._fronts >= self._limits.concurrency
        worker.is_tail = worker.is_spent
        self._fronts += not worker.is_spent
        return not worker.is_spent
