"""
Whether what is called in a loop is one of many, or the same again; for all languages alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

#: Where something begins and ends.
Span: TypeAlias = tuple[Any, Any]


class Step(NamedTuple):
    """
    Names that are set in a loop, names that they are made from, and where.
    """

    targets: frozenset[str]
    sources: frozenset[str]
    span: Span


@dataclass(slots=True, eq=False)
class Loop:
    """
    A loop around a call.

    Args:
        kind: As people are told.
        names: What is anew each time.
        is_each: Whether it runs a function for each of many, so that no name needs to say so.
        is_open: Whether it goes on until something happens.
        has_exit: Whether something inside of it ends it.
        steps: What is set in it.
    """

    kind: str
    names: set[str] = field(default_factory=set)
    is_each: bool = False
    is_open: bool = False
    has_exit: bool = False
    steps: list[Step] = field(default_factory=list)

    def is_batchable(self, call: Span, used: Iterable[str], *, draws: bool) -> bool:
        """
        Whether *call* could share a batch with those of the next times.

        What is asked for again until it succeeds could not, nor what is made from the last answer.

        Args:
            call: Where it stands.
            used: The names that it is made from.
            draws: Whether it takes something else each time, without a name that says so.
        """
        varying = self.names.intersection(used)
        if self.is_each or draws:
            return True
        if varying:
            return not varying <= self._made_from(call)
        return not self.is_open and not self.has_exit

    def _made_from(self, call: Span) -> set[str]:
        """
        The names that are made from the answer to *call*.
        """
        made: set[str] = set()
        size = -1
        while size != (size := len(made)):
            for targets, sources, (start, end) in self.steps:
                if sources & made or (start <= call[0] and call[1] <= end):
                    made |= targets
        return made
