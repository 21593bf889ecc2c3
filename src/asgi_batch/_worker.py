"""
What is known of one task of a batch; what it does next is decided in `_executor`.
"""

from __future__ import annotations

import math

import anyio

from asgi_batch._subrequest import COMPLETE, Subrequest


class Worker:
    """
    A task of a batch, and what it is at.

    Attributes:
        scope: Ends the worker, and whatever operation it is at.
        subrequest: The operation it is at; None while it stands in line.
        deadline: When that operation is late.
        is_abandoned: It is at an operation that was late, and may be stuck in it for good.
        is_spent: An operation left more behind than a result; it must not run another.
        is_tail: Its operation has answered and goes on, as background tasks do.
    """

    __slots__ = ("deadline", "is_abandoned", "is_spent", "is_tail", "scope", "subrequest")

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.subrequest: Subrequest | None = None
        self.deadline = math.inf
        self.is_abandoned = False
        self.is_spent = False
        self.is_tail = False

    @property
    def is_busy(self) -> bool:
        """
        Whether it is at an operation that has not answered in full.
        """
        return self.subrequest is not None and self.subrequest.phase != COMPLETE
