"""
What batches save on the wire: operations per second under uvicorn, and waiting from far away.

The same operations, reads and writes in turn, are sent in batches of 100 and as single requests,
always over 10 connections that stay open, and the sides take turns. wrk finds out what the server
can do. httpx.AsyncClient shows what a Python program gets out of it: 10 workers share one client
on either side, and each sends its next request when its last one has been answered. Singles and
batches go to the same process of the server, and none of its answers is parsed while the clock
runs. A proxy makes the distance.

Thirty times as many operations as single requests of httpx: both what httpx gets out of batches
and what the server can do with them are held against that. With wrk, nearly all of a single
request's time is the server's, so that no batch can be faster there than the app itself.
"""

import argparse
import sys
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

# From here on imports are looked up from the root: this folder would hide the library's own http.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import anyio

from benchmarks import distance, throughput, wrk
from benchmarks.calling import open_client
from benchmarks.programs import running
from benchmarks.report import Bar, finish, table
from benchmarks.throughput import Effort, Rates
from benchmarks.wire import BATCH, check_answers

# The bars are about the first of them.
APPS = ("starlette", "fastapi")
WRK_BAR = 3.0
HTTPX_BAR = 30.0
ROUND_TRIPS_BAR = 3.0

_EFFORT = Effort(rounds=5, seconds=2, repeats=10, batches=100)
_QUICK_EFFORT = Effort(rounds=1, seconds=1, repeats=1, batches=2)
_ROUNDS_FROM_FAR = 10


class Outcome(NamedTuple):
    """
    What came out for one app.
    """

    answer_bytes: int
    rates: dict[str, Rates]
    waits: dict[str, list[float]]


async def measure(app: str, arguments: argparse.Namespace) -> Outcome:
    """
    Measure everything about *app*, in a server of its own.
    """
    quick = arguments.quick
    with running("benchmarks.server", app, arguments.http, arguments.loop) as port:
        async with open_client(port, 1) as client:
            answer_bytes = await check_answers(client)
        effort = _QUICK_EFFORT if quick else _EFFORT
        rates = await throughput.measure(port, effort, with_wrk=wrk.is_installed())
        rounds = 1 if quick else _ROUNDS_FROM_FAR
        waits = await distance.measure(port, rounds=rounds, quick=quick)
    return Outcome(answer_bytes, rates, waits)


async def compare(arguments: argparse.Namespace) -> int:
    """
    Measure all apps, and print what came out.
    """
    if not wrk.is_installed():
        print(wrk.MISSING, flush=True)
        if not arguments.quick:
            return 1
        print("Left out: what the server can do.")
    outcomes = {app: await measure(app, arguments) for app in APPS}
    answer_bytes = outcomes[APPS[0]].answer_bytes
    print(f"One batch: {len(BATCH.body)} bytes, and {answer_bytes} bytes in answer.")
    print(f"\nOperations per second under uvicorn with {arguments.http} and {arguments.loop},")
    print("medians of alternating rounds")
    table(("app, client", "singles", "batches", "ratio", "rounds"), _rate_rows(outcomes))
    print(f"\nMilliseconds for a client {distance.ROUND_TRIP} ms away")
    table(("app, way", "p50", "p95", "times"), _wait_rows(outcomes))
    bars = _bars(outcomes[APPS[0]])
    return finish("http", _figures(arguments, outcomes), bars, check=arguments.check)


def _rate_rows(outcomes: dict[str, Outcome]) -> list[tuple[str, ...]]:
    return [
        (
            f"{app}, {client}",
            f"{median(rates.singles):.0f}",
            f"{median(rates.batches):.0f}",
            f"{rates.ratio:.2f}",
            str(len(rates.batches)),
        )
        for app, outcome in outcomes.items()
        for client, rates in outcome.rates.items()
    ]


def _wait_rows(outcomes: dict[str, Outcome]) -> list[tuple[str, ...]]:
    return [
        (f"{app}, {way}", f"{median(waits):.1f}", f"{_p95(waits):.1f}", str(len(waits)))
        for app, outcome in outcomes.items()
        for way, waits in outcome.waits.items()
    ]


def _p95(values: list[float]) -> float:
    return quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]


def _ratios(rates: dict[str, Rates]) -> dict[str, float]:
    ratios = {f"{client} batches / {client} singles": side.ratio for client, side in rates.items()}
    if "wrk" in rates:
        ratios["wrk batches / httpx singles"] = rates["wrk"].over(rates["httpx"])
    return ratios


def _bars(outcome: Outcome) -> list[Bar]:
    limits = {"wrk batches / wrk singles": WRK_BAR, "httpx batches / httpx singles": HTTPX_BAR}
    limits["wrk batches / httpx singles"] = HTTPX_BAR
    bars = [
        Bar(name=name, value=value, limit=limits[name], at_least=True)
        for name, value in _ratios(outcome.rates).items()
    ]
    trips = median(outcome.waits[distance.WARM_BATCH]) / distance.ROUND_TRIP
    return [
        *bars,
        Bar(name="round trips for one warm batch", value=trips, limit=ROUND_TRIPS_BAR),
    ]


def _figures(arguments: argparse.Namespace, outcomes: dict[str, Outcome]) -> dict[str, Any]:
    return {
        "quick": arguments.quick,
        "http": arguments.http,
        "loop": arguments.loop,
        "wrk": wrk.version(),
        "ratios": {
            app: {name: round(ratio, 3) for name, ratio in _ratios(outcome.rates).items()}
            for app, outcome in outcomes.items()
        },
        "operations_per_second": {
            app: {
                client: {
                    "singles": round(median(rates.singles)),
                    "batches": round(median(rates.batches)),
                }
                for client, rates in outcome.rates.items()
            }
            for app, outcome in outcomes.items()
        },
        "milliseconds_from_far": {
            app: {
                way: {"p50": round(median(waits), 2), "p95": round(_p95(waits), 2)}
                for way, waits in outcome.waits.items()
            }
            for app, outcome in outcomes.items()
        },
    }


def main() -> int:
    """
    Run from the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--http", choices=("httptools", "h11"), default="h11")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="asyncio")
    parser.add_argument("--quick", action="store_true", help="one short round, to try it out")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bar is missed")
    return anyio.run(compare, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
