"""
Why a document is not a native envelope, in full; it only ever refuses.

The parser stops at the first thing it does not like. Here the same document is read again,
loosely and member by member, so that the client hears of everything at once.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Raw

from asgi_batch._core.rules import Rules
from asgi_batch._problem import Problem
from asgi_batch.dialects._native_checks import Fault, OperationChecks
from asgi_batch.dialects._native_wire import WireOperation
from asgi_batch.dialects._strict_json import has_hidden_members, syntax_error
from asgi_batch.errors import (
    BatchRefused,
    DuplicateKey,
    InvalidBatch,
    JSONTooDeep,
    TooManyOperations,
)

Members: TypeAlias = dict[str, Raw]

_ENVELOPE_MEMBERS: Final = ("operations", "onError", "atomic")
_MEMBERS: Final[dict[str, tuple[msgspec.json.Decoder[Any], str]]] = {
    "method": (msgspec.json.Decoder(str), "a string"),
    "path": (msgspec.json.Decoder(str), "a string"),
    "id": (msgspec.json.Decoder(str), "a string"),
    "headers": (msgspec.json.Decoder(dict[str, str]), "an object whose values are strings"),
    "body": (msgspec.json.Decoder(Raw), "a JSON value"),
    "bodyEncoding": (msgspec.json.Decoder(str), "a string"),
    "timeout": (msgspec.json.Decoder(Raw), "a number"),
}
_decode_value: Final = msgspec.json.Decoder(Raw).decode
_decode_text: Final = msgspec.json.Decoder(str).decode
_decode_object: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_array: Final = msgspec.json.Decoder(list[Raw]).decode

# What only helps to phrase a refusal must not cost more than the refusal itself.
_MEMBER_NAME: Final = re.compile(rb'"([^"\\]*+)"\s*+:').finditer
_SEARCHED_BYTES: Final = 64 * 1024
_MAX_UNKNOWN: Final = 5
_SHOWN_NAME: Final = 64

# A slice costs more memory than the bytes it stands for. A refused document with more commas than
# any sensible one is told of its first problem only.
_MAX_COMMAS: Final = 200_000


def explain(document: bytes, error: msgspec.DecodeError, rules: Rules) -> BatchRefused:
    """
    The refusal that tells a client all that is wrong with *document*.

    Args:
        document: What was received.
        error: Where the parser stopped.
        rules: The bounds to check the operations against.
    """
    try:
        _decode_value(document)
        if document.count(b",") > _MAX_COMMAS:
            return invalid([_envelope_problem("", f"{error}.")], None, rules)
        return _explain_members(document, rules)
    except msgspec.DecodeError as syntax:
        return syntax_error(document, syntax)
    except RecursionError:
        return too_deep(rules)
    except BatchRefused as refusal:
        return refusal


def too_deep(rules: Rules) -> JSONTooDeep:
    """
    The refusal of a document that nests more than its parser can follow.
    """
    return JSONTooDeep(f"The body nests more than {rules.max_json_depth} arrays and objects.")


def check_hidden_members(document: bytes) -> None:
    """
    Look for members that a valid envelope names twice or in a hidden spelling.

    Raises:
        DuplicateKey: There is one.
    """
    envelope = _members_of(document, "")
    for index, source in enumerate(_decode_array(envelope["operations"])):
        operation = _members_of(source, f"/operations/{index}")
        if "headers" in operation:
            _members_of(operation["headers"], f"/operations/{index}/headers")


def check_on_error(value: object) -> list[Problem]:
    """
    The problem that *value* is for ``onError``, if it is one.
    """
    if value in ("continue", "stop"):
        return []
    return [_envelope_problem("/onError", 'onError must be "continue" or "stop".')]


def check_atomic(value: object, on_error: object) -> list[Problem]:
    """
    The problems that *value* is for ``atomic``, beside that ``onError``.
    """
    if value not in (True, False):
        return [_envelope_problem("/atomic", "atomic must be true or false.")]
    if value and on_error == "continue":
        detail = "An atomic batch ends with the first failure; leave onError out."
        return [_envelope_problem("/onError", detail)]
    return []


def _explain_members(document: bytes, rules: Rules) -> BatchRefused:
    try:
        envelope = _members_of(document, "")
    except msgspec.ValidationError:
        detail = 'The body must be an object: {"operations": […]}.'
        return invalid([_envelope_problem("", detail)], None, rules)
    problems = [
        Problem(code=code, detail=detail, pointer=place)
        for place, code, detail in _unknown_members(envelope, _ENVELOPE_MEMBERS)
    ]
    if "onError" in envelope:
        problems += check_on_error(_text_or_none(envelope["onError"]))
    if "atomic" in envelope:
        wish = {b"true": True, b"false": False}.get(bytes(envelope["atomic"]))
        problems += check_atomic(wish, _text_or_none(envelope.get("onError", Raw(b"null"))))
    try:
        sources = _decode_array(envelope.get("operations", b"null"))
    except msgspec.ValidationError:
        detail = "operations is required; it must be an array."
        problems.append(_envelope_problem("/operations", detail))
        return invalid(problems, None, rules)
    if len(sources) > rules.max_operations:
        return too_many(len(sources), rules)
    checks = OperationChecks(rules)
    checks.problems += problems
    for index, source in enumerate(sources):
        _explain_operation(index, source, checks)
    if not sources:
        checks.problems.append(no_operations())
    return invalid(checks.problems, len(sources), rules)


def _explain_operation(index: int, source: Raw, checks: OperationChecks) -> None:
    pointer = f"/operations/{index}"
    try:
        members = _members_of(source, pointer)
    except msgspec.ValidationError:
        detail = "An operation must be an object with method and path."
        problem = Problem(code="invalid_operation", detail=detail, pointer=pointer, index=index)
        checks.problems.append(problem)
        return
    values: dict[str, Any] = {}
    faulty = _unknown_members(members, tuple(_MEMBERS))
    for name, (decoder, expected) in _MEMBERS.items():
        if name in members:
            try:
                values[name] = decoder.decode(members[name])
            except msgspec.ValidationError:
                faulty.append((f"/{name}", "invalid_operation", f"{name} must be {expected}."))
    if "headers" in values:
        _members_of(members["headers"], f"{pointer}/headers")
    checks.check(index, WireOperation(**values), faulty)


def _members_of(source: bytes | Raw, pointer: str) -> Members:
    members = _decode_object(source)
    if has_hidden_members(source, members):
        where = pointer or "the body"
        if (name := _repeated_name(bytes(source), members)) is not None:
            raise DuplicateKey(f'In {where}, "{name}" is there twice.')
        raise DuplicateKey(
            f"In {where}, a name is there twice or spelled with escapes; write each once, plainly."
        )
    return members


def _repeated_name(source: bytes, members: Members) -> str | None:
    seen: set[str] = set()
    for match in _MEMBER_NAME(source[:_SEARCHED_BYTES]):
        name = match[1].decode(errors="replace")
        if name in seen and name in members:
            return name
        seen.add(name)
    return None


def _unknown_members(members: Members, known: Collection[str]) -> list[Fault]:
    unknown = [name for name in members if name not in known]
    faults: list[Fault] = [
        (f"/{_escaped(name)}", "unknown_field", f"This member is not known.{_hint(name, known)}")
        for name in unknown[:_MAX_UNKNOWN]
    ]
    if (more := len(unknown) - _MAX_UNKNOWN) > 0:
        detail = f"{more} more members are not known. Known are {', '.join(known)}."
        faults.append(("", "unknown_field", detail))
    return faults


def _hint(name: str, known: Collection[str]) -> str:
    close = get_close_matches(name[:_SHOWN_NAME], known, n=1)
    return f" Did you mean {close[0]}?" if close else f" Known are {', '.join(known)}."


def _escaped(name: str) -> str:
    return name[:_SHOWN_NAME].replace("~", "~0").replace("/", "~1")


def _text_or_none(source: Raw) -> str | None:
    try:
        return _decode_text(source)
    except msgspec.ValidationError:
        return None


def _envelope_problem(pointer: str, detail: str) -> Problem:
    return Problem(code="invalid_operation", detail=detail, pointer=pointer)


def no_operations() -> Problem:
    """
    The problem of an empty batch.
    """
    detail = "A batch must have at least one operation."
    return Problem(code="empty_batch", detail=detail, pointer="/operations")


def too_many(count: int | None, rules: Rules) -> TooManyOperations:
    """
    The refusal of a batch of *count* operations; None where nobody has counted to the end.
    """
    limit = rules.max_operations
    number = f"more than {limit}" if count is None else count
    detail = f"The batch has {number} operations; send at most {limit} in one request."
    return TooManyOperations(detail, limits={"maxOperations": limit})


def invalid(problems: list[Problem], total: int | None, rules: Rules) -> InvalidBatch:
    """
    The refusal that lists *problems*.
    """
    return InvalidBatch(problems, total=total, shown=rules.max_problems)
