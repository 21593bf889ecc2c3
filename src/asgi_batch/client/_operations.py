"""
What a client wants done, and how it is written in a batch; what the server thinks of it is unknown.
"""

from __future__ import annotations

import json as stdlib_json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import quote, urlencode

import msgspec

# RFC 9110 section 9.2.2.
_IDEMPOTENT: Final = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))

# What needs no encoding in a path and its query (RFC 3986); "%" is the sign of what has it.
_SAFE: Final = "%/?#:@!$&'()*+,;=~[]|"

_encode: Final = msgspec.json.Encoder().encode

Params: TypeAlias = Mapping[str, Any] | Sequence[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Operation:
    """
    One operation of a batch.

    Args:
        method: In capitals.
        path: With its query, if it has one.
        id: Its name, unique in its batch; its index, where left out.
        headers: Those that the server lets an operation set.
        params: Added to the query.
        json: The body, as JSON.
        content: The body as it is: text, or bytes.
        timeout: Seconds that the server gives it.
    """

    method: str
    path: str
    id: str | None = field(default=None, kw_only=True)
    headers: Mapping[str, str] | None = field(default=None, kw_only=True)
    params: Params | None = field(default=None, kw_only=True)
    json: Any = field(default=None, kw_only=True)
    content: bytes | str | None = field(default=None, kw_only=True)
    timeout: float | None = field(default=None, kw_only=True)

    def as_wire(self) -> dict[str, Any]:
        """
        The members of the operation as the wire contract has them.
        """
        members: dict[str, Any] = {"method": self.method, "path": _target(self.path, self.params)}
        if self.id is not None:
            members["id"] = self.id
        if self.headers:
            members["headers"] = dict(self.headers)
        if self.timeout is not None:
            members["timeout"] = self.timeout
        if self.json is not None:
            text = stdlib_json.dumps(
                self.json, ensure_ascii=False, allow_nan=False, separators=(",", ":")
            )
            members["body"] = msgspec.Raw(text.encode())
        elif self.content is not None:
            members |= body_of(self.content)
        return members


#: An operation, or its members as the wire contract has them.
AnyOperation: TypeAlias = Operation | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """
    An operation that is ready to be sent.

    Args:
        index: Which of all that were handed over.
        id: The id that it has on the wire.
        wire: Its JSON.
        is_repeatable: Whether running it twice has the effect of running it once.
    """

    index: int
    id: str
    wire: bytes
    is_repeatable: bool


def prepare(operation: AnyOperation, index: int) -> Prepared:
    """
    Write *operation*, which is named by its *index* unless it has a name.
    """
    members = operation.as_wire() if isinstance(operation, Operation) else dict(operation)
    name = members.setdefault("id", str(index))
    headers = members.get("headers")
    has_key = isinstance(headers, Mapping) and "idempotency-key" in map(_lower, headers)
    is_repeatable = has_key or members.get("method") in _IDEMPOTENT
    return Prepared(index, str(name), _encode(members), is_repeatable)


def body_of(content: bytes | str) -> dict[str, Any]:
    """
    The members that carry *content* byte for byte.
    """
    try:
        text = content if isinstance(content, str) else content.decode()
    except UnicodeDecodeError as error:
        return {"body": b64encode(error.object).decode(), "bodyEncoding": "base64"}
    return {"body": text, "bodyEncoding": "text"}


def _target(path: str, params: Params | None) -> str:
    target = quote(path, safe=_SAFE)
    if not params:
        return target
    query = urlencode(params, doseq=True, quote_via=quote)
    return f"{target}{'&' if '?' in target else '?'}{query}"


def _lower(name: object) -> str:
    return str(name).lower()
