"""
The command ``asgi-batch``, behind the extra ``cli``.

This module is what starts it, and says what to install where that is missing.
"""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """
    Run the command with the arguments of the process, and end it.
    """
    try:
        from asgi_batch.cli.commands import asgi_batch  # noqa: PLC0415
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "asgi_batch":
            raise
        sys.stderr.write(f"asgi-batch needs {missing}: pip install 'asgi-batch[cli]'\n")
        sys.exit(2)
    sys.exit(asgi_batch(prog_name="asgi-batch"))
