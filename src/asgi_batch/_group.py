"""
One call for several operations, in the making: what it is about, and who waits for it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import anyio

from asgi_batch._loop import Signal

#: What became of an item; only who has asked can tell an answer from an error.
Outcome: TypeAlias = Any


class Source(Protocol):
    """
    What is called.

    Attributes:
        max_size: Items of one call.
        max_delay: Seconds without a further item after which it is called.
        is_unique: Whether equal items are one.
    """

    max_size: int
    max_delay: float
    is_unique: bool

    async def call(self, items: Sequence[Any]) -> Sequence[Outcome]:
        """
        One outcome for each of *items*.
        """
        ...


class Waiter:
    """
    An operation that waits for its part of a call.

    Args:
        index: Of the operation.
        may_go_on: Set once there is an outcome and a place to go on in.
        in_thread: Whether a thread waits for it, of which there are few: it keeps its place.

    Attributes:
        outcome: Of its item.
        is_answered: Whether there is one.
        has_left: It waits no longer.
    """

    __slots__ = ("has_left", "in_thread", "index", "is_answered", "may_go_on", "outcome")

    def __init__(self, index: int, may_go_on: Signal, *, in_thread: bool) -> None:
        self.index = index
        self.in_thread = in_thread
        self.outcome: Outcome = None
        self.is_answered = False
        self.may_go_on = may_go_on
        self.has_left = False


class Group:
    """
    A call to be made, or being made.

    Args:
        source: What is called.

    Attributes:
        items: What it is about.
        joined: How many have asked for something.
        may_start: Set once there is a place to be called in.
        scope: Ends it.
        ended: Set once it has been made, or never will be.
    """

    __slots__ = (
        "_places",
        "_waiters",
        "ended",
        "items",
        "joined",
        "may_start",
        "scope",
        "source",
    )

    def __init__(self, source: Source) -> None:
        self.source = source
        self.items: list[Any] = []
        self.joined = 0
        self.may_start = anyio.Event()
        self.scope = anyio.CancelScope()
        self.ended = anyio.Event()
        self._waiters: list[list[Waiter]] = []
        self._places: dict[Hashable, int] = {}

    @property
    def is_full(self) -> bool:
        """
        Whether another item would be too many.
        """
        return len(self.items) >= self.source.max_size

    @property
    def is_forsaken(self) -> bool:
        """
        Whether nobody waits for it any more.
        """
        return next(self.waiting(), None) is None

    @property
    def has_threads(self) -> bool:
        """
        Whether a thread waits for it.
        """
        return any(waiter.in_thread for waiter in self.waiting())

    def add(self, item: Any, waiter: Waiter) -> None:
        """
        Let *waiter* wait for the outcome of *item*.
        """
        self.joined += 1
        place = len(self.items)
        if self.source.is_unique:
            place = self._places.setdefault(item, place)
        if place == len(self.items):
            self.items.append(item)
            self._waiters.append([])
        self._waiters[place].append(waiter)

    async def fills_up(self) -> bool:
        """
        Wait until it may start; false where it has waited long enough for a further item.
        """
        joined = 0
        while joined < self.joined:
            joined = self.joined
            with anyio.move_on_after(self.source.max_delay):
                await self.may_start.wait()
                return True
        return False

    def waiting(self) -> Iterator[Waiter]:
        """
        Those who still wait.
        """
        for several in self._waiters:
            yield from (waiter for waiter in several if not waiter.has_left)

    def answer(self, outcomes: Sequence[Outcome]) -> None:
        """
        Hand out one of *outcomes* for each item.
        """
        for several, outcome in zip(self._waiters, outcomes, strict=True):
            for waiter in several:
                waiter.outcome, waiter.is_answered = outcome, True
