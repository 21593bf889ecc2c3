"""
How a batch is taken from Redis; what a process cannot read keeps it from no other batch.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from asgi_batch._core.records import Claim, Share
from asgi_batch._core.reports import short
from asgi_batch.errors import StoreUnavailable
from asgi_batch.stores import _redis_scripts as scripts
from asgi_batch.stores._redis_cluster import AnyLink
from asgi_batch.stores._redis_codec import claim_of, milliseconds, number_of
from asgi_batch.stores._redis_create import MAX_AGE
from asgi_batch.stores._redis_errors import is_of_a_script
from asgi_batch.stores._redis_queries import due
from asgi_batch.stores._seal import SealOf
from asgi_batch.stores._shards import Keys, is_batch_id

logger = logging.getLogger("asgi_batch")

# Reasons that are remembered, so that each scan does not tell them again.
_REMEMBERED: Final = 100


class Claimer:
    """
    Takes batches that nobody holds.

    Args:
        keys: Names of keys.
        seal_of: Makes what values of a batch go through.
    """

    def __init__(self, keys: Keys, seal_of: SealOf) -> None:
        self._keys = keys
        self._seal_of = seal_of
        self._told: set[bytes] = set()

    async def claim(self, link: AnyLink, lease: float, share: Share | None) -> Claim | None:
        """
        Take *share*, or else what has waited longest.
        """
        args = (secrets.token_urlsafe(12), milliseconds(lease))
        for each in await due(link, self._keys) if share is None else [share]:
            if is_batch_id(each.batch_id) and (claim := await self._take(link, each, *args)):
                return claim
        return None

    async def overdue(self, link: AnyLink, delay: float) -> list[Share]:
        """
        What nobody holds though it is its turn, and is not told again for *delay* seconds.
        """
        return [
            each
            for each in await due(link, self._keys)
            if is_batch_id(each.batch_id) and await self._postpone(link, each, delay)
        ]

    async def _postpone(self, link: AnyLink, share: Share, delay: float) -> bool:
        args = (share.batch_id, number_of(share), milliseconds(delay))
        is_due = 0
        with self._leaving_rubbish(share.batch_id):
            is_due = await link.run(scripts.POSTPONE, self._keys.of(*share), *args)
        return bool(is_due)

    async def _take(self, link: AnyLink, share: Share, token: str, lease: int) -> Claim | None:
        batch_id, chunk = share
        seal = self._seal_of(batch_id)
        keys = self._keys.of(batch_id, chunk)
        args = (token, batch_id, lease, MAX_AGE * 1000, number_of(share), *seal.heads)
        claim = None
        with self._leaving_rubbish(batch_id):
            answer: Any = await link.run(scripts.CLAIM, keys, *args)
            if isinstance(answer, bytes):
                reason = f"sealed with key {answer[2:].hex()}, which this process does not have"
                self._leave(batch_id, answer, reason)
            elif answer:
                claim = claim_of(share, answer, seal)
        return claim

    @contextmanager
    def _leaving_rubbish(self, batch_id: str) -> Iterator[None]:
        try:
            yield
        except (StoreUnavailable, ValueError) as error:
            if isinstance(error, StoreUnavailable) and not is_of_a_script(error):
                raise
            self._leave(batch_id, batch_id.encode(), "a record that cannot be read")

    def _leave(self, batch_id: str, key: bytes, reason: str) -> None:
        if key not in self._told:
            self._told = {key} if len(self._told) == _REMEMBERED else self._told | {key}
            logger.warning("Batch %s… is left to others: %s.", short(batch_id), reason)
