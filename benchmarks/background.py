"""
What it costs to carry batches out after their request, with Redis on the same machine.

A batch of 1000 operations on the Starlette route, half of them GET, half POST, is carried out
later and answered at once in turn, in this process: from the 202 to the last result stored, over
the whole synchronous answer. Then a server of one process carries out four batches at a time, and
other clients ask it for something: the status of a batch, or a direct request, whose waits are
held against those of the idle server. The operations compute in one case and await 5 ms in the
other. In the end a server is killed, and another goes on with its batch. Redis keeps nothing on
disk.
"""

import argparse
import sys
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

# From here on imports are looked up from the root: this folder would hide the library's own http.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import anyio
import redis

from benchmarks import carrying, neighbours, recovery, redis_process
from benchmarks.carrying import Costs
from benchmarks.neighbours import Waits, part
from benchmarks.programs import running
from benchmarks.report import Bar, finish, table

RATIO_BAR = 1.6
COMMANDS_BAR = 0.1
WAITS_BAR = 3.0
# Seconds beyond lease and scan.
RECOVERY_BAR = 1.0

_SIZE = 1000


class Effort(NamedTuple):
    """
    How long to measure.
    """

    rounds: int
    requests: int
    waits: int
    seconds: float
    kills: int
    lease: float
    scan: float


_EFFORT = Effort(rounds=40, requests=200, waits=15, seconds=5.0, kills=5, lease=3.0, scan=0.5)
_QUICK = Effort(rounds=2, requests=20, waits=1, seconds=0.5, kills=1, lease=1.0, scan=0.2)


class Outcome(NamedTuple):
    """
    All that came out.
    """

    costs: Costs
    waits: Waits
    polls: float
    recoveries: list[float]


def measure(client: "redis.Redis", arguments: argparse.Namespace) -> Outcome:
    """
    Measure everything, each in its turn.
    """
    effort = _QUICK if arguments.quick else _EFFORT
    options = {"use_uvloop": arguments.loop == "uvloop"}
    costs = anyio.run(
        lambda: carrying.measure(client, size=_SIZE, rounds=effort.rounds), backend_options=options
    )
    server = (arguments.http, arguments.loop)
    url = redis_process.url_of(client)
    with running("benchmarks.later_server", url, *server, "30", "5") as port:
        waits = neighbours.measure_waits(
            port, size=_SIZE, rounds=effort.waits, requests=effort.requests
        )
        polls = neighbours.measure_polls(port, size=_SIZE, seconds=effort.seconds)
    recoveries = recovery.measure(
        client, lease=effort.lease, scan=effort.scan, rounds=effort.kills, server=server
    )
    return Outcome(costs, waits, polls, recoveries)


def report(redis_version: str, outcome: Outcome, arguments: argparse.Namespace) -> int:
    """
    Print what came out.
    """
    effort = _QUICK if arguments.quick else _EFFORT
    costs, waits = outcome.costs, outcome.waits
    print(f"A batch of {_SIZE} operations on {arguments.loop}, medians of alternating rounds")
    table(("per operation", ""), _cost_rows(costs))
    print(f"\nMilliseconds for a direct request, {arguments.http} and {arguments.loop}")
    print(f"while {neighbours.BATCHES} batches of {_SIZE} operations run, and while none does")
    table(("operations", "p50", "p99", "p99 / idle", "requests"), _wait_rows(waits))
    print(f"\nPolls of the status per second meanwhile (operations await): {outcome.polls:.0f}")
    print(f"\nSeconds from SIGKILL to the next claim; lease {effort.lease}, scan {effort.scan}")
    table(
        ("", "seconds"),
        [(f"{number}", f"{each:.2f}") for number, each in enumerate(outcome.recoveries, 1)],
    )
    figures = {
        "quick": arguments.quick,
        "http": arguments.http,
        "loop": arguments.loop,
        "redis": {"server": redis_version, "client": redis.__version__},
        **_figures(outcome, effort),
    }
    return finish("background", figures, _bars(outcome, effort), check=arguments.check)


def _cost_rows(costs: Costs) -> list[tuple[str, str]]:
    return [
        ("µs, answered at once", f"{median(costs.now):.1f}"),
        ("µs, carried out later", f"{median(costs.later):.1f}"),
        ("later / at once", f"{costs.ratio:.2f}"),
        ("commands of Redis", f"{median(costs.commands):.3f}"),
        ("of these sent, the others in scripts", f"{costs.sent:.3f}"),
        ("bytes in Redis when accepted", f"{costs.accepted:.0f}"),
        ("bytes in Redis after the end", f"{costs.kept:.0f}"),
        ("saves of the whole batch", f"{median(costs.saves):.0f}"),
    ]


def _named(waits: Waits) -> dict[str, list[float]]:
    return {
        "none": waits.idle,
        "computing": waits.computing,
        "awaiting 5 ms": waits.awaiting,
        "and accepted": waits.accepting,
    }


def _wait_rows(waits: Waits) -> list[tuple[str, ...]]:
    idle = part(waits.idle, 0.99)
    return [
        (
            name,
            f"{part(values, 0.5):.2f}",
            f"{part(values, 0.99):.2f}",
            f"{part(values, 0.99) / idle:.2f}",
            str(len(values)),
        )
        for name, values in _named(waits).items()
    ]


def _bars(outcome: Outcome, effort: Effort) -> list[Bar]:
    costs, waits = outcome.costs, outcome.waits
    idle = part(waits.idle, 0.99)
    limit = effort.lease + effort.scan + RECOVERY_BAR
    slowed = {"operations compute": waits.computing, "operations await": waits.awaiting}
    return [
        Bar(name="batch of 1000: later / at once", value=costs.ratio, limit=RATIO_BAR),
        Bar(
            name="commands of Redis per operation",
            value=median(costs.commands),
            limit=COMMANDS_BAR,
        ),
        *(
            Bar(
                name=f"p99 of direct requests / idle, {name}",
                value=part(values, 0.99) / idle,
                limit=WAITS_BAR,
            )
            for name, values in slowed.items()
        ),
        Bar(name="seconds to recover, the longest", value=max(outcome.recoveries), limit=limit),
    ]


def _figures(outcome: Outcome, effort: Effort) -> dict[str, Any]:
    costs = outcome.costs
    return {
        "operations": _SIZE,
        "microseconds_per_operation": {
            "at_once": round(median(costs.now), 3),
            "later": round(median(costs.later), 3),
        },
        "ratio": round(costs.ratio, 3),
        "redis_per_operation": {
            "commands": round(median(costs.commands), 4),
            "sent": round(costs.sent, 4),
            "bytes_accepted": round(costs.accepted, 1),
            "bytes_finished": round(costs.kept, 1),
        },
        "saves": median(costs.saves),
        "milliseconds_of_direct_requests": {
            name: {"p50": round(part(values, 0.5), 3), "p99": round(part(values, 0.99), 3)}
            for name, values in _named(outcome.waits).items()
        },
        "polls_per_second": round(outcome.polls),
        "recovery": {
            "lease": effort.lease,
            "scan": effort.scan,
            "seconds": [round(each, 3) for each in outcome.recoveries],
            "over_lease": round(median(outcome.recoveries) / effort.lease, 3),
        },
    }


def main() -> int:
    """
    Run from the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--http", choices=("httptools", "h11"), default="h11")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="asyncio")
    parser.add_argument("--quick", action="store_true", help="a round of each, to try it out")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bar is missed")
    arguments = parser.parse_args()
    if not redis_process.is_installed():
        print(redis_process.MISSING)
        return 1
    with redis_process.redis_running() as client:
        redis_version = client.info("server")["redis_version"]
        return report(redis_version, measure(client, arguments), arguments)


if __name__ == "__main__":
    sys.exit(main())
