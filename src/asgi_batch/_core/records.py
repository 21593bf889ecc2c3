"""
What a store keeps of a batch that outlives its request, as plain data.

Requests and results are opaque bytes here: a store neither reads nor changes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from asgi_batch._core.models import Summary

#: How a batch is; the last three are final.
Status: TypeAlias = Literal["processing", "completed", "cancelled", "failed"]
#: How an operation ended.
Outcome: TypeAlias = Literal["succeeded", "failed", "skipped"]

#: Version of what is kept; a store leaves records of another version alone.
SCHEMA: Final = 2


class Share(NamedTuple):
    """
    What is claimed by itself: a batch or, where it is divided, one chunk of it.

    Args:
        batch_id: The batch.
        chunk: Number of the chunk, from 0 on; None for the batch as a whole.
    """

    batch_id: str
    chunk: int | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """
    How far a batch is, at one moment.

    Attributes:
        batch_id: The batch.
        status: ``"processing"``, ``"completed"``, ``"cancelled"`` or ``"failed"``.
        total: Operations of the batch.
        succeeded: Those that were answered with a status below 400.
        failed: Those that were not.
        skipped: Those that will never run.
        created_at: When it was accepted, in seconds since 1970, by the store's clock.
        updated_at: When something last changed.
        finished_at: When its last result came in; None before.
        version: Goes up with each change.
        parent: The batch whose operations this one tries again; None for others.
        error: Why a batch has ``"failed"`` as a whole; a stable code.
        owner: Whose it is, as a digest; empty where it is nobody's.
        chunk_size: Operations of each chunk, where each is claimed by itself; 0 where the batch is
            claimed as a whole.
    """

    batch_id: str
    status: Status
    total: int
    succeeded: int
    failed: int
    skipped: int
    created_at: float
    updated_at: float
    finished_at: float | None
    version: int
    parent: str | None = None
    error: str | None = None
    owner: str = ""
    chunk_size: int = 0

    @property
    def completed(self) -> int:
        """
        Operations that have their result, of whatever kind.
        """
        return self.succeeded + self.failed + self.skipped

    @property
    def progress(self) -> float:
        """
        *completed* ÷ *total*, from 0 to 1.
        """
        return self.completed / self.total

    @property
    def percentage(self) -> float:
        """
        The same from 0 to 100.
        """
        return 100 * self.progress

    def plus(self, more: Summary) -> Summary:
        """
        How the operations have ended when what is still open ends as *more* says.
        """
        return Summary(
            self.total,
            self.succeeded + more.succeeded,
            self.failed + more.failed,
            self.skipped + more.skipped,
        )

    def shares(self) -> list[Share]:
        """
        What is claimed of it.
        """
        if not self.chunk_size:
            return [Share(self.batch_id)]
        count = -(-self.total // self.chunk_size)
        return [Share(self.batch_id, chunk) for chunk in range(count)]

    def indexes_of(self, chunk: int | None) -> range:
        """
        Those of the operations of one chunk; of all where it is None.
        """
        indexes, size = range(self.total), self.chunk_size
        return indexes if chunk is None else indexes[size * chunk : size * (chunk + 1)]

    @property
    def is_finished(self) -> bool:
        """
        Whether nothing will change any more.
        """
        return self.finished_at is not None


class NewBatch(msgspec.Struct, frozen=True, kw_only=True):
    """
    A batch to be kept.

    Args:
        batch_id: 32 characters of ``A-Z a-z 0-9 _ -``, unguessable.
        total: Its operations.
        chunks: The operations, in order; what is in a chunk is the caller's affair.
        chunk_size: Operations of each chunk, where each is claimed by itself; 0 where the batch is
            claimed as a whole.
        delay: Seconds for which only those may claim it who name it: they have been told of it.
        caller: What is kept of the batch request, for the scopes of its operations.
        stops_on_error: Whether nothing starts after the first failure.
        atomic: Whether all operations happen or none; then it stops on error as well.
        parent: The batch whose operations it tries again.
        idempotency_key: Names the submission, where its client has a name for it.
        fingerprint: Tells two submissions of one name apart.
        owner: Whose it is, as a digest; empty where it is nobody's. Two owners may use one name.
    """

    batch_id: str
    total: int
    chunks: Sequence[bytes]
    caller: bytes
    chunk_size: int = 0
    delay: float = 0.0
    stops_on_error: bool = False
    atomic: bool = False
    parent: str | None = None
    idempotency_key: str | None = None
    fingerprint: str = ""
    owner: str = ""


class Created(msgspec.Struct, frozen=True):
    """
    What came of a `NewBatch`.

    Args:
        snapshot: The batch that the store has now under this name.
        is_new: Whether this submission has brought it there.
        is_same: Whether the fingerprint is that of the first submission.
    """

    snapshot: Snapshot
    is_new: bool = True
    is_same: bool = True


class Hold(msgspec.Struct, frozen=True):
    """
    The right to carry out a batch or a chunk of it, for as long as its lease lasts.

    Args:
        batch_id: The batch.
        epoch: How often it has been claimed; every write names it, and the store refuses all
            but the latest.
        chunk: Which chunk it is; None for the whole batch.
    """

    batch_id: str
    epoch: int
    chunk: int | None = None

    @property
    def share(self) -> Share:
        """
        What is held.
        """
        return Share(self.batch_id, self.chunk)


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """
    A batch to be carried out, or a chunk of it, and what is known of it.

    Args:
        hold: The right to do so.
        snapshot: How far the batch is.
        chunks: All operations to be carried out, those included that have their result.
        indexes: Theirs.
        caller: What is kept of the batch request.
        stops_on_error: Whether nothing starts after the first failure.
        atomic: Whether all operations happen or none.
        is_cancelled: Whether no operation may start any more.
        finished: Indexes of the operations that have their result.
        allowed: Operations below this index may have been started by an earlier holder.
        trials: How often an operation has been started alone because it was under suspicion.
        idle: Seconds since something has last changed, by the store's clock.
    """

    hold: Hold
    snapshot: Snapshot
    chunks: Sequence[bytes]
    indexes: range
    caller: bytes
    stops_on_error: bool
    is_cancelled: bool
    finished: frozenset[int]
    allowed: int
    trials: dict[int, int]
    atomic: bool = False
    idle: float = 0.0


class Entry(msgspec.Struct, frozen=True, gc=False):
    """
    One operation's result, as it is kept.
    """

    index: int
    outcome: Outcome
    result: bytes


class Saving(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a holder has to tell: all that has come up since the last time.

    Args:
        entries: Results.
        allowed: Operations below this index may start from now on, or have started.
        trial: An operation that is about to be started alone, and to be counted.
        ends: What is held is over with these results.
        error: Why it has failed as a whole, where it has; a stable code.
        heard: The holder knows of the cancellation, and starts nothing more.
        lease: Seconds for which the batch is held from now on.
    """

    entries: Sequence[Entry] = ()
    allowed: int = 0
    trial: int | None = None
    ends: bool = False
    error: str = ""
    heard: bool = False
    lease: float


class Remains(msgspec.Struct, frozen=True):
    """
    What is kept of the request of a finished batch.

    Args:
        chunks: Its operations.
        stops_on_error: Whether nothing starts after the first failure.
        atomic: Whether all operations happen or none.
    """

    chunks: Sequence[bytes]
    stops_on_error: bool
    atomic: bool = False


class Page(msgspec.Struct, frozen=True):
    """
    Some results of a batch, in the order of its operations and without a gap.

    Args:
        entries: The results.
        after: The index up to which operations have been looked at.
    """

    entries: Sequence[Entry]
    after: int
