"""
Runs for some minutes and says what has grown and what got lost: ``make soak MINUTES=5``.

Two uvicorn servers share one Redis. Clients send batches that are answered at once and batches for
later, cancel, retry, listen to events and poll. One server is ended by SIGTERM or SIGKILL now and
then, and Redis stands still for a moment. The other server runs on, and is watched. In the end
everything must be as it was before: no batch lost, no key left, no task left.
"""

import argparse
import json
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import anyio
import anyio.to_thread

from redis_server import RedisProc, redis_server
from soak.limits import LIMITS
from soak.load import Load
from soak.watch import GROWTH, Watch, described, shown
from soak.workers import Worker, hurt, workers

#: What may be there after the end that was not before: connections that are kept, threads that
#: wait for work. Tasks come with connections of clients and go with them.
LEFT = {"fds": 15, "threads": 45, "tasks": 2, "keys": 0}


async def run(minutes: float, redis: RedisProc, steady: Worker, restless: Worker) -> int:
    """
    One run: the exit status.
    """
    watch = Watch(redis, steady)
    before = await anyio.to_thread.run_sync(watch.look)
    assert before is not None
    start = anyio.current_time()
    end = start + 60 * minutes
    load, done = Load([steady.url, restless.url], end), Counter[str]()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch.run, start, end, partial(print, flush=True))
        tasks.start_soon(hurt, redis, restless, done, end)
        tasks.start_soon(load.run)
    after = await quiet(watch, before)
    return report(minutes, watch, load, done, before, after)


async def quiet(watch: Watch, before: dict[str, float]) -> dict[str, float]:
    """
    What is held after the end, as soon as it is no more than may be left.
    """
    held = before
    with anyio.move_on_after(LIMITS.result_ttl + 30):
        while True:
            held = await anyio.to_thread.run_sync(watch.look) or held
            if not surplus(before, held) and held is not before:
                break
            await anyio.sleep(1)
    return held


def surplus(before: dict[str, float], after: dict[str, float]) -> list[str]:
    """
    What is left after the end and should not be.
    """
    return [
        f"{name}: {before[name]:.0f} before, {after[name]:.0f} after"
        for name, most in LEFT.items()
        if after[name] - before[name] > most
    ]


def report(
    minutes: float,
    watch: Watch,
    load: Load,
    done: Counter[str],
    before: dict[str, float],
    after: dict[str, float],
) -> int:
    """
    Print what came out; 1 where something grew or got lost.
    """
    trends = {name: watch.trend(name) for name in GROWTH}
    rows = [("", "median", "most", "per hour", "grown", "may grow", "")]
    for name, each in trends.items():
        numbers = (each.median, each.most, each.per_hour, each.growth, each.bound)
        cells = [shown(name, number) for number in numbers]
        rows.append((name, *cells, "pass" if each.holds else "FAIL"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    print(f"\nbefore: {described(before)}\nafter:  {described(after)}")
    left = surplus(before, after)
    grown = [name for name, each in trends.items() if not each.holds]
    print("\n".join([*(f"LOST {each}" for each in load.lost), *(f"LEFT {each}" for each in left)]))
    summary: dict[str, Any] = {
        "soak": {
            "minutes": minutes,
            "sent": dict(load.sent),
            "faults": dict(done),
            "lost": len(load.lost),
            "left": left,
            "grown": grown,
            "growth": {name: round(each.growth) for name, each in trends.items()},
            "bounds": {name: round(each.bound) for name, each in trends.items()},
            "per_hour": {name: round(each.per_hour) for name, each in trends.items()},
            "passed": not (load.lost or left or grown),
        }
    }
    print(json.dumps(summary))
    return int(not summary["soak"]["passed"])


def main() -> int:
    """
    Run from the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", nargs="?", type=float, default=5.0, help="2 or more")
    arguments = parser.parse_args()
    if arguments.minutes < 2:
        parser.error("Less than two minutes tell nothing: write 2 or more.")
    with (
        TemporaryDirectory() as name,
        redis_server(Path(name) / "redis") as redis,
        workers(Path(name), redis.url) as (steady, restless),
    ):
        return anyio.run(run, arguments.minutes, redis, steady, restless)


if __name__ == "__main__":
    sys.exit(main())
