"""
What one Redis carries: its processor time, its commands and its bytes for each operation.

Batches of 1000 operations, in chunks of 50, are accepted, claimed and carried to their end by
calls of the store, as the workers of a queue make them, with so many results in each save. How many
that are depends on how long operations take: what ends within ten milliseconds is saved together.
The rest is arithmetic, printed as such: two loads, with what they take of Redis. How evenly batches
spread over the nodes of a cluster, where a batch is on one of sixteen shards, is drawn by lot.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

# From here on imports are looked up from the root: this folder would hide the library's own http.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import anyio
import redis

from asgi_batch._core.models import Operation
from asgi_batch._core.packing import pack_operations
from asgi_batch._core.records import Entry, NewBatch, Saving
from asgi_batch.stores._shards import SHARDS
from asgi_batch.stores.redis import RedisStore
from benchmarks import redis_process
from benchmarks.redis_process import url_of
from benchmarks.report import Bar, finish, table

#: Part of a processor that the smaller load may take of Redis.
LOAD_BAR = 0.25

_SIZE = 1000
_CHUNK = 50
_LEASE = 30.0
_BODY = b'{"name":"Ada Lovelace","email":"ada@example.com"}'
_RESULT = b'{"id":"%d","status":201,"result":{"id":%d,"name":"Ada Lovelace"}}'
_CALLER = b"x" * 400
# Batches of a thousand operations an hour.
_LOADS = (10_000, 1_000_000)
_NODES = (1, 2, 4, 8, 16)
# Seconds for which results are kept.
_KEPT = {"24 h": 86_400, "1 h": 3600, "10 min": 600}


class Cost(NamedTuple):
    """
    What one operation takes of Redis.
    """

    results: int
    microseconds: float
    calls: float
    received: float
    sent: float


class Room(NamedTuple):
    """
    Bytes in Redis for one batch.
    """

    accepted: float
    kept: float


async def measure(client: "redis.Redis", sizes: Sequence[int], batches: int) -> list[Cost]:
    """
    What it takes to carry *batches* out, for each number of results in a save.
    """
    store = RedisStore(url_of(client), allow_clear_text=True)
    await store.open(3600.0)
    costs = []
    for results in sizes:
        client.flushall()
        await _carry(store, results, 1)
        before = _figures(client)
        await _carry(store, results, batches)
        spent = [after - each for each, after in zip(before, _figures(client), strict=True)]
        seconds, calls, received, sent = [each / (batches * _SIZE) for each in spent]
        costs.append(Cost(results, seconds * 1e6, calls, received, sent))
    await store.aclose()
    return costs


async def weigh(client: "redis.Redis", batches: int) -> Room:
    """
    What batches take while they wait, and after their end.
    """
    store = RedisStore(url_of(client), allow_clear_text=True)
    await store.open(3600.0)
    client.flushall()
    sizes = [_memory(client)]
    ids = [await _accept(store) for _ in range(batches)]
    sizes.append(_memory(client))
    for batch_id in ids:
        await _finish(store, batch_id, _CHUNK)
    sizes.append(_memory(client))
    await store.aclose()
    empty, accepted, kept = (each / batches for each in sizes)
    return Room(accepted - empty, kept - empty)


async def _carry(store: RedisStore, results: int, batches: int) -> None:
    for _ in range(batches):
        await _finish(store, await _accept(store), results)


async def _accept(store: RedisStore) -> str:
    operations = [
        Operation(
            index=index,
            id=str(index),
            method="POST",
            path="/users",
            raw_path=b"/users",
            query_string=b"",
            headers=((b"content-type", b"application/json"),),
            replaces=frozenset(),
            body=_BODY,
            timeout=None,
        )
        for index in range(_SIZE)
    ]
    batch = NewBatch(
        batch_id=store.new_id(),
        total=_SIZE,
        chunks=list(pack_operations(operations, _CHUNK)),
        chunk_size=_CHUNK,
        delay=30.0,
        caller=_CALLER,
    )
    await store.create(batch, limit=1_000_000)
    return batch.batch_id


async def _finish(store: RedisStore, batch_id: str, results: int) -> None:
    for chunk in range(_SIZE // _CHUNK):
        claim = await store.claim(_LEASE, batch_id, chunk)
        assert claim is not None
        indexes = claim.indexes
        for start in range(0, _CHUNK, results):
            saved = indexes[start : start + results]
            saving = Saving(
                entries=[Entry(each, "succeeded", _RESULT % (each, each)) for each in saved],
                allowed=saved[-1] + 1,
                ends=saved[-1] == indexes[-1],
                lease=_LEASE,
            )
            await store.save(claim.hold, saving)


def _figures(client: "redis.Redis") -> tuple[float, float, float, float]:
    found: dict[str, Any] = client.info()
    spent = found["used_cpu_user"] + found["used_cpu_sys"]
    calls = found["total_commands_processed"]
    return spent, calls, found["total_net_input_bytes"], found["total_net_output_bytes"]


def _memory(client: "redis.Redis") -> float:
    found: dict[str, Any] = client.info("memory")
    return float(found["used_memory"])


def spread(batches: int, seed: int = 1) -> dict[int, float]:
    """
    By number of nodes: what the busiest node has to do, over what it would have to on average.
    """
    random = Random(seed)
    shards = Counter(random.randrange(SHARDS) for _ in range(batches))
    return {
        nodes: max(
            sum(count for shard, count in shards.items() if shard % nodes == node)
            for node in range(nodes)
        )
        * nodes
        / batches
        for nodes in _NODES
    }


def _print_loads(costs: Sequence[Cost], room: Room) -> None:
    slow, quick = costs[0], costs[-1]
    rows = []
    for load in _LOADS:
        rate = load * _SIZE / 3600
        rows.append(
            (
                f"{load} batches an hour",
                f"{rate:.0f}",
                *(f"{rate * each.microseconds / 1e6:.2f}" for each in (slow, quick)),
                f"{rate * (slow.received + slow.sent) * 8 / 1e6:.0f}",
                *(f"{load / 3600 * each * room.kept / 1e9:.1f}" for each in _KEPT.values()),
            )
        )
    print("\nWhat that means; cores are those of Redis, which uses one for commands")
    table(
        (
            "load",
            "operations/s",
            *(f"cores, {each.results} a save" for each in (slow, quick)),
            "Mbit/s",
            *(f"GB, kept {each}" for each in _KEPT),
        ),
        rows,
    )


def main() -> int:
    """
    Run from the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few batches, to try it out")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bar is missed")
    arguments = parser.parse_args()
    if not redis_process.is_installed():
        print(redis_process.MISSING)
        return 2
    batches = 2 if arguments.quick else 50
    with redis_process.redis_running() as client:
        costs = anyio.run(measure, client, (1, 2, 5, 10, 25, 50), batches)
        room = anyio.run(weigh, client, batches)
        server: dict[str, Any] = client.info("server")
    print(
        f"Redis {server['redis_version']}, batches of {_SIZE} in chunks of {_CHUNK}, an operation"
    )
    table(
        ("results in a save", "µs of Redis", "commands", "bytes in", "bytes out", "most a second"),
        [
            (
                f"{each.results}",
                f"{each.microseconds:.1f}",
                f"{each.calls:.3f}",
                f"{each.received:.0f}",
                f"{each.sent:.0f}",
                f"{1e6 / each.microseconds:.0f}",
            )
            for each in costs
        ],
    )
    print(f"\nBytes of a batch: {room.accepted:.0f} accepted, {room.kept:.0f} after its end")
    _print_loads(costs, room)
    shares = spread(10_000)
    print("\nThe busiest node over the average, 10 000 batches drawn by lot")
    table(("nodes", "load"), [(str(nodes), f"{share:.3f}") for nodes, share in shares.items()])
    load = _LOADS[0] * _SIZE / 3600 * costs[0].microseconds / 1e6
    figures = {
        "quick": arguments.quick,
        "redis": server["redis_version"],
        "per_operation": [each._asdict() for each in costs],
        "bytes_of_a_batch": room._asdict(),
        "busiest_node": shares,
    }
    name = "cores of Redis, 10 000 batches an hour, a save for each result"
    return finish(
        "scale", figures, [Bar(name=name, value=load, limit=LOAD_BAR)], check=arguments.check
    )


if __name__ == "__main__":
    sys.exit(main())
