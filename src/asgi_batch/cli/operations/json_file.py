"""
Operations in JSON: one on each line, an array, or ``{"operations": […]}``; of any number.

An array is cut into its elements without being parsed as a whole, so that no more is held than one
element.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from asgi_batch.cli.operations.members import operation_of
from asgi_batch.cli.problems import UsageProblem

_BLOCK: Final = 1 << 16
# A longer operation is accepted by no server.
_LONGEST: Final = 1 << 26
# What decides where an element ends: strings, brackets, commas, and all else.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]|,|[^"\[\]{},]+', re.DOTALL)
_START = re.compile(rb'\s*(\[|\{\s*"operations"\s*:\s*\[)')
_BOM: Final = b"\xef\xbb\xbf"


def is_array(start: bytes) -> bool:
    """
    Whether a file that begins with *start* is one document, and not one on each line.
    """
    return _START.match(start.removeprefix(_BOM)) is not None


def read_lines(source: BinaryIO) -> Iterator[dict[str, Any]]:
    """
    The operation on each line of *source*; empty lines are left out.

    Raises:
        UsageProblem: A line is none.
    """
    number = 0
    while line := source.readline(_LONGEST):
        number += 1
        if number == 1:
            line = line.removeprefix(_BOM)
        if not line.isspace():
            yield operation_of(line, f"Line {number}")


def read_array(source: BinaryIO) -> Iterator[dict[str, Any]]:
    """
    The operations of the document in *source*.

    Raises:
        UsageProblem: It is not what it should be.
    """
    for number, element in enumerate(_elements(source)):
        yield operation_of(element, f"Operation {number}")


def _elements(source: BinaryIO) -> Iterator[bytes]:
    """
    The elements of the array in *source*, as they are written.
    """
    text = source.read(_BLOCK).removeprefix(_BOM)
    start = _START.match(text)
    assert start is not None
    position, depth, is_first = start.end(), 0, True
    element = bytearray()
    while True:
        token, position, text = _next_token(source, text, position)
        if not token:
            raise UsageProblem("The array of operations does not end.")
        if depth == 0 and token in (b",", b"]"):
            is_last = token == b"]"
            if element.strip() or not (is_first and is_last):
                yield bytes(element)
            if is_last:
                break
            element.clear()
            is_first = False
            continue
        depth += (token in (b"[", b"{")) - (token in (b"]", b"}"))
        element += token
        if len(element) > _LONGEST:
            raise UsageProblem(f"An operation has more than {_LONGEST >> 20} MiB.")
    _check_end(source, text[position:], is_object=b"{" in start[1])


def _next_token(source: BinaryIO, text: bytes, position: int) -> tuple[bytes, int, bytes]:
    """
    The token at *position*, where it ends, and the text that it is in.
    """
    while True:
        found = _TOKEN.match(text, position)
        if found is not None and found.end() < len(text):
            return found[0], found.end(), text
        # Twice as much each time, so that a long string is not looked at over and over.
        more = source.read(max(_BLOCK, len(text) - position))
        if not more or len(text) - position > _LONGEST:
            return (found[0], found.end(), text) if found is not None else (b"", position, text)
        text, position = text[position:] + more, 0


def _check_end(source: BinaryIO, text: bytes, *, is_object: bool) -> None:
    rest = (text + source.read(_BLOCK)).strip()
    if rest != (b"}" if is_object else b""):
        shown = rest[:40].decode(errors="replace")
        raise UsageProblem(f"There is more after the operations than there should be: {shown}")
