"""
Where a batch lives in Redis: its shard, its keys, and an id that fits; it reads and writes none.

All keys of one shard share a hash tag and with it a slot of Redis Cluster, so that one script can
do a whole step: ``{ab:7}:b:<id>:rec``, ``{ab:7}:queue``. The shard of a batch follows from its id.
A batch that has an owner, or else an idempotency key, lives where this does, so its id is thrown
until it fits.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final
from zlib import crc32

SHARDS: Final = 16
_BATCH_ID: Final = re.compile(r"[A-Za-z0-9_-]{22,64}")


def shard_of(text: str) -> int:
    """
    The shard of a batch id, of an owner or of an idempotency key.
    """
    return crc32(text.encode()) % SHARDS


def is_batch_id(text: str) -> bool:
    """
    Whether *text* may become part of a key: anything else could name another slot.
    """
    return _BATCH_ID.fullmatch(text) is not None


def is_at_home(batch_id: str, idempotency_key: str | None, owner: str) -> bool:
    """
    Whether a batch is in the shard of its owner, or of its idempotency key where it has none.
    """
    home = owner or idempotency_key
    return is_batch_id(batch_id) and (home is None or shard_of(batch_id) == shard_of(home))


def batch_id_for(idempotency_key: str | None, owner: str) -> str:
    """
    A new id for a batch that nobody can guess, in the shard where it belongs.

    It does not begin with a dash, which a command line would take for that of an option.
    """
    while True:
        batch_id = secrets.token_urlsafe(24)
        if batch_id[0] != "-" and is_at_home(batch_id, idempotency_key, owner):
            return batch_id


def digest_of(idempotency_key: str | None, owner: str) -> str:
    """
    What stands for an idempotency key in the name of a key, where there is one.
    """
    if idempotency_key is None:
        return ""
    return hashlib.sha256(f"{owner}\0{idempotency_key}".encode()).hexdigest()


class Keys:
    """
    The names of all keys under one prefix.

    Args:
        prefix: What they begin with.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def of(self, batch_id: str, chunk: int | None = None, *, owner: str = "") -> list[str]:
        """
        Record, operations and results of a batch, the lease of what is held, the queue of its
        shard, the unfinished batches of its *owner*, the record of what is held, and the chunks of
        the shard. What is held is the batch, or one *chunk* of it.
        """
        shard = self._shard(shard_of(batch_id))
        record, operations, results, lease = (
            f"{shard}:b:{batch_id}:{kind}" for kind in ("rec", "ops", "res", "lease")
        )
        held = record
        if chunk is not None:
            held, lease = self.of_chunk(batch_id, chunk)
        lines = (f"{shard}:queue", f"{shard}:owner:{owner}")
        return [record, operations, results, lease, *lines, held, f"{shard}:chunks"]

    def of_chunk(self, batch_id: str, chunk: int) -> tuple[str, str]:
        """
        Record and lease of one chunk of a batch.
        """
        key = f"{self._shard(shard_of(batch_id))}:b:{batch_id}:{chunk}"
        return f"{key}:rec", f"{key}:lease"

    def of_chunks(self, batch_id: str, count: int) -> list[str]:
        """
        The same of its first *count* chunks, in order.
        """
        return [key for chunk in range(count) for key in self.of_chunk(batch_id, chunk)]

    def of_name(self, batch_id: str, digest: str) -> str:
        """
        Where the id of the batch is kept whose idempotency key has this *digest*.
        """
        return f"{self._shard(shard_of(batch_id))}:name:{digest}"

    def queues(self) -> list[str]:
        """
        The queues of all shards, in order.
        """
        return [f"{self._shard(shard)}:queue" for shard in range(SHARDS)]

    def lines(self) -> list[str]:
        """
        Where batches and chunks of all shards wait to be claimed.
        """
        return [*self.queues(), *(f"{self._shard(shard)}:chunks" for shard in range(SHARDS))]

    def _shard(self, shard: int) -> str:
        return f"{{{self._prefix}:{shard}}}"
