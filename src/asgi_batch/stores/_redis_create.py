"""
How a new batch comes into Redis: under its name, within the bounds, and once.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Final

from asgi_batch._core.records import Created, NewBatch
from asgi_batch.errors import Overloaded, StoreUnavailable, TooManyBatches
from asgi_batch.stores import _redis_scripts as scripts
from asgi_batch.stores._redis_cluster import AnyLink
from asgi_batch.stores._redis_codec import (
    members_of,
    milliseconds,
    operations_of,
    snapshot_of,
)
from asgi_batch.stores._redis_queries import count_others, find_gone
from asgi_batch.stores._seal import Seal
from asgi_batch.stores._shards import SHARDS, Keys, digest_of, is_at_home

#: Seconds after which an unfinished batch is forgotten when nothing has happened to it.
MAX_AGE: Final = 7 * 24 * 3600


class Creation:
    """
    One batch on its way into Redis.

    Args:
        link: To the server.
        keys: Names of keys.
        batch: The batch.
        limit: Unfinished batches that all shards may hold.
        owner_limit: Unfinished batches that its owner may have.
        seal: What its values go through.
    """

    def __init__(
        self,
        link: AnyLink,
        keys: Keys,
        batch: NewBatch,
        *,
        limit: int,
        owner_limit: int | None,
        seal: Seal,
    ) -> None:
        if not is_at_home(batch.batch_id, batch.idempotency_key, batch.owner):
            raise ValueError("Take the batch_id from new_id(), given the same names.")
        self._link = link
        self._keys = keys
        self._batch = batch
        self._limit = limit
        self._owner_limit = owner_limit
        self._token = secrets.token_urlsafe(12)
        self._digest = digest_of(batch.idempotency_key, batch.owner)
        self._gone: list[str] = []
        self._members = members_of(batch, self._digest, seal)
        self._operations = operations_of(batch, seal)

    async def run(self) -> Created:
        """
        Keep the batch, unless one of its name is there.

        Raises:
            Overloaded: There are as many as may be.
            TooManyBatches: Its owner has as many.
            StoreUnavailable: What is kept under its name cannot be read.
        """
        expected = room = ""
        while True:
            verdict, *answer = await self._ask(expected, room)
            if verdict == b"kept":
                is_new, is_same, batch_id, values = answer
                snapshot = snapshot_of(batch_id.decode(), values)
                return Created(snapshot, is_new=bool(is_new), is_same=bool(is_same))
            if verdict == b"named":
                expected = answer[0].decode()
            elif verdict == b"count":
                others = await count_others(self._link, self._keys, self._batch.batch_id)
                room = str(max(self._limit - others, 0))
            elif verdict != b"many" or self._gone or not await self._has_gone(answer[0]):
                # One look is enough: the next call has another.
                raise self._refusal(verdict)

    async def _has_gone(self, batch_ids: Sequence[bytes]) -> bool:
        """
        Whether some of the batches that are counted for the owner are there no more.

        Redis may have lost them, or a claim that knew of no owner has ended them.
        """
        known = [each.decode() for each in batch_ids]
        self._gone = await find_gone(self._link, self._keys, known)
        return bool(self._gone)

    def _refusal(self, verdict: bytes) -> Exception:
        if verdict == b"many":
            most = self._owner_limit
            return TooManyBatches(f"You have {most} unfinished batches, as many as you may.")
        if verdict == b"full":
            return Overloaded("As many batches are unfinished as may be; try again later.")
        return StoreUnavailable("Another version of asgi_batch keeps a batch of this name.")

    async def _ask(self, expected: str, room: str) -> list[Any]:
        batch_id, delay = self._batch.batch_id, self._batch.delay
        keys = self._keys.of(batch_id, owner=self._batch.owner)
        keys.append(self._keys.of_name(batch_id, self._digest))
        keys += [self._keys.of(expected)[0]] if expected else []
        keys += [self._keys.of(each)[0] for each in self._gone]
        share = self._limit // SHARDS
        answer: list[Any] = await self._link.run(
            scripts.CREATE,
            keys,
            *(self._token, batch_id, expected, share, room, MAX_AGE * 1000),
            *self._members,
            "" if self._owner_limit is None else self._owner_limit,
            self._batch.chunk_size,
            milliseconds(delay) if delay else 0,
            len(self._operations),
            *self._operations,
            *self._gone,
        )
        return answer
