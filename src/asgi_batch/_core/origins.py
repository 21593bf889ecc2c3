"""
Whether a page of another site has made a browser send a request; it knows no cookies.

A browser says so in ``Sec-Fetch-Site`` (W3C Fetch Metadata), which scripts cannot set. Other
clients do not send it, and are not led by foreign pages (RELIABILITY T21, T38).
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from typing import Final

from asgi_batch._core.models import HeaderPair

#: Stands for every origin.
ANY: Final = "*"

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9.\[\]:-]+").fullmatch


def is_origin(text: str) -> bool:
    """
    Whether *text* is an origin as browsers write it (RFC 6454 section 6.2).
    """
    return _ORIGIN(text) is not None


def is_foreign(headers: Iterable[HeaderPair], allowed: Container[str]) -> bool:
    """
    Whether the request with these *headers* comes from a site that is not *allowed*.
    """
    origins, is_cross_site = [], False
    for name, value in headers:
        lower = name.lower()
        if lower == b"origin":
            origins.append(value.decode("latin-1"))
        elif lower == b"sec-fetch-site":
            is_cross_site = is_cross_site or value.strip().lower() == b"cross-site"
    if not is_cross_site or ANY in allowed:
        return False
    return len(origins) != 1 or origins[0] not in allowed
