"""
Where operations come from: a file, which can be read again, or standard input, which cannot.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, cast

from asgi_batch.cli.operations.csv_file import Mapped, read_csv
from asgi_batch.cli.operations.json_file import is_array, read_array, read_lines
from asgi_batch.cli.problems import UsageProblem

STANDARD_INPUT: Final = "-"
_DESCRIPTOR: Final = 0
_PEEK: Final = 4096


class Source:
    """
    The operations in a file or in standard input.

    Args:
        name: A path, or ``-``.
        mapped: How rows become operations, where it is CSV.
    """

    def __init__(self, name: str, mapped: Mapped | None) -> None:
        self.name = name
        self._mapped = mapped

    @property
    def is_repeatable(self) -> bool:
        """
        Whether it can be read several times.
        """
        return self.name != STANDARD_INPUT

    def is_file(self, path: Path) -> bool:
        """
        Whether it is the file at *path*, by whatever name.
        """
        try:
            own = self.name if self.is_repeatable else _DESCRIPTOR
            return os.path.samefile(own, path)  # noqa: PTH121
        except OSError:
            return False

    def operations(self) -> Iterator[dict[str, Any]]:
        """
        All of them, in order; each with an id.

        Raises:
            UsageProblem: There is something else, or it cannot be read.
        """
        with self._open() as file:
            for index, operation in enumerate(self._read(file)):
                operation.setdefault("id", str(index))
                yield operation

    def count(self) -> int:
        """
        How many there are; each has been looked at then.
        """
        return sum(1 for _ in self.operations())

    def fingerprint(self) -> str:
        """
        Tells whether the file has changed.
        """
        with self._open() as file:
            return file_digest(file, "sha256").hexdigest()

    def _read(self, file: BufferedReader) -> Iterator[dict[str, Any]]:
        if self._mapped is not None:
            return read_csv(file, self._mapped)
        if Path(self.name).suffix.lower() == ".csv":
            raise UsageProblem("For CSV say what to do with each row: --path '/users/{id}'.")
        return read_array(file) if is_array(file.peek(_PEEK)) else read_lines(file)

    @contextmanager
    def _open(self) -> Iterator[BufferedReader]:
        try:
            if self.name == STANDARD_INPUT:
                if sys.stdin is None:
                    raise UsageProblem("Standard input is closed: use a file.")
                yield cast("BufferedReader", sys.stdin.buffer)
            else:
                with Path(self.name).open("rb") as file:
                    yield file
        except OSError as error:
            raise UsageProblem(f"{self.name} cannot be read: {error.strerror}.") from error
