"""
One transaction around the operations of an atomic batch: all of them happen, or none does.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from typing import Final

import anyio

from asgi_batch._core.failures import Failure
from asgi_batch._core.models import Batch
from asgi_batch._core.reports import Ending
from asgi_batch._core.scope import ScopeTemplate
from asgi_batch._engine import Engine
from asgi_batch._executor import Execution
from asgi_batch._ledger import Ledger, nothing
from asgi_batch._pending import SMALL_GROUP, Pending
from asgi_batch._tasks import Tasks
from asgi_batch._transaction import Verdict, run_in
from asgi_batch._worker import Turns

#: What that makes of the operations that have not failed themselves.
FAILURES: Final = {
    Verdict.ROLLED_BACK: Failure.ROLLED_BACK,
    Verdict.COMMIT_FAILED: Failure.COMMIT_FAILED,
    Verdict.UNKNOWN: Failure.COMMIT_UNKNOWN,
}

#: How the batch has ended, where its transaction has been begun.
ENDINGS: Final[dict[Verdict, Ending]] = {
    Verdict.COMMITTED: "completed",
    Verdict.ROLLED_BACK: "rolled_back",
    Verdict.COMMIT_FAILED: "rolled_back",
    Verdict.UNKNOWN: "failed",
}


class AtomicRun:
    """
    One atomic batch, carried out once.

    Args:
        engine: What to run with.
        batch: The operations.
        batch_id: Names the batch to the app and in logs.
        template: Makes the operations' scopes.
        ledger: Where results go.
        prepare: Makes a context a part of the batch in traces.
        attempt: Which attempt it is.
        turns: Of the batches of the background, if this is one of them.

    Attributes:
        is_aborted: Nobody wants it any more.
    """

    def __init__(
        self,
        engine: Engine,
        batch: Batch,
        *,
        batch_id: str,
        template: ScopeTemplate,
        ledger: Ledger,
        prepare: Callable[[Context], Context],
        attempt: int = 1,
        turns: Turns | None = None,
    ) -> None:
        self._engine = engine
        self._batch = batch
        self._batch_id = batch_id
        self._template = template
        self._ledger = ledger
        self._prepare = prepare
        self._attempt = attempt
        self._turns = turns
        self._execution: Execution | None = None
        self.is_aborted = False

    @property
    def has_remains(self) -> bool:
        """
        Whether an operation has left something in the task that ran it.
        """
        return self._execution is not None and self._execution.has_remains

    async def run(
        self,
        tasks: Tasks,
        *,
        before_start: Callable[[], Awaitable[bool]] | None = None,
        before_commit: Callable[[], Awaitable[bool]],
        seconds: float = math.inf,
    ) -> Verdict:
        """
        Carry the batch out; afterwards the ledger has results that say what has happened.

        Args:
            tasks: Where operations run; it may have to wait for them for longer.
            before_start: Says once the transaction has begun whether operations may start.
            before_commit: Says at the last moment whether the transaction may be committed.
            seconds: After which operations are given up.
        """

        async def work() -> bool:
            if before_start is not None and not await before_start():
                return False
            may_commit = False
            if await self._carry_out(tasks, seconds):
                with self.shelter():
                    may_commit = await before_commit()
            return may_commit

        transaction = self._engine.transaction
        assert transaction is not None
        verdict = await run_in(transaction, work, patience=self._engine.limits.operation_timeout)
        if verdict in FAILURES and not self.is_aborted:
            self._ledger.undo(self._batch.operations, FAILURES[verdict])
        return verdict

    def shelter(self) -> anyio.CancelScope:
        """
        Protects what follows from what operations have left in the tasks that ran them: that comes
        up when these end, and cancels whatever is in the same task group.
        """
        return anyio.CancelScope(shield=self.has_remains)

    async def abort(self) -> None:
        """
        Roll back, because nobody wants it any more.
        """
        self.is_aborted = True
        if self._execution is not None:
            await self._execution.abort()

    async def _carry_out(self, tasks: Tasks, seconds: float) -> bool:
        """
        Run the operations; true where each has succeeded.
        """
        # The transaction has been entered: what it has left in the context is for all operations.
        pending = Pending(
            self._batch.operations,
            batch_id=self._batch_id,
            total=len(self._batch.operations),
            template=self._template,
            context=self._prepare(copy_context()),
            attempt=self._attempt,
            atomic=True,
            group=SMALL_GROUP,
        )
        execution = self._execution = Execution(
            self._engine,
            self._batch,
            batch_id=self._batch_id,
            pending=pending,
            ledger=self._ledger,
            turns=self._turns,
            on_idle=nothing,
        )
        if self.is_aborted:
            return False
        execution.start(tasks, seconds)
        try:
            await execution.wait()
        finally:
            # Whatever goes on must not use the transaction while it ends.
            with anyio.CancelScope(shield=True):
                await execution.end()
        return not (self.is_aborted or self._ledger.open or self._ledger.bad_ends)
