"""
Batches as Redis keeps them, turned into records and back; it sends nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from asgi_batch._core.records import (
    SCHEMA,
    Claim,
    Entry,
    Hold,
    NewBatch,
    Outcome,
    Page,
    Share,
    Snapshot,
)
from asgi_batch.errors import RecordCorrupt, StoreUnavailable
from asgi_batch.stores._seal import Seal, Tampered, UnknownKey

#: Fields of a record in the order in which a script answers with them.
SNAPSHOT: Final = (
    "schema status total succeeded failed skipped created_at updated_at finished_at version "
    "parent error owner chunk_size"
).split()
#: Seconds that are as good as for ever.
LONGEST: Final = 10 * 365 * 24 * 3600

# What a sealed value is for; that of operations and results says more, see below.
_CALLER: Final = "caller"

_CHANGED: Final = "The results of this batch are not what was stored."

_CODES: Final[dict[Outcome, bytes]] = {"succeeded": b"s", "failed": b"f", "skipped": b"k"}
_OUTCOMES: Final[dict[bytes, Outcome]] = {code: name for name, code in _CODES.items()}


def number_of(share: Share | Hold) -> int | str:
    """
    The number of a chunk as scripts want it; empty for a whole batch.
    """
    return "" if share.chunk is None else share.chunk


def milliseconds(seconds: float) -> int:
    """
    A time as Redis wants it: whole, and never zero, which would mean at once.
    """
    return max(1, int(min(seconds, LONGEST) * 1000))


def packed(chunks: Sequence[bytes]) -> bytes:
    """
    Operations as one value.
    """
    return msgspec.msgpack.encode(list(chunks))


def unpacked(value: bytes) -> list[bytes]:
    """
    The chunks that were `packed`.
    """
    return msgspec.msgpack.decode(value, type=list[bytes])


def members_of(batch: NewBatch, name: str, seal: Seal) -> tuple[int | str | bytes, ...]:
    """
    What create.lua has to know of a batch, in its order, up to its owner.

    Args:
        batch: The batch.
        name: What stands for its idempotency key.
        seal: What its values go through.
    """
    total, stops = batch.total, batch.stops_on_error + batch.atomic
    return (
        total,
        seal.close(_CALLER, batch.caller),
        stops,
        batch.parent or "",
        " ".join(seal.fingerprints(batch.fingerprint)) if name else "",
        name,
        batch.owner,
    )


def operations_of(batch: NewBatch, seal: Seal) -> list[bytes]:
    """
    What create.lua keeps of the operations: one value, or one for each chunk of a divided batch.
    """
    total, stops, size = batch.total, batch.stops_on_error + batch.atomic, batch.chunk_size
    if not size:
        return [seal.close(place_of_operations(total, stops), packed(batch.chunks))]
    return [
        seal.close(place_of_operations(total, stops, size, chunk), packed([each]))
        for chunk, each in enumerate(batch.chunks)
    ]


def fields_of(entries: Sequence[Entry], seal: Seal) -> list[int | bytes]:
    """
    Results as index, value, index, value: one byte says how the operation ended.
    """
    fields: list[int | bytes] = []
    for entry in entries:
        place = _place_of(entry.index, entry.outcome)
        fields += (entry.index, _CODES[entry.outcome] + seal.close(place, entry.result))
    return fields


def is_ours(schema: bytes | None) -> bool:
    """
    Whether a record is there, and is one that this version understands.
    """
    return schema == str(SCHEMA).encode()


def _seconds(microseconds: bytes) -> float:
    return int(microseconds) / 1_000_000


def snapshot_of(batch_id: str, values: Sequence[bytes]) -> Snapshot:
    """
    The snapshot whose fields have these *values*, in the order of `SNAPSHOT`.
    """
    _, status, total, succeeded, failed, skipped, created, updated, finished, *rest = values
    version, parent, error, owner, chunk_size = rest
    known: Any = status.decode()
    return Snapshot(
        batch_id=batch_id,
        status=known,
        total=int(total),
        succeeded=int(succeeded),
        failed=int(failed),
        skipped=int(skipped),
        created_at=_seconds(created),
        updated_at=_seconds(updated),
        finished_at=_seconds(finished) if finished else None,
        version=int(version),
        parent=parent.decode() or None,
        error=error.decode() or None,
        owner=owner.decode(),
        chunk_size=int(chunk_size),
    )


def claim_of(share: Share, answer: Sequence[Any], seal: Seal) -> Claim:
    """
    What claim.lua has answered; without a request where something of it is not what was kept.
    """
    batch_id, chunk = share
    values, epoch, operations, caller, *rest = answer
    snapshot = snapshot_of(batch_id, values)
    blank = Claim(
        hold=Hold(batch_id, epoch, chunk),
        snapshot=snapshot,
        # Nobody can read this, and what cannot be read is not carried out.
        chunks=[],
        indexes=snapshot.indexes_of(chunk),
        caller=b"",
        stops_on_error=True,
        is_cancelled=snapshot.status == "cancelled",
        finished=frozenset(),
        allowed=0,
        trials={},
    )
    try:
        stops_on_error, allowed, trials, finished, idle = rest
        place = place_of_operations(
            snapshot.total, int(stops_on_error), snapshot.chunk_size, chunk or 0
        )
        return msgspec.structs.replace(
            blank,
            chunks=unpacked(seal.open(place, operations)),
            caller=seal.open(_CALLER, caller or b""),
            stops_on_error=stops_on_error != b"0",
            atomic=stops_on_error == b"2",
            finished=frozenset(map(int, finished)),
            allowed=allowed,
            trials=dict(Counter(map(int, trials.split()))),
            idle=idle / 1_000_000,
        )
    # Operations and caller are sealed together: one key is known, so the other one must be.
    except (msgspec.DecodeError, UnknownKey, ValueError):
        return blank


def place_of_operations(total: int, stops: int, size: int = 0, chunk: int = 0) -> str:
    """
    What operations are sealed for: how many they are, and whether a failure stops them (1), undoes
    them as well (2), or does neither (0); of a divided batch, how large its chunks are, and which
    of them this is.
    """
    return f"operations {total} {stops}" + (f" {size} {chunk}" if size else "")


def _place_of(index: int, outcome: Outcome) -> str:
    return f"result {index} {outcome}"


def page_of(kept: Sequence[bytes | None], after: int, outcome: Outcome | None, seal: Seal) -> Page:
    """
    Results up to the first gap. Those that are left out because of how they have ended are looked
    at as well: that could have been changed.

    Raises:
        RecordCorrupt: One of them is not what was kept.
        StoreUnavailable: Another process has the key.
    """
    entries: list[Entry] = []
    for result in kept:
        if result is None:
            break
        after += 1
        entry = _entry_of(after, result, seal)
        if outcome in (None, entry.outcome):
            entries.append(entry)
    return Page(entries, after)


def _entry_of(index: int, result: bytes, seal: Seal) -> Entry:
    kind = _OUTCOMES.get(result[:1])
    if kind is None:
        raise RecordCorrupt(_CHANGED)
    try:
        return Entry(index, kind, seal.open(_place_of(index, kind), result[1:]))
    except Tampered:
        raise RecordCorrupt(_CHANGED) from None
    except UnknownKey:
        raise StoreUnavailable("The results are sealed with a key that is not here.") from None


def due_of(surveys: Iterable[tuple[tuple[int, int], list[Any]]]) -> list[Share]:
    """
    Batches and chunks whose turn has come, the one that has waited longest first.

    Args:
        surveys: Of each server: its time, in seconds and microseconds, and members and scores of
            each of its lines in which they wait.
    """
    waiting = sorted(
        (int(score), member)
        for (seconds, microseconds), lines in surveys
        for line in lines
        for member, score in zip(line[::2], line[1::2], strict=True)
        if int(score) <= seconds * 1_000_000 + microseconds
    )
    return [_share_of(member.decode()) for _, member in waiting]


def _share_of(member: str) -> Share:
    batch_id, _, chunk = member.partition(":")
    return Share(batch_id, int(chunk) if chunk else None)
