"""
The lines of a log, a block at a time: from a file, a compressed one, or standard input.

Holds one block at a time, also of a file that is one endless line.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final, cast

from asgi_batch.cli.problems import UsageProblem

_BLOCK: Final = 1 << 18
_LONGEST_LINE: Final = 1 << 16
_GZIP: Final = b"\x1f\x8b"


def blocks_of(name: str) -> Iterator[tuple[list[str], int]]:
    """
    The lines of the file *name*, block by block, and how many bytes of the file are behind them.

    Args:
        name: A path, or ``-`` for standard input.

    Raises:
        UsageProblem: It cannot be read.
    """
    try:
        if name == "-":
            yield from _blocks(sys.stdin.buffer, sys.stdin.buffer)
            return
        with open(name, "rb") as file:  # noqa: PTH123
            is_packed = file.read(2) == _GZIP
            file.seek(0)
            source = cast("BinaryIO", gzip.GzipFile(fileobj=file)) if is_packed else file
            yield from _blocks(source, file)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageProblem(f"{name} cannot be read: {reason}.") from error


def _blocks(source: BinaryIO, file: BinaryIO) -> Iterator[tuple[list[str], int]]:
    rest = b""
    is_skipping = False
    while block := source.read(_BLOCK):
        *lines, rest = (rest + block).split(b"\n")
        if is_skipping and lines:
            del lines[0]
            is_skipping = False
        if len(rest) > _LONGEST_LINE:
            rest = b""
            is_skipping = True
        yield _decoded(lines), _position(file)
    if rest and not is_skipping:
        yield _decoded([rest]), _position(file)


def _decoded(lines: list[bytes]) -> list[str]:
    return b"\n".join(lines).decode(errors="replace").split("\n") if lines else []


def _position(file: BinaryIO) -> int:
    return file.tell() if file.seekable() else 0
