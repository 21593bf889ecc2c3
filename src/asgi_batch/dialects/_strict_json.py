"""
Checks on a JSON document that its parser does not make; it knows nothing about batches.

msgspec parses strictly (RFC 8259: no NaN, no comments, no BOM, nothing after the end), but it
does not look at the bytes of what it only slices, and it keeps the last of two equal names.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from itertools import accumulate
from typing import Final, TypeAlias

import msgspec

from asgi_batch.errors import InvalidJSON, InvalidUnicode

Members: TypeAlias = Mapping[str, msgspec.Raw]

_WHITE_SPACE: Final = b" \t\r\n"
_CHUNK: Final = 64 * 1024
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_TO_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_FAST_ROUNDS: Final = 4

# Only the code of a refusal hangs on it, so it must not cost more than the refusal itself.
_SEARCHED_BYTES: Final = 1024 * 1024
_HALF_PAIR: Final = re.compile(
    rb"(?<!\\)(?:\\\\)*+(?:"
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|"
    rb"(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F])"
).search


def check_unicode(document: bytes) -> None:
    """
    Make sure that *document* is UTF-8 without a byte order mark.

    Raises:
        InvalidJSON: It starts with a byte order mark.
        InvalidUnicode: It is not UTF-8.
    """
    if document.startswith(codecs.BOM_UTF8):
        raise InvalidJSON("The body starts with a byte order mark; send UTF-8 without one.")
    if not is_utf8(document) or b"\0" in document[:4]:
        raise InvalidUnicode("The body is not UTF-8; other encodings are not accepted.")


def is_utf8(data: bytes) -> bool:
    """
    Whether *data* is UTF-8 as RFC 3629 has it, so without surrogates.
    """
    if data.isascii():
        return True
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(data)
    try:
        # In chunks, because one character beyond U+FFFF makes a str four times its ASCII size.
        for start in range(0, len(view), _CHUNK):
            decoder.decode(view[start : start + _CHUNK])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def syntax_error(document: bytes, error: msgspec.DecodeError) -> InvalidJSON | InvalidUnicode:
    """
    What msgspec's *error* about *document* means to a client.
    """
    if _HALF_PAIR(document, 0, _SEARCHED_BYTES) is not None:
        return InvalidUnicode("A string escapes half of a surrogate pair.")
    reason = str(error).removeprefix("JSON is malformed: ")
    return InvalidJSON(f"The body is not valid JSON: {reason[:1].lower()}{reason[1:]}.")


def solid_size(data: bytes | msgspec.Raw) -> int:
    """
    The number of bytes in *data* that are not JSON white space.
    """
    content = bytes(data)
    if len(content) <= _CHUNK:
        return len(content.translate(None, _WHITE_SPACE))
    chunks = (content[start : start + _CHUNK] for start in range(0, len(content), _CHUNK))
    return sum(len(chunk.translate(None, _WHITE_SPACE)) for chunk in chunks)


def has_hidden_members(source: bytes | msgspec.Raw, members: Members) -> bool:
    """
    Whether the JSON object *source* says more than its *members* do.

    A parsed object accounts for every solid byte of its source: names, values, quotes, colons,
    commas and braces. Whatever is left over belongs to a member that another of the same name
    has replaced, or to a name that is spelled with escapes.
    """
    values = sum(map(solid_size, members.values()))
    names = sum(solid_size(name.encode()) + len('"":') for name in members)
    commas = max(len(members) - 1, 0)
    return solid_size(source) != len("{}") + names + values + commas


def depth(value: bytes) -> int:
    """
    How many arrays and objects the valid JSON *value* nests in one another.
    """
    steps = _STRING.sub(b"", value).translate(_TO_STEPS, _NOT_BRACKETS)
    # Most brackets belong to flat values: each round takes the innermost level off at once.
    rounds = 0
    while steps and rounds < _FAST_ROUNDS:
        steps = steps.replace(b"\x01\xff", b"")
        rounds += 1
    return rounds + max(accumulate(memoryview(steps).cast("b")), default=0)
