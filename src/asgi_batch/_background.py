"""
Batches that outlive their request: accepts them, claims them, and gives them back when it stops.

One batch's own way is in `_carrier`; what survives a crash is the store's affair.
"""

from __future__ import annotations

import logging
import secrets
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import anyio
import msgspec
from anyio.abc import TaskGroup

from asgi_batch._atomic_carrier import AtomicCarrier
from asgi_batch._carrier import Carrier
from asgi_batch._core.idempotency import Idempotency
from asgi_batch._core.models import Batch
from asgi_batch._core.packing import (
    check_whole,
    pack_caller,
    pack_operations,
    template_of,
    unpack_operations,
)
from asgi_batch._core.records import Claim, NewBatch, Snapshot
from asgi_batch._core.reports import short
from asgi_batch._rate import Limiter
from asgi_batch._terms import Terms
from asgi_batch._worker import in_turns
from asgi_batch.errors import AsgiBatchError, BackgroundUnavailable, IdempotencyKeyReused
from asgi_batch.limits import Limits
from asgi_batch.ports import Store
from asgi_batch.types import Scope

logger = logging.getLogger("asgi_batch")

Holder: TypeAlias = Carrier | AtomicCarrier

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
    """

    def __init__(self, terms: Terms, limits: Limits, limiter: Limiter | None = None) -> None:
        self._terms = terms
        self._limiter = limiter
        self._limits = limits
        self._carriers: set[Holder] = set()
        self._hints: deque[str] = deque(maxlen=limits.background_batches)
        self._is_scan_due = True
        self._tasks: TaskGroup
        self._is_on = False
        self._lifespan: Scope = {}

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
        self._lifespan = lifespan
        self._wake = anyio.Event()
        self._is_on = True
        self._tasks.start_soon(self._claim_for_ever)

    async def stop(self) -> None:
        """
        Accept and claim nothing more, and give back what is not finished.
        """
        if self._is_on:
            self._is_on = False
            async with anyio.create_task_group() as tasks:
                for carrier in self._carriers:
                    tasks.start_soon(self._give_back, carrier)

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
            IdempotencyKeyReused: What was accepted under this key is not the same.
            BatchRefused: The store does not take it.
        """
        key, fingerprint = (None, "") if idempotency is None else idempotency
        new = NewBatch(
            batch_id=self.store.new_id(key, owner),
            total=len(batch.operations),
            chunks=[each async for each in in_turns(pack_operations(batch.operations), 1)],
            caller=pack_caller(scope),
            stops_on_error=batch.stop_on_error,
            atomic=batch.atomic,
            parent=parent,
            idempotency_key=key,
            fingerprint=fingerprint,
            owner=owner,
        )
        return await self._keep(new)

    async def _keep(self, new: NewBatch) -> Snapshot:
        created = await self.store.create(
            new, limit=self._limits.max_background_batches, owner_limit=self._limits.owner_batches
        )
        if not created.is_same:
            raise IdempotencyKeyReused(_REUSED)
        if created.is_new:
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
        self._suggest(batch_id)
        for carrier in self._carriers:
            if carrier.batch_id == batch_id:
                carrier.cancel()
        with anyio.move_on_after(2 * self._limits.cancel_interval):
            while is_unheard:
                await anyio.sleep(self._limits.cancel_interval / 8)
                _, is_unheard = await self.store.cancel(batch_id) or (snapshot, False)
        return snapshot

    def _suggest(self, batch_id: str) -> None:
        self._hints.append(batch_id)
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
            if self._is_full:
                # There may be more than the hints know of, once there is room again.
                self._hints.clear()
                self._is_scan_due = True
                return
            hint = self._hints.popleft() if self._hints else None
            claim = await self._claim(hint)
            if claim is None:
                self._is_scan_due = self._is_scan_due and hint is not None
            elif (carrier := await self._carrier_of(claim)) is not None:
                self._carriers.add(carrier)
                self._tasks.start_soon(self._carry, carrier)

    @property
    def _is_full(self) -> bool:
        return len(self._carriers) >= self._limits.background_batches

    async def _claim(self, batch_id: str | None) -> Claim | None:
        # A claim that nobody hears of would keep others waiting for the end of its lease.
        with anyio.CancelScope(shield=True):
            claim = await self._terms.store.claim(self._terms.lease, batch_id)
            if claim is not None and not self._is_on:
                await self._terms.store.release(claim.hold, claim.allowed)
                return None
        return claim

    async def _carrier_of(self, claim: Claim) -> Holder | None:
        try:
            operations = [each async for each in in_turns(unpack_operations(claim.chunks))]
            check_whole(operations, claim.indexes)
            template = template_of(claim.caller, self._lifespan)
        except msgspec.DecodeError:
            logger.exception("Batch %s… cannot be read.", short(claim.hold.batch_id))
            await self._terms.store.fail(claim.hold, "record_corrupt")
            self._terms.engine.reporter.fail(claim, "record_corrupt")
            return None
        kind = AtomicCarrier if claim.atomic else Carrier
        return kind(self._terms, claim, operations, template)

    async def _give_back(self, carrier: Holder) -> None:
        try:
            await carrier.drain()
        except Exception:
            logger.exception("Batch %s… stays held until its lease ends.", short(carrier.batch_id))

    async def _carry(self, carrier: Holder) -> None:
        try:
            with self._terms.engine.gate.counting(carrier), self._terms.turns:
                await carrier.run()
        except Exception:
            logger.exception("Batch %s… is given up by this process.", short(carrier.batch_id))
        finally:
            self._carriers.discard(carrier)
            self._wake.set()
