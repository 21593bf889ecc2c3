"""
The ``Idempotency-Key`` of a submission, and what tells two submissions of one key apart.

The header is that of draft-ietf-httpapi-idempotency-key-header-07: a string in quotes. Many
clients leave the quotes out, so both are taken, and mean the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from asgi_batch._core.models import HeaderPair

_NAME: Final = b"idempotency-key"
_QUOTED: Final = re.compile(rb'"((?:[ !#-\[\]-~]|\\["\\]){1,255})"').fullmatch
_BARE: Final = re.compile(rb"[!#-\[\]-~]{1,255}").fullmatch
_UNESCAPED: Final = re.compile(rb'\\(["\\])')

# Whoever sends another of these is another caller.
_CREDENTIALS: Final = (b"authorization", b"cookie", b"proxy-authorization")


class Idempotency(NamedTuple):
    """
    What makes a submission the same as an earlier one.

    Args:
        key: The client's name for it.
        fingerprint: Differs where anything else does that must be the same.
    """

    key: str
    fingerprint: str


def idempotency_of(headers: Iterable[HeaderPair], content: bytes) -> Idempotency | None:
    """
    What the *headers* of a request say; None where it has no key.

    Credentials are part of the fingerprint, so that nobody gets to see the batch of another
    caller who has thought of the same key.

    Args:
        headers: Of the request.
        content: What is submitted.

    Raises:
        ValueError: The header cannot be read.
    """
    values, digest = [], hashlib.sha256()
    for name, value in headers:
        lower = name.lower()
        if lower == _NAME:
            values.append(value.strip(b" \t"))
        elif lower in _CREDENTIALS:
            digest.update(b"%b: %d %b\n" % (lower, len(value), value))
    if not values:
        return None
    match = _QUOTED(values[0]) or _BARE(values[0])
    if match is None or len(values) > 1:
        raise ValueError
    key = match[1] if match.re.groups else match[0]
    digest.update(content)
    return Idempotency(_UNESCAPED.sub(rb"\1", key).decode(), digest.hexdigest())
