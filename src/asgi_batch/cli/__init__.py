"""
The command ``asgi-batch``, behind the extra ``cli``.

This module is what starts it, and says what to install where that is missing.
"""

from __future__ import annotations

import sys


def main() -> int:
    """
    Run the command with the arguments of the process.
    """
    try:
        from asgi_batch.cli.commands import asgi_batch  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "asgi_batch":
            raise
        text = f"asgi-batch needs {error.name}: pip install 'asgi-batch[cli]'"
        print(text, file=sys.stderr)  # noqa: T201
        return 2
    asgi_batch()
    return 0
