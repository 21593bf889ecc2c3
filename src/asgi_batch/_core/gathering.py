"""
What a bulk call has to know of the operation that makes it; it gathers nothing itself.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

#: While it is true, bulk calls of the operation are made at once, and it does not step aside for
#: others. It need not be a `bool`, but may be something whose truth changes: ask for it each time.
calls_at_once: Final[ContextVar[object]] = ContextVar("asgi_batch_calls_at_once", default=False)
