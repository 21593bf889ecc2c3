"""
A store in the memory of this process: it needs nothing, and is gone with the process.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from asgi_batch._core.records import (
    Claim,
    Created,
    Hold,
    NewBatch,
    Outcome,
    Page,
    Remains,
    Saving,
    Share,
    Snapshot,
    Status,
)
from asgi_batch.errors import Overloaded, StoreFull, TooManyBatches
from asgi_batch.ports import Standing
from asgi_batch.stores._memory_record import (
    Record,
    claim_of,
    name_of,
    page_of,
    parts_of,
    request_size,
)
from asgi_batch.stores._siblings import has_siblings

logger = logging.getLogger("asgi_batch")

_MAX_BYTES: Final = 256 * 1024 * 1024


class MemoryStore:
    """
    Keeps batches for as long as the process lives.

    Args:
        clock: Seconds since 1970; for tests.
        max_bytes: Requests and results of all batches that are kept, finished ones too; from there
            on new batches are refused.
    """

    def __init__(
        self, clock: Callable[[], float] = time.time, *, max_bytes: int = _MAX_BYTES
    ) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._size = 0
        self._tag = secrets.token_hex(6)
        self._records: dict[str, Record] = {}
        self._unfinished: dict[str, Record] = {}
        self._finished: deque[Record] = deque()
        self._retryable: deque[Record] = deque()
        self._names: dict[tuple[str, str], str] = {}
        self._result_ttl = math.inf
        self._retry_ttl = 0.0

    @property
    def durability(self) -> Literal["process", "store"]:
        """
        A batch ends with its process.
        """
        return "process"

    def new_id(self, idempotency_key: str | None = None, owner: str = "") -> str:
        """
        An id that tells from which process it is.
        """
        return self._tag + secrets.token_urlsafe(24)

    def is_elsewhere(self, batch_id: str) -> bool:
        """
        Whether a batch that is not here may be known to another process of the same app.
        """
        return has_siblings() and not batch_id.startswith(self._tag)

    async def open(self, result_ttl: float, retry_ttl: float = 0.0) -> None:
        """
        Take note of how long results are kept.
        """
        if has_siblings():
            logger.warning(
                "Batches are kept in the memory of this process, and there are several processes:"
                " status and results are found only by chance. Use store='redis://…'."
            )
        self._result_ttl = result_ttl
        self._retry_ttl = min(retry_ttl, result_ttl)

    async def aclose(self) -> None:
        """
        Forget everything.
        """
        for each in (self._records, self._unfinished, self._names):
            each.clear()
        for line in (self._finished, self._retryable):
            line.clear()
        self._size = 0

    async def create(
        self, batch: NewBatch, *, limit: int, owner_limit: int | None = None
    ) -> Created:
        """
        Keep *batch*, unless a batch of the same idempotency key and owner is there.
        """
        now = self._now()
        name = name_of(batch)
        if name in self._names:
            known = self._records[self._names[name]]
            is_same = known.batch.fingerprint == batch.fingerprint
            return Created(known.snapshot(), is_new=False, is_same=is_same)
        if owner_limit is not None and self._count(batch.owner) >= owner_limit:
            raise TooManyBatches(f"You have {owner_limit} unfinished batches, as many as you may.")
        if len(self._unfinished) >= limit:
            raise Overloaded("As many batches are unfinished as may be; try again later.")
        if self._size >= self._max_bytes:
            raise StoreFull("The batches that are kept take all the memory they may; try later.")
        record = Record(batch=batch, created_at=now, updated_at=now, parts=parts_of(batch, now))
        self._grow(record, request_size(batch))
        self._records[batch.batch_id] = self._unfinished[batch.batch_id] = record
        if batch.idempotency_key is not None:
            self._names[name] = batch.batch_id
        return Created(record.snapshot())

    def _count(self, owner: str) -> int:
        return sum(each.batch.owner == owner for each in self._unfinished.values() if owner)

    async def claim(
        self, lease: float, batch_id: str | None = None, chunk: int | None = None
    ) -> Claim | None:
        """
        Take what nobody holds, the oldest first, or what is named; None where there is nothing.
        """
        now = self._now()
        for share in self._due(now) if batch_id is None else [Share(batch_id, chunk)]:
            record = self._unfinished.get(share.batch_id)
            part = None if record is None else record.parts.get(share.chunk)
            if record and part and not part.has_ended and part.leased_until <= now:
                part.epoch += 1
                part.leased_until = part.due_at = now + lease
                part.has_heard = True
                return claim_of(record, share.chunk, now)
        return None

    async def overdue(self, delay: float) -> list[Share]:
        """
        What nobody holds though it is its turn; each is told once in *delay* seconds.
        """
        now = self._now()
        shares = self._due(now)
        for batch_id, chunk in shares:
            record = self._records[batch_id]
            record.parts[chunk].due_at = now + max(delay, now - record.updated_at)
        return shares

    async def save(self, hold: Hold, saving: Saving) -> Standing:
        """
        Write down what has come up, and hold the batch for longer.
        """
        record = self._held(hold)
        if record is None:
            return "lost"
        part, now = record.parts[hold.chunk], self._clock()
        record.tell(part, saving, now)
        for entry in saving.entries:
            if record.entries.setdefault(entry.index, entry) is entry:
                record.counts[entry.outcome] += 1
                self._grow(record, len(entry.result))
        is_cancelled = record.status == "cancelled"
        if saving.ends:
            part.leased_until = part.due_at = now
            if not record.entries.keys() >= set(part.indexes):
                return "lost"
            part.has_ended = True
            if not record.is_at_its_end:
                return "ended"
            record.error = saving.error or None
            usual: Status = "failed" if saving.error else "completed"
            self._end(record, "cancelled" if is_cancelled else usual)
        return "cancelled" if is_cancelled else "held"

    async def release(self, hold: Hold, allowed: int) -> None:
        """
        Give an unfinished batch back, so that it can be claimed at once.
        """
        if (record := self._held(hold)) is not None:
            part = record.parts[hold.chunk]
            part.leased_until = part.due_at = -math.inf
            part.allowed = allowed

    async def cancel(self, batch_id: str) -> tuple[Snapshot, bool] | None:
        """
        Let no further operation of a batch start; None where there is no such batch.
        """
        now = self._now()
        record = self._records.get(batch_id)
        if record is None:
            return None
        is_unheard = record.cancel(now)
        return record.snapshot(), is_unheard

    async def fail(self, hold: Hold, error: str) -> None:
        """
        End a batch that cannot be carried out.
        """
        if (record := self._held(hold)) is not None:
            record.error = error
            record.touch(self._clock())
            self._end(record, "failed", may_be_retried=False)

    async def remains(self, batch_id: str) -> Remains | None:
        """
        What is kept of the request of a finished batch; None where nothing is.
        """
        self._now()
        record = self._records.get(batch_id)
        if record is None or record.finished_at is None or not record.batch.chunks:
            return None
        batch = record.batch
        return Remains(batch.chunks, batch.stops_on_error, batch.atomic)

    async def snapshot(self, batch_id: str) -> Snapshot | None:
        """
        How far a batch is; None where there is no such batch.
        """
        self._now()
        record = self._records.get(batch_id)
        return None if record is None else record.snapshot()

    async def results(
        self, batch_id: str, *, after: int, limit: int, outcome: Outcome | None
    ) -> Page | None:
        """
        Results of operations whose index is above *after*; None where there is no such batch.
        """
        self._now()
        record = self._records.get(batch_id)
        return None if record is None else page_of(record, after, limit, outcome)

    def _due(self, now: float) -> list[Share]:
        return [share for each in self._unfinished.values() for share in each.due(now)]

    def _now(self) -> float:
        now = self._clock()
        while self._retryable and self._retryable[0].updated_at + self._retry_ttl <= now:
            self._forget_request(self._retryable.popleft())
        while self._finished and self._finished[0].updated_at + self._result_ttl <= now:
            record = self._finished.popleft()
            batch = record.batch
            self._size -= record.size
            del self._records[batch.batch_id]
            self._names.pop(name_of(batch), None)
        return now

    def _grow(self, record: Record, size: int) -> None:
        record.size += size
        self._size += size

    def _forget_request(self, record: Record) -> None:
        self._grow(record, -request_size(record.batch))
        record.batch = msgspec.structs.replace(record.batch, chunks=())

    def _held(self, hold: Hold) -> Record | None:
        record = self._unfinished.get(hold.batch_id)
        part = None if record is None else record.parts.get(hold.chunk)
        is_held = part is not None and part.epoch == hold.epoch and not part.has_ended
        return record if is_held else None

    def _end(self, record: Record, status: Status, *, may_be_retried: bool = True) -> None:
        record.status = status
        record.finished_at = record.updated_at
        self._grow(record, -len(record.batch.caller))
        record.batch = msgspec.structs.replace(record.batch, caller=b"")
        if may_be_retried and record.has_bad_ends and self._retry_ttl > 0:
            self._retryable.append(record)
        else:
            self._forget_request(record)
        del self._unfinished[record.batch.batch_id]
        self._finished.append(record)
