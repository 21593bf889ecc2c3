"""
One batch in memory, and what can be told of it; it keeps nothing by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from asgi_batch._core.records import (
    Claim,
    Entry,
    Hold,
    NewBatch,
    Outcome,
    Page,
    Saving,
    Share,
    Snapshot,
    Status,
)


class Part(msgspec.Struct, kw_only=True):
    """
    What is held by itself: a batch or, where it is divided, one chunk of it.
    """

    indexes: range
    due_at: float
    epoch: int = 0
    leased_until: float = -math.inf
    allowed: int = 0
    has_heard: bool = True
    trials: dict[int, int] = {}
    has_ended: bool = False


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
    parts: dict[int | None, Part]
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
            chunk_size=self.batch.chunk_size,
            **self.counts,
        )

    @property
    def has_bad_ends(self) -> bool:
        """
        Whether some operation has not succeeded.
        """
        return self.counts["failed"] + self.counts["skipped"] > 0

    @property
    def is_at_its_end(self) -> bool:
        """
        Whether nothing of it is left to be claimed.
        """
        return all(part.has_ended for part in self.parts.values())

    def due(self, now: float) -> Iterator[Share]:
        """
        What may be claimed of it without being named.
        """
        for chunk, part in self.parts.items():
            if not part.has_ended and max(part.due_at, part.leased_until) <= now:
                yield Share(self.batch.batch_id, chunk)

    def cancel(self, now: float) -> bool:
        """
        Let nothing more of it start.

        Returns:
            Whether somebody holds a part of it who has not heard of it yet.
        """
        held = [part for part in self.parts.values() if part.leased_until > now]
        if self.status == "processing":
            self.status = "cancelled"
            self.touch(now)
            for part in held:
                part.has_heard = False
        return self.finished_at is None and not all(part.has_heard for part in held)

    def tell(self, part: Part, saving: Saving, now: float) -> None:
        """
        Note what the holder of *part* says of itself.
        """
        part.leased_until = part.due_at = now + saving.lease
        part.allowed = max(part.allowed, saving.allowed)
        part.has_heard = part.has_heard or saving.heard
        if saving.trial is not None:
            part.trials[saving.trial] = part.trials.get(saving.trial, 0) + 1
        if saving.entries or saving.ends:
            self.touch(now)

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


def parts_of(batch: NewBatch, now: float) -> dict[int | None, Part]:
    """
    What is claimed by itself of a batch that is made *now*.
    """
    due_at, indexes, size = now + batch.delay, range(batch.total), batch.chunk_size
    if not size:
        return {None: Part(indexes=indexes, due_at=due_at)}
    return {
        chunk: Part(indexes=indexes[size * chunk : size * (chunk + 1)], due_at=due_at)
        for chunk in range(len(batch.chunks))
    }


def claim_of(record: Record, chunk: int | None, now: float) -> Claim:
    """
    What the holder gets to know who takes a batch, or a chunk of it, *now*.
    """
    batch, part = record.batch, record.parts[chunk]
    return Claim(
        hold=Hold(batch.batch_id, part.epoch, chunk),
        snapshot=record.snapshot(),
        chunks=batch.chunks if chunk is None else [batch.chunks[chunk]],
        indexes=part.indexes,
        caller=batch.caller,
        stops_on_error=batch.stops_on_error,
        atomic=batch.atomic,
        is_cancelled=record.status == "cancelled",
        finished=frozenset(record.entries) & frozenset(part.indexes),
        allowed=part.allowed,
        trials=dict(part.trials),
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
