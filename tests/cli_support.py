"""
The command line as tests call it: in this process, with streams of its own.
"""

import io
import json
import sys
from typing import NamedTuple
from unittest import mock

from asgi_batch.cli import main


class Done(NamedTuple):
    """
    How a command has ended, and what it has written.
    """

    code: int
    out: str
    err: str

    def lines(self):
        """
        The lines of JSON on its standard output.
        """
        return [json.loads(line) for line in self.out.splitlines()]


def run(*arguments, stdin=b"", stdout=None):
    """
    Run ``asgi-batch`` with *arguments*; what it writes goes to *stdout*, if that is given.
    """
    out, err = io.BytesIO(), io.BytesIO()
    streams = {
        "argv": ["asgi-batch", *map(str, arguments)],
        "stdin": io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin))),
        "stdout": stdout or io.TextIOWrapper(out, encoding="utf-8", write_through=True),
        "stderr": io.TextIOWrapper(err, encoding="utf-8", write_through=True),
    }
    with mock.patch.multiple(sys, **streams):
        try:
            main()
        except SystemExit as end:
            code = end.code
    return Done(code, out.getvalue().decode(), err.getvalue().decode())
