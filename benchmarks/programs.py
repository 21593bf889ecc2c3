"""
Programs that run beside a benchmark, each in a process and a folder of its own.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

HOST = "127.0.0.1"

_ROOT = Path(__file__).resolve().parent.parent
# Seconds that a program has for coming to its end.
_PATIENCE = 10


@contextmanager
def running(module: str, *arguments: str) -> Iterator[int]:
    """
    Run *module* until the context ends; the port it listens on, which is the line it prints.
    """
    with (
        TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        try:
            yield _port_of(process)
        finally:
            _stop(process)


def _port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{process.args} did not start.")
    return int(line)


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
