"""
The batches that this process holds: claims them, has them carried out, and gives them back.

When to claim is decided in `_background`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

import anyio
import msgspec
from anyio.abc import TaskGroup

from asgi_batch._atomic_carrier import AtomicCarrier
from asgi_batch._carrier import Carrier
from asgi_batch._core.packing import check_whole, template_of, unpack_operations
from asgi_batch._core.records import Claim, Share
from asgi_batch._core.reports import short
from asgi_batch._terms import Terms
from asgi_batch._worker import in_turns
from asgi_batch.types import Scope

logger = logging.getLogger("asgi_batch")

Holder: TypeAlias = Carrier | AtomicCarrier


class Holding:
    """
    What this process holds.

    Args:
        terms: On which terms.

    Attributes:
        carriers: Those that carry it out.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self.carriers: set[Holder] = set()
        self._is_open = False

    def open(self, tasks: TaskGroup, lifespan: Scope, *, on_end: Callable[[], None]) -> None:
        """
        Hold batches from now on.

        Args:
            tasks: Where they are carried out.
            lifespan: The scope of the app's lifespan.
            on_end: Called when one is held no longer.
        """
        self._tasks = tasks
        self._lifespan = lifespan
        self._on_end = on_end
        self._is_open = True

    async def drain(self) -> list[Share]:
        """
        Claim nothing more, and give back what does not come to its end in the time it has.

        Returns:
            What was held.
        """
        self._is_open = False
        carriers = tuple(self.carriers)
        async with anyio.create_task_group() as tasks:
            for carrier in carriers:
                tasks.start_soon(self._give_back, carrier)
        return [carrier.share for carrier in carriers]

    async def claim(self, share: Share | None = None) -> Claim | None:
        """
        Take *share*, or else what has waited longest; None where it cannot be had.
        """
        # A claim that nobody hears of would keep others waiting for the end of its lease.
        with anyio.CancelScope(shield=True):
            claim = await self._terms.store.claim(self._terms.lease, *(share or ()))
            if claim is not None and not self._is_open:
                await self._terms.store.release(claim.hold, claim.allowed)
                return None
        return claim

    async def carry(self, claim: Claim) -> anyio.Event | None:
        """
        Start to carry out what was claimed.

        Returns:
            What is set at the end; None where it could not be read, and has failed.
        """
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
        carrier: Holder = kind(self._terms, claim, operations, template)
        ended = anyio.Event()
        self.carriers.add(carrier)
        self._tasks.start_soon(self._carry, carrier, ended)
        return ended

    async def _carry(self, carrier: Holder, ended: anyio.Event) -> None:
        try:
            with self._terms.engine.gate.counting(carrier), self._terms.turns:
                await carrier.run()
        except Exception:
            logger.exception("Batch %s… is given up by this process.", short(carrier.batch_id))
        finally:
            self.carriers.discard(carrier)
            ended.set()
            self._on_end()

    async def _give_back(self, carrier: Holder) -> None:
        try:
            await carrier.drain()
        except Exception:
            logger.exception("Batch %s… stays held until its lease ends.", short(carrier.batch_id))
