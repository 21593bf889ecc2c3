"""
Batches that outlive their request: accepts them, claims them, and gives them back when it stops.

Where there is a queue, its workers claim what they get messages of, and nobody else anything but
what has been cancelled and has to be ended. One batch's own way is in `_carrier`; what survives a
crash is the store's affair.
"""

from __future__ import annotations

import logging
import secrets
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from asgi_batch._core.idempotency import Idempotency
from asgi_batch._core.models import Batch
from asgi_batch._core.packing import pack_caller, pack_operations
from asgi_batch._core.records import NewBatch, Share, Snapshot
from asgi_batch._core.reports import short
from asgi_batch._dispatch import WORKER, Dispatch, Offer
from asgi_batch._holding import Holding
from asgi_batch._rate import Limiter
from asgi_batch._terms import Terms
from asgi_batch._worker import in_turns
from asgi_batch.errors import AsgiBatchError, BackgroundUnavailable, IdempotencyKeyReused
from asgi_batch.limits import Limits
from asgi_batch.ports import Queue, Store
from asgi_batch.types import Scope

logger = logging.getLogger("asgi_batch")

_CURE = (
    "Nothing here can carry a batch out after its request: the server has not started the app's"
    " lifespan. Run it with lifespan, or enter BatchMiddleware.running() in that of a parent app."
)

_REUSED = (
    "This Idempotency-Key has come before, with another body or from another caller. Take a"
    " new key for what is not the same request."
)


class Background:
    """
    What a process does for batches after their requests.

    Args:
        terms: On which terms batches are held.
        limits: Bounds in time and number.
        limiter: Opened and closed together with the store.
        queue: Tells worker processes of what they have to carry out.
    """

    def __init__(
        self,
        terms: Terms,
        limits: Limits,
        limiter: Limiter | None = None,
        queue: Queue | None = None,
    ) -> None:
        self._terms = terms
        self._limiter = limiter
        self._limits = limits
        self._queue = queue
        self._dispatch = None if queue is None else Dispatch(queue, terms.store, limits)
        self._holding = Holding(terms)
        self._hints: deque[str] = deque(maxlen=limits.background_batches)
        self._is_scan_due = True
        self._tasks: TaskGroup
        self._is_on = False

    @property
    def is_on(self) -> bool:
        """
        Whether batches are accepted.
        """
        return self._is_on

    @property
    def store(self) -> Store:
        """
        Where batches are kept.

        Raises:
            BackgroundUnavailable: It is not open.
        """
        if not self._is_on:
            raise BackgroundUnavailable(_CURE)
        return self._terms.store

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """
        Have the store open, and a place for batches to run, for as long as the context lasts.

        Raises:
            ConfigurationError: The store cannot be used.
            StoreUnavailable: It does not answer.
        """
        await self._terms.store.open(self._limits.result_ttl, self._limits.retry_ttl)
        try:
            if self._limiter is not None:
                await self._limiter.open()
            async with anyio.create_task_group() as self._tasks:
                try:
                    yield
                finally:
                    with anyio.CancelScope(shield=True):
                        await self.stop()
                    self._tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._terms.store.aclose()
                if self._limiter is not None:
                    await self._limiter.aclose()

    def start(self, lifespan: Scope) -> None:
        """
        Accept, claim and carry out batches from now on.

        Args:
            lifespan: The scope of the app's lifespan.
        """
        self._holding.open(self._tasks, lifespan, on_end=self._look_again)
        self._wake, self._has_stopped = anyio.Event(), anyio.Event()
        self._is_on = True
        if self._dispatch is None:
            self._tasks.start_soon(self._claim_for_ever)
            return
        self._tasks.start_soon(self._dispatch.sweep_for_ever)
        offer: Offer | None = lifespan.get(WORKER)
        if offer is not None:
            offer(self._queue, self.run)

    async def stop(self) -> None:
        """
        Accept and claim nothing more, and give back what is not finished.
        """
        if self._is_on:
            self._is_on = False
            given_back = await self._holding.drain()
            self._has_stopped.set()
            if self._dispatch is not None:
                await self._dispatch.tell(given_back)

    async def run(self, batch_id: str, chunk: int | None) -> None:
        """
        Carry out what a message names, if it is there for the taking.
        """
        share = Share(batch_id, chunk)
        if self._is_on:
            await self._take(share)
        else:
            assert self._dispatch is not None
            await self._dispatch.pass_on(share, self._has_stopped)

    async def _take(self, share: Share) -> None:
        try:
            claim = await self._holding.claim(share)
            ended = None if claim is None else await self._holding.carry(claim)
        except AsgiBatchError as error:
            logger.warning("Batch %s… could not be claimed: %s", short(share.batch_id), error)
            return
        if ended is not None:
            await ended.wait()

    async def submit(
        self,
        batch: Batch,
        scope: Scope,
        *,
        parent: str | None = None,
        idempotency: Idempotency | None = None,
        owner: str = "",
    ) -> Snapshot:
        """
        Accept a batch, unless the same has been accepted before.

        Args:
            batch: The batch.
            scope: Of the request that it came in with.
            parent: The batch whose operations it tries again.
            idempotency: What makes it the same as an earlier one.
            owner: Whose it is.

        Raises:
            BackgroundUnavailable: Nobody would carry it out.
            BatchRefused: The store does not take it, or it is not what was accepted under its key.
        """
        key, fingerprint = (None, "") if idempotency is None else idempotency
        size = self._chunk_size(batch)
        new = NewBatch(
            batch_id=self.store.new_id(key, owner),
            total=len(batch.operations),
            chunks=[each async for each in in_turns(pack_operations(batch.operations, size), 1)],
            chunk_size=size,
            delay=0.0 if self._dispatch is None else self._limits.resend_interval,
            caller=pack_caller(scope),
            stops_on_error=batch.stop_on_error,
            atomic=batch.atomic,
            parent=parent,
            idempotency_key=key,
            fingerprint=fingerprint,
            owner=owner,
        )
        return await self._keep(new)

    def _chunk_size(self, batch: Batch) -> int:
        # What depends on all operations before it is carried out in one place.
        is_whole = self._dispatch is None or batch.stop_on_error
        size = self._limits.chunk_operations
        return 0 if is_whole or len(batch.operations) <= size else size

    async def _keep(self, new: NewBatch) -> Snapshot:
        created = await self.store.create(
            new, limit=self._limits.max_background_batches, owner_limit=self._limits.owner_batches
        )
        if not created.is_same:
            raise IdempotencyKeyReused(_REUSED)
        if created.is_new and self._dispatch is not None:
            self._tasks.start_soon(self._dispatch.tell, created.snapshot.shares())
        elif created.is_new:
            self._suggest(new.batch_id)
        return created.snapshot

    async def cancel(self, batch_id: str) -> Snapshot | None:
        """
        Let no further operation of a batch start, in whatever process it runs.

        Returns:
            How it is then; None where there is no such batch.
        """
        cancelled = await self.store.cancel(batch_id)
        if cancelled is None:
            return None
        snapshot, is_unheard = cancelled
        # Where nobody holds it, somebody has to end it.
        if self._dispatch is None:
            self._suggest(batch_id)
        else:
            self._tasks.start_soon(self._end, snapshot)
        for carrier in self._holding.carriers:
            if carrier.batch_id == batch_id:
                carrier.cancel()
        with anyio.move_on_after(2 * self._limits.cancel_interval):
            while is_unheard:
                await anyio.sleep(self._limits.cancel_interval / 8)
                _, is_unheard = await self.store.cancel(batch_id) or (snapshot, False)
        return snapshot

    async def _end(self, cancelled: Snapshot) -> None:
        for share in cancelled.shares():
            if not cancelled.is_finished and self._is_on:
                await self._take(share)

    def _suggest(self, batch_id: str) -> None:
        self._hints.append(batch_id)
        self._look_again()

    def _look_again(self) -> None:
        self._wake.set()

    async def _claim_for_ever(self) -> None:
        """
        Claim what nobody holds, now and then and whenever there is reason to.
        """
        while self._is_on:
            try:
                await self._claim_what_fits()
            except AsgiBatchError as error:
                logger.warning("No batch could be claimed: %s", error)
            except Exception:
                logger.exception("Claiming batches failed; it goes on.")
            # Not all processes at the same moment.
            some_more = 1 + secrets.randbelow(400) / 1000
            with anyio.move_on_after(0.8 * some_more * self._limits.scan_interval) as pause:
                await self._wake.wait()
            self._is_scan_due = self._is_scan_due or pause.cancelled_caught
            self._wake = anyio.Event()

    async def _claim_what_fits(self) -> None:
        while self._is_on and (self._hints or self._is_scan_due):
            if len(self._holding.carriers) >= self._limits.background_batches:
                # There may be more than the hints know of, once there is room again.
                self._hints.clear()
                self._is_scan_due = True
                return
            hint = self._hints.popleft() if self._hints else None
            claim = await self._holding.claim(None if hint is None else Share(hint))
            if claim is None:
                self._is_scan_due = self._is_scan_due and hint is not None
            else:
                await self._holding.carry(claim)
