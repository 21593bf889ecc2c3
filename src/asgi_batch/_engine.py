"""
What all batches of one middleware run with; it runs nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from asgi_batch._gate import Gate
from asgi_batch._reporter import Reporter
from asgi_batch._subrequest import AnswerBounds
from asgi_batch.limits import Limits
from asgi_batch.ports import TransactionFactory
from asgi_batch.types import ASGIApp


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """
    What all batches of one middleware run with.

    Args:
        app: What answers the operations.
        limits: Bounds in time and size.
        gate: Bounds what all batches do at a time.
        bounds: What is taken of each answer.
        reporter: Tells of batches.
        transaction: What atomic batches are carried out in; None where there are none.
    """

    app: ASGIApp
    limits: Limits
    gate: Gate
    bounds: AnswerBounds
    reporter: Reporter
    transaction: TransactionFactory | None = None
