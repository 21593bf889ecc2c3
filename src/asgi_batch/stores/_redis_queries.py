"""
What is asked of Redis without changing anything: each question is one round trip, to as many
servers as it concerns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from asgi_batch._core.records import Outcome, Page, Remains, Share, Snapshot
from asgi_batch.errors import StoreUnavailable
from asgi_batch.stores._redis_cluster import AnyLink
from asgi_batch.stores._redis_codec import (
    SNAPSHOT,
    due_of,
    is_ours,
    page_of,
    place_of_operations,
    snapshot_of,
    unpacked,
)
from asgi_batch.stores._seal import Seal, UnknownKey
from asgi_batch.stores._shards import Keys, shard_of

#: Candidates of one shard that a claim looks at.
WINDOW: Final = 16


async def all_keys(link: AnyLink, keys: Keys, share: Share) -> list[str]:
    """
    All keys of a batch, those included whose names only its record knows: its owner's, that of its
    name, and record and lease of each chunk.
    """
    batch_id, chunk = share
    fields = ("name", "owner", "chunk_size", "total")
    ((name, owner, size, total),) = await link.read(("HMGET", keys.of(batch_id)[0], *fields))
    found = keys.of(batch_id, chunk, owner=(owner or b"").decode())
    found.append(keys.of_name(batch_id, (name or b"").decode()))
    size = int(size or 0)
    return [*found, *keys.of_chunks(batch_id, -(-int(total) // size) if size else 0)]


async def read_snapshot(link: AnyLink, keys: Keys, batch_id: str) -> Snapshot | None:
    """
    How far a batch is; None where there is no such batch.
    """
    (values,) = await link.ask(("HMGET", keys.of(batch_id)[0], *SNAPSHOT))
    return snapshot_of(batch_id, values) if is_ours(values[0]) else None


async def read_results(
    link: AnyLink,
    keys: Keys,
    batch_id: str,
    seal: Seal,
    *,
    after: int,
    limit: int,
    outcome: Outcome | None,
) -> Page | None:
    """
    Results in the order of the operations, up to the first that has none yet.
    """
    record, _, results, *_ = keys.of(batch_id)
    indexes = range(after + 1, after + 1 + max(limit, 1))
    (schema,), kept = await link.ask(("HMGET", record, "schema"), ("HMGET", results, *indexes))
    return page_of(kept[:limit], after, outcome, seal) if is_ours(schema) else None


async def read_remains(link: AnyLink, keys: Keys, batch_id: str, seal: Seal) -> Remains | None:
    """
    What is kept of the request of a finished batch; None where nothing is.
    """
    record, operations, *_ = keys.of(batch_id)
    fields = ("schema", "finished_at", "total", "stops_on_error", "chunk_size")
    (schema, finished_at, total, stops_on_error, size), kept = await link.ask(
        ("HMGET", record, *fields), ("LRANGE", operations, 0, -1)
    )
    if not kept or not is_ours(schema) or not finished_at:
        return None
    place = (int(total), int(stops_on_error), int(size))
    try:
        chunks = [
            chunk
            for number, each in enumerate(kept)
            for chunk in unpacked(seal.open(place_of_operations(*place, number), each))
        ]
    except UnknownKey:
        raise StoreUnavailable("The operations are sealed with a key that is not here.") from None
    return Remains(chunks, stops_on_error != b"0", stops_on_error == b"2")


async def due(link: AnyLink, keys: Keys) -> list[Share]:
    """
    Batches and chunks that may be claimed, the one that has waited longest first.
    """
    window = [("ZRANGE", line, 0, WINDOW - 1, "WITHSCORES") for line in keys.lines()]
    return due_of(await link.survey(*window))


async def find_gone(link: AnyLink, keys: Keys, batch_ids: Sequence[str]) -> list[str]:
    """
    Which of some batches have no record any more, or have ended.
    """
    records = [keys.of(each)[0] for each in batch_ids]
    found = await link.read(*(("HMGET", each, "schema", "finished_at") for each in records))
    return [
        batch_id
        for batch_id, (schema, finished_at) in zip(batch_ids, found, strict=True)
        if schema is None or finished_at != b""
    ]


async def count_others(link: AnyLink, keys: Keys, batch_id: str) -> int:
    """
    Unfinished batches of all shards but that of *batch_id*.
    """
    queues = keys.queues()
    del queues[shard_of(batch_id)]
    return sum(await link.read(*(("ZCARD", queue) for queue in queues)))
