"""
The page for people, where a browser asks for it; it is the same for everybody and asks no store.
"""

from __future__ import annotations

import re
from typing import Final

from asgi_batch._core.models import HeaderPairs
from asgi_batch._core.scope import route_path
from asgi_batch._endpoints.endpoint import Endpoint

# It may be kept, but each use asks whether it is still this one.
_KEPT: Final = (
    (b"cache-control", b"private, no-cache"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_HTML: Final = (b"content-type", b"text/html; charset=utf-8")
_REFUSED: Final = re.compile(rb";\s*q\s*=\s*0(?:\.0*)?\s*(?:;|$)").search


class PageEndpoint(Endpoint):
    """
    ``GET /batch`` and ``GET /batch/{id}`` with ``Accept: text/html``.
    """

    methods = ("GET", "HEAD")
    has_page = True

    async def _answer(self) -> None:
        pages = self._settings.pages
        assert pages is not None
        is_compose = route_path(self._scope) == self._settings.rules.batch_path
        page = pages.compose if is_compose else pages.batch
        self._common_headers = _KEPT
        headers = [(b"etag", page.tag), (b"content-security-policy", page.policy)]
        if self._is_known(page.tag):
            await self._respond(304, headers, [])
        elif self._scope["method"] == "HEAD":
            length = (b"content-length", b"%d" % len(page.document))
            await self._respond(200, [_HTML, *headers, length], [])
        else:
            await self._respond(200, [_HTML, *headers], [page.document])


def is_for_browser(method: str, headers: HeaderPairs) -> bool:
    """
    Whether a request asks for HTML by its name, as browsers do where somebody opens a page.
    """
    accepted = [value for name, value in headers if name.lower() == b"accept"]
    return method in PageEndpoint.methods and any(
        each.partition(b";")[0].strip().lower() == b"text/html" and not _REFUSED(each.lower())
        for each in b",".join(accepted).split(b",")
    )
