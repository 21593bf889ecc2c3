"""
Kill, pause and cut off servers at random, and check what they did: the command line of the chaos.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Final as Constant

import httpx

from asgi_batch.stores._shards import Keys, digest_of
from chaos.checkers import c9_nothing_is_left, check, shared
from chaos.client import Client, submission_of
from chaos.effect_log import EffectLog
from chaos.faults import Fault, plan_of
from chaos.fleet import Fleet
from chaos.history import Final, History, Leftovers, Run
from chaos.settings import CALL

# Seconds in which all batches end once nothing disturbs them any more.
_QUIET: Constant = 30.0
# Parts of the servers that have a queue.
_QUEUED: Constant = (0.0, 0.6, 1.0, 1.0)
# Seconds in which connections that are no longer needed are closed.
_CLOSE: Constant = 5.0
_KEYS: Constant = Keys("ab")


class Iteration:
    """
    Some batches, the faults that they meet, and what comes of it.

    Args:
        fleet: What is hurt.
        log: What operations do.
        seed: Determines the batches and the faults.
    """

    def __init__(self, fleet: Fleet, log: EffectLog, seed: str) -> None:
        self._fleet = fleet
        self._log = log
        self._rng = Random(seed)
        self._seed = seed
        self.plan: list[Fault] = plan_of(self._rng, len(fleet.workers))
        share = self._rng.choice(_QUEUED)
        self.queued = [i for i, _ in enumerate(fleet.workers) if self._rng.random() < share]
        self.history = History()
        self.runs: list[Run] = []
        self.finals: dict[str, list[Final]] = {}

    async def run(self) -> list[str]:
        """
        All violations.
        """
        await self._fleet.begin(self.history, self.queued)
        urls = [worker.url for worker in self._fleet.workers]
        async with httpx.AsyncClient() as http:
            client = Client(http, urls, self._rng, self.history)
            await self._meet(client)
            violations = await self._settle(client, urls)
        runs, late = self._log.read()
        tags = self.history.submissions
        self.runs = [run for run in runs if run.tag in tags]
        self.history.disturbances += late
        self.history.commits = [each for each in self._log.commits if each.tag in tags]
        violations += check(self.history, self.runs, self.finals)
        violations += await self._check_leftovers()
        violations += self._fleet.surprises
        self._fleet.surprises.clear()
        self._fleet.redis.client.flushall()
        return violations

    def story(self) -> str:
        """
        What has happened, for whoever has to find out why.
        """
        lines = [f"seed {self._seed}", f"queue {self.queued}", *map(str, self.plan)]
        lines.append(f"chunks {self.history.chunk_sizes}")
        lines += map(str, self.history.submissions.values())
        lines += map(str, sorted(self.history.disturbances, key=lambda each: each.start))
        lines += map(str, sorted(self.runs, key=lambda run: run.start))
        lines += map(str, sorted(self.history.commits, key=lambda each: each.at))
        seen = [*self.history.observations, *self.history.cancellations]
        lines += map(str, sorted(seen, key=lambda each: each.asked_at))
        lines += [str(told[0]) for told in self.finals.values()]
        return "\n".join([*lines, f"places {self.history.places}"])

    async def _meet(self, client: Client) -> None:
        count = self._rng.randint(4, 6)
        batches = [
            (
                submission_of(self._rng, f"{self._seed}:{number}".replace(" ", "-")),
                self._rng.uniform(0.0, 0.7),
                self._rng.uniform(0.0, 0.8) if self._rng.random() < 0.3 else None,
            )
            for number in range(count)
        ]
        async with asyncio.TaskGroup() as tasks:
            hurting = [tasks.create_task(self._fleet.hurt(fault)) for fault in self.plan]
            tasks.create_task(self._heal_after(hurting))
            for batch in batches:
                tasks.create_task(self._attend(client, *batch))

    async def _heal_after(self, hurting: list[asyncio.Task[None]]) -> None:
        if hurting:
            await asyncio.wait(hurting)
        await self._fleet.heal()

    async def _attend(self, client: Client, submission, at: float, cancel: float | None) -> None:
        await asyncio.sleep(at)
        batch_id = await client.submit(submission)
        if batch_id is None:
            return
        async with asyncio.TaskGroup() as tasks:
            if cancel is not None:
                tasks.create_task(self._cancel_later(client, batch_id, cancel))
            with suppress(TimeoutError):
                async with asyncio.timeout(_QUIET + 10):
                    await client.follow(batch_id)

    async def _cancel_later(self, client: Client, batch_id: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(_QUIET):
                await client.cancel(batch_id)

    async def _settle(self, client: Client, urls: list[str]) -> list[str]:
        """
        Wait for the end of all batches that there are, and ask everybody about them.
        """
        await asyncio.sleep(self._last_acceptance() - time.monotonic())
        redis, deadline = self._fleet.redis.client, time.monotonic() + _QUIET
        while any(redis.exists(queue) for queue in _KEYS.queues()):
            if time.monotonic() > deadline:
                return [f"C1: no end after {_QUIET} seconds of quiet: {[*redis.scan_iter()]}"]
            await asyncio.sleep(0.02)
        ids = {key.split(":")[3] for key in redis.scan_iter() if key.endswith(":rec")}
        for batch_id in sorted(ids):
            size = redis.hget(_KEYS.of(batch_id)[0], "chunk_size")
            self.history.chunk_sizes[batch_id] = int(str(size))
            asked = (client.final(url, batch_id) for url in urls)
            self.finals[batch_id] = list(await asyncio.gather(*asked))
        return []

    def _last_acceptance(self) -> float:
        """
        When the last batch is accepted: one whose client has given up asking is so for as long as
        a call to Redis goes on.
        """
        if not any(each.unknown for each in self.history.submissions.values()):
            return 0.0
        return max((each.end for each in self.history.disturbances), default=0.0) + CALL

    async def _check_leftovers(self) -> list[str]:
        deadline = time.monotonic() + _CLOSE
        while True:
            violations = list(c9_nothing_is_left(self._leftovers()))
            if not violations or time.monotonic() > deadline:
                return violations
            await asyncio.sleep(0.1)

    def _leftovers(self) -> Leftovers:
        redis, fleet = self._fleet.redis.client, self._fleet
        workers = tuple(worker.files() for worker in fleet.workers)
        sizes = self.history.chunk_sizes
        expected = {
            key for each, told in self.finals.items() for key in _keys_of(told[0], sizes[each])
        }
        for submission in self.history.submissions.values():
            if submission.key is not None:
                digest = digest_of(submission.key, "")
                expected |= {_KEYS.of_name(batch_id, digest) for batch_id in submission.batch_ids}
        return Leftovers(
            keys={key: redis.ttl(key) for key in redis.scan_iter()},
            expected=frozenset(expected),
            workers=workers,
            clients=len(redis.client_list()),
            clients_expected=1 + sum(link.connections for link in fleet.links),
        )


def _keys_of(final: Final, chunk_size: int) -> list[str]:
    record, operations, results, *_ = _KEYS.of(final.batch_id)
    may_be_tried_again = final.document["failed"] + final.document["skipped"] > 0
    count = math.ceil(final.document["total"] / chunk_size) if chunk_size else 0
    records_of_chunks = _KEYS.of_chunks(final.batch_id, count)[::2]
    return [record, results, *records_of_chunks, *([operations] if may_be_tried_again else [])]


async def run(
    iterations: int,
    seed: int,
    folder: Path,
    *,
    first: int = 0,
    places: int = 3,
    tell: Callable[[str], object] = print,
) -> dict[str, float]:
    """
    The figures of a whole run; it stops at the first iteration with violations.
    """
    began, figures = time.monotonic(), Counter[str]()
    async with Fleet(folder, places).running() as fleet:
        log = EffectLog(fleet.effects)
        for number in range(first, first + iterations):
            started = time.monotonic()
            iteration = Iteration(fleet, log, f"{seed}:{number}")
            violations = await iteration.run()
            figures += _figures_of(iteration)
            figures["iterations"] += 1
            figures["violations"] += len(violations)
            if violations:
                tell(iteration.story())
                tell("\n".join(violations))
                break
            names = ", ".join(fault.name for fault in iteration.plan) or "nothing"
            queue = f"queue at {iteration.queued}" if iteration.queued else "no queue"
            tell(f"{number}: {time.monotonic() - started:.1f} s, {queue}, {names}")
    names = (
        "iterations operations kills terms pauses redis_faults link_faults unknown_outcomes"
        " repeated_operations lost_answers chunked_batches shared_batches"
        " atomic_batches repeated_batches commits violations"
    )
    seconds = round(time.monotonic() - began, 1)
    return {**{name: figures[name] for name in names.split()}, "seconds": seconds}


def _figures_of(iteration: Iteration) -> Counter[str]:
    figures, history = Counter[str](), iteration.history
    for each in history.disturbances:
        names = {"kill": "kills", "term": "terms", "pause": "pauses"}
        names |= {"freeze": "redis_faults", "outage": "redis_faults", "late": "standstills"}
        figures[names.get(each.kind, "link_faults")] += 1
    results = [each for told in iteration.finals.values() for each in told[0].results]
    figures["operations"] = len(results)
    figures["unknown_outcomes"] = sum(
        each.get("source") == "batch" and each["status"] == 502 for each in results
    )
    figures["repeated_operations"] = sum(run.attempt > 1 for run in iteration.runs)
    figures["chunked_batches"] = sum(size > 0 for size in history.chunk_sizes.values())
    figures["shared_batches"] = len(shared(history, iteration.runs))
    atomic = {each.tag for each in history.submissions.values() if each.commit is not None}
    figures["atomic_batches"] = len(atomic)
    figures["repeated_batches"] = len(
        {run.tag for run in iteration.runs if run.tag in atomic and run.attempt > 1}
    )
    figures["commits"] = len(history.commits)
    figures["lost_answers"] = sum(each.unknown for each in history.submissions.values())
    return figures


def main() -> int:
    """
    Run, and print the figures as the last line; 1 where something was violated.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first iteration")
    parser.add_argument("--workers", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(
            run(
                given.iterations,
                given.seed,
                Path(folder),
                first=given.first,
                places=given.workers,
                tell=_tell,
            )
        )
    _tell(json.dumps({"seed": given.seed, **figures}))
    return int(figures["violations"] > 0)


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
