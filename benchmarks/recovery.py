"""
How long a batch stands still when its process is killed.

Two servers share a store. The one that carries a batch out is ended by SIGKILL, and the clock runs
until the other has taken the batch over, as Redis shows it. The other must get on with it then.
"""

from contextlib import suppress
from time import perf_counter, sleep

import orjson
import redis

from asgi_batch.stores._shards import Keys
from benchmarks.neighbours import Connection, request, submission
from benchmarks.programs import running
from benchmarks.redis_process import url_of

_OPERATIONS = 1000
_PATIENCE = 60.0
_KEYS = Keys("ab")


def measure(
    client: "redis.Redis", *, lease: float, scan: float, rounds: int, server: tuple[str, str]
) -> list[float]:
    """
    Seconds from the SIGKILL to the next claim, of each round.
    """
    return [_measure_once(client, lease=lease, scan=scan, server=server) for _ in range(rounds)]


def _measure_once(
    client: "redis.Redis", *, lease: float, scan: float, server: tuple[str, str]
) -> float:
    arguments = (url_of(client), *server, str(lease), str(scan))
    batch = submission("/waiting", _OPERATIONS, "?seconds=0.05")
    with running("benchmarks.later_server", *arguments) as doomed, Connection(doomed) as connection:
        accepted = orjson.loads(connection.ask(batch))
        record = _KEYS.of(accepted["batchId"])[0]
        _wait_for(client, record, "1")
        # The other one comes second, so that there is no doubt who has the batch.
        with running("benchmarks.later_server", *arguments) as heir:
            return _kill(client, record, connection, heir, accepted)


def _kill(
    client: "redis.Redis", record: str, connection: Connection, heir: int, accepted: dict[str, str]
) -> float:
    ask = request("GET", accepted["statusUrl"])
    started = perf_counter()
    with suppress(ConnectionError):
        connection.ask(request("GET", "/die"))
    _wait_for(client, record, "2")
    seconds = perf_counter() - started
    with Connection(heir) as other:
        before = status = orjson.loads(other.ask(ask))
        if before["completed"] == _OPERATIONS:
            raise SystemExit("The batch was over before its process was killed.")
        while status["completed"] == before["completed"]:
            sleep(0.02)
            status = orjson.loads(other.ask(ask))
        other.ask(request("DELETE", f"/batch/{accepted['batchId']}"))
    return seconds


def _wait_for(client: "redis.Redis", record: str, epoch: str) -> None:
    deadline = perf_counter() + _PATIENCE
    while client.hget(record, "epoch") != epoch.encode():
        if perf_counter() > deadline:
            raise SystemExit("Nobody has taken the batch over.")
        sleep(0.002)
