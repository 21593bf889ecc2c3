"""
Which request targets an operation may name; it decides nothing about routes.

A path is accepted only if every router and proxy reads it the same way: no
empty, dot or encoded-separator segments, no parameters, nothing that some
layer might normalise into another path (RELIABILITY T10, T11, T17).
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias
from urllib.parse import unquote_to_bytes

from asgi_batch._core.routes import PLAIN
from asgi_batch._core.rules import Rules

#: A decoded path, the same path as written, and the query as written.
Target: TypeAlias = tuple[str, bytes, bytes]

# Nearly every target is one, without a query.
matches_plain: Final = re.compile(PLAIN).fullmatch

# RFC 3986 section 3.3 pchar without ";", and section 3.4 for the query, where browsers also leave
# "[", "]" and a few more characters as they are.
_PATH_CHARACTERS: Final = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,=:@/;%]*").fullmatch
_QUERY_CHARACTERS: Final = re.compile(r"[!-~]*").fullmatch
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})").search
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]").search


class TargetError(Exception):
    """
    Raised when a target breaks a rule; carries the stable *code* and a sentence.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def parse_target(target: str, rules: Rules, *, is_plain: bool = False) -> Target:
    """
    Split *target* into path and query, and check both.

    Args:
        target: As the client wrote it.
        rules: What it may be.
        is_plain: Whether it is known to match `PLAIN`.

    Raises:
        TargetError: ``invalid_path``, ``invalid_query`` or ``nested_batch``.
    """
    if (is_plain or matches_plain(target) is not None) and len(target) <= rules.max_path_bytes:
        path, raw_path, query = target, target.encode(), b""
    else:
        path, raw_path, query = _parse_unusual(target, rules)
    if path.startswith(rules.batch_path) and _is_batch_path(path, rules.batch_path):
        raise TargetError("nested_batch", "An operation cannot address the batch endpoint itself.")
    return path, raw_path, query


def _parse_unusual(target: str, rules: Rules) -> Target:
    raw_path, _, query = target.partition("?")
    if len(raw_path) > rules.max_path_bytes:
        raise TargetError("invalid_path", f"The path is longer than {rules.max_path_bytes} bytes.")
    if len(query) > rules.max_query_bytes:
        detail = f"The query is longer than {rules.max_query_bytes} bytes."
        raise TargetError("invalid_query", detail)
    path = _decode_path(raw_path, rules)
    _check_query(query)
    return path, raw_path.encode(), query.encode()


def _is_batch_path(path: str, batch_path: str) -> bool:
    return path[len(batch_path) :][:1] in ("", "/")


def _decode_path(raw_path: str, rules: Rules) -> str:
    if not raw_path.startswith("/"):
        raise TargetError(
            "invalid_path", 'The path must start with "/"; a scheme or host is not allowed.'
        )
    if _PATH_CHARACTERS(raw_path) is None:
        raise TargetError(
            "invalid_path", "The path holds a character that must be percent-encoded or left out."
        )
    if _BAD_ESCAPE(raw_path) is not None:
        raise TargetError("invalid_path", 'Each "%" in a path must be followed by two hex digits.')
    try:
        path = unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError:
        raise TargetError(
            "invalid_path", "The percent-encoded bytes of the path must be UTF-8."
        ) from None
    _check_segments(raw_path.lower(), path, lenient=rules.lenient_paths)
    return path


def _check_segments(raw_path: str, path: str, *, lenient: bool) -> None:
    if _CONTROL(path) is not None:
        raise TargetError("invalid_path", "The path encodes a control character.")
    if "\\" in path:
        raise TargetError("invalid_path", "The path encodes a backslash.")
    if any(segment in (".", "..") for segment in _segments(path)):
        raise TargetError("invalid_path", 'The path has a "." or ".." segment.')
    if lenient:
        return
    if "%2f" in raw_path:
        raise TargetError("invalid_path", "The path encodes a slash.")
    if ";" in path:
        raise TargetError("invalid_path", 'The path has a ";" parameter.')
    if "//" in path:
        raise TargetError("invalid_path", "The path has an empty segment.")


def _segments(path: str) -> list[str]:
    return [segment.partition(";")[0] for segment in path.split("/")]


def _check_query(query: str) -> None:
    if _QUERY_CHARACTERS(query) is None or "#" in query:
        raise TargetError(
            "invalid_query", "The query holds a character that must be percent-encoded or left out."
        )
    if _BAD_ESCAPE(query) is not None:
        raise TargetError(
            "invalid_query", 'Each "%" in a query must be followed by two hex digits.'
        )
