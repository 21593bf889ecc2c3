"""
Carries out one batch that a store holds, and tells the store: results, and what may start next.

A batch is claimed and given back elsewhere; here it is held.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextvars import Context
from time import monotonic
from typing import Final

import anyio

from asgi_batch._core.failures import Failure
from asgi_batch._core.lookahead import Lookahead
from asgi_batch._core.models import Batch, Operation, Result
from asgi_batch._core.records import Claim, Entry, Saving
from asgi_batch._core.repeating import is_safe_to_repeat, why_none_may_start, why_not_again
from asgi_batch._core.reports import Ending
from asgi_batch._core.scope import ScopeTemplate
from asgi_batch._executor import Execution
from asgi_batch._ledger import Ledger
from asgi_batch._news import News
from asgi_batch._pending import SMALL_GROUP, Pending
from asgi_batch._tasks import tasks_for
from asgi_batch._terms import RETRY, Terms
from asgi_batch.errors import StoreUnavailable
from asgi_batch.ports import Standing

logger = logging.getLogger("asgi_batch")

# Seconds within which results follow one another where they are told together.
_SHORTLY: Final = 0.01


class Carrier:
    """
    The holder of one batch.

    Args:
        terms: On which terms it is held.
        claim: The batch.
        operations: All operations of it.
        template: Makes their scopes.

    Attributes:
        share: What is held.
        batch_id: The batch that it is, or is of.
        size: Bytes of its request.
    """

    def __init__(
        self, terms: Terms, claim: Claim, operations: Sequence[Operation], template: ScopeTemplate
    ) -> None:
        self._terms = terms
        self._store = terms.store
        self._limits = terms.engine.limits
        self._claim = claim
        self.share, self.batch_id = claim.hold.share, claim.hold.batch_id
        self.size = sum(map(len, claim.chunks))
        self._template = template
        self._watch = terms.engine.reporter.begin("later", template.headers, self.batch_id)
        left = [each for each in operations if each.index not in claim.finished]
        self._suspects = [each for each in left if each.index < claim.allowed]
        self._others = [each for each in left if each.index >= claim.allowed]
        self._news = News()
        self._ledger = Ledger(
            Batch(left, claim.stops_on_error),
            terms.encode,
            self._limits.max_response_bytes,
            total=claim.snapshot.total,
            on_arrival=self._news.arrive,
        )
        self._pending = self._calls_of(self._others, may_start=0)
        self._execution = self._execution_of(self._others, self._pending)
        self._current, self._calls = self._execution, self._pending
        self._alone: Operation | None = None
        self._ending: Ending = "released"
        self._fence = math.inf
        self._lookahead = Lookahead(self._limits.concurrency)
        self._unsaved: list[Entry] = []
        self._told_at = -math.inf
        self._telling = anyio.Lock()
        self._is_over = self._is_draining = self._has_heard = False
        self._ended = anyio.Event()

    async def run(self) -> None:
        """
        Carry the batch out to its end, or until it is lost or given back.
        """
        try:
            async with anyio.create_task_group() as tasks:
                reason = why_none_may_start(self._claim, self._limits.max_queue_age)
                if reason is not None:
                    self._skip(reason)
                else:
                    self._settle_suspects()
                    self._heed_failures(self._claim.snapshot.failed)
                tasks.start_soon(self._keep_telling)
                for operation in self._suspects:
                    if self._may_start(operation):
                        await self._run_alone(operation)
                if self._others and not self._is_stopped:
                    self._alone = None
                    self._current, self._calls = self._execution, self._pending
                    await self._run(self._execution)
        finally:
            self._ended.set()
            done = self._ledger.summary()
            is_whole = self.share.chunk is None
            self._watch.end(self._ending, self._claim.snapshot.plus(done) if is_whole else done)

    def cancel(self) -> None:
        """
        Let no further operation start, because the batch has been cancelled.
        """
        self._skip(Failure.CANCELLED)
        self._news.wake()

    async def drain(self) -> None:
        """
        Give the batch back, after what is running has come to its end in the time it has.
        """
        self._is_draining = self._store.durability == "store"
        with anyio.move_on_after(self._limits.drain_timeout):
            # Where nobody else could go on with it, it has that time for its end.
            await (self._current.pause() if self._is_draining else self._ended.wait())
        self._is_draining = True
        started = self._pending.started
        await self._current.abort()
        for operation in self._others[:started]:
            if not is_safe_to_repeat(operation):
                self._ledger.record(Result.failed(operation, Failure.OUTCOME_UNKNOWN))
        is_told = await self._tell()
        # Whatever is told from here on would take the batch back.
        async with self._telling:
            is_mine, self._is_over = is_told and not self._is_over, True
        self._news.wake()
        if is_mine:
            await self._store.release(self._claim.hold, self._index_of(started))

    @property
    def _is_stopped(self) -> bool:
        return self._is_over or self._is_draining

    def _may_start(self, operation: Operation) -> bool:
        return not self._is_stopped and not self._ledger.results[operation.index]

    async def _run(self, execution: Execution) -> None:
        async with tasks_for(execution) as tasks:
            execution.start(tasks)
            await execution.wait()
            execution.close()
        self._heed_failures()

    async def _run_alone(self, operation: Operation) -> None:
        """
        Run an operation that may have taken a process with it, and nothing beside it.
        """
        while not await self._tell(trial=operation.index):
            if self._is_over:
                return
            await anyio.sleep(RETRY)
        if not self._may_start(operation):
            return
        self._calls = self._calls_of([operation], attempt=1 + self._attempts(operation))
        self._alone, self._current = operation, self._execution_of([operation], self._calls)
        self._current.pace.fence = self._fence
        await self._run(self._current)

    def _calls_of(
        self, operations: Sequence[Operation], *, attempt: int = 1, may_start: int | None = None
    ) -> Pending:
        return Pending(
            operations,
            batch_id=self.batch_id,
            total=self._claim.snapshot.total,
            template=self._template,
            context=self._watch.prepare(Context()),
            attempt=attempt,
            may_start=may_start,
            group=SMALL_GROUP,
        )

    def _execution_of(self, operations: Sequence[Operation], pending: Pending) -> Execution:
        return Execution(
            self._terms.engine,
            Batch(list(operations)),
            batch_id=self.batch_id,
            pending=pending,
            ledger=self._ledger,
            turns=self._terms.turns,
            on_idle=self._news.wake,
        )

    def _attempts(self, operation: Operation) -> int:
        return 1 + self._claim.trials.get(operation.index, 0)

    def _settle_suspects(self) -> None:
        for operation in self._suspects:
            attempts, most = self._attempts(operation), self._limits.max_attempts
            if (failure := why_not_again(operation, attempts, most)) is not None:
                self._ledger.record(Result.failed(operation, failure))

    def _heed_failures(self, earlier: int = 0) -> None:
        has_failed = earlier or "failed" in self._ledger.bad_ends.values()
        if self._claim.stops_on_error and has_failed:
            self._skip(Failure.SKIPPED)

    def _skip(self, reason: Failure) -> None:
        self._has_heard = self._has_heard or reason is Failure.CANCELLED
        for operation in self._suspects:
            # It may have run before: that must not be told as "not executed".
            if operation is not self._alone:
                self._ledger.record(Result.failed(operation, Failure.OUTCOME_UNKNOWN))
        if self._alone is not None:
            self._current.skip_rest(Failure.OUTCOME_UNKNOWN)
        self._execution.skip_rest(reason)
        # Operations that wait for a call have nobody else to wait for now.
        self._execution.grow()

    async def _keep_telling(self) -> None:
        """
        Tell the store what has come up, at once where that is little, and keep the lease alive.
        """
        while not self._is_over:
            await self._terms.turns.take()
            if not await self._tell():
                await anyio.sleep(RETRY)
            elif not self._is_over:
                await self._news.wait(self._terms.beat)
                if monotonic() - self._told_at < _SHORTLY:
                    await self._news.gather(_SHORTLY, self._is_more_to_come)

    def _is_more_to_come(self) -> bool:
        return self._ledger.open + self._pending.started > len(self._others) or bool(self._pending)

    async def _tell(self, trial: int | None = None) -> bool:
        """
        Tell the store all there is to tell; false where it did not take it.
        """
        async with self._telling:
            if self._is_over:
                return False
            self._unsaved += self._ledger.take()
            pending, asked_at = self._pending, monotonic()
            ended = len(self._others) - self._ledger.open
            may_start = self._lookahead.plan(pending.started, pending.may_start, asked_at, ended)
            saving = Saving(
                entries=self._unsaved,
                allowed=self._index_of(may_start),
                trial=trial,
                ends=not self._ledger.open,
                heard=self._has_heard,
                lease=self._terms.lease,
            )
            try:
                standing = await self._store.save(self._claim.hold, saving)
            except StoreUnavailable as error:
                logger.warning("Results are kept back, because of the store: %s", error)
                return False
            self._told_at, self._unsaved = monotonic(), []
            return await self._heed(standing, asked_at, may_start, ends=saving.ends)

    async def _heed(
        self, standing: Standing, asked_at: float, may_start: int, *, ends: bool
    ) -> bool:
        if standing == "lost":
            self._is_over = True
            await self._current.abort()
            return False
        self._fence = asked_at + self._terms.grace
        self._current.pace.fence = self._execution.pace.fence = self._fence
        if ends:
            self._is_over = True
            if standing != "ended":
                self._ending = "completed" if standing == "held" else standing
        elif standing == "cancelled" and not self._has_heard:
            self.cancel()
        elif standing == "held" and not self._is_draining:
            self._pending.allow(may_start)
            self._lookahead.allowed(monotonic())
            self._calls.go_on()
            self._current.grow()
        return True

    def _index_of(self, count: int) -> int:
        """
        The index up to which operations have been reached when *count* of them have started.
        """
        reached = self._others[:count]
        return reached[-1].index + 1 if reached else self._claim.allowed
