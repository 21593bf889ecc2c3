"""The members of the native envelope, typed as its parser sees them; it judges no value."""

from __future__ import annotations

import itertools
from types import GenericAlias
from typing import Final, TypeAlias

import msgspec
from msgspec import UNSET, Raw, UnsetType

from asgi_batch.dialects._strict_json import solid_size

Text: TypeAlias = str | UnsetType


class WireOperation(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """
    One element of ``operations``. *body* and *timeout* stay as the client wrote them.
    """

    method: Text = UNSET
    path: Text = UNSET
    id: Text = UNSET
    headers: dict[str, str] | UnsetType = UNSET
    body: Raw | UnsetType = UNSET
    bodyEncoding: Text = UNSET
    timeout: Raw | UnsetType = UNSET


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """
    The whole document.
    """

    operations: list[WireOperation]
    onError: Text = UNSET
    atomic: bool | UnsetType = UNSET


decode_envelope: Final = msgspec.json.Decoder(Envelope).decode

# Objects per operation from which on a document is looked at before it is taken apart.
_MANY_OBJECTS: Final = 8


class _Enough(Exception):
    """Raised to stop the parser."""


def has_far_too_many(document: bytes, limit: int) -> bool:
    """
    Whether *document* has so many operations above *limit* that they had better not be parsed.

    A parsed operation takes many times the bytes of its source.
    """
    if document.count(b"{") <= _MANY_OBJECTS * limit:
        return False
    counter = itertools.count(1)

    def count(_operation: object) -> None:
        if next(counter) > limit:
            raise _Enough

    # Types without members, so that the parser keeps nothing of what it reads.
    operation = msgspec.defstruct("Counted", (), namespace={"__post_init__": count})
    envelope = msgspec.defstruct("Envelope", [("operations", GenericAlias(list, (operation,)))])
    try:
        msgspec.json.decode(document, type=envelope)
    except _Enough:
        return True
    except (msgspec.DecodeError, RecursionError):
        return False
    return False


# The bytes that a member adds to its own text, comma included.
_LIST: Final = len('{"operations":[]}')
_ON_ERROR: Final = len('"onError":"",')
_ATOMIC: Final = {True: len('"atomic":true,'), False: len('"atomic":false,'), UNSET: 0}
_REQUIRED: Final = len('{"method":"","path":""},')
_ID: Final = len('"id":"",')
_BODY: Final = len('"body":,')
_BODY_ENCODING: Final = len('"bodyEncoding":"",')
_TIMEOUT: Final = len('"timeout":,')
_HEADERS: Final = len('"headers":{},')
_HEADER: Final = len('"":"",')


def accounted_size(envelope: Envelope) -> int:
    """
    The solid bytes of the shortest document that says what *envelope* says.

    A longer document has a member that another of the same name replaced, or spells characters
    with escapes or beyond ASCII; `has_hidden_members` tells which. Operations without a method
    or a path are counted as if they had them: they are refused anyway.
    """
    texts: list[str] = []
    values: list[Raw] = []
    size = _LIST + _REQUIRED * len(envelope.operations) - bool(envelope.operations)
    size += _ATOMIC[envelope.atomic]
    if not isinstance(envelope.onError, UnsetType):
        texts.append(envelope.onError)
        size += _ON_ERROR
    for operation in envelope.operations:
        texts += operation.method or "", operation.path or ""
        if operation.id is not UNSET:
            texts.append(operation.id)
            size += _ID
        if operation.body is not UNSET:
            values.append(operation.body)
            size += _BODY
        if operation.headers is not UNSET:
            texts += operation.headers
            texts += operation.headers.values()
            size += _HEADERS + _HEADER * len(operation.headers) - bool(operation.headers)
        if operation.bodyEncoding is not UNSET:
            texts.append(operation.bodyEncoding)
            size += _BODY_ENCODING
        if operation.timeout is not UNSET:
            values.append(operation.timeout)
            size += _TIMEOUT
    return size + solid_size("".join(texts).encode()) + sum(map(solid_size, values))
