"""
``POST /batch``: read, check, then run and answer, or accept for later.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import Final

import anyio
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from asgi_batch._core.models import Batch
from asgi_batch._core.preferences import Preferences, preferences_of
from asgi_batch._core.reports import Ending
from asgi_batch._core.scope import ScopeTemplate
from asgi_batch._endpoints.accepting import AcceptingEndpoint
from asgi_batch._endpoints.endpoint import JSON, Settings
from asgi_batch._executor import Execution
from asgi_batch._ledger import Ledger
from asgi_batch._pending import Pending
from asgi_batch._reporter import Watch
from asgi_batch._tasks import Tasks, tasks_for
from asgi_batch.dialects import native
from asgi_batch.errors import TransactionUnavailable
from asgi_batch.transactions import ENDINGS, AtomicRun
from asgi_batch.types import Receive, Scope, Send

# The limits that clients can do something about.
_TOLD: Final = """
    max_operations sync_operations max_body_bytes max_operation_bytes max_result_bytes
    max_path_bytes max_query_bytes max_headers max_header_bytes max_json_depth
    operation_timeout batch_timeout
    """.split()


class SubmitEndpoint(AcceptingEndpoint):
    """
    ``POST /batch``.
    """

    methods = ("POST",)
    has_page = True

    def __init__(self, settings: Settings, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(settings, scope, receive, send)
        self._watch = anyio.CancelScope()

    async def _answer(self) -> None:
        self._check_room()
        self._body.check_declaration()
        document = await self._body.read()
        if document is None:
            return
        batch = native.decode(document, self._rules)
        preferences = preferences_of(self._scope["headers"])
        idempotency = self._idempotency(document)
        await self._charge(batch)
        is_large = len(batch.operations) > self._engine.limits.sync_operations
        if self._is_kept(preferences, is_large=is_large, has_key=idempotency is not None):
            is_soon = not is_large and not preferences.later
            usual = self._engine.limits.batch_timeout if is_soon else None
            wait = self._patience(preferences, otherwise=usual)
            await self._accept(batch, preferences, wait=wait, idempotency=idempotency)
        else:
            await self._run(batch)

    def _is_kept(self, preferences: Preferences, *, is_large: bool, has_key: bool) -> bool:
        # Where nothing runs in the background, "wait" is a wish that a small batch does without.
        is_handed_over = preferences.wait is not None and self._settings.background.is_on
        return is_large or has_key or preferences.later or is_handed_over

    async def _describe(self) -> None:
        limits = {name: getattr(self._engine.limits, name) for name in _TOLD}
        await self._respond(200, [JSON, self._allow], [native.encode_limits(limits)])

    async def _run(self, batch: Batch) -> None:
        limits = self._engine.limits
        ledger = Ledger(batch, self._settings.encode, limits.max_response_bytes)
        batch_id = secrets.token_urlsafe(24)
        watch = self._engine.reporter.begin(
            "now", self._scope["headers"], batch_id, since=self._started_at
        )
        carry_out = self._run_atomically if batch.atomic else self._run_each
        ending: Ending = "aborted"
        try:
            ending = await carry_out(batch, batch_id, ledger, watch)
        finally:
            watch.end(ending, ledger.summary())

    async def _run_each(self, batch: Batch, batch_id: str, ledger: Ledger, watch: Watch) -> Ending:
        pending = Pending(
            batch.operations,
            batch_id=batch_id,
            total=len(batch.operations),
            template=ScopeTemplate(self._scope, self._settings.forward_scope_keys),
            context=watch.prepare(copy_context()),
        )
        execution = Execution(
            self._engine, batch, batch_id=batch_id, pending=pending, ledger=ledger
        )
        async with self._tasks(execution, ledger) as tasks:
            await self._attend(execution, ledger, tasks)
        return "aborted" if ledger.open else "completed"

    async def _run_atomically(
        self, batch: Batch, batch_id: str, ledger: Ledger, watch: Watch
    ) -> Ending:
        run = AtomicRun(
            self._engine,
            batch,
            batch_id=batch_id,
            template=ScopeTemplate(self._scope, self._settings.forward_scope_keys),
            ledger=ledger,
            prepare=watch.prepare,
        )

        async def before_commit() -> bool:
            # From here on a client that goes finds nothing to end.
            self._watch.cancel()
            return not run.is_aborted

        async with self._tasks(run, ledger) as tasks:
            if self._settings.aborts_on_disconnect:
                tasks.start_soon(self._abort_on_disconnect, run)
            seconds = self._engine.limits.batch_timeout
            verdict = await run.run(tasks, before_commit=before_commit, seconds=seconds)
            self._watch.cancel()
            if verdict in ENDINGS and not run.is_aborted:
                with run.shelter():
                    await self._answer_now(ledger)
        if verdict not in ENDINGS:
            raise TransactionUnavailable("No transaction can be begun just now; try again.")
        return "aborted" if run.is_aborted else ENDINGS[verdict]

    @asynccontextmanager
    async def _tasks(self, run: Execution | AtomicRun, ledger: Ledger) -> AsyncIterator[Tasks]:
        with self._engine.gate.counting(ledger):
            async with tasks_for(run) as tasks:
                yield tasks
        if run.has_remains:
            # Trio raises what has been left in its tasks in place of a cancellation.
            await checkpoint_if_cancelled()

    async def _attend(self, execution: Execution, ledger: Ledger, tasks: Tasks) -> None:
        execution.start(tasks, self._engine.limits.batch_timeout)
        if self._settings.aborts_on_disconnect:
            tasks.start_soon(self._abort_on_disconnect, execution)
        try:
            await execution.wait()
            if not execution.is_aborted:
                # From here on a client that goes finds nothing to end.
                self._watch.cancel()
                await self._answer_now(ledger)
        finally:
            if not execution.is_aborted:
                self._watch.cancel()
                execution.close()

    async def _abort_on_disconnect(self, execution: Execution | AtomicRun) -> None:
        with self._watch:
            while (await self._receive())["type"] != "http.disconnect":
                await checkpoint()
            await execution.abort()

    async def _answer_now(self, ledger: Ledger) -> None:
        parts = native.encode_answer(ledger.results, ledger.summary())
        await self._respond(200, [JSON], parts)
