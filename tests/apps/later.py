"""
What the apps have in common whose batches are carried out later; there is one for each framework.

``STORE`` says where batches are kept, ``EFFECTS`` names the file in which they write down what
happens: the process group comes first, so that a test can tell servers apart.
"""

import os
from typing import Any

import anyio

from apps.reflection import seen
from asgi_batch import Limits, current_operation

# Long enough that no test sees the end of a lease: what goes on elsewhere has been handed over.
LEASE = 120.0
SETTINGS: dict[str, Any] = {
    "store": os.environ["STORE"],
    "limits": Limits(lease=LEASE, scan_interval=0.2, cancel_interval=0.2, drain_timeout=10),
}
GREETING = "Hello!"

_EFFECTS = os.open(os.environ["EFFECTS"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
_met: set[str] = set()


def note(event: str, *details: object) -> None:
    """
    One line, whole, whoever else writes.
    """
    line = " ".join(map(str, (os.getpgrp(), event, *details)))
    os.write(_EFFECTS, f"{line}\n".encode())


async def take_a_moment() -> dict[str, int]:
    """
    Be an operation that takes a moment, and say which.
    """
    current = current_operation()
    assert current is not None
    note("start", current.batch_id, current.index)
    await anyio.sleep(0.03)
    note("end", current.batch_id, current.index)
    return {"index": current.index, "attempt": current.attempt}


def is_met(name: str) -> bool:
    """
    Whether *name* has been asked for before.
    """
    known = name in _met
    _met.add(name)
    return known


def shown(scope: Any, body: bytes) -> dict[str, Any]:
    """
    All that an app can see of a request, but for the connection that it came over.
    """
    return {**seen(scope, body), "client": scope["client"][0]}
