"""What an operation of the native envelope must look like; problems are noted, not raised."""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import UNSET, Raw, UnsetType

from asgi_batch._core.headers import check_headers, encode_headers
from asgi_batch._core.models import NO_HEADERS, NO_NAMES, HeaderPairs, Operation
from asgi_batch._core.paths import Target, TargetError, matches_plain, parse_target
from asgi_batch._core.routes import Matches, Routes
from asgi_batch._core.rules import Rules
from asgi_batch._problem import Problem
from asgi_batch.dialects._native_wire import WireOperation
from asgi_batch.dialects._strict_json import depth
from asgi_batch.errors import InvalidJSON, JSONTooDeep

#: A JSON pointer from the operation down, a code and a sentence.
Fault: TypeAlias = tuple[str, str, str]

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

#: It says nothing about whether there is such a route.
NOT_ALLOWED: Final = "Batches may not send this method to this path; send the request by itself."

_METHODS: Final = frozenset(METHODS)
_MAX_ID: Final = 128
_EXPECT_CONTENT: Final = frozenset(("POST", "PUT", "PATCH"))
_NO_CONTENT: Final = ((b"content-length", b"0"),)
_MEDIA_TYPES: Final = {
    "json": b"application/json",
    "text": b"text/plain; charset=utf-8",
    "base64": b"application/octet-stream",
}
_NOT_BASE64: Final = "body is not base64 (RFC 4648 section 4, with padding)."
_NUMBER_STARTS: Final = tuple(b"%c" % byte for byte in b"-0123456789")
_decode_string: Final = msgspec.json.Decoder(str).decode
_decode_number: Final = msgspec.json.Decoder(float).decode


class OperationChecks:
    """
    Turns the operations of one envelope into `Operation`s and gathers what is wrong with them.

    Each ``_read_…`` method returns the usable value of a member, or notes a problem and returns
    a value that nobody will use.
    """

    def __init__(self, rules: Rules) -> None:
        self.problems: list[Problem] = []
        self._rules = rules
        self._plain = _plain_paths(rules)
        self._indexes: dict[str, int] = {}

    def check(
        self, index: int, wire: WireOperation, faulty: Collection[Fault] = ()
    ) -> Operation | None:
        """
        The operation that *wire* describes, or None after noting what is wrong with it; *faulty*
        is what is wrong with members that *wire* cannot hold.

        Raises:
            JSONTooDeep: The body nests too many arrays and objects.
            InvalidJSON: The timeout is a number that no float can hold.
        """
        problems = len(self.problems)
        name = str(index) if wire.id is UNSET else wire.id
        is_new = self._indexes.setdefault(name, index) == index
        if not (is_new and name.isprintable() and 0 < len(name) <= _MAX_ID):
            name = self._reject_id(index, name)
        for place, code, detail in faulty:
            self._note_at(place, index, name, code, detail)
        method = wire.method
        if method not in _METHODS and not _is_faulty("/method", faulty):
            self._note(index, name, "method", "method_not_allowed", _method_detail(method))
        target = self._read_path(index, name, wire, faulty)
        headers, replaces, timeout = NO_HEADERS, NO_NAMES, None
        if wire.headers is not UNSET:
            headers, replaces = self._read_headers(index, name, wire.headers)
        if wire.timeout is not UNSET:
            timeout = self._read_timeout(index, name, wire.timeout)
        body: bytes | Raw = b""
        if wire.body is not UNSET or wire.bodyEncoding is not UNSET:
            body, media_type = self._read_body(index, name, wire)
            headers += _framing(len(body), None if b"content-type" in replaces else media_type)
        elif method in _EXPECT_CONTENT:
            headers += _NO_CONTENT
        if len(self.problems) > problems or target is None or method is UNSET:
            return None
        path, raw, query = target
        return Operation(index, name, method, path, raw, query, headers, replaces, body, timeout)

    def _note(self, index: int, name: str, member: str, code: str, detail: str) -> None:
        self._note_at(f"/{member}", index, name, code, detail)

    def _note_at(self, place: str, index: int, name: str, code: str, detail: str) -> None:
        pointer = f"/operations/{index}{place}"
        self.problems.append(
            Problem(code=code, detail=detail, pointer=pointer, index=index, id=name)
        )

    def _reject_id(self, index: int, name: str) -> str:
        if not _is_id(name):
            name = str(index)
            detail = f"An id must have 1 to {_MAX_ID} printable characters."
            self._note(index, name, "id", "invalid_operation", detail)
        else:
            detail = f"Operation {self._indexes[name]} has this id already; ids must be unique."
            self._note(index, name, "id", "duplicate_id", detail)
        return name

    def _read_path(
        self, index: int, name: str, wire: WireOperation, faulty: Collection[Fault]
    ) -> Target | None:
        if wire.path is UNSET:
            if not _is_faulty("/path", faulty):
                self._note(index, name, "path", "invalid_operation", "path is required.")
            return None
        matches = self._plain.get(wire.method)
        is_plain = matches is not None and matches(wire.path) is not None
        try:
            target = parse_target(wire.path, self._rules, is_plain=is_plain)
        except TargetError as error:
            self._note(index, name, "path", error.code, error.detail)
            return None
        routes = self._rules.routes
        if routes is not None and not is_plain and wire.method in _METHODS:
            path, raw, _ = target
            if not routes.permit(wire.method, path, raw, self._rules.root_path):
                self._note(index, name, "path", "path_not_allowed", NOT_ALLOWED)
        return target

    def _read_headers(
        self, index: int, name: str, given: dict[str, str]
    ) -> tuple[HeaderPairs, frozenset[bytes]]:
        sound = True
        for error in check_headers(given, self._rules):
            sound = False
            member = f"headers/{_escape(error.name)}" if error.name else "headers"
            self._note(index, name, member, error.code, error.detail)
        headers = encode_headers(given) if sound else NO_HEADERS
        return headers, frozenset(key for key, _ in headers)

    def _read_timeout(self, index: int, name: str, given: Raw) -> float | None:
        limit = self._rules.operation_timeout
        try:
            timeout = _decode_number(given)
        except msgspec.ValidationError:
            if bytes(given)[:1] in _NUMBER_STARTS:
                detail = f"The timeout of operation {index} is a number out of range."
                raise InvalidJSON(detail) from None
            timeout = 0
        if 0 < timeout <= limit:
            return timeout
        detail = f"timeout must be a number of seconds above 0 and at most {limit:g}."
        self._note(index, name, "timeout", "invalid_operation", detail)
        return None

    def _read_body(self, index: int, name: str, wire: WireOperation) -> tuple[bytes | Raw, bytes]:
        encoding = "json" if wire.bodyEncoding is UNSET else wire.bodyEncoding
        media_type = _MEDIA_TYPES.get(encoding)
        if media_type is None:
            media_type = b""
            detail = "bodyEncoding must be json, text or base64."
            self._note(index, name, "bodyEncoding", "invalid_operation", detail)
        body: bytes | Raw = b""
        if wire.body is UNSET:
            detail = "bodyEncoding says how body is written, and there is no body."
            self._note(index, name, "bodyEncoding", "invalid_operation", detail)
        elif encoding == "json":
            body = wire.body
            # Each level takes two bytes, so that small bodies need not be looked at.
            if len(body) > 2 * self._rules.max_json_depth:
                self._check_depth(index, body)
        elif encoding in _MEDIA_TYPES:
            body = self._decode_text(index, name, wire.body, encoding)
        if len(body) > self._rules.max_operation_bytes:
            limit = self._rules.max_operation_bytes
            detail = f"The body has {len(body)} bytes; an operation may send {limit}."
            self._note(index, name, "body", "operation_too_large", detail)
        return body, media_type

    def _decode_text(self, index: int, name: str, given: Raw, encoding: str) -> bytes:
        try:
            text = _decode_string(given)
            if encoding == "text":
                return text.encode()
            if len(text) % 4 == 0:
                return a2b_base64(text, strict_mode=True)
            detail = _NOT_BASE64
        except msgspec.DecodeError:
            detail = f"With bodyEncoding {encoding}, body must be a string."
        except ValueError:
            detail = _NOT_BASE64
        self._note(index, name, "body", "invalid_operation", detail)
        return b""

    def _check_depth(self, index: int, body: Raw) -> None:
        limit = self._rules.max_json_depth
        content = bytes(body)
        if content.count(b"[") + content.count(b"{") > limit and depth(content) > limit:
            raise JSONTooDeep(
                f"The body of operation {index} nests more than {limit} arrays and objects."
            )


def route_problems(operations: Iterable[Operation], routes: Routes, root: str) -> Iterator[Problem]:
    """
    What is wrong with the routes of *operations*.
    """
    for each in operations:
        if not routes.permit(each.method, each.path, each.raw_path, root):
            place = f"/operations/{each.index}/path"
            yield Problem(
                code="path_not_allowed",
                detail=NOT_ALLOWED,
                pointer=place,
                index=each.index,
                id=each.id,
            )


def _plain_paths(rules: Rules) -> dict[Any, Matches]:
    """
    By method, what matches paths that need no other look at their route.
    """
    # What stands behind a root path is another path, plain or not.
    if rules.routes is None:
        return dict.fromkeys(METHODS, matches_plain)
    return {} if rules.root_path else rules.routes.plain


@lru_cache(maxsize=1024)
def _framing(length: int, media_type: bytes | None) -> HeaderPairs:
    pair = (b"content-length", b"%d" % length)
    return (pair,) if media_type is None else ((b"content-type", media_type), pair)


def _is_faulty(place: str, faulty: Collection[Fault]) -> bool:
    return any(fault[0] == place for fault in faulty)


def _is_id(name: str) -> bool:
    return 0 < len(name) <= _MAX_ID and name.isprintable()


def _method_detail(method: str | UnsetType) -> str:
    allowed = ", ".join(METHODS)
    if method is UNSET:
        return f"method is required; it must be one of {allowed}."
    return f"method must be one of {allowed}, in capitals."


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
