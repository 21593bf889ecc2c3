"""
How the native contract writes of batches that outlive their request; it knows no store.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from asgi_batch._core.records import Entry, Snapshot

_encode: Final = msgspec.json.Encoder().encode


def encode_accepted(
    snapshot: Snapshot, base: str, durability: Literal["process", "store"]
) -> bytes:
    """
    The answer to a batch that is carried out later.

    Args:
        snapshot: The batch.
        base: Path of the batch endpoint, as clients know it.
        durability: What the batch survives.
    """
    return _encode(
        {
            "batchId": snapshot.batch_id,
            "status": snapshot.status,
            "total": snapshot.total,
            **_urls(snapshot, base),
            "durability": durability,
        }
    )


def encode_snapshot(snapshot: Snapshot, base: str) -> bytes:
    """
    How far a batch is.
    """
    document: dict[str, Any] = {
        "batchId": snapshot.batch_id,
        "status": snapshot.status,
        "total": snapshot.total,
        "completed": snapshot.completed,
        "succeeded": snapshot.succeeded,
        "failed": snapshot.failed,
        "skipped": snapshot.skipped,
        "progress": snapshot.progress,
        "createdAt": _time(snapshot.created_at),
        "updatedAt": _time(snapshot.updated_at),
        "finishedAt": None if snapshot.finished_at is None else _time(snapshot.finished_at),
        **_urls(snapshot, base),
    }
    if snapshot.parent is not None:
        document["parent"] = snapshot.parent
    if snapshot.error is not None:
        document["error"] = {"code": snapshot.error}
    return _encode(document)


def encode_page(snapshot: Snapshot, entries: Sequence[Entry], next_url: str | None) -> list[bytes]:
    """
    The parts of a page of results, in order.
    """
    parts = [b","] * (2 * len(entries) or 1)
    parts[1::2] = [entry.result for entry in entries]
    parts[0] = b'{"batchId":%b,"status":%b,"results":[' % (
        _encode(snapshot.batch_id),
        _encode(snapshot.status),
    )
    return [*parts, b'],"next":%b}' % _encode(next_url)]


def _urls(snapshot: Snapshot, base: str) -> dict[str, str]:
    own = f"{base}/{snapshot.batch_id}"
    return {f"{face}Url": f"{own}/{face}" for face in ("status", "results", "events")}


def _time(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
