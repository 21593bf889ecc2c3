"""
How long a client waits whose server is a round trip of 20 ms away.
"""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from benchmarks.apps import Call
from benchmarks.client import open_client, seconds_for
from benchmarks.programs import running
from benchmarks.wire import BATCH, CONNECTIONS, SINGLES

#: Milliseconds there and back.
ROUND_TRIP = 20

WARM_BATCH = "one batch, warm connection"
COLD_BATCH = "one batch, new connection"


@dataclass(frozen=True, slots=True)
class Way:
    """
    One way to have the operations done.

    Args:
        name: What to call it.
        calls: What is sent.
        connections: Over how many connections at a time.
        keep_alive: Whether connections stay open for the next request.
        repeats: How often in each round.
    """

    name: str
    calls: tuple[Call, ...]
    connections: int
    keep_alive: bool
    repeats: int


WAYS = (
    Way(WARM_BATCH, (BATCH,), 1, True, 10),
    Way(COLD_BATCH, (BATCH,), 1, False, 10),
    Way("one single request", tuple(SINGLES[:1]), 1, True, 10),
    Way("100 single requests, 10 connections", tuple(SINGLES), CONNECTIONS, True, 2),
    Way("100 single requests, one by one", tuple(SINGLES), 1, True, 1),
)


async def measure(port: int, *, rounds: int, quick: bool) -> dict[str, list[float]]:
    """
    Milliseconds until everything was answered, for each way and each time.
    """
    waits: dict[str, list[float]] = {way.name: [] for way in WAYS}
    delay = str(ROUND_TRIP / 2 / 1000)
    async with AsyncExitStack() as stack:
        far_port = stack.enter_context(running("benchmarks.proxy", str(port), delay))
        timed = {}
        for way in WAYS:
            client = open_client(far_port, way.connections, keep_alive=way.keep_alive)
            await stack.enter_async_context(client)
            await seconds_for(client, SINGLES[:CONNECTIONS], way.connections)
            timed[way] = partial(seconds_for, client, way.calls, way.connections)
        for _ in range(rounds):
            for way, measured in timed.items():
                for _ in range(1 if quick else way.repeats):
                    waits[way.name].append(1000 * await measured())
    return waits
