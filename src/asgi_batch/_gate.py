"""
The gate that all batches of a process pass: so many operations at a time, and bytes counted.

It counts and waits; what happens to a batch that is over a bound is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import anyio
from anyio.lowlevel import RunVar

from asgi_batch.errors import Overloaded


@dataclass(frozen=True, slots=True, kw_only=True)
class GateStatistics:
    """
    What a process is doing for its batches just now.

    Args:
        running: Operations that hold a token.
        waiting: Batches' workers that wait for one.
        abandoned: Operations that were given up but have not stopped.
        held_bytes: Bodies and results held in memory.
    """

    running: int
    waiting: int
    abandoned: int
    held_bytes: int


class HoldsBytes(Protocol):
    """
    Has *size* bytes in memory.
    """

    @property
    def size(self) -> int:
        """
        How many bytes, just now.
        """
        ...


class Gate:
    """
    Lets so many operations of all batches run at a time, first come, first served.

    One gate belongs to one `BatchMiddleware`. A worker holds its token from operation to
    operation and steps aside between two of them when *waiting* is not zero, so that a small
    batch waits for operations, never for batches.
    """

    __slots__ = (
        "_holders",
        "_limiters",
        "_streams",
        "_total",
        "abandoned",
        "running",
        "waiting",
        "waiting_threads",
    )

    def __init__(self, total: int) -> None:
        # A limiter belongs to one event loop; tests run one app on several.
        self._limiters: RunVar[anyio.CapacityLimiter] = RunVar("asgi_batch_limiter")
        self._total = total
        self._holders: set[HoldsBytes] = set()
        self._streams = 0
        self.running = 0
        self.waiting = 0
        self.abandoned = 0

    @property
    def held_bytes(self) -> int:
        """
        Bytes of bodies and results in memory.
        """
        return sum(holder.size for holder in self._holders)

    @contextmanager
    def counting(self, holder: HoldsBytes) -> Iterator[None]:
        """
        Count the bytes that *holder* has in memory for as long as the context lasts.
        """
        self._holders.add(holder)
        try:
            yield
        finally:
            self._holders.discard(holder)

    @contextmanager
    def streaming(self, most: int) -> Iterator[None]:
        """
        Count an answer that goes on for as long as the context lasts, but not beyond *most*.

        Raises:
            Overloaded: There are as many.
        """
        if self._streams >= most:
            raise Overloaded("Too many clients follow events; ask for the status instead.")
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    def door(self) -> Door:
        """
        The way through the gate in this event loop.
        """
        try:
            limiter = self._limiters.get()
        except LookupError:
            limiter = anyio.CapacityLimiter(self._total)
            self._limiters.set(limiter)
        return Door(self, limiter)

    def statistics(self) -> GateStatistics:
        """
        A snapshot of the gate.
        """
        return GateStatistics(
            running=self.running,
            waiting=self.waiting,
            abandoned=self.abandoned,
            held_bytes=self.held_bytes,
        )


class Door:
    """
    The way through a gate for whatever runs in one event loop.

    Args:
        gate: Which gate.
        limiter: Its tokens.
    """

    __slots__ = ("_gate", "_limiter")

    def __init__(self, gate: Gate, limiter: anyio.CapacityLimiter) -> None:
        self._gate = gate
        self._limiter = limiter

    async def acquire(self, borrower: object) -> None:
        """
        Take a token for *borrower*, waiting in line where none is free.
        """
        gate = self._gate
        gate.waiting += 1
        try:
            self._limiter.acquire_on_behalf_of_nowait(borrower)
        except anyio.WouldBlock:
            await self._limiter.acquire_on_behalf_of(borrower)
        finally:
            gate.waiting -= 1
        gate.running += 1

    def try_acquire(self, borrower: object) -> bool:
        """
        Take a token for *borrower*, if one is free.
        """
        try:
            self._limiter.acquire_on_behalf_of_nowait(borrower)
        except anyio.WouldBlock:
            return False
        self._gate.running += 1
        return True

    def release(self, borrower: object) -> None:
        """
        Give *borrower*'s token back.
        """
        self._limiter.release_on_behalf_of(borrower)
        self._gate.running -= 1
