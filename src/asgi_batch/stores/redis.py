"""
A store in Redis, shared by processes and outliving them; what a step does is written in lua/.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import secrets
from typing import Final, Literal

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
)
from asgi_batch.errors import ConfigurationError, StoreUnavailable
from asgi_batch.ports import Standing
from asgi_batch.stores import _redis_scripts as scripts
from asgi_batch.stores._redis_claim import Claimer
from asgi_batch.stores._redis_cluster import AnyLink, link_to
from asgi_batch.stores._redis_codec import (
    fields_of,
    milliseconds,
    number_of,
    snapshot_of,
)
from asgi_batch.stores._redis_create import MAX_AGE, Creation
from asgi_batch.stores._redis_link import check_url
from asgi_batch.stores._redis_queries import (
    all_keys,
    read_remains,
    read_results,
    read_snapshot,
)
from asgi_batch.stores._seal import Keys as EncryptionKeys
from asgi_batch.stores._seal import clear, sealing
from asgi_batch.stores._shards import Keys, batch_id_for, is_batch_id

logger = logging.getLogger("asgi_batch")

_CLEAR: Final = (
    "Background batches lie in Redis in clear text: headers such as Authorization and bodies up to"
    " their end, results for as long as they are kept. RedisStore(…, encryption_key=…) seals them;"
    " allow_clear_text=True says that you know."
)

_PREFIX: Final = re.compile(r"[A-Za-z0-9_.-]{1,32}")


class RedisStore:
    """
    Keeps batches in Redis, for all processes that name the same server and *prefix*.

    Needs Redis 7.0 or later, asyncio, and ``maxmemory-policy noeviction``.

    Args:
        url: ``"redis://…"``, ``"rediss://…"`` or ``"unix://…"``; where Sentinels know the server,
            ``"redis+sentinel://host:26379,host2/mymaster/0?sentinel_password=…"``; a cluster,
            ``"redis+cluster://host:6379,host2"``.
        prefix: Of all keys.
        allow_unsafe_eviction: Whether to start where Redis may throw batches away.
        max_connections: Calls at a time, in a cluster to each node; more wait for their turn.
        encryption_key: Seals requests and results (extra ``crypto``): 32 random bytes, or these as
            Base64. Of several the first seals, and all of them open what they have sealed.
        allow_clear_text: Whether nothing is said of clear text in Redis where there is no key, and
            whether it is believed where there is one.

    Attributes:
        url: Of the server.

    Raises:
        ConfigurationError: *url*, *prefix* or *encryption_key* cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "ab",
        allow_unsafe_eviction: bool = False,
        max_connections: int = 10,
        encryption_key: EncryptionKeys | None = None,
        allow_clear_text: bool = False,
    ) -> None:
        if not _PREFIX.fullmatch(prefix):
            raise ConfigurationError(f'prefix={prefix!r:.100}: write letters, as in "ab".')
        check_url(url)
        self.url = url
        self._keys = Keys(prefix)
        self._allow_unsafe_eviction = allow_unsafe_eviction
        self._max_connections = max_connections
        self._warns = encryption_key is None and not allow_clear_text
        self._seal_of = (
            clear
            if encryption_key is None
            else sealing(encryption_key, reads_clear_text=allow_clear_text)
        )
        self._claimer = Claimer(self._keys, self._seal_of)
        self._opened: AnyLink | None = None
        self._result_ttl = milliseconds(math.inf)
        self._retry_ttl = 0

    @property
    def durability(self) -> Literal["process", "store"]:
        """
        A batch outlives its process.
        """
        return "store"

    async def open(self, result_ttl: float, retry_ttl: float = 0.0) -> None:
        """
        Connect, and see whether the server can keep what a store promises.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigurationError(
                "The Redis store needs asyncio, and this server runs trio: "
                'start it on asyncio, or write store="memory://".'
            ) from None
        await self.aclose()
        self._result_ttl = milliseconds(result_ttl)
        self._retry_ttl = min(milliseconds(retry_ttl), self._result_ttl) if retry_ttl else 0
        link = link_to(self.url, self._max_connections)
        try:
            await link.check(
                scripts.CANCEL,
                self._keys.of("-" * 32),
                is_eviction_allowed=self._allow_unsafe_eviction,
            )
        except BaseException:
            await link.aclose()
            raise
        self._opened = link
        if self._warns and result_ttl:
            logger.warning(_CLEAR)

    async def aclose(self) -> None:
        """
        Close all connections; the batches stay.
        """
        link, self._opened = self._opened, None
        if link is not None:
            await link.aclose()

    def new_id(self, idempotency_key: str | None = None, owner: str = "") -> str:
        """
        An id that lives in the same shard as *owner*, or else as *idempotency_key*.
        """
        return batch_id_for(idempotency_key, owner)

    def is_elsewhere(self, batch_id: str) -> bool:
        """
        All processes see all batches.
        """
        return False

    async def create(
        self, batch: NewBatch, *, limit: int, owner_limit: int | None = None
    ) -> Created:
        """
        Keep *batch*, unless a batch of the same idempotency key and owner is there.

        The *limit* is one for all shards together, while a step is one within a shard: where many
        create at once, a few more may get in.
        """
        seal = self._seal_of(batch.batch_id)
        return await Creation(
            self._link, self._keys, batch, limit=limit, owner_limit=owner_limit, seal=seal
        ).run()

    async def claim(
        self, lease: float, batch_id: str | None = None, chunk: int | None = None
    ) -> Claim | None:
        """
        Take what nobody holds, and has waited longest, or what is named.
        """
        share = None if batch_id is None else Share(batch_id, chunk)
        return await self._claimer.claim(self._link, lease, share)

    async def overdue(self, delay: float) -> list[Share]:
        """
        What nobody holds though it is its turn; each is told once in *delay* seconds.
        """
        return await self._claimer.overdue(self._link, delay)

    async def save(self, hold: Hold, saving: Saving) -> Standing:
        """
        Write down what has come up, and hold the batch for longer.
        """
        if not is_batch_id(hold.batch_id):
            return "lost"
        keys = await self._all_keys(hold.share) if saving.ends else self._keys.of(*hold.share)
        answer = await self._link.run(
            scripts.SAVE,
            keys,
            hold.epoch,
            secrets.token_urlsafe(12),
            hold.batch_id,
            milliseconds(saving.lease),
            saving.allowed,
            "" if saving.trial is None else saving.trial,
            int(saving.ends),
            MAX_AGE * 1000,
            self._result_ttl,
            self._retry_ttl,
            int(saving.heard),
            saving.error,
            number_of(hold),
            *fields_of(saving.entries, self._seal_of(hold.batch_id)),
        )
        standing: Standing = answer.decode()
        return standing

    async def release(self, hold: Hold, allowed: int) -> None:
        """
        Give an unfinished batch back, so that it can be claimed at once.
        """
        if is_batch_id(hold.batch_id):
            args = (hold.epoch, hold.batch_id, allowed, MAX_AGE * 1000, number_of(hold))
            await self._link.run(scripts.RELEASE, self._keys.of(*hold.share), *args)

    async def cancel(self, batch_id: str) -> tuple[Snapshot, bool] | None:
        """
        Let no further operation of a batch start; None where there is no such batch.
        """
        if not is_batch_id(batch_id):
            return None
        keys = self._keys.of(batch_id)
        answer = await self._link.run(scripts.CANCEL, keys)
        if isinstance(answer, int):
            keys += [self._keys.of_name(batch_id, ""), *self._keys.of_chunks(batch_id, answer)]
            answer = await self._link.run(scripts.CANCEL, keys)
        return None if answer is None else (snapshot_of(batch_id, answer[1]), bool(answer[0]))

    async def fail(self, hold: Hold, error: str) -> None:
        """
        End a batch that cannot be carried out.
        """
        if is_batch_id(hold.batch_id):
            args = (hold.epoch, hold.batch_id, error, self._result_ttl)
            await self._link.run(scripts.FAIL, await self._all_keys(hold.share), *args)

    async def remains(self, batch_id: str) -> Remains | None:
        """
        What is kept of the request of a finished batch; None where nothing is.
        """
        if not is_batch_id(batch_id):
            return None
        return await read_remains(self._link, self._keys, batch_id, self._seal_of(batch_id))

    async def snapshot(self, batch_id: str) -> Snapshot | None:
        """
        How far a batch is; None where there is no such batch.
        """
        if not is_batch_id(batch_id):
            return None
        return await read_snapshot(self._link, self._keys, batch_id)

    async def results(
        self, batch_id: str, *, after: int, limit: int, outcome: Outcome | None
    ) -> Page | None:
        """
        Results in the order of the operations, up to the first that has none yet.
        """
        if not is_batch_id(batch_id):
            return None
        link, keys, seal = self._link, self._keys, self._seal_of(batch_id)
        return await read_results(
            link, keys, batch_id, seal, after=after, limit=limit, outcome=outcome
        )

    @property
    def _link(self) -> AnyLink:
        if self._opened is None:
            raise StoreUnavailable("The store is not open.")
        return self._opened

    async def _all_keys(self, share: Share) -> list[str]:
        """
        Those that an end needs, whose names only the record knows.
        """
        return await all_keys(self._link, self._keys, share)
