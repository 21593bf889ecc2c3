"""
Operations per second, in batches and as single requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import truediv
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import anyio.to_thread

from benchmarks import wrk
from benchmarks.apps import Call
from benchmarks.calling import open_client, seconds_for
from benchmarks.wire import BATCH, CONNECTIONS, OPERATIONS, SINGLES


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """
    How long to measure.

    Args:
        rounds: How often each side has its turn.
        seconds: How long wrk runs at a time.
        repeats: How often httpx sends the operations at a time, singly.
        batches: How many batches httpx sends at a time.
    """

    rounds: int
    seconds: int
    repeats: int
    batches: int


@dataclass(frozen=True, slots=True)
class Rates:
    """
    Operations per second, of all rounds.
    """

    singles: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """
        How many times more operations batches do; the median of what each round says.
        """
        return self.over(self)

    def over(self, others: "Rates") -> float:
        """
        How many times more operations batches do than the single requests of *others*.
        """
        return median(map(truediv, self.batches, others.singles))


async def measure(port: int, effort: Effort, *, with_wrk: bool) -> dict[str, Rates]:
    """
    Operations per second that httpx gets out of a server, and wrk where it takes part.
    """
    rates = {"wrk": Rates()} if with_wrk else {}
    rates["httpx"] = Rates()
    with TemporaryDirectory() as folder:
        singles, batch = Path(folder, "singles"), Path(folder, "batch")
        wrk.write_requests(singles, SINGLES)
        wrk.write_requests(batch, [BATCH])
        for _ in range(effort.rounds):
            if with_wrk:
                rates["wrk"].singles.append(await _with_wrk(port, singles, effort))
                rates["wrk"].batches.append(OPERATIONS * await _with_wrk(port, batch, effort))
            rates["httpx"].singles.append(await _with_httpx(port, SINGLES * effort.repeats))
            batches = [BATCH] * effort.batches
            rates["httpx"].batches.append(OPERATIONS * await _with_httpx(port, batches))
    return rates


async def _with_wrk(port: int, file: Path, effort: Effort) -> float:
    return await anyio.to_thread.run_sync(
        lambda: wrk.requests_per_second(port, file, connections=CONNECTIONS, seconds=effort.seconds)
    )


async def _with_httpx(port: int, calls: Sequence[Call]) -> float:
    async with open_client(port, CONNECTIONS) as client:
        await seconds_for(client, SINGLES[:CONNECTIONS], CONNECTIONS)
        return len(calls) / await seconds_for(client, calls, CONNECTIONS)
