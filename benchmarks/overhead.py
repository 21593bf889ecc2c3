"""
What an operation costs in a batch, over what it costs to call the app directly.

Both sides run in one process, in alternating rounds: a whole batch call, body bytes in and
response bytes out, and a loop that calls the app once for each operation with scopes made
beforehand. Limits are the defaults, but for `sync_operations`. A third side is the same batch with
`allow`, `deny` and `rate_limit`.
"""

import argparse
import gc
import sys
from collections.abc import Awaitable, Callable
from operator import sub, truediv
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

# From here on imports are looked up from the root: this folder would hide the library's own http.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import anyio
import orjson

from asgi_batch.types import ASGIApp
from benchmarks.apps import APPS, batch_of, calls, guarded, wrapped
from benchmarks.asgi import call_batch, call_directly, copied, scopes_of
from benchmarks.report import Bar, finish, table

SIZES = (1, 10, 100, 1000)
LOOPS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
RATIO_BARS = {"bare": 7.0, "starlette": 1.60, "fastapi": 1.15}
GROWTH_BAR = 1.15
# By which the ratio may rise with controls.
RISE_BAR = 0.10

# Seconds for one app and one size; the twelve of them take about a minute.
_SECONDS = 4.5
_ROUNDS = (15, 250)
# Operations in one round, at least, so that the clock itself does not count.
_OPERATIONS = 100


class Costs(NamedTuple):
    """
    Microseconds per operation, of all rounds.
    """

    direct: list[float]
    batch: list[float]
    guarded: list[float]

    @property
    def ratio(self) -> float:
        """
        How many direct calls an operation of a batch costs; the median of what each round says.
        """
        return median(map(truediv, self.batch, self.direct))

    @property
    def rise(self) -> float:
        """
        By how much that rises with controls, from round to round.
        """
        more = map(sub, self.guarded, self.batch)
        return median(map(truediv, more, self.direct))


async def compare(app: ASGIApp, size: int, *, seconds: float) -> Costs:
    """
    Measure batches of *size* operations against direct calls.
    """
    document = batch_of(size)
    middleware, controlled = wrapped(app), guarded(app)
    scopes = await scopes_of(document)
    bodies = [call.body for call in calls(size)]
    repeats = max(1, _OPERATIONS // size)

    async def direct() -> float:
        prepared = [
            [(copied(scope), body) for scope, body in zip(scopes, bodies, strict=True)]
            for _ in range(repeats)
        ]
        return await _timed(lambda: call_directly(app, prepared.pop()), repeats) / size

    async def batch(middleware: ASGIApp) -> float:
        return await _timed(lambda: call_batch(middleware, document), repeats) / size

    await _check_answers(app, middleware, size)
    await _check_answers(app, controlled, size)
    started = perf_counter()
    await direct()
    await batch(middleware)
    await batch(controlled)
    least, most = _ROUNDS if seconds else (2, 2)
    rounds = int(seconds / (perf_counter() - started))
    costs = Costs([], [], [])
    for _ in range(min(max(rounds, least), most)):
        costs.direct.append(await direct())
        costs.batch.append(await batch(middleware))
        costs.guarded.append(await batch(controlled))
    return costs


async def _timed(call: Callable[[], Awaitable[object]], repeats: int) -> float:
    gc.collect()
    started = perf_counter()
    for _ in range(repeats):
        await call()
    return (perf_counter() - started) / repeats * 1e6


async def _check_answers(app: ASGIApp, middleware: ASGIApp, size: int) -> None:
    document = batch_of(size)
    prepared = [
        (copied(scope), call.body)
        for scope, call in zip(await scopes_of(document), calls(size), strict=True)
    ]
    expected = [orjson.loads(body) for body in await call_directly(app, prepared)]
    answer = orjson.loads(await call_batch(middleware, document))
    if [result["result"] for result in answer["results"]] != expected:
        raise SystemExit("The batch does not answer what the app answers.")


async def measure(arguments: argparse.Namespace) -> int:
    """
    Measure all apps and sizes, and print what came out.
    """
    seconds = 0.0 if arguments.quick else _SECONDS
    costs = {
        (name, size): await compare(app, size, seconds=seconds)
        for name, app in APPS.items()
        for size in SIZES
    }
    print(f"Microseconds per operation on {arguments.loop}, medians of alternating rounds")
    table(
        "app operations direct batch ratio rise direct-min batch-min rounds".split(),
        [_row(*key, cost) for key, cost in costs.items()],
    )
    return finish("overhead", _figures(arguments, costs), _bars(costs), check=arguments.check)


def _row(name: str, size: int, cost: Costs) -> tuple[str, ...]:
    figures = (median(cost.direct), median(cost.batch), cost.ratio, cost.rise)
    least = (min(cost.direct), min(cost.batch))
    return (
        name,
        str(size),
        *(f"{figure:.2f}" for figure in (*figures, *least)),
        str(len(cost.batch)),
    )


def _figures(arguments: argparse.Namespace, costs: dict[tuple[str, int], Costs]) -> dict[str, Any]:
    return {
        "loop": arguments.loop,
        "quick": arguments.quick,
        "unit": "microseconds per operation",
        "medians": {
            name: {
                str(size): {
                    "direct": round(median(costs[name, size].direct), 3),
                    "batch": round(median(costs[name, size].batch), 3),
                }
                for size in SIZES
            }
            for name in APPS
        },
        "ratios": {
            name: {str(size): round(costs[name, size].ratio, 3) for size in SIZES} for name in APPS
        },
        "rises": {name: round(costs[name, 1000].rise, 3) for name in APPS},
    }


def _bars(costs: dict[tuple[str, int], Costs]) -> list[Bar]:
    ratios = [
        Bar(name=f"{name}: batch of 1000 / direct", value=costs[name, 1000].ratio, limit=limit)
        for name, limit in RATIO_BARS.items()
    ]
    rises = [
        Bar(name=f"{name}: rise with controls", value=costs[name, 1000].rise, limit=RISE_BAR)
        for name in APPS
    ]
    growth = [
        Bar(
            name=f"{name}: an operation of 1000 / of 100",
            value=median(costs[name, 1000].batch) / median(costs[name, 100].batch),
            limit=GROWTH_BAR,
        )
        for name in APPS
    ]
    return ratios + rises + growth


def main() -> int:
    """
    Run from the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", choices=LOOPS, default="asyncio")
    parser.add_argument("--quick", action="store_true", help="two rounds of each, to try it out")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bar is missed")
    arguments = parser.parse_args()
    backend, options = LOOPS[arguments.loop]
    return anyio.run(measure, arguments, backend=backend, backend_options=options)


if __name__ == "__main__":
    sys.exit(main())
