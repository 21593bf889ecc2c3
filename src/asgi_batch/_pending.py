"""
The operations of a batch that have not started, made ready for their calls; it calls nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import Context
from typing import Final, TypeAlias

from asgi_batch._call import mark_context
from asgi_batch._core.models import CurrentOperation, Operation
from asgi_batch._core.scope import ScopeTemplate
from asgi_batch._subrequest import AnswerBounds, Settle, Subrequest
from asgi_batch.types import Scope

#: What it takes to call the app for one operation.
Call: TypeAlias = tuple[Subrequest, Scope, Context]

# Operations that are made ready at a time: as each step is done for all of them in a row, it finds
# its code and data in the processor's caches. Enough for that, and few enough to wait in memory;
# then for the background, where no step may take long.
_GROUP: Final = 64
SMALL_GROUP: Final = 16


class Pending:
    """
    Hands out the calls of one batch in order, made ready in groups.

    Args:
        operations: Those that are to be run, in the order of their indexes.
        batch_id: Names the batch to the app.
        total: How many operations the batch has altogether.
        template: Makes the operations' scopes.
        context: The context variables that operations start from.
        attempt: Which attempt this is for each of them.
        atomic: Whether the batch is one transaction.
        may_start: How many of them may start for now.
        group: How many are made ready at a time.

    Attributes:
        context: The context variables that operations start from.
        ready: The next calls, the first of them last; whoever takes one pops it.
    """

    __slots__ = (
        "_atomic",
        "_attempt",
        "_batch_id",
        "_group",
        "_held_back",
        "_may_start",
        "_next",
        "_operations",
        "_template",
        "_total",
        "context",
        "ready",
    )

    def __init__(
        self,
        operations: Sequence[Operation],
        *,
        batch_id: str,
        total: int,
        template: ScopeTemplate,
        context: Context,
        attempt: int = 1,
        atomic: bool = False,
        may_start: int | None = None,
        group: int = _GROUP,
    ) -> None:
        self._operations = operations
        self._batch_id = batch_id
        self._total = total
        self._template = template
        self.context = context
        self._attempt = attempt
        self._atomic = atomic
        self._group = group
        self._may_start = len(operations) if may_start is None else may_start
        self._next = 0
        self._held_back: list[Call] | None = None
        self.ready: list[Call] = []

    def __bool__(self) -> bool:
        return bool(self.ready) or (self._next < self._may_start and self._held_back is None)

    @property
    def is_exhausted(self) -> bool:
        """
        Whether all operations have been taken.
        """
        return self.started == len(self._operations)

    @property
    def started(self) -> int:
        """
        How many operations have been taken.
        """
        return self._next - len(self.ready) - len(self._held_back or ())

    @property
    def may_start(self) -> int:
        """
        How many operations may have been taken, all in all.
        """
        return self._may_start

    def allow(self, count: int) -> None:
        """
        Let *count* operations start, all in all.
        """
        self._may_start = min(count, len(self._operations))

    def hold_back(self) -> None:
        """
        Hand out nothing until `go_on`.
        """
        if self._held_back is None:
            self._held_back = self.ready.copy()
            self.ready.clear()

    def go_on(self) -> None:
        """
        Hand out what was held back.
        """
        self.ready.extend(self._held_back or ())
        self._held_back = None

    def refill(self, settle: Settle, settle_large: Settle, bounds: AnswerBounds) -> bool:
        """
        Make the next group ready, once all of *ready* has been taken.

        Args:
            settle: Told each small result.
            settle_large: Told each result that is not small.
            bounds: What is taken of each answer.

        Returns:
            Whether there is any left that may start.
        """
        if not self:
            return False
        total, batch_id = self._total, self._batch_id
        attempt, atomic = self._attempt, self._atomic
        stop = min(self._next + self._group, self._may_start)
        group = self._operations[self._next : stop]
        self._next = stop
        for operation in reversed(group):
            current = CurrentOperation(
                batch_id, operation.id, operation.index, total, attempt, atomic
            )
            call = (
                Subrequest(operation, settle, settle_large, bounds),
                self._template.scope_for(operation, current),
                mark_context(self.context, current),
            )
            self.ready.append(call)
        return True

    def drop(self) -> list[Operation]:
        """
        Hand out nothing more.

        Returns:
            The operations that will never start.
        """
        self.go_on()
        made = [subrequest.operation for subrequest, _, _ in reversed(self.ready)]
        rest = [*made, *self._operations[self._next :]]
        self._next = self._may_start = len(self._operations)
        self.ready.clear()
        return rest
