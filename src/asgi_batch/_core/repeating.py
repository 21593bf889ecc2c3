"""
Which operations of a batch that is taken over may run, where some may have run before.
"""

from __future__ import annotations

from typing import Final

from asgi_batch._core.failures import Failure
from asgi_batch._core.models import Operation
from asgi_batch._core.records import Claim

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


def why_not_again(operation: Operation, attempts: int, most: int) -> Failure | None:
    """
    Why *operation*, which may have run before, must not run again; None where it may.

    Args:
        operation: The operation.
        attempts: How often it may have run.
        most: How often it may run.
    """
    if not is_safe_to_repeat(operation):
        return Failure.OUTCOME_UNKNOWN
    return Failure.WORKER_LOST if attempts >= most else None


def why_none_may_start(claim: Claim, max_age: float) -> Failure | None:
    """
    Why nothing of a batch may start any more; None where it may.

    Args:
        claim: The batch.
        max_age: Seconds that it may have waited for somebody to carry it out.
    """
    if claim.is_cancelled:
        return Failure.CANCELLED
    return Failure.EXPIRED if claim.idle > max_age else None
