"""
Guesses whether other processes serve the same app; it asks nobody.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Final

_WORKERS: Final = re.compile(r"(?:^| )(?:--workers|-w)[ =]?([0-9]+)(?: |$)").search


def has_siblings() -> bool:
    """
    Whether this looks like one of several worker processes of a server.

    Servers are told of them by ``WEB_CONCURRENCY``, or by an argument that they pass on.
    """
    told = _WORKERS(" ".join(sys.argv))
    workers = told[1] if told else os.environ.get("WEB_CONCURRENCY", "")
    return workers.isdigit() and int(workers) > 1
