"""
The library's own wire contract: a JSON array of operations in, results and a summary out.

It turns bytes into a `Batch`, or raises one refusal that names every problem; it runs nothing.
The contract itself is written down in docs/reference.md.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Final, cast

import msgspec
import orjson

from asgi_batch._core.headers import exposed_headers
from asgi_batch._core.media_types import JSON, OTHER, PLAIN_JSON, TEXT, kind_of
from asgi_batch._core.models import Batch, Operation, Result, Summary
from asgi_batch._core.rules import Rules
from asgi_batch.dialects._native_checks import OperationChecks, route_problems
from asgi_batch.dialects._native_refusal import (
    check_atomic,
    check_hidden_members,
    check_on_error,
    explain,
    invalid,
    no_operations,
    too_deep,
    too_many,
)
from asgi_batch.dialects._native_wire import accounted_size, decode_envelope, has_far_too_many
from asgi_batch.dialects._strict_json import check_unicode, depth, is_utf8, solid_size
from asgi_batch.errors import AtomicNotSupported, AtomicRequired

_encode: Final = msgspec.json.Encoder().encode

# Nearly every result: JSON, and no header to show but that it is.
_PLAIN_RESULT: Final = b'{"id":%b,"status":%d,"result":%b}'
_PLAIN_ERROR: Final = b'{"id":%b,"status":%d,"error":%b}'

# Readers give up at some depth, Python's own at about a thousand, and the answer adds to it.
_MAX_RESULT_DEPTH: Final = 500


def decode(document: bytes, rules: Rules) -> Batch:
    """
    The batch that *document* describes.

    Raises:
        BatchRefused: It does not describe one; the subclass says why.
    """
    check_unicode(document)
    if has_far_too_many(document, rules.max_operations):
        raise too_many(None, rules)
    try:
        envelope = decode_envelope(document)
        total = len(envelope.operations)
        if total > rules.max_operations:
            raise too_many(total, rules)
        if solid_size(document) != accounted_size(envelope):
            check_hidden_members(document)
    except msgspec.DecodeError as error:
        raise explain(document, error, rules) from None
    except RecursionError:
        raise too_deep(rules) from None
    checks = OperationChecks(rules)
    if envelope.onError is not msgspec.UNSET:
        checks.problems += check_on_error(envelope.onError)
    if envelope.atomic is not msgspec.UNSET:
        checks.problems += check_atomic(envelope.atomic, envelope.onError)
    if not total:
        checks.problems.append(no_operations())
    operations = [checks.check(index, wire) for index, wire in enumerate(envelope.operations)]
    if checks.problems:
        raise invalid(checks.problems, total, rules)
    is_atomic = _is_atomic(envelope.atomic, rules)
    stops = is_atomic or envelope.onError == "stop"
    return Batch(cast("list[Operation]", operations), stops, is_atomic)


def _is_atomic(wish: bool | msgspec.UnsetType, rules: Rules) -> bool:
    if wish is True and rules.atomic == "never":
        raise AtomicNotSupported("Batches cannot be atomic here; nothing was executed.")
    if wish is False and rules.atomic == "always":
        raise AtomicRequired("All batches are atomic here; leave atomic out.")
    return wish is True or rules.atomic == "always"


def check_routes(operations: Sequence[Operation], rules: Rules) -> None:
    """
    See that rules which may be newer than *operations* let them through.

    Raises:
        InvalidBatch: They do not.
    """
    if rules.routes is None:
        return
    if problems := list(route_problems(operations, rules.routes, rules.root_path)):
        raise invalid(problems, len(operations), rules)


def encode_result(exposed: Mapping[bytes, bytes], result: Result) -> bytes:
    """
    The JSON object that tells a client how one operation ended.

    Args:
        exposed: Names of the app's headers to show, for `exposed_headers`.
        result: How it ended.
    """
    name = _encode(result.operation.id)
    headers, body, status = exposed_headers(result.headers, exposed), result.body, result.status
    kind = kind_of(headers.get(b"content-type", b""))
    if kind == PLAIN_JSON and body and len(headers) == 1 and _is_valid_json(body):
        return (_PLAIN_RESULT if status < 400 else _PLAIN_ERROR) % (name, status, body)
    head = b'{"id":%b,"status":%d' % (name, status)
    if result.failure is not None:
        return b'%b,"error":%b,"source":"batch"}' % (head, _failure(result))
    value, encoding = _embed(body, kind, b"content-encoding" in headers)
    if value:
        head += (b',"result":' if status < 400 else b',"error":') + value
    if encoding:
        head = b'%b,"encoding":"%b"' % (head, encoding)
    hides_type = kind == PLAIN_JSON and not encoding
    if len(headers) > hides_type:
        shown = {
            name.decode(): text.decode("latin-1")
            for name, text in headers.items()
            if not (hides_type and name == b"content-type")
        }
        head = b'%b,"headers":%b' % (head, _encode(shown))
    return head + b"}"


def encode_limits(limits: Mapping[str, float]) -> bytes:
    """
    Bounds that a client has to keep to, by their names, which are written as JSON writes them.
    """
    return _encode({"limits": {_camel(name): number for name, number in limits.items()}})


def encode_answer(results: list[bytes], summary: Summary) -> list[bytes]:
    """
    The parts of the answer to a batch, in order; *results* are of `encode_result`.
    """
    parts = [b","] * (2 * len(results) + 1)
    parts[1::2] = results
    parts[0], parts[-1] = b'{"results":[', b'],"summary":%b}' % _encode(summary)
    return parts


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _failure(result: Result) -> bytes:
    assert result.failure is not None
    error = {"code": result.failure.code, "detail": result.failure.detail}
    if result.error_id is not None:
        error["errorId"] = result.error_id
    return _encode(error)


def _embed(body: bytes, kind: int, is_encoded: bool) -> tuple[bytes, bytes]:
    """
    *body* as a JSON value, and the name of its encoding where a reader must know it.

    There are four cases:

    1. No body: no value at all, so that it cannot be mistaken for JSON null.
    2. Valid JSON that is declared as such: itself.
    3. Text: a string; marked as text where JSON was declared.
    4. Anything else: base64.
    """
    if not body:
        return b"", b""
    if is_encoded:
        kind = OTHER
    if kind in (PLAIN_JSON, JSON):
        if _is_valid_json(body):
            return body, b""
        if is_utf8(body):
            return _encode(body.decode()), b"text"
    elif kind == TEXT and is_utf8(body):
        return _encode(body.decode()), b""
    return _encode(b64encode(body).decode()), b"base64"


def _is_valid_json(body: bytes) -> bool:
    """
    Whether every reader of the answer will be able to read *body* in the middle of it.

    orjson refuses what some parsers take and others choke on: numbers beyond any float, NaN,
    half surrogate pairs.
    """
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    if len(body) <= 2 * _MAX_RESULT_DEPTH:
        return True
    brackets = body.count(b"[") + body.count(b"{")
    return brackets <= _MAX_RESULT_DEPTH or depth(body) <= _MAX_RESULT_DEPTH
