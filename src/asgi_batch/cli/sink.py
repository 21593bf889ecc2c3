"""
Where results go: lines of a file, or of standard output; and how far that is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from asgi_batch.cli.problems import UsageProblem


class Sink:
    """
    Takes lines.

    Args:
        output: The file; None for standard output.
        offset: Bytes of it that stay; what is after them was not acknowledged.

    Raises:
        UsageProblem: It cannot be written.
    """

    def __init__(self, output: Path | None, offset: int = 0) -> None:
        self.offset = offset
        self._output = output
        with self._sentences():
            self._file = self._open(offset)

    def _open(self, offset: int) -> BinaryIO:
        if self._output is None:
            if sys.stdout is None:
                raise UsageProblem("Standard output is closed: use --output.")
            return sys.stdout.buffer
        file = self._output.open("r+b" if offset else "wb")
        try:
            if file.seek(0, os.SEEK_END) < offset:
                raise UsageProblem(f"{self._output} is shorter than the run has left it.")
            file.truncate(offset)
            file.seek(offset)
        except BaseException:
            file.close()
            raise
        return file

    def write(self, line: bytes) -> None:
        """
        Add *line*; on standard output it can be read at once.
        """
        with self._sentences():
            self._file.write(line)
            if self._output is None:
                self._file.flush()
        self.offset += len(line)

    def flush(self) -> None:
        """
        From here on, what was written is there even if this process is not.
        """
        with self._sentences():
            self._file.flush()

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        """
        What goes wrong is one sentence; but whoever reads standard output may stop to.
        """
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            name = self._output or "Standard output"
            raise UsageProblem(f"{name} cannot be written: {error.strerror}.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._output is not None:
            with self._sentences():
                # What has not been written so far is tried once more.
                self._file.close()
