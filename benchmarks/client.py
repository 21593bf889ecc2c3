"""
What the client saves: a thousand GETs by ordinary httpx code, with `BatchTransport` and without.

All requests are made at the same moment, or a hundred at a time, by httpx and by httpx2, to a
FastAPI app under uvicorn in a process of its own, on this machine and behind a proxy that is a
round trip of 20 ms away. With and without take turns, and have to get the same. So does a third
side, whose transport answers from memory, without any server: what httpx itself takes, which no
transport can save. Then `BatchClient` sends ten thousand operations, and its memory is measured by
tracemalloc.
"""

import argparse
import gc
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

# From here on imports are looked up from the root: this folder would hide the library's own http.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import anyio
import httpx
import httpx2

from asgi_batch.client import BatchClient, BatchTransport, Operation
from benchmarks.programs import HOST, running
from benchmarks.report import Bar, finish, table

#: Requests that are under way at a time.
AT_A_TIME = (1000, 100)
#: Milliseconds there and back.
DISTANCES = (0, 20)
LIBRARIES = {"httpx": httpx, "httpx2": httpx2}
SIDES = ("without", "with", "from memory")

# How many times the throughput is with the transport, all requests at the same moment.
RATIO_BAR = 10.0
# How many times the memory is for five times the operations.
MEMORY_BAR = 1.2


class Effort(NamedTuple):
    """
    How much to measure.

    Args:
        rounds: How often each side has its turn.
        count: Requests of one round.
        few: Operations that `BatchClient` sends for the lesser memory.
        many: Operations that it sends otherwise.
    """

    rounds: int
    count: int
    few: int
    many: int


_EFFORT = Effort(rounds=5, count=1000, few=2000, many=10_000)
_QUICK = Effort(rounds=1, count=100, few=1000, many=2000)


class Case(NamedTuple):
    """
    One way in which requests are made.
    """

    flavour: str
    distance: int
    at_a_time: int

    def __str__(self) -> str:
        return f"{self.flavour}, {self.distance} ms away, {self.at_a_time} at a time"


async def _fetch(client: Any, count: int, at_a_time: int) -> tuple[float, list[Any]]:
    """
    Seconds until all requests were answered, and what they were answered.
    """
    answers: list[Any] = [None] * count
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            response = await _get(client, f"/items/{number}")
            answers[number] = (response.status_code, response.json())

    # What the other side has left behind is not for this one to clear away.
    gc.collect()
    started = perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(at_a_time):
            tasks.start_soon(work)
    return perf_counter() - started, answers


async def _get(client: Any, path: str) -> Any:
    """
    The response, also where the server has closed a connection that was idle for too long.
    """
    while True:
        try:
            return await client.get(path)
        except (httpx.RemoteProtocolError, httpx2.RemoteProtocolError):
            continue


async def _compare(case: Case, port: int, effort: Effort) -> dict[str, list[float]]:
    """
    Seconds of each round, by the side.
    """
    library = LIBRARIES[case.flavour]
    taken: dict[str, list[float]] = {side: [] for side in SIDES}
    answers: dict[str, list[Any]] = {}
    known: dict[bytes, Any] = {}
    transports = {
        "without": _remembering(library, known),
        "with": BatchTransport(library.AsyncHTTPTransport()),
        "from memory": _from_memory(library, known),
    }
    options = {"base_url": f"http://{HOST}:{port}", "timeout": 120, "trust_env": False}
    async with AsyncExitStack() as stack:
        clients = {
            side: await stack.enter_async_context(library.AsyncClient(transport=each, **options))
            for side, each in transports.items()
        }
        for number in range(effort.rounds + 1):
            for side, client in clients.items():
                seconds, answers[side] = await _fetch(client, effort.count, case.at_a_time)
                # The first round only warms up.
                if number:
                    taken[side].append(seconds)
            if not answers["without"] == answers["with"] == answers["from memory"]:
                raise SystemExit(f"{case}: the answers are not the same.")
    return taken


def _remembering(library: Any, known: dict[bytes, Any]) -> Any:
    """
    The usual transport, whose first answer to each path is noted in *known*.
    """

    class Remembering(library.AsyncHTTPTransport):
        async def handle_async_request(self, request: Any) -> Any:
            response = await super().handle_async_request(request)
            if request.url.raw_path not in known:
                content = await response.aread()
                known[request.url.raw_path] = (response.headers.raw, content)
            return response

    return Remembering()


def _from_memory(library: Any, known: dict[bytes, Any]) -> Any:
    """
    A transport that answers what is *known*, at once.
    """

    class FromMemory(library.AsyncBaseTransport):
        async def handle_async_request(self, request: Any) -> Any:
            headers, content = known[request.url.raw_path]
            return library.Response(200, headers=headers, stream=library.ByteStream(content))

    return FromMemory()


class Sending(NamedTuple):
    """
    What it took to send many operations.
    """

    seconds: float
    batches: int
    peak: int


def _send(port: int, count: int, *, measured: bool) -> Sending:
    """
    Send *count* operations, whose results have to come in their order.
    """
    batches = 0

    def note(request: httpx.Request) -> None:
        nonlocal batches
        batches += request.method == "POST"

    def operations() -> Iterator[Operation]:
        for number in range(count):
            if number % 2:
                yield Operation("POST", "/items", json={"name": "x", "price": number})
            else:
                yield Operation("GET", f"/items/{number}")

    if measured:
        tracemalloc.start()
    started = perf_counter()
    options = {"base_url": f"http://{HOST}:{port}", "timeout": 60, "trust_env": False}
    with httpx.Client(**options, event_hooks={"request": [note]}) as http:
        expected = 0
        with BatchClient(http).stream(operations()) as results:
            for result in results:
                number = result.raise_for_status().json()["price" if expected % 2 else "id"]
                if (result.index, number) != (expected, expected):
                    raise SystemExit(f"Result {expected} is that of {number}.")
                expected += 1
    seconds = perf_counter() - started
    if expected != count:
        raise SystemExit(f"There are {expected} results of {count} operations.")
    _, peak = tracemalloc.get_traced_memory() if measured else (0, 0)
    tracemalloc.stop()
    return Sending(seconds, batches, peak)


def _report(
    taken: dict[Case, dict[str, list[float]]],
    sending: Sending,
    peaks: tuple[int, int],
    arguments: argparse.Namespace,
) -> int:
    effort = _QUICK if arguments.quick else _EFFORT
    few, many = peaks
    ratios = {case: median(each["without"]) / median(each["with"]) for case, each in taken.items()}
    most = {
        case: median(each["without"]) / median(each["from memory"]) for case, each in taken.items()
    }
    rows = [
        (
            str(case),
            *(f"{1000 * median(each[side]):.0f}" for side in SIDES),
            f"{ratios[case]:.1f}",
            f"{most[case]:.1f}",
        )
        for case, each in taken.items()
    ]
    print(f"Milliseconds for {effort.count} GETs, medians of alternating rounds")
    table(("", *SIDES, "ratio", "at most"), rows)
    print(
        f"\nBatchClient: {effort.many} operations in {sending.batches} batches,"
        f" {sending.seconds:.2f} s, {effort.many / sending.seconds:.0f} per second, all in order"
    )
    print(f"Its memory at most: {few} bytes for {effort.few}, {many} bytes for {effort.many}")
    bars = [
        Bar(name=f"{case}: with / without", value=ratio, limit=RATIO_BAR, at_least=True)
        for case, ratio in ratios.items()
        if case.flavour == "httpx" and case.at_a_time == AT_A_TIME[0]
    ]
    name = f"memory for {effort.many} / for {effort.few}"
    bars.append(Bar(name=name, value=many / few, limit=MEMORY_BAR))
    figures = {
        "quick": arguments.quick,
        "milliseconds": {
            str(case): {name: round(1000 * median(values), 1) for name, values in each.items()}
            for case, each in taken.items()
        },
        "ratios": {str(case): round(ratio, 2) for case, ratio in ratios.items()},
        "ratios_at_most": {str(case): round(ratio, 2) for case, ratio in most.items()},
        "client": {
            "operations": effort.many,
            "batches": sending.batches,
            "seconds": round(sending.seconds, 3),
            "peak_bytes": {str(effort.few): few, str(effort.many): many},
        },
    }
    return finish("client", figures, bars, check=arguments.check)


def main() -> int:
    """
    Run from the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--http", choices=("httptools", "h11"), default="h11")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="asyncio")
    parser.add_argument("--quick", action="store_true", help="one round, to try it out")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bar is missed")
    arguments = parser.parse_args()
    effort = _QUICK if arguments.quick else _EFFORT
    taken = {}
    with ExitStack() as stack:
        server = ("benchmarks.server", "fastapi", arguments.http, arguments.loop)
        ports = {0: stack.enter_context(running(*server))}
        for distance in DISTANCES[1:]:
            delay = str(distance / 2 / 1000)
            far = running("benchmarks.proxy", str(ports[0]), delay)
            ports[distance] = stack.enter_context(far)
        for name in LIBRARIES:
            for distance in DISTANCES:
                for at_a_time in AT_A_TIME:
                    case = Case(name, distance, at_a_time)
                    port = ports[distance]
                    taken[case] = anyio.run(_compare, case, port, effort)
        sending = _send(ports[0], effort.many, measured=False)
        few = _send(ports[0], effort.few, measured=True).peak
        many = _send(ports[0], effort.many, measured=True).peak
    return _report(taken, sending, (few, many), arguments)


if __name__ == "__main__":
    sys.exit(main())
