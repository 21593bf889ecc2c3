"""
What the faces have in common that accept a batch: it is kept first, then waited for or not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from time import monotonic
from typing import Final

import anyio

from asgi_batch._core.headers import has_credentials
from asgi_batch._core.idempotency import Idempotency, has_key, idempotency_of
from asgi_batch._core.models import Batch, Summary
from asgi_batch._core.preferences import Preferences
from asgi_batch._core.records import Entry, Snapshot
from asgi_batch._core.reports import BatchReport
from asgi_batch._endpoints.endpoint import JSON, Endpoint
from asgi_batch.dialects import native, native_later
from asgi_batch.errors import (
    BatchNotFound,
    BatchRefused,
    CredentialsRefused,
    InvalidParameter,
    Overloaded,
)
from asgi_batch.progress import follow

# Seconds between two looks at a batch that is waited for.
_SHORTEST: Final = 0.01
_LONGEST: Final = 0.25
_PAGE: Final = 1000


class AcceptingEndpoint(Endpoint):
    """
    A face that accepts batches.
    """

    async def _charge(self, batch: Batch) -> None:
        """
        Count the operations of *batch*, which is sound, before any of them is accepted.
        """
        self.operations = len(batch.operations)
        if self._settings.limiter is not None:
            self._fields = await self._settings.limiter.charge(self._scope, self.operations)

    def _check_room(self) -> None:
        if self._engine.gate.abandoned >= self._engine.limits.max_abandoned:
            raise Overloaded("Too many operations did not stop when they were late.")

    async def _refuse(self, refusal: BatchRefused) -> None:
        report = BatchReport(
            mode="now",
            ending="refused",
            code=refusal.code,
            total=self.operations or 0,
            seconds=monotonic() - self._started_at,
        )
        self._engine.reporter.tell(report)
        await super()._refuse(refusal)

    def _idempotency(self, content: bytes) -> Idempotency | None:
        headers = self._scope["headers"]
        if not has_key(headers):
            return None
        owner = self._owner
        try:
            return idempotency_of(headers, content, owner)
        except ValueError:
            raise InvalidParameter(
                "Idempotency-Key must be one string of 1 to 255 printable ASCII characters."
            ) from None

    def _patience(self, preferences: Preferences, otherwise: float | None) -> float | None:
        """
        Seconds for which the client waits; *otherwise* where it does not say.
        """
        if preferences.wait is None:
            return otherwise
        return min(preferences.wait, self._engine.limits.batch_timeout)

    async def _accept(
        self,
        batch: Batch,
        preferences: Preferences,
        *,
        wait: float | None,
        idempotency: Idempotency | None,
        parent: str | None = None,
    ) -> None:
        """
        Keep *batch*, and answer with its results if they are there within *wait* seconds.
        """
        self._check_credentials()
        background = self._settings.background
        # It may be closed by the time that the waiting is over.
        durability = background.store.durability
        snapshot = await background.submit(
            batch, self._scope, idempotency=idempotency, parent=parent, owner=self._owner
        )
        applied = preferences.applied
        headers = [(b"preference-applied", applied)] if applied else []
        if wait is not None:
            # The batch has been accepted, whatever becomes of the waiting.
            with suppress(BatchRefused):
                snapshot = await self._wait_for(snapshot, wait)
                if snapshot.is_finished:
                    parts = await self._whole_answer(snapshot)
                    await self._respond(200, [JSON, *headers], parts)
                    return
        body = native_later.encode_accepted(snapshot, self._base, durability)
        location = f"{self._base}/{snapshot.batch_id}/status".encode()
        headers = [JSON, (b"location", location), (b"retry-after", b"1"), *headers]
        await self._respond(202, headers, [body])

    def _check_credentials(self) -> None:
        if not self._settings.keeps_credentials and has_credentials(self._scope["headers"]):
            most = self._engine.limits.sync_operations
            raise CredentialsRefused(
                "This batch would be kept for later, and the server keeps no credentials. Send at"
                f" most {most} operations, without Prefer and Idempotency-Key."
            )

    async def _wait_for(self, snapshot: Snapshot, seconds: float) -> Snapshot:
        store = self._settings.background.store
        changes = follow(store, snapshot.batch_id, shortest=_SHORTEST, longest=_LONGEST)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._cancel_on_disconnect, tasks.cancel_scope)
            with anyio.move_on_after(seconds), suppress(BatchRefused):
                async with aclosing(changes):
                    async for change in changes:
                        snapshot = change
            tasks.cancel_scope.cancel()
        return snapshot

    async def _whole_answer(self, snapshot: Snapshot) -> list[bytes]:
        results: list[bytes] = []
        async for entries in self._pages(snapshot):
            self._hold(entries)
            results += [entry.result for entry in entries]
        return native.encode_answer(
            results,
            Summary(snapshot.total, snapshot.succeeded, snapshot.failed, snapshot.skipped),
        )

    async def _pages(self, snapshot: Snapshot) -> AsyncIterator[Sequence[Entry]]:
        """
        All results of a finished batch, some at a time.

        Raises:
            BatchNotFound: They are no longer there.
        """
        store, after = self._settings.background.store, -1
        while after + 1 < snapshot.total:
            page = await store.results(snapshot.batch_id, after=after, limit=_PAGE, outcome=None)
            if page is None or not page.entries:
                raise BatchNotFound("Its results have gone.")
            after = page.after
            yield page.entries
