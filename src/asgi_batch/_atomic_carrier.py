"""
Carries out one atomic batch that a store holds: as a whole, and told of once it has ended.

Before its transaction is committed the store is told that it may be. Whoever takes the batch over
then knows: without that, nothing has happened, and it is run again as a whole; with it, nobody can
tell, and it is not run again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from time import monotonic
from typing import Any

import anyio

from asgi_batch._core.failures import Failure
from asgi_batch._core.models import Batch, Operation
from asgi_batch._core.records import Claim, Saving
from asgi_batch._core.repeating import why_none_may_start
from asgi_batch._core.reports import Ending
from asgi_batch._core.scope import ScopeTemplate
from asgi_batch._ledger import Ledger
from asgi_batch._news import News
from asgi_batch._tasks import tasks_for
from asgi_batch._terms import RETRY, Terms
from asgi_batch._transaction import Verdict
from asgi_batch.errors import StoreUnavailable
from asgi_batch.ports import Standing
from asgi_batch.transactions import ENDINGS, FAILURES, AtomicRun

logger = logging.getLogger("asgi_batch")


class AtomicCarrier:
    """
    The holder of one atomic batch.

    Args:
        terms: On which terms it is held.
        claim: The batch.
        operations: All its operations.
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
        self._claim = claim
        self.share, self.batch_id = claim.hold.share, claim.hold.batch_id
        self.size = sum(map(len, claim.chunks))
        self._operations = operations
        self._watch = terms.engine.reporter.begin("later", template.headers, self.batch_id)
        batch = Batch(list(operations), stop_on_error=True, atomic=True)
        limits = terms.engine.limits
        self._ledger = Ledger(batch, terms.encode, limits.max_response_bytes)
        self._attempts = claim.trials.get(0, 0)
        self._run = AtomicRun(
            terms.engine,
            batch,
            batch_id=self.batch_id,
            template=template,
            ledger=self._ledger,
            prepare=self._watch.prepare,
            attempt=1 + self._attempts,
            turns=terms.turns,
        )
        self._news = News()
        self._telling = anyio.Lock()
        self._fence = -math.inf
        self._is_cancelled = claim.is_cancelled
        self._is_lost = self._is_interrupted = self._is_decided = False
        self._ending: Ending = "released"
        self._ended = anyio.Event()

    def cancel(self) -> None:
        """
        Roll back, because the batch has been cancelled.
        """
        self._is_cancelled = True
        self._news.wake()

    async def drain(self) -> None:
        """
        Give the batch back, unless it comes to its end in the time it has.
        """
        with anyio.move_on_after(self._terms.engine.limits.drain_timeout):
            await self._ended.wait()
        self._is_interrupted = True
        self._news.wake()
        await self._ended.wait()

    async def run(self) -> None:
        """
        Carry the batch out to its end, or until it is lost or given back.
        """
        try:
            failure = self._why_not()
            if failure is not None:
                self._ledger.undo(self._operations, failure)
                await self._tell_end("" if self._is_cancelled else failure.code, "failed")
            elif await self._begin():
                await self._carry_out()
        finally:
            self._end()
            self._watch.end(self._ending, self._ledger.summary())

    def _why_not(self) -> Failure | None:
        limits = self._terms.engine.limits
        if self._claim.allowed:
            return Failure.COMMIT_UNKNOWN
        if (reason := why_none_may_start(self._claim, limits.max_queue_age)) is not None:
            return reason
        return Failure.WORKER_LOST if self._attempts >= limits.max_attempts else None

    async def _begin(self) -> bool:
        """
        Find out whether the batch is still held; false where nothing may begin.
        """
        standing = await self._save()
        while standing is None and not self._is_interrupted:
            await anyio.sleep(RETRY)
            standing = await self._save()
        return standing in ("held", "cancelled") and not self._is_interrupted

    async def _may_start(self) -> bool:
        """
        Have the attempt counted, now that there is a transaction for it.
        """
        return await self._agree(trial=0) and not self._run.is_aborted

    async def _carry_out(self) -> None:
        async with tasks_for(self._run) as tasks:
            tasks.start_soon(self._keep_hold)
            tasks.start_soon(self._keep_fence)
            verdict = await self._run.run(
                tasks, before_start=self._may_start, before_commit=self._may_commit
            )
            self._is_decided = True
            with self._run.shelter():
                await self._finish(verdict)
            self._end()

    async def _keep_hold(self) -> None:
        """
        Keep the lease alive to the end, and roll back where the batch is not wanted any more.
        """
        while not self._ended.is_set():
            is_unwanted = self._is_cancelled or self._is_interrupted or self._is_lost
            if is_unwanted and not self._run.is_aborted:
                await self._run.abort()
            if self._is_lost:
                return
            await self._news.wait(self._terms.beat)
            await self._save()

    async def _keep_fence(self) -> None:
        """
        Roll back where nothing is heard of the store, before another may claim the batch and meet
        what its transaction has locked.
        """
        while not (self._is_decided or self._is_interrupted or self._ended.is_set()):
            if (left := self._fence - monotonic()) > 0:
                with anyio.move_on_after(left):
                    await self._ended.wait()
            else:
                self._is_interrupted = True
                await self._run.abort()

    async def _may_commit(self) -> bool:
        """
        Tell the store that the transaction may be committed from now on.
        """
        is_agreed = await self._agree(allowed=len(self._operations))
        self._is_decided = is_agreed and not self._run.is_aborted
        return self._is_decided

    async def _agree(self, **told: Any) -> bool:
        """
        Tell the store something while the transaction is open; false where that has to end.
        """
        while (standing := await self._save(**told)) is None:
            if self._is_interrupted or monotonic() > self._fence:
                self._is_interrupted = True
                return False
            await anyio.sleep(RETRY)
        return standing == "held"

    async def _finish(self, verdict: Verdict) -> None:
        if verdict is Verdict.UNAVAILABLE or self._is_lost:
            # It is taken over when the lease has ended, and not before.
            return
        is_given_back = self._is_interrupted and not self._is_cancelled
        if verdict is Verdict.ROLLED_BACK and is_given_back:
            # Whatever is told from here on would take the batch back.
            async with self._telling:
                self._end()
            await self._terms.store.release(self._claim.hold, 0)
        else:
            await self._end_with(verdict)

    async def _end_with(self, verdict: Verdict) -> None:
        error = ""
        if (failure := FAILURES.get(verdict)) is not None:
            self._ledger.undo(self._operations, failure)
            error = "" if self._is_cancelled else failure.code
        await self._tell_end(error, ENDINGS[verdict])

    async def _tell_end(self, error: str, ending: Ending) -> None:
        entries = self._ledger.take()
        while (standing := await self._save(entries=entries, ends=True, error=error)) is None:
            if self._is_interrupted:
                return
            await anyio.sleep(RETRY)
        if standing != "lost":
            self._ending = ending if standing == "held" else "cancelled"

    async def _save(self, **told: Any) -> Standing | None:
        """
        Tell the store something; None where it does not answer.
        """
        async with self._telling:
            if self._ended.is_set():
                return "lost"
            saving = Saving(heard=self._is_cancelled, lease=self._terms.lease, **told)
            asked_at = monotonic()
            try:
                standing = await self._terms.store.save(self._claim.hold, saving)
            except StoreUnavailable as error:
                logger.warning("An atomic batch is held without its store: %s", error)
                return None
        self._fence = asked_at + self._terms.grace
        self._is_lost = self._is_lost or standing == "lost"
        if standing == "cancelled":
            self.cancel()
        return standing

    def _end(self) -> None:
        self._ended.set()
        self._news.wake()
