"""
How batches scale over the workers of a queue, and what it costs to hand them over.

A batch of 1000 operations that wait 20 ms each goes to a Celery worker on Redis whose pool has one,
two and four processes: from its acceptance to its end, by the clock of the store. Then batches of
one operation are sent one by one, to the server itself and to workers over each broker: from the
request to the moment at which the operation is called. Everything is on this machine, and keeps
nothing on disk but RabbitMQ.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

# From here on imports are looked up from the root: this folder would hide the library's own http.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "tests"))

import httpx

from benchmarks.report import Bar, finish, table
from brokers import rabbitmq, sqs
from redis_server import redis_server
from servers import free_port, start

_BULLMQ_URL = "bullmq+"
_SIZE = 1000
_SECONDS = 0.02
_BARS = {2: 1.8, 4: 3.2}
_CELERY = "-m celery -A benchmarks.queued_app:celery_app worker -l INFO --without-mingle -c {count}"
_BULLMQ = "-m asgi_batch.worker benchmarks.queued_app:app"
_SERVER = "-m uvicorn benchmarks.queued_app:app --no-access-log --port {port}"
_BROKERS = ("none", "Celery, Redis", "Celery, RabbitMQ", "Celery, SQS", "BullMQ")


class Effort(NamedTuple):
    """
    How long to measure.
    """

    rounds: int
    batches: int
    workers: tuple[int, ...]
    brokers: tuple[str, ...]


_EFFORT = Effort(rounds=5, batches=100, workers=(1, 2, 4), brokers=_BROKERS)
_QUICK = Effort(rounds=1, batches=3, workers=(1, 2), brokers=("none", "BullMQ"))


@contextmanager
def program(command: str, ready: str, env: dict[str, str]) -> Iterator[None]:
    """
    Run a program of Python until the context ends, once it has said that it is *ready*.
    """
    with TemporaryDirectory() as folder:
        process, log = start([sys.executable, *command.split()], Path(folder), env)
        try:
            while ready not in log.read_text():
                if process.poll() is not None:
                    raise SystemExit(log.read_text())
                time.sleep(0.02)
            yield
        finally:
            process.terminate()
            process.wait()


@contextmanager
def serving(store: str, broker: str, workers: int) -> Iterator[httpx.Client]:
    """
    A client of a server whose batches are carried out by as many processes.
    """
    env = {"STORE": store, "BROKER": broker}
    with ExitStack() as stack:
        if broker.startswith(_BULLMQ_URL):
            for _ in range(workers):
                stack.enter_context(program(_BULLMQ, "Batches are carried out.", env))
        elif broker:
            stack.enter_context(program(_CELERY.format(count=workers), " ready.", env))
        port = free_port()
        stack.enter_context(program(_SERVER.format(port=port), "running on", env))
        url = f"http://127.0.0.1:{port}"
        yield stack.enter_context(httpx.Client(base_url=url, timeout=60))


def carry_out(client: httpx.Client, count: int, seconds: float) -> tuple[dict[str, Any], str]:
    """
    Send a batch and wait for its end: its status then, and where its results are.
    """
    operation = {"method": "GET", "path": f"/wait/{seconds:.3f}"}
    answer = client.post(
        "/batch", json={"operations": [operation] * count}, headers={"prefer": "respond-async"}
    ).json()
    while True:
        status = client.get(answer["statusUrl"]).json()
        if status["finishedAt"]:
            assert status["succeeded"] == count, status
            return status, answer["resultsUrl"]
        time.sleep(0.005 + seconds)


def throughputs(effort: Effort, store: str, broker: str) -> dict[int, float]:
    """
    Operations per second, by the number of processes.
    """
    found = {}
    for workers in effort.workers:
        with serving(store, broker, workers) as client:
            # Until each process has its app.
            for _ in range(2):
                carry_out(client, _SIZE, _SECONDS)
            found[workers] = median(
                _SIZE / _seconds_of(carry_out(client, _SIZE, _SECONDS)[0])
                for _ in range(effort.rounds)
            )
    return found


def _seconds_of(status: dict[str, Any]) -> float:
    begin, end = (datetime.fromisoformat(status[each]) for each in ("createdAt", "finishedAt"))
    return (end - begin).total_seconds()


def waits(effort: Effort, store: str, broker: str) -> list[float]:
    """
    Milliseconds from the request of a batch to the call of its operation.
    """
    found = []
    with serving(store, broker, 1) as client:
        for _ in range(effort.batches + 1):
            sent = time.monotonic()
            _, results = carry_out(client, 1, 0.0)
            (result,) = client.get(results).json()["results"]
            found.append(1000 * (result["result"]["began"] - sent))
    return found[1:]


@contextmanager
def broker_of(name: str, folder: Path) -> Iterator[str]:
    """
    The URL of a broker.
    """
    if name == "none":
        yield ""
    elif name in ("Celery, RabbitMQ", "Celery, SQS"):
        with (rabbitmq if "Rabbit" in name else sqs)(folder) as broker:
            yield broker.url
    else:
        with redis_server(folder) as server:
            yield (_BULLMQ_URL if name == "BullMQ" else "") + server.url


def report(speeds: dict[int, float], costs: dict[str, list[float]], quick: bool) -> list[Bar]:
    """
    Print what came out; the bars.
    """
    print(f"A batch of {_SIZE} operations of {1000 * _SECONDS:.0f} ms, Celery on Redis")
    table(
        ("processes", "operations / s", "times one"),
        [(str(n), f"{each:.0f}", f"{each / speeds[1]:.2f}") for n, each in speeds.items()],
    )
    print("\nMilliseconds from the request of a batch of one operation to its call")
    table(
        ("carried over", "median", "p95", "more than none"),
        [
            (
                name,
                f"{median(each):.1f}",
                f"{sorted(each)[int(0.95 * len(each))]:.1f}",
                f"{median(each) - median(costs['none']):.1f}",
            )
            for name, each in costs.items()
        ],
    )
    return [
        Bar(name=f"{n} processes / one", value=speeds[n] / speeds[1], limit=limit, at_least=True)
        for n, limit in _BARS.items()
        if not quick
    ]


def main() -> int:
    """
    Measure, and print the figures as the last line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="try it out; the figures say little")
    parser.add_argument("--check", action="store_true", help="fail where a bar does not hold")
    arguments = parser.parse_args()
    effort = _QUICK if arguments.quick else _EFFORT
    for command in ("redis-server", *([] if arguments.quick else ["rabbitmq-server", "socat"])):
        if shutil.which(command) is None:
            print(f"{command} is missing. Install it with your package manager.")
            return 1
    costs = {}
    with TemporaryDirectory() as place, redis_server(Path(place) / "store") as store:
        folder = Path(place)
        with broker_of("Celery, Redis", folder / "first") as broker:
            speeds = throughputs(effort, store.url, broker)
        for number, name in enumerate(effort.brokers):
            with broker_of(name, folder / str(number)) as broker:
                costs[name] = waits(effort, store.url, broker)
    bars = report(speeds, costs, arguments.quick)
    figures = {
        "quick": arguments.quick,
        "operations_per_second": {str(n): round(each) for n, each in speeds.items()},
        "milliseconds_to_the_call": {name: round(median(each), 2) for name, each in costs.items()},
    }
    return finish("queues", figures, bars, check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
