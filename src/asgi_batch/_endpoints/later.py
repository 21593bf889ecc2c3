"""
The faces of a batch that outlives its request: its status, its results, its cancellation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, cast
from urllib.parse import parse_qsl

from asgi_batch._core.records import Entry, Outcome, Page, Snapshot
from asgi_batch._endpoints.batch_endpoint import BatchEndpoint
from asgi_batch._endpoints.endpoint import JSON
from asgi_batch.dialects import native_later
from asgi_batch.errors import InvalidParameter

_NDJSON: Final = (b"content-type", b"application/x-ndjson")
_OUTCOMES: Final = ("succeeded", "failed", "skipped")
_PAGE: Final = 100
_MOST: Final = 1000

# Operations that are looked at together, and bytes of results from which on a page is full.
_STEP: Final = 100
_PAGE_BYTES: Final = 4 * 1024 * 1024


class StatusEndpoint(BatchEndpoint):
    """
    ``GET /batch/{id}/status``.
    """

    methods = ("GET",)

    async def _answer(self) -> None:
        await self._tell(await self._snapshot())


class CancelEndpoint(BatchEndpoint):
    """
    ``DELETE /batch/{id}``.
    """

    methods = ("DELETE",)
    has_page = True

    async def _answer(self) -> None:
        # Without owners, too: another middleware that has them may share the store.
        await self._snapshot()
        snapshot = await self._settings.background.cancel(self._batch_id)
        if snapshot is None:
            raise self._unknown()
        await self._tell(snapshot)


class ResultsEndpoint(BatchEndpoint):
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
        page = await self._page(after, limit, cast("Outcome | None", outcome))
        is_gap = page.after - after < limit and self._result_bytes < _PAGE_BYTES
        is_last = page.after + 1 >= snapshot.total or (snapshot.is_finished and is_gap)
        query = f"after={page.after}&limit={limit}" + (f"&status={outcome}" if outcome else "")
        following = None if is_last else f"{self._base}/{self._batch_id}/results?{query}"
        await self._send_page(snapshot, page.entries, following)

    async def _page(self, after: int, limit: int, outcome: Outcome | None) -> Page:
        """
        Up to *limit* results, or so many as make a page large enough.
        """
        store, entries = self._settings.background.store, list[Entry]()
        while limit > 0 and self._result_bytes < _PAGE_BYTES:
            step = min(limit, _STEP)
            page = await store.results(self._batch_id, after=after, limit=step, outcome=outcome)
            if page is None:
                raise self._unknown()
            self._hold(page.entries)
            entries += page.entries
            limit = limit - step if page.after - after == step else 0
            after = page.after
        return Page(entries, after)

    async def _send_page(
        self, snapshot: Snapshot, entries: Sequence[Entry], following: str | None
    ) -> None:
        headers = [] if following is None else [(b"link", f'<{following}>; rel="next"'.encode())]
        if b"application/x-ndjson" in self._header(b"accept"):
            # Apps may write JSON on several lines; between its tokens a space is as good.
            lines = [b"%b\n" % b" ".join(entry.result.splitlines()) for entry in entries]
            await self._respond(200, [_NDJSON, *headers], lines)
        else:
            parts = native_later.encode_page(snapshot, entries, following)
            await self._respond(200, [JSON, *headers], parts)


def _number(given: dict[str, str], name: str, default: int, *, low: int, high: int) -> int:
    text = given.get(name, str(default))
    if re.fullmatch(r"-?[0-9]{1,10}", text) is None or not low <= int(text) <= high:
        raise InvalidParameter(f"{name} must be a whole number from {low} to {high}.")
    return int(text)
