"""
A result as one line of NDJSON, in the form that the wire contract gives it.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Final

import msgspec

from asgi_batch._core.media_types import JSON, PLAIN_JSON, TEXT, kind_of
from asgi_batch.client import Result

_encode: Final = msgspec.json.Encoder().encode


def line_of(result: Result) -> bytes:
    """
    *result* on a line of its own.
    """
    members: dict[str, Any] = {"id": result.id, "status": result.status}
    if result.content:
        members["result" if result.is_success else "error"], encoding = _body(result)
        if encoding:
            members["encoding"] = encoding
    if result.headers:
        members["headers"] = dict(result.headers)
    if result.source != "app":
        members["source"] = result.source
    return _encode(members) + b"\n"


def _body(result: Result) -> tuple[Any, str]:
    """
    The body, and what has to be told of its form.
    """
    kind = kind_of(result.headers.get("content-type", "application/json").encode())
    is_packed = "content-encoding" in result.headers
    if kind in (JSON, PLAIN_JSON) and not is_packed:
        try:
            # A body that is written over several lines would end this one.
            return msgspec.Raw(msgspec.json.format(result.content, indent=-1)), ""
        except msgspec.DecodeError:
            return _text(result.content, "text")
    return _text(result.content, "") if kind == TEXT and not is_packed else _base64(result.content)


def _text(content: bytes, encoding: str) -> tuple[str, str]:
    try:
        return content.decode(), encoding
    except UnicodeDecodeError:
        return _base64(content)


def _base64(content: bytes) -> tuple[str, str]:
    return b64encode(content).decode(), "base64"
