"""
What it costs to carry a batch out later: time, commands of Redis, and bytes in it.

In one process, without a server: the clock runs from the 202 until the last result is stored.
Against that, the same batch is answered at once by the same middleware, body bytes in and response
bytes out. Reads and writes in turn, as in every benchmark.
"""

import gc
from dataclasses import dataclass, field
from operator import truediv
from statistics import median
from time import perf_counter
from typing import Any

import anyio
import orjson
import redis

from asgi_batch import BatchMiddleware, Limits
from asgi_batch.stores.redis import RedisStore
from asgi_batch.types import Message
from benchmarks.apps import batch_of, starlette
from benchmarks.asgi import BatchCall, batch_scope, call_batch
from benchmarks.redis_process import commands, noting_what_is_sent, url_of

_LATER = (b"prefer", b"respond-async")
# Seconds between two batches.
_PAUSE = 0.05


@dataclass(slots=True)
class Costs:
    """
    What was measured in all rounds.

    Args:
        now: Microseconds per operation of a batch that is answered at once.
        later: The same of one that is carried out later.
        commands: What Redis carried out, also within scripts, per operation.
        sent: Commands that were sent to Redis, per operation, in one more round.
        saves: How often a batch was saved.
        kept: Bytes in Redis per operation, after the end.
        accepted: The same before anything has run.
    """

    now: list[float] = field(default_factory=list)
    later: list[float] = field(default_factory=list)
    commands: list[float] = field(default_factory=list)
    saves: list[int] = field(default_factory=list)
    sent: float = 0.0
    kept: float = 0.0
    accepted: float = 0.0

    @property
    def ratio(self) -> float:
        """
        What "later" costs over "now"; the median of what each round says.
        """
        return median(map(truediv, self.later, self.now))


class NotingStore(RedisStore):
    """
    Notes when a batch has been stored to its end, and how many bytes it took when it was accepted.
    """

    def __init__(self, client: "redis.Redis") -> None:
        super().__init__(url_of(client))
        self._client = client
        self.begin()

    def begin(self) -> None:
        """
        Forget the last batch.
        """
        self.ended = anyio.Event()
        self.ended_at = 0.0
        self.saves = 0
        self.accepted = 0

    async def create(self, *args: Any, **members: Any) -> Any:
        created = await super().create(*args, **members)
        self.accepted = self.size_of(created.snapshot.batch_id)
        return created

    async def save(self, hold: Any, saving: Any) -> Any:
        standing = await super().save(hold, saving)
        self.saves += 1
        if saving.ends:
            self.ended_at = perf_counter()
            self.ended.set()
        return standing

    def size_of(self, batch_id: str) -> int:
        """
        Bytes in Redis of all that is kept of a batch.
        """
        keys = [key for key in self._keys.of(batch_id)[:3] if self._client.exists(key)]
        return sum(self._client.memory_usage(key, samples=0) for key in keys)


class LaterCall(BatchCall):
    """
    A batch request that notes when it was answered.
    """

    answered_at = 0.0

    async def send(self, message: Message) -> None:
        await super().send(message)
        self.answered_at = perf_counter()


async def measure(client: "redis.Redis", *, size: int, rounds: int) -> Costs:
    """
    Measure batches of *size* operations, now and later in turn.
    """
    store, costs = NotingStore(client), Costs()
    document = batch_of(size)
    middleware = BatchMiddleware(starlette, store=store, limits=Limits(sync_operations=size))
    async with middleware.running():
        await _check(middleware, store, document)
        for _ in range(rounds):
            gc.collect()
            started = perf_counter()
            await call_batch(middleware, document)
            costs.now.append((perf_counter() - started) / size * 1e6)
            gc.collect()
            client.config_resetstat()
            _, seconds = await _later(middleware, store, document)
            costs.later.append(seconds / size * 1e6)
            costs.commands.append(commands(client) / size)
            costs.saves.append(store.saves)
        with noting_what_is_sent(client) as sent:
            batch_id, _ = await _later(middleware, store, document)
        costs.sent = len(sent) / size
        costs.accepted, costs.kept = store.accepted / size, store.size_of(batch_id) / size
    return costs


async def _later(
    middleware: BatchMiddleware, store: NotingStore, document: bytes
) -> tuple[str, float]:
    """
    Have a batch carried out later: its id, and the seconds from the 202 to its end.
    """
    store.begin()
    call = LaterCall(document)
    scope = batch_scope(document)
    scope["headers"] = [*scope["headers"], _LATER]
    await middleware(scope, call.receive, call.send)
    await store.ended.wait()
    # What follows the end is not to meet the next batch.
    await anyio.sleep(_PAUSE)
    if call.status != 202:
        raise SystemExit(f"The batch was answered with {call.status}, not with 202.")
    return orjson.loads(b"".join(call.chunks))["batchId"], store.ended_at - call.answered_at


async def _check(middleware: BatchMiddleware, store: NotingStore, document: bytes) -> None:
    expected = orjson.loads(await call_batch(middleware, document))["results"]
    batch_id, _ = await _later(middleware, store, document)
    page = await store.results(batch_id, after=-1, limit=len(expected), outcome=None)
    if page is None or [orjson.loads(entry.result) for entry in page.entries] != expected:
        raise SystemExit("The batch does not come to the same later as now.")
