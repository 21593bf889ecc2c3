"""
One batch in memory, and what can be told of it; it keeps nothing by itself.
"""

from __future__ import annotations

import math

import msgspec

from asgi_batch._core.records import (
    Claim,
    Entry,
    Hold,
    NewBatch,
    Outcome,
    Page,
    Snapshot,
    Status,
)


class Record(msgspec.Struct, kw_only=True):
    """
    One batch, with all that changes.
    """

    batch: NewBatch
    created_at: float
    updated_at: float
    finished_at: float | None = None
    status: Status = "processing"
    error: str | None = None
    version: int = 1
    epoch: int = 0
    leased_until: float = -math.inf
    allowed: int = 0
    has_heard: bool = True
    trials: dict[int, int] = {}
    counts: dict[str, int] = msgspec.field(
        default_factory=lambda: {"succeeded": 0, "failed": 0, "skipped": 0}
    )
    entries: dict[int, Entry] = {}
    size: int = 0

    def snapshot(self) -> Snapshot:
        """
        How far the batch is.
        """
        return Snapshot(
            batch_id=self.batch.batch_id,
            status=self.status,
            total=self.batch.total,
            created_at=self.created_at,
            updated_at=self.updated_at,
            finished_at=self.finished_at,
            version=self.version,
            parent=self.batch.parent,
            error=self.error,
            owner=self.batch.owner,
            **self.counts,
        )

    @property
    def has_bad_ends(self) -> bool:
        """
        Whether some operation has not succeeded.
        """
        return self.counts["failed"] + self.counts["skipped"] > 0

    def touch(self, now: float) -> None:
        """
        Note that something has changed.
        """
        self.updated_at = max(now, self.updated_at)
        self.version += 1


def name_of(batch: NewBatch) -> tuple[str, str]:
    """
    What a batch with an idempotency key is found by.
    """
    return batch.owner, batch.idempotency_key or ""


def request_size(batch: NewBatch) -> int:
    """
    Bytes that are kept of a batch request.
    """
    return len(batch.caller) + sum(map(len, batch.chunks))


def claim_of(record: Record, now: float) -> Claim:
    """
    What the holder of a batch gets to know, who takes it *now*.
    """
    batch = record.batch
    return Claim(
        hold=Hold(batch.batch_id, record.epoch),
        snapshot=record.snapshot(),
        chunks=batch.chunks,
        caller=batch.caller,
        stops_on_error=batch.stops_on_error,
        atomic=batch.atomic,
        is_cancelled=record.status == "cancelled",
        finished=frozenset(record.entries),
        allowed=record.allowed,
        trials=dict(record.trials),
        idle=now - record.updated_at,
    )


def page_of(record: Record, after: int, limit: int, outcome: Outcome | None) -> Page:
    """
    Results in the order of the operations, up to the first that has none yet.
    """
    entries: list[Entry] = []
    while limit > 0 and (entry := record.entries.get(after + 1)) is not None:
        after, limit = after + 1, limit - 1
        if outcome in (None, entry.outcome):
            entries.append(entry)
    return Page(entries, after)
