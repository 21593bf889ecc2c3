"""What a client prefers to happen with its batch: the ``Prefer`` header (RFC 7240)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_RESPOND_ASYNC: Final = re.compile(rb"(?:^|,)[ \t]*respond-async[ \t]*(?:$|[,;])", re.IGNORECASE)


def prefers_later(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """
    Whether the client would rather be answered at once than wait for the results.
    """
    return any(_RESPOND_ASYNC.search(value) for name, value in headers if name.lower() == b"prefer")
