"""
What tests of the background share: processes, stores that fail when told to, and a plain app.

A process is one `Background`; two that share a store stand for two workers of a server.
"""

import json
from contextlib import asynccontextmanager

import anyio

from asgi_batch import BatchMiddleware, Limits
from asgi_batch._core.models import Batch, Operation
from asgi_batch._core.packing import pack_caller, pack_operations
from asgi_batch._core.records import NewBatch, Saving
from asgi_batch.errors import StoreUnavailable
from asgi_batch.stores.memory import MemoryStore
from store_support import eventually
from support import PATIENCE, batch_scope, respond

KEY = (b"idempotency-key", b"once")


class App:
    """
    Notes what starts; answers ``/wait…`` once the gate is open, ``/fail…`` with 500, all else 200.
    """

    def __init__(self):
        self.starts = []
        self.attempts = {}
        self.gate = anyio.Event()

    async def __call__(self, scope, receive, send):
        path = scope["path"]
        self.starts.append(path)
        self.attempts[path] = scope["asgi_batch"].attempt
        if path.startswith("/wait"):
            await self.gate.wait()
        await respond(send, path.encode(), status=500 if path.startswith("/fail") else 200)


class Clock:
    """
    A clock that stands still until it is put forward.
    """

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Store(MemoryStore):
    """
    Outlives its processes, and fails or waits when it is told to.

    Attributes:
        errors: By the name of a method: what it raises.
        holds: By the name of a method: what it waits for before it answers.
        asked: How often each method has been called.
    """

    durability = "store"

    def __init__(self, clock=None):
        super().__init__(clock or Clock())
        self.errors, self.holds, self.asked = {}, {}, {}

    async def aclose(self):
        pass

    async def claim(self, *args):
        await self._meet("claim")
        return await super().claim(*args)

    async def save(self, hold, saving):
        await self._meet("save" if saving.trial is None else "trial")
        return await super().save(hold, saving)

    async def overdue(self, *args):
        await self._meet("overdue")
        return await super().overdue(*args)

    async def release(self, *args):
        await self._meet("release")
        await super().release(*args)

    async def _meet(self, method):
        self.asked[method] = self.asked.get(method, 0) + 1
        await anyio.lowlevel.checkpoint()
        if method in self.holds:
            await self.holds[method].wait()
        if method in self.errors:
            raise self.errors[method]


DOWN = StoreUnavailable("It does not answer.")


def a_process(app, store, on_end=None, **limits):
    """
    A `Background` that looks often; *limits* replace or add.
    """
    limits = {"scan_interval": 0.02, "cancel_interval": 0.02, **limits}
    return BatchMiddleware(app, limits=Limits(**limits), store=store, on_end=on_end)._background


@asynccontextmanager
async def running(app, store, lifespan=None, **limits):
    """
    A process that carries batches out for as long as the context lasts.
    """
    background = a_process(app, store, **limits)
    async with background.opened():
        background.start(lifespan or {})
        with anyio.fail_after(PATIENCE):
            yield background


def operations(*written, **members):
    """
    Operations written as ``"GET /path"``; *members* replace or add.
    """
    return [
        Operation(
            **{
                "index": index,
                "id": f"op{index}",
                "method": each.split(" ")[0],
                "path": each.split(" ")[1],
                "raw_path": each.split(" ")[1].encode(),
                "query_string": b"",
                "headers": (),
                "replaces": frozenset(),
                "body": b"",
                "timeout": None,
                **members,
            }
        )
        for index, each in enumerate(written)
    ]


async def submit(background, *written, stop_on_error=False, scope=None, **members):
    """
    The id of a batch that has been accepted.
    """
    batch = Batch(operations(*written, **members), stop_on_error)
    accepted = await background.submit(batch, scope or batch_scope())
    return accepted.batch_id


async def left_behind(
    store, *written, allowed=0, trials=(), entries=(), stop_on_error=False, **members
):
    """
    The id of a batch whose process has died.

    Args:
        store: Where the batch is.
        written: Its operations.
        allowed: Operations below this index may have been started.
        trials: Indexes of operations that were started alone.
        entries: Results that had been saved.
        stop_on_error: Whether nothing starts after the first failure.
        members: Of the operations.
    """
    new = NewBatch(
        batch_id=store.new_id(),
        total=len(written),
        chunks=list(pack_operations(operations(*written, **members))),
        caller=pack_caller(batch_scope()),
        stops_on_error=stop_on_error,
    )
    await store.create(new, limit=1000)
    claim = await MemoryStore.claim(store, 1.0, new.batch_id)
    for each in trials:
        await MemoryStore.save(store, claim.hold, Saving(trial=each, lease=1.0))
    # It held it until just now.
    saving = Saving(entries=entries, allowed=allowed, lease=0.0)
    await MemoryStore.save(store, claim.hold, saving)
    return new.batch_id


async def finished(store, batch_id):
    """
    How a batch is after its end.
    """

    async def ask():
        snapshot = await store.snapshot(batch_id)
        return snapshot if snapshot.is_finished else None

    return await eventually(ask)


async def endings(store, batch_id):
    """
    What each operation of a finished batch was answered: the status, or the library's code.
    """
    snapshot = await finished(store, batch_id)
    page = await store.results(batch_id, after=-1, limit=10_000, outcome=None)
    assert len(page.entries) == snapshot.total
    results = [json.loads(entry.result) for entry in page.entries]
    assert [each["id"] for each in results] == [f"op{index}" for index in range(len(results))]
    return [
        each["error"]["code"] if each.get("source") == "batch" else each["status"]
        for each in results
    ]


def counts(snapshot):
    """
    The state, and how many succeeded, failed and were skipped.
    """
    return snapshot.status, snapshot.succeeded, snapshot.failed, snapshot.skipped


def carrier_of(background, batch_id):
    """
    What carries a batch out just now.
    """
    return next((each for each in background._holding.carriers if each.batch_id == batch_id), None)
