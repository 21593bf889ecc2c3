"""
What code of the app says about gathering; it gathers nothing.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

#: While it is true, bulk calls of the operation are made at once, and it does not step aside for
#: others: it holds something that they would come across.
calls_at_once: Final[ContextVar[bool]] = ContextVar("asgi_batch_calls_at_once", default=False)
