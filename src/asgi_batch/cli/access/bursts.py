"""
Tells loops from single requests: the same caller, the same endpoint, again within a short time.

Takes bounded memory. Bursts that have been silent for longest are forgotten first; one that goes on
after that counts as two, so that too little is found rather than too much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from asgi_batch.cli.access.endpoints import Counts

# Bursts that are remembered in each of two generations; together some 20 MB.
GENERATION: Final = 20_000
_EXAMPLES: Final = 3
# To ask for the very same thing again is to wait for something, and no batch takes that over.
_SAFE: Final = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """
    What counts as a loop.

    Args:
        gap: Seconds between one request and the next, at most.
        least: Requests in a burst, at least.
        batch: Operations in a batch, at most.
    """

    gap: float = 2.0
    least: int = 3
    batch: int = 1000


class Bursts:
    """
    The bursts that may still go on.
    """

    def __init__(self, rules: Rules, generation: int = GENERATION) -> None:
        self._rules = rules
        self._generation = generation
        self._young: dict[int, _Burst] = {}
        self._old: dict[int, _Burst] = {}

    def add(self, caller: object, method: str, counts: Counts, time: float, target: str) -> None:
        """
        One more request. Requests may come a little out of order.
        """
        # A number in place of what it stands for: two that are alike by chance do little harm.
        key = hash((caller, id(counts)))
        burst = self._young.get(key)
        if burst is None:
            burst = self._recall(key)
            if burst is None:
                self._young[key] = _Burst(counts, time, target)
                return
        if -self._rules.gap <= time - burst.time <= self._rules.gap:
            burst.time = time
            if burst.targets[-1] != target or method not in _SAFE:
                burst.length += 1
                if len(burst.targets) < _EXAMPLES:
                    burst.targets.append(target)
                else:
                    burst.targets[-1] = target
        else:
            self._close(burst)
            self._young[key] = _Burst(counts, time, target)

    def finish(self) -> None:
        """
        Count what is left.
        """
        for bursts in (self._old, self._young):
            for burst in bursts.values():
                self._close(burst)
            bursts.clear()

    def _recall(self, key: int) -> _Burst | None:
        """
        The burst with *key* from the old generation, made young again.
        """
        if len(self._young) >= self._generation:
            for forgotten in self._old.values():
                self._close(forgotten)
            self._old, self._young = self._young, {}
        burst = self._old.pop(key, None)
        if burst is not None:
            self._young[key] = burst
        return burst

    def _close(self, burst: _Burst) -> None:
        if burst.length >= self._rules.least:
            batches = -(-burst.length // self._rules.batch)
            burst.counts.current().add_burst(
                burst.length, burst.length - batches, tuple(burst.targets)
            )


class _Burst:
    """
    Requests in a row: how many, when the last one was, and a few of their targets.
    """

    __slots__ = ("counts", "length", "targets", "time")

    def __init__(self, counts: Counts, time: float, target: str) -> None:
        self.counts = counts
        self.length = 1
        self.time = time
        self.targets = [target]
