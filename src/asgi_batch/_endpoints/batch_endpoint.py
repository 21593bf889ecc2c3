"""
What the faces of one batch have in common: which batch is meant, and how far it is.
"""

from __future__ import annotations

import re
from hmac import compare_digest
from typing import Final

from asgi_batch._core.records import Snapshot
from asgi_batch._core.scope import route_path
from asgi_batch._endpoints.endpoint import JSON, Endpoint
from asgi_batch.dialects import native_later
from asgi_batch.errors import BatchNotFound, BatchRefused, WrongProcess

# What else is said to be an id never reaches a store (RELIABILITY T36, T50).
_ID: Final = re.compile(r"[A-Za-z0-9_-]{22,64}").fullmatch

_NOT_FOUND: Final = "There is no such batch, or it has expired."


class BatchEndpoint(Endpoint):
    """
    One face of one batch.
    """

    @property
    def _batch_id(self) -> str:
        path = route_path(self._scope).removeprefix(self._settings.rules.batch_path)
        name = path[1:].partition("/")[0]
        if _ID(name) is None:
            raise BatchNotFound(_NOT_FOUND)
        return name

    async def _snapshot(self) -> Snapshot:
        # Before anything about the batch: an owner that cannot be told says nothing of its id.
        owner, batch_id = self._owner, self._batch_id
        snapshot = await self._settings.background.store.snapshot(batch_id)
        if snapshot is None or not compare_digest(snapshot.owner, owner):
            raise self._unknown()
        return snapshot

    def _unknown(self) -> BatchRefused:
        if self._settings.background.store.is_elsewhere(self._batch_id):
            return WrongProcess("The batch is in the memory of another process of this server.")
        return BatchNotFound(_NOT_FOUND)

    async def _tell(self, snapshot: Snapshot) -> None:
        tag = f'"{snapshot.version}"'.encode()
        headers = [(b"etag", tag)]
        if not snapshot.is_finished:
            headers.append((b"retry-after", b"1"))
        if self._scope["method"] == "GET" and self._is_known(tag):
            await self._respond(304, headers, [])
            return
        body = native_later.encode_snapshot(snapshot, self._base)
        await self._respond(200, [JSON, *headers], [body])
