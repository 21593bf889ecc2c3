"""
What is held in the course of a run, and whether it grows.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import linear_regression, median
from urllib.request import urlopen

import anyio
import anyio.to_thread
import redis as redis_client

from redis_server import RedisProc
from soak.limits import LIMITS
from soak.workers import Worker

MIB = 1024 * 1024
#: Seconds between two looks.
INTERVAL = 2.0
#: Part of a run that does not count, and seconds of it at least: pools fill, threads start, the
#: allocator takes its arenas, and Redis fills with batches until the first of them expire.
WARM_UP = 0.25
WARM_UP_SECONDS = LIMITS.result_ttl + 15

#: The most by which something may grow within a run, by the line that fits best. Load comes and
#: goes, so that in minutes nothing smaller can be told from chance; over hours RSS_PER_HOUR rules.
GROWTH = {
    "rss": 3.0 * MIB,
    "fds": 15.0,
    "threads": 10.0,
    "tasks": 30.0,
    "connections": 10.0,
    "keys": 100.0,
    "redis memory": 8.0 * MIB,
}
RSS_PER_HOUR = 1.0 * MIB
#: What is in Redis follows the load, which the other programs of the machine make uneven.
SHARE = {"keys": 0.3, "redis memory": 0.3}


@dataclass
class Watch:
    """
    Looks at the steady worker and at Redis.

    Args:
        redis: The store's server.
        steady: The worker that is never restarted.

    Attributes:
        samples: What was held, with the seconds since the start.
    """

    redis: RedisProc
    steady: Worker
    samples: list[dict[str, float]] = field(default_factory=list)

    async def run(self, start: float, end: float, tell: Callable[[str], object]) -> None:
        """
        Look again and again, and *tell* a line each minute.
        """
        printed = 0.0
        while (now := anyio.current_time()) < end:
            held = await anyio.to_thread.run_sync(self.look)
            if held is not None:
                self.samples.append({"seconds": now - start, **held})
            if (now - start) // 60 > printed and self.samples:
                printed = (now - start) // 60
                tell(f"{printed:.0f} min: {described(self.samples[-1])}")
            await anyio.sleep(INTERVAL)

    def look(self) -> dict[str, float] | None:
        """
        What is held just now; None where Redis does not answer.
        """
        try:
            connections = len(self.redis.client.client_list()) - 1
            keys = self.redis.client.dbsize()
            memory = self.redis.client.info("memory")["used_memory"]
        except redis_client.RedisError:
            return None
        with urlopen(f"{self.steady.url}/held", timeout=30) as answer:
            held = json.load(answer)
        return {
            **self.steady.held(),
            "tasks": held["tasks"],
            "connections": connections,
            "keys": keys,
            "redis memory": memory,
        }

    def trend(self, name: str) -> "Trend":
        """
        How something has developed after the warm-up.
        """
        warm = max(WARM_UP * self.samples[-1]["seconds"], WARM_UP_SECONDS)
        counted = [each for each in self.samples if each["seconds"] >= warm]
        seconds = [each["seconds"] for each in counted]
        values = [each[name] for each in counted]
        per_hour = linear_regression(seconds, values).slope * 3600
        hours = (seconds[-1] - seconds[0]) / 3600
        share = SHARE.get(name, 0.0) * median(values)
        bound = max(GROWTH[name], share, RSS_PER_HOUR * hours if name == "rss" else 0.0)
        return Trend(median(values), max(values), per_hour, per_hour * hours, bound)


@dataclass(frozen=True)
class Trend:
    """
    How something has developed.

    Args:
        median: Of all looks.
        most: Of all looks.
        per_hour: The slope of the line that fits best.
        growth: By which that line has risen.
        bound: The most by which it may have risen.
    """

    median: float
    most: float
    per_hour: float
    growth: float
    bound: float

    @property
    def holds(self) -> bool:
        return self.growth <= self.bound


def described(held: Mapping[str, float]) -> str:
    """
    *held* in one line.
    """
    return ", ".join(f"{name} {shown(name, held[name])}" for name in GROWTH)


def shown(name: str, value: float) -> str:
    """
    A number to read.
    """
    return f"{value / MIB:.1f} MiB" if name in ("rss", "redis memory") else f"{value:.0f}"
