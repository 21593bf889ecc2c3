"""
Atomic batches whose processes die, lose them or lose their store: none is committed twice.
"""

from contextlib import asynccontextmanager

import anyio
import pytest

from asgi_batch import BatchMiddleware, Limits
from asgi_batch._core.models import Batch
from asgi_batch._core.packing import pack_caller, pack_operations
from asgi_batch._core.records import NewBatch, Saving
from asgi_batch.stores.memory import MemoryStore
from background import DOWN, App, Store, endings, finished, operations
from support import PATIENCE, batch_scope, releasing, settled, until


class Transactions(list):
    """
    Notes how they end; each commit waits until it may.
    """

    def __init__(self):
        super().__init__()
        self.committing = anyio.Event()
        self.may_commit = anyio.Event()
        self.may_commit.set()

    @asynccontextmanager
    async def __call__(self):
        try:
            yield
        except BaseException:
            self.append("rollback")
            raise
        self.committing.set()
        await self.may_commit.wait()
        self.append("commit")


@asynccontextmanager
async def running(app, store, transaction, **limits):
    limits = {"scan_interval": 0.02, "cancel_interval": 0.02, **limits}
    middleware = BatchMiddleware(app, limits=Limits(**limits), store=store, transaction=transaction)
    background = middleware._background
    async with background.opened():
        background.start({})
        with anyio.fail_after(PATIENCE):
            yield background


async def submit(background, *written):
    batch = Batch(operations(*written), stop_on_error=True, atomic=True)
    return (await background.submit(batch, batch_scope())).batch_id


async def left_behind(store, *written, allowed=0, trials=()):
    """
    The id of an atomic batch whose process has died.
    """
    new = NewBatch(
        batch_id=store.new_id(),
        total=len(written),
        chunks=list(pack_operations(operations(*written))),
        caller=pack_caller(batch_scope()),
        stops_on_error=True,
        atomic=True,
    )
    await store.create(new, limit=1000)
    claim = await MemoryStore.claim(store, 1.0, new.batch_id)
    for each in trials:
        await MemoryStore.save(store, claim.hold, Saving(trial=each, lease=1.0))
    await MemoryStore.save(store, claim.hold, Saving(allowed=allowed, lease=0.0))
    return new.batch_id


@pytest.mark.parametrize(
    ("members", "expected", "is_run"),
    [
        ({"allowed": 2}, "commit_unknown", False),
        ({"trials": [0, 0, 0]}, "worker_lost", False),
        ({"trials": [0, 0]}, 200, True),
        ({}, 200, True),
    ],
)
async def test_after_death(members, expected, is_run):
    """
    It is run again as a whole, unless it may have been committed or has been tried too often.
    """
    app, store, transactions = App(), Store(), Transactions()
    batch_id = await left_behind(store, "POST /a", "POST /b", **members)
    async with running(app, store, transactions, max_attempts=3):
        ends = await endings(store, batch_id)

    assert ends == [expected] * 2
    assert (transactions, app.starts) == ((["commit"], ["/a", "/b"]) if is_run else ([], []))


async def test_another_process_has_taken_over_before_the_commit():
    """
    Then it must not be committed here.
    """
    app, store, transactions = App(), Store(), Transactions()
    async with running(app, store, transactions, scan_interval=60.0) as background:
        with releasing(app.gate):
            batch_id = await submit(background, "POST /a", "POST /wait")
            await until(lambda: "/wait" in app.starts)
            store._clock.now += 100
            claim = await store.claim(1000.0, batch_id)
        await until(lambda: not background._holding.carriers)

    assert claim.allowed == 0
    assert transactions == ["rollback"]
    assert (await store.snapshot(batch_id)).completed == 0


async def test_another_process_takes_over_during_the_commit():
    """
    It must not run the batch, whatever this process tells or gives back afterwards.
    """
    app, store, transactions = App(), Store(), Transactions()
    transactions.may_commit = anyio.Event()
    with releasing(transactions.may_commit):
        async with running(app, store, transactions, scan_interval=60.0) as background:
            batch_id = await submit(background, "POST /a")
            await transactions.committing.wait()
            store._clock.now += 100
            other = App()
            async with running(other, store, transactions):
                ends = await endings(store, batch_id)
            transactions.may_commit.set()
            await until(lambda: not background._holding.carriers)

    assert ends == ["commit_unknown"]
    assert (transactions, app.starts, other.starts) == (["commit"], ["/a"], [])


async def test_a_store_that_is_away_before_the_start():
    """
    An attempt that is not counted is not made.
    """
    app, store, transactions = App(), Store(), Transactions()
    store.errors["trial"] = DOWN
    async with running(app, store, transactions) as background:
        batch_id = await submit(background, "POST /a")
        await until(lambda: store.asked.get("trial", 0) > 1)
        before = list(app.starts)
        store.errors.clear()
        ends = await endings(store, batch_id)

    assert (before, ends, transactions) == ([], [200], ["commit"])


async def test_a_store_that_is_away_before_the_commit():
    """
    It is asked until the lease is in doubt, then all is rolled back, and run again later.
    """
    app, store, transactions = App(), Store(), Transactions()
    async with running(app, store, transactions, lease=0.3) as background:
        with releasing(app.gate):
            batch_id = await submit(background, "POST /wait")
            await until(lambda: app.starts)
            store.errors["save"] = DOWN
            app.gate.set()
        await until(lambda: transactions)
        store.errors.clear()
        ends = await endings(store, batch_id)

    assert ends == [200]
    assert transactions == ["rollback", "commit"]


@pytest.mark.parametrize("comes_back", [True, False])
async def test_a_store_that_is_away_after_the_commit(comes_back):
    """
    It is told when it is back; where that is not in time, nobody runs the batch again.
    """
    app, store, transactions = App(), Store(), Transactions()
    transactions.may_commit = anyio.Event()
    with releasing(transactions.may_commit):
        async with running(app, store, transactions, drain_timeout=0.05) as background:
            batch_id = await submit(background, "POST /a")
            await transactions.committing.wait()
            store.errors["save"] = DOWN
            transactions.may_commit.set()
            await until(lambda: transactions)
            await settled()
            if comes_back:
                store.errors.clear()
                await finished(store, batch_id)
    store.errors.clear()
    store._clock.now += 100
    other = App()
    async with running(other, store, transactions):
        ends = await endings(store, batch_id)

    assert ends == [200 if comes_back else "commit_unknown"]
    assert (transactions, other.starts) == (["commit"], [])


async def test_a_process_that_stops_gives_it_back():
    """
    Another one runs it as a whole.
    """
    app, store, transactions = App(), Store(), Transactions()
    with releasing(app.gate):
        async with running(app, store, transactions, drain_timeout=0.05) as background:
            batch_id = await submit(background, "POST /a", "POST /wait")
            await until(lambda: "/wait" in app.starts)
    other = App()
    other.gate.set()
    async with running(other, store, transactions):
        ends = await endings(store, batch_id)

    assert ends == [200, 200]
    assert (transactions, other.starts) == (["rollback", "commit"], ["/a", "/wait"])
