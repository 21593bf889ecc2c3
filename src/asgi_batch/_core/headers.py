"""
Which headers an operation may set, inherits, and may show in its result.

Everything is by name; no header's value changes what is allowed
(RELIABILITY T4, T12 to T16, T40, T49).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from asgi_batch._core.models import HeaderPair, HeaderPairs
from asgi_batch._core.rules import Rules

_CREDENTIALS: Final = frozenset((b"authorization", b"cookie", b"proxy-authorization"))

# Names that say who the caller is, where the request came from or which URL is meant. They are
# the outer request's to say, for all operations alike.
_CALLER: Final = frozenset(
    """
    authorization cookie proxy-authorization
    host forwarded via x-real-ip true-client-ip cf-connecting-ip
    x-original-url x-rewrite-url x-original-host
    """.split()
)
_CALLER_PREFIXES: Final = ("x-forwarded-",)

# RFC 9110 section 7.6.1 (hop-by-hop) and what frames or encodes a body.
_FRAMING: Final = frozenset(
    """
    connection keep-alive proxy-connection te trailer transfer-encoding upgrade
    expect content-length content-encoding
    """.split()
)

# They would change the method after it has been checked.
_METHOD_OVERRIDES: Final = frozenset(
    "x-http-method-override x-http-method x-method-override".split()
)

# What speaks of the batch request's own body, or asks for something of its own answer.
_OUTER_ONLY: Final = frozenset(
    """
    accept-encoding range if-match if-none-match if-modified-since if-unmodified-since if-range
    content-type content-language content-location content-md5 content-digest repr-digest digest
    want-content-digest want-repr-digest want-digest signature signature-input
    idempotency-key prefer
    """.split()
)

#: What an operation may set without further ado.
OPERATION_HEADERS: Final = frozenset(
    """
    accept accept-language content-type content-language idempotency-key prefer
    if-match if-none-match if-modified-since if-unmodified-since
    """.split()
)

#: What a result shows of the app's headers.
RESULT_HEADERS: Final = frozenset(
    """
    accept-patch accept-post accept-ranges allow cache-control content-disposition
    content-encoding content-language content-location content-range content-type deprecation
    etag expires last-modified link location preference-applied proxy-authenticate ratelimit
    ratelimit-policy retry-after sunset vary www-authenticate
    """.split()
)

# Never in a result: HttpOnly cookies must not reach scripts through JSON (T40).
_SECRET_RESULT_HEADERS: Final = frozenset("set-cookie set-cookie2".split())

_NOT_INHERITED: Final = frozenset(
    name.encode() for name in _FRAMING | _METHOD_OVERRIDES | _OUTER_ONLY
)

# RFC 9110 section 5.6.2 token without "_", which WSGI-style apps cannot tell from "-" (T13).
_NAME: Final = re.compile(r"[!#$%&'*+\-.^`|~0-9A-Za-z]+").fullmatch
# RFC 9110 section 5.5 field-content, printable ASCII only, no white space at the edges.
_VALUE: Final = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?").fullmatch


class HeaderError(Exception):
    """
    Raised when a header breaks a rule; carries *name*, the stable *code* and a sentence.
    """

    def __init__(self, name: str, code: str, detail: str) -> None:
        super().__init__(detail)
        self.name = name
        self.code = code
        self.detail = detail


def why_forbidden(name: str) -> str | None:
    """
    Why no operation may ever set *name* (lower case), or None where the settings decide.
    """
    if name in _CALLER or name.startswith(_CALLER_PREFIXES):
        return f"{name} is set by the batch request, for all of its operations alike."
    if name in _FRAMING:
        return f"{name} frames a message; it is made for each operation from its body."
    if name in _METHOD_OVERRIDES:
        return f"{name} would change a method that has been checked; set the operation's method."
    return None


def is_header_name(name: str) -> bool:
    """
    Whether *name* is a header name that every kind of app reads the same way.
    """
    return _NAME(name) is not None


def is_secret_header(name: str) -> bool:
    """
    Whether *name* (lower case) may never appear in a result.
    """
    return name in _SECRET_RESULT_HEADERS


def check_headers(headers: Mapping[str, str], rules: Rules) -> Iterator[HeaderError]:
    """
    All the ways in which an operation's *headers* break the *rules*.
    """
    if len(headers) > rules.max_headers:
        detail = f"An operation may have {rules.max_headers} headers; this one has {len(headers)}."
        yield HeaderError("", "headers_too_large", detail)
        return
    size = sum(len(name) + len(value) for name, value in headers.items())
    if size > rules.max_header_bytes:
        detail = (
            f"An operation's headers may have {rules.max_header_bytes} bytes; these have {size}."
        )
        yield HeaderError("", "headers_too_large", detail)
        return
    seen: set[str] = set()
    for name, value in headers.items():
        if (error := _check_header(name, value, rules)) is not None:
            yield error
        elif (lower := name.lower()) in seen:
            yield HeaderError(name, "invalid_header", "The header is set twice, in different case.")
        else:
            seen.add(lower)


def _check_header(name: str, value: str, rules: Rules) -> HeaderError | None:
    if _NAME(name) is None:
        detail = 'A header name may hold letters, digits and "-", but no "_", ":" or space.'
        return HeaderError(name, "invalid_header", detail)
    if (lower := name.lower()) not in rules.operation_headers:
        detail = why_forbidden(lower) or f"The server does not let an operation set {lower}."
        return HeaderError(name, "header_not_allowed", detail)
    if _VALUE(value) is None:
        detail = "A header value must be printable ASCII without white space at its edges."
        return HeaderError(name, "invalid_header", detail)
    return None


def encode_headers(headers: Mapping[str, str]) -> HeaderPairs:
    """
    Checked *headers* as ASGI wants them.
    """
    return tuple((name.lower().encode(), value.encode()) for name, value in headers.items())


def has_credentials(headers: Iterable[HeaderPair]) -> bool:
    """
    Whether *headers* hold what HTTP itself knows as credentials.
    """
    return any(name.lower() in _CREDENTIALS for name, _ in headers)


def inherited_headers(outer: Iterable[tuple[bytes, bytes]]) -> HeaderPairs:
    """
    What every operation takes over from the *outer* request.
    """
    return tuple(
        (name, bytes(value))
        for name, value in ((bytes(name).lower(), value) for name, value in outer)
        if name not in _NOT_INHERITED
    )


def exposed_headers(
    headers: Iterable[HeaderPair], exposed: Mapping[bytes, bytes]
) -> dict[bytes, bytes]:
    """
    The app's *headers* that a result shows; repeated ones joined by a comma (RFC 9110 5.3).

    Args:
        headers: As the app sent them.
        exposed: Lower-case names to show, each mapped to itself; others may be mapped to nothing.
    """
    shown: dict[bytes, bytes] = {}
    for name, value in headers:
        key = exposed.get(name)
        if key is None:
            key = exposed.get(name.lower(), b"")
        if key:
            shown[key] = shown[key] + b", " + value if key in shown else value
    return shown
