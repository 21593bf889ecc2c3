"""
The faces of a batch that outlives its request: its status, its results, its cancellation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, cast
from urllib.parse import parse_qsl

from asgi_batch._core.records import Entry, Outcome, Snapshot
from asgi_batch._core.scope import route_path
from asgi_batch._endpoints.endpoint import JSON, Endpoint
from asgi_batch.dialects import native_later
from asgi_batch.errors import BatchNotFound, BatchRefused, InvalidParameter, WrongProcess

#: What follows the path of the batch endpoint: an id, and which face of it is meant.
FACE: Final = re.compile(r"/([^/]+)(|/status|/results)").fullmatch

# What else is said to be an id never reaches a store (RELIABILITY T36, T50).
_ID: Final = re.compile(r"[A-Za-z0-9_-]{22,64}").fullmatch

_NOT_FOUND: Final = "There is no such batch, or it has expired."
_NDJSON: Final = (b"content-type", b"application/x-ndjson")
_OUTCOMES: Final = ("succeeded", "failed", "skipped")
_PAGE: Final = 100
_MOST: Final = 1000


class _BatchEndpoint(Endpoint):
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
        batch_id = self._batch_id
        snapshot = await self._settings.background.store.snapshot(batch_id)
        if snapshot is None:
            raise self._unknown()
        return snapshot

    def _unknown(self) -> BatchRefused:
        if self._settings.background.store.is_elsewhere(self._batch_id):
            return WrongProcess("The batch is in the memory of another process of this server.")
        return BatchNotFound(_NOT_FOUND)

    def _header(self, name: bytes) -> bytes:
        return b",".join(value for key, value in self._scope["headers"] if key.lower() == name)

    async def _tell(self, snapshot: Snapshot) -> None:
        tag = f'"{snapshot.version}"'.encode()
        headers = [(b"etag", tag)]
        if not snapshot.is_finished:
            headers.append((b"retry-after", b"1"))
        known = [
            each.strip().removeprefix(b"W/") for each in self._header(b"if-none-match").split(b",")
        ]
        if self._scope["method"] == "GET" and tag in known:
            await self._respond(304, headers, [])
            return
        body = native_later.encode_snapshot(snapshot, self._base)
        await self._respond(200, [JSON, *headers], [body])


class StatusEndpoint(_BatchEndpoint):
    """
    ``GET /batch/{id}/status``.
    """

    methods = ("GET",)

    async def _answer(self) -> None:
        await self._tell(await self._snapshot())


class CancelEndpoint(_BatchEndpoint):
    """
    ``DELETE /batch/{id}``.
    """

    methods = ("DELETE",)

    async def _answer(self) -> None:
        snapshot = await self._settings.background.cancel(self._batch_id)
        if snapshot is None:
            raise self._unknown()
        await self._tell(snapshot)


class ResultsEndpoint(_BatchEndpoint):
    """
    ``GET /batch/{id}/results``.
    """

    methods = ("GET",)

    async def _answer(self) -> None:
        given = dict(parse_qsl(self._scope["query_string"].decode("latin-1")))
        after = _number(given, "after", -1, low=-1, high=10**9)
        limit = _number(given, "limit", _PAGE, low=1, high=_MOST)
        outcome = given.get("status")
        if outcome is not None and outcome not in _OUTCOMES:
            raise InvalidParameter(f"status must be one of {', '.join(_OUTCOMES)}.")
        # The snapshot comes first, so that a finished one means that the page misses nothing.
        snapshot = await self._snapshot()
        page = await self._settings.background.store.results(
            self._batch_id, after=after, limit=limit, outcome=cast("Outcome | None", outcome)
        )
        if page is None:
            raise self._unknown()
        is_last = snapshot.is_finished and page.after + 1 - after < limit
        is_last = is_last or page.after + 1 >= snapshot.total
        query = f"after={page.after}&limit={limit}" + (f"&status={outcome}" if outcome else "")
        following = None if is_last else f"{self._base}/{self._batch_id}/results?{query}"
        await self._send_page(snapshot, page.entries, following)

    async def _send_page(
        self, snapshot: Snapshot, entries: Sequence[Entry], following: str | None
    ) -> None:
        headers = [] if following is None else [(b"link", f'<{following}>; rel="next"'.encode())]
        if b"application/x-ndjson" in self._header(b"accept"):
            lines = [b"%b\n" % entry.result for entry in entries]
            await self._respond(200, [_NDJSON, *headers], lines)
        else:
            parts = native_later.encode_page(snapshot, entries, following)
            await self._respond(200, [JSON, *headers], parts)


def _number(given: dict[str, str], name: str, default: int, *, low: int, high: int) -> int:
    text = given.get(name, str(default))
    if re.fullmatch(r"-?[0-9]{1,10}", text) is None or not low <= int(text) <= high:
        raise InvalidParameter(f"{name} must be a whole number from {low} to {high}.")
    return int(text)
