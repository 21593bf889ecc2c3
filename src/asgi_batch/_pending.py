"""
The operations of a batch that have not started, made ready for their calls; it calls nothing.
"""

from __future__ import annotations

from contextvars import Context
from typing import Final, TypeAlias

from asgi_batch._call import mark_context
from asgi_batch._core.models import Batch, CurrentOperation, Operation
from asgi_batch._core.scope import ScopeTemplate
from asgi_batch._subrequest import AnswerBounds, Settle, Subrequest
from asgi_batch.types import Scope

#: What it takes to call the app for one operation.
Call: TypeAlias = tuple[Subrequest, Scope, Context]

# Operations that are made ready at a time: as each step is done for all of them in a row, it finds
# its code and data in the processor's caches. Enough for that, and few enough to wait in memory.
_GROUP: Final = 64


class Pending:
    """
    Hands out the calls of one batch in order, made ready in groups.

    Args:
        batch: The operations.
        batch_id: Names the batch to the app.
        template: Makes the operations' scopes.
        context: The context variables that operations start from.

    Attributes:
        ready: The next calls, the first of them last; whoever takes one pops it.
    """

    __slots__ = ("_batch_id", "_context", "_next", "_operations", "_template", "ready")

    def __init__(
        self, batch: Batch, *, batch_id: str, template: ScopeTemplate, context: Context
    ) -> None:
        self._operations = batch.operations
        self._batch_id = batch_id
        self._template = template
        self._context = context
        self._next = 0
        self.ready: list[Call] = []

    def __bool__(self) -> bool:
        return bool(self.ready) or self._next < len(self._operations)

    def refill(self, settle: Settle, settle_large: Settle, bounds: AnswerBounds) -> bool:
        """
        Make the next group ready, once all of *ready* has been taken.

        Args:
            settle: Told each small result.
            settle_large: Told each result that is not small.
            bounds: What is taken of each answer.

        Returns:
            Whether there is any left.
        """
        total, batch_id = len(self._operations), self._batch_id
        group = self._operations[self._next : self._next + _GROUP]
        self._next += len(group)
        for operation in reversed(group):
            current = CurrentOperation(batch_id, operation.id, operation.index, total)
            call = (
                Subrequest(operation, settle, settle_large, bounds),
                self._template.scope_for(operation, current),
                mark_context(self._context, current),
            )
            self.ready.append(call)
        return bool(group)

    def drop(self) -> list[Operation]:
        """
        Hand out nothing more.

        Returns:
            The operations that will never start.
        """
        made = [subrequest.operation for subrequest, _, _ in reversed(self.ready)]
        rest = made + self._operations[self._next :]
        self._next = len(self._operations)
        self.ready.clear()
        return rest
