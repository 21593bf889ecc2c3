"""
How long a client waits whose server is a round trip of 20 ms away.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from benchmarks.apps import Call
from benchmarks.calling import open_client, seconds_for
from benchmarks.programs import running
from benchmarks.wire import BATCH, CONNECTIONS, SINGLES

#: Milliseconds there and back.
ROUND_TRIP = 20

WARM_BATCH = "one batch, warm connection"
COLD_BATCH = "one batch, new connection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """
    One way to have the operations done.

    Args:
        name: What to call it.
        calls: What is sent.
        repeats: How often in each round.
        connections: Over how many connections at a time.
        keep_alive: Whether connections stay open for the next request.
    """

    name: str
    calls: Sequence[Call]
    repeats: int
    connections: int = 1
    keep_alive: bool = True


WAYS = (
    Way(name=WARM_BATCH, calls=[BATCH], repeats=10),
    Way(name=COLD_BATCH, calls=[BATCH], keep_alive=False, repeats=10),
    Way(name="one single request", calls=SINGLES[:1], repeats=10),
    Way(
        name="100 single requests, 10 connections",
        calls=SINGLES,
        connections=CONNECTIONS,
        repeats=2,
    ),
    Way(name="100 single requests, one by one", calls=SINGLES, repeats=1),
)


async def measure(port: int, *, rounds: int, quick: bool) -> dict[str, list[float]]:
    """
    Milliseconds until everything was answered, for each way and each time.
    """
    waits: dict[str, list[float]] = {way.name: [] for way in WAYS}
    delay = str(ROUND_TRIP / 2 / 1000)
    async with AsyncExitStack() as stack:
        far_port = stack.enter_context(running("benchmarks.proxy", str(port), delay))
        timed = []
        for way in WAYS:
            client = open_client(far_port, way.connections, keep_alive=way.keep_alive)
            await stack.enter_async_context(client)
            await seconds_for(client, SINGLES[: way.connections], way.connections)
            timed.append((way, partial(seconds_for, client, way.calls, way.connections)))
        for _ in range(rounds):
            for way, measured in timed:
                for _ in range(1 if quick else way.repeats):
                    waits[way.name].append(1000 * await measured())
    return waits
