"""
Goes through a source tree, and asks of each file what it sends in loops.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from asgi_batch.cli.code import javascript, python
from asgi_batch.cli.code.reach import Function, in_loops
from asgi_batch.cli.finding import CodeFinding

_SUFFIXES: Final = {".py", *javascript.SUFFIXES}
# What others have written, or a program has.
_LEFT_OUT: Final = frozenset(
    "node_modules bower_components site-packages __pycache__ venv dist build vendor".split()
)
# Without one of these words there is nothing to be found, and no need to parse.
_CLIENT: Final = re.compile(rb"requests|httpx|aiohttp|fetch|axios")
# What is larger was not written by hand.
_LARGEST: Final = 2 * 1024 * 1024


@dataclass(slots=True)
class Tree:
    """
    What was found in a tree.

    Args:
        files: Files that were read.
        unreadable: Files that could be read in part, or not at all; from the root of the tree.
        findings: Those within most loops first.
    """

    files: int = 0
    unreadable: list[str] = field(default_factory=list)
    findings: list[CodeFinding] = field(default_factory=list)


def scan_tree(folder: Path) -> Tree:
    """
    Read each source file below *folder*; hidden folders and those of packages are left out.
    """
    tree = Tree()
    for file in _sources(folder):
        tree.files += 1
        name = file.relative_to(folder).as_posix()
        try:
            source = file.read_bytes()
            if not _CLIENT.search(source):
                continue
            if file.suffix == ".py":
                functions, is_whole = python.functions_of(source), True
            else:
                functions, is_whole = javascript.functions_of(source, file.suffix)
            tree.findings.extend(_findings(source, name, functions))
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            is_whole = False
        if not is_whole:
            tree.unreadable.append(name)
    tree.findings.sort(key=lambda each: (-each.depth, each.file, each.line))
    return tree


def _sources(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if name not in _LEFT_OUT and not name.startswith(".")
        )
        for file in (Path(root, name) for name in sorted(names)):
            is_source = file.suffix in _SUFFIXES and ".min." not in file.name
            if is_source and file.is_file() and file.stat().st_size <= _LARGEST:
                yield file


def _findings(
    source: bytes, name: str, functions: Mapping[object, Function]
) -> Iterator[CodeFinding]:
    lines = source.split(b"\n")
    for send, call, loops in in_loops(functions):
        line = send.line if call is None else call.line
        yield CodeFinding(
            file=name,
            line=line,
            method=send.method,
            template=send.template,
            client=send.client,
            loop=loops[-1].kind,
            depth=len(loops),
            through=None if call is None else call.name,
            source=lines[line - 1].decode(errors="replace").strip(),
        )
