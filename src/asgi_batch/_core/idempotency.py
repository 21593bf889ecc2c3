"""
The ``Idempotency-Key`` of a submission, and what tells two submissions of one key apart.

The header is that of draft-ietf-httpapi-idempotency-key-header-07: a string in quotes. Many
clients leave the quotes out, so both are taken, and mean the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from asgi_batch._core.models import HeaderPair

_NAME: Final = b"idempotency-key"
_QUOTED: Final = re.compile(rb'"((?:[ !#-\[\]-~]|\\["\\]){1,255})"').fullmatch
_BARE: Final = re.compile(rb"[!#-\[\]-~]{1,255}").fullmatch
_UNESCAPED: Final = re.compile(rb'\\(["\\])')

# What differs from one attempt to the next although the caller is the same. Any other header may
# tell callers apart: one app's credentials are in ``Authorization``, another's in ``X-Api-Key``.
_OF_AN_ATTEMPT: Final = re.compile(
    rb"""accept|accept-.*|baggage|cache-control|cdn-loop|cf-.*|connection|content-.*|date|dnt
    |elastic-apm-traceparent|expect|forwarded|host|idempotency-key|keep-alive|newrelic|origin|pragma
    |prefer|priority|referer|request-id|sec-.*|sentry-trace|te|traceparent|tracestate
    |transfer-encoding|uber-trace-id|user-agent|via|x-amzn-trace-id|x-b3-.*|x-client-ip
    |x-cloud-trace-context|x-correlation-id|x-datadog-.*|x-envoy-.*|x-forwarded-.*|x-real-ip
    |x-request-id|x-request-start|x-trace-id""",
    re.VERBOSE,
).fullmatch


class Idempotency(NamedTuple):
    """
    What makes a submission the same as an earlier one.

    Args:
        key: The client's name for it.
        fingerprint: Differs where anything else does that must be the same.
    """

    key: str
    fingerprint: str


def has_key(headers: Sequence[HeaderPair]) -> bool:
    """
    Whether a request with these *headers* has a key, readable or not.
    """
    return any(name.lower() == _NAME for name, _ in headers)


def idempotency_of(
    headers: Sequence[HeaderPair], content: bytes, owner: str = ""
) -> Idempotency | None:
    """
    What the *headers* of a request say; None where it has no key.

    Whatever may tell callers apart is part of the fingerprint, so that nobody gets to see the
    batch of another caller who has thought of the same key.

    Args:
        headers: Of the request.
        content: What is submitted.
        owner: Whose it is, if that is known: then headers need not tell.

    Raises:
        ValueError: The header cannot be read.
    """
    values = [value.strip(b" \t") for name, value in headers if name.lower() == _NAME]
    if not values:
        return None
    match = _QUOTED(values[0]) or _BARE(values[0])
    if match is None or len(values) > 1:
        raise ValueError
    key = match[1] if match.re.groups else match[0]
    return Idempotency(
        _UNESCAPED.sub(rb"\1", key).decode(), _fingerprint(() if owner else headers, content)
    )


def _fingerprint(headers: Sequence[HeaderPair], content: bytes) -> str:
    digest = hashlib.sha256()
    for name, value in sorted((name.lower(), value) for name, value in headers):
        if not _OF_AN_ATTEMPT(name):
            digest.update(b"%b: %d %b\n" % (name, len(value), value))
    digest.update(content)
    return digest.hexdigest()
