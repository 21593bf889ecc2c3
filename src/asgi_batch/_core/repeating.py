"""Which operations may run a second time when it is not known whether they ran a first time."""

from __future__ import annotations

from typing import Final

from asgi_batch._core.models import Operation

# RFC 9110 section 9.2.2.
_IDEMPOTENT: Final = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))


def is_safe_to_repeat(operation: Operation) -> bool:
    """
    Whether running *operation* twice has the effect of running it once.

    That is so for idempotent methods, and where an ``Idempotency-Key`` lets the app see to it.
    """
    return operation.method in _IDEMPOTENT or any(
        name == b"idempotency-key" for name, _ in operation.headers
    )
