"""
Atomic batches that a store holds: what it is told when, and what another process may do afterwards.

A process is one `Background`; the store outlives it, and says what the test wants it to say.
"""

import anyio
import pytest

from asgi_batch import BatchMiddleware, Limits
from asgi_batch._core.packing import pack_caller, pack_operations
from asgi_batch._core.records import NewBatch, Saving
from asgi_batch.errors import StoreUnavailable
from background import Clock, Store, endings, finished, operations
from support import batch_scope, releasing, respond, until
from test_atomic import Transactions, app_of
from test_isolation import LEAKS

TOTAL = 3


class Notes(Store):
    """
    A store that notes in the log of the transactions what it is told.

    Attributes:
        answers: What it says to the next intents to commit, in place of the truth; an exception
            is raised.
    """

    def __init__(self, log):
        super().__init__(Clock())
        self.log = log
        self.answers = []
        self.released = []

    async def save(self, hold, saving):
        if saving.allowed:
            self.log.append("told")
            if self.answers:
                answer = self.answers.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                if answer == "lost":
                    self._records[hold.batch_id].parts[None].epoch += 1
        return await super().save(hold, saving)

    async def release(self, hold, allowed):
        self.released.append(allowed)
        await super().release(hold, allowed)


def process(transactions, store, app=None, **limits):
    limits = {"lease": 30.0, "scan_interval": 0.02, "drain_timeout": 5.0, **limits}
    return BatchMiddleware(
        app or app_of(transactions), store=store, transaction=transactions, limits=Limits(**limits)
    )


async def kept(store, *, allowed=0, attempts=0):
    """
    An atomic batch that earlier processes have left behind: they had begun it so often, and told
    that they might commit so many operations.
    """
    chunks = list(pack_operations(operations("POST /a", "POST /b", "POST /c")))
    batch = NewBatch(
        batch_id=store.new_id(),
        total=TOTAL,
        chunks=chunks,
        caller=pack_caller(batch_scope()),
        stops_on_error=True,
        atomic=True,
    )
    await store.create(batch, limit=10)
    for number in range(max(attempts, bool(allowed))):
        claim = await store.claim(10.0, batch.batch_id)
        await Store.save(store, claim.hold, Saving(trial=0, lease=10.0))
        if number + 1 >= attempts and allowed:
            await Store.save(store, claim.hold, Saving(allowed=allowed, lease=10.0))
        store._clock.now += 11
    return batch.batch_id


def held(transactions):
    """
    The app, whose operations are held up; set once one has come so far; and what lets them go on.
    """
    entered, go_on = anyio.Event(), anyio.Event()
    inner = app_of(transactions)

    async def app(scope, receive, send):
        entered.set()
        await go_on.wait()
        await inner(scope, receive, send)

    return app, entered, go_on


async def test_the_store_is_told_before_the_commit():
    """
    And of the results after it.
    """
    transactions = Transactions()
    store = Notes(transactions.log)
    batch_id = await kept(store)
    async with process(transactions, store).running():
        await finished(store, batch_id)

    assert transactions.log == ["begin", "a", "b", "c", "told", "commit"]
    assert (await store.snapshot(batch_id)).succeeded == TOTAL


async def test_what_may_have_been_committed_is_not_run_again():
    """
    The process that was about to commit has died: nobody knows, and the client is told so.
    """
    transactions = Transactions()
    store = Notes(transactions.log)
    batch_id = await kept(store, allowed=TOTAL)
    async with process(transactions, store).running():
        await finished(store, batch_id)
        snapshot = await store.snapshot(batch_id)

    assert transactions.log == []
    assert (snapshot.status, snapshot.error) == ("failed", "commit_unknown")
    assert await endings(store, batch_id) == ["commit_unknown"] * TOTAL


@pytest.mark.parametrize(
    ("attempts", "error"), [(0, None), (1, None), (2, None), (3, "worker_lost")]
)
async def test_attempts_boundary(attempts, error):
    """
    It is run again as a whole while there are attempts left; each is counted before it begins.
    """
    transactions, seen = Transactions(), []
    store = Notes(transactions.log)
    inner = app_of(transactions)

    async def app(scope, receive, send):
        seen.append(scope["asgi_batch"].attempt)
        await inner(scope, receive, send)

    batch_id = await kept(store, attempts=attempts)
    async with process(transactions, store, app).running():
        await finished(store, batch_id)
    snapshot = await store.snapshot(batch_id)

    assert snapshot.error == error
    if error is None:
        assert seen == [attempts + 1] * TOTAL
        assert store._records[batch_id].parts[None].trials == {0: attempts + 1}
    else:
        assert seen == []
        assert await endings(store, batch_id) == ["worker_lost"] * TOTAL


async def test_what_was_lost_is_not_committed():
    """
    Another process has taken the batch over: it is that one's to tell.
    """
    transactions = Transactions()
    store = Notes(transactions.log)
    store.answers = ["lost"]
    batch_id = await kept(store)
    app = process(transactions, store)
    async with app.running():
        await until(lambda: "rollback" in transactions.log)
        snapshot = await store.snapshot(batch_id)

    assert transactions.log == ["begin", "a", "b", "c", "told", "rollback"]
    assert (snapshot.completed, snapshot.status) == (0, "processing")
    assert store.released == []


async def test_a_store_that_is_silent_for_a_moment_before_the_commit():
    """
    It is asked again.
    """
    transactions = Transactions()
    store = Notes(transactions.log)
    store.answers = [StoreUnavailable("silent"), StoreUnavailable("silent")]
    batch_id = await kept(store)
    async with process(transactions, store).running():
        await finished(store, batch_id)

    assert transactions.log == ["begin", "a", "b", "c", "told", "told", "told", "commit"]


async def test_a_store_that_is_silent_for_too_long_before_the_commit():
    """
    The batch is rolled back and given back, and somebody runs it again.
    """
    transactions = Transactions()
    store = Notes(transactions.log)
    app, entered, go_on = held(transactions)
    batch_id = await kept(store)
    async with process(transactions, store, app, lease=0.3).running():
        await entered.wait()
        store.errors["save"] = StoreUnavailable("silent")
        go_on.set()
        await until(lambda: "rollback" in transactions.log)
        store.errors.clear()
        await finished(store, batch_id)

    assert transactions.log[-6:] == ["begin", "a", "b", "c", "told", "commit"]
    assert transactions.log.count("begin") == 2
    assert store.released == [0]


@pytest.mark.parametrize("is_slow", [False, True])
async def test_a_store_that_is_silent_for_too_long_between_operations(is_slow):
    """
    Two thirds of a lease without it, whether it fails or does not answer: no further operation
    starts, and the batch is rolled back before another process can have claimed it.
    """
    transactions = Transactions()
    store, answers = Notes(transactions.log), anyio.Event()
    app, entered, go_on = held(transactions)
    batch_id = await kept(store)
    with releasing(go_on, answers):
        async with process(transactions, store, app, lease=0.3).running():
            await entered.wait()
            if is_slow:
                store.holds["save"] = answers
            else:
                store.errors["save"] = StoreUnavailable("silent")
            await until(lambda: "rollback" in transactions.log)
            store.errors.clear()
            answers.set()
            go_on.set()
            await finished(store, batch_id)

    assert transactions.log == ["begin", "rollback", "begin", "a", "b", "c", "told", "commit"]
    assert store.released == [0]


async def test_a_store_that_is_silent_at_the_beginning():
    """
    No operation runs before the attempt has been counted.
    """
    transactions = Transactions()
    store = Notes(transactions.log)
    store.errors["trial"] = StoreUnavailable("silent")
    batch_id = await kept(store)
    async with process(transactions, store).running():
        await until(lambda: store.asked.get("trial", 0) > 1)
        before = list(transactions.log)
        store.errors.clear()
        await finished(store, batch_id)

    assert before == ["begin"]
    assert transactions.log[-1] == "commit"


async def test_a_process_that_stops_while_the_store_is_silent():
    """
    It does not wait for it.
    """
    transactions = Transactions()
    store = Notes(transactions.log)
    store.errors["trial"] = StoreUnavailable("silent")
    await kept(store)
    with anyio.fail_after(10):
        async with process(transactions, store, drain_timeout=0.05).running():
            await until(lambda: store.asked.get("trial", 0))

    assert transactions.log in ([], ["begin", "rollback"])


async def test_a_store_that_is_silent_after_the_commit():
    """
    The results are told when it answers again.
    """
    transactions = Transactions()
    store = Notes(transactions.log)
    batch_id = await kept(store)
    async with process(transactions, store).running():
        transactions.may_commit = anyio.Event()
        await transactions.committing.wait()
        store.errors["save"] = StoreUnavailable("silent")
        transactions.may_commit.set()
        await until(lambda: "commit" in transactions.log)
        await anyio.sleep(0.05)
        store.errors.clear()
        await finished(store, batch_id)

    assert (await store.snapshot(batch_id)).succeeded == TOTAL


async def test_a_process_that_stops_before_the_results_are_told():
    """
    The next one says that nobody knows.
    """
    transactions = Transactions()
    store = Notes(transactions.log)
    batch_id = await kept(store)
    async with process(transactions, store, drain_timeout=0.05).running():
        transactions.may_commit = anyio.Event()
        await transactions.committing.wait()
        store.errors["save"] = StoreUnavailable("silent")
        transactions.may_commit.set()
        await until(lambda: "commit" in transactions.log)
    store.errors.clear()
    store._clock.now += 60
    async with process(Transactions(), store).running():
        await finished(store, batch_id)

    assert await endings(store, batch_id) == ["commit_unknown"] * TOTAL


async def test_a_process_that_stops_gives_the_batch_back():
    """
    Rolled back, and at once to be claimed by another.
    """
    transactions, entered = Transactions(), anyio.Event()
    store = Notes(transactions.log)
    inner = app_of(transactions)

    async def stuck(scope, receive, send):
        entered.set()
        await anyio.sleep(1000)

    batch_id = await kept(store)
    async with process(transactions, store, stuck, drain_timeout=0.05).running():
        await entered.wait()
    between = await store.snapshot(batch_id)
    async with process(transactions, store, inner).running():
        await finished(store, batch_id)

    assert between.completed == 0
    assert store.released == [0]
    assert transactions.log == ["begin", "rollback", "begin", "a", "b", "c", "told", "commit"]


async def test_a_batch_that_was_cancelled_before_it_was_claimed():
    """
    Nothing of it starts.
    """
    transactions = Transactions()
    store = Notes(transactions.log)
    batch_id = await kept(store)
    await store.cancel(batch_id)
    async with process(transactions, store).running():
        await finished(store, batch_id)
        snapshot = await store.snapshot(batch_id)

    assert transactions.log == []
    assert (snapshot.status, snapshot.error) == ("cancelled", None)
    assert await endings(store, batch_id) == ["cancelled"] * TOTAL


async def test_a_batch_that_is_lost_in_the_middle():
    """
    It is rolled back, and nobody is told of anything.
    """
    transactions, entered = Transactions(), anyio.Event()
    store = Notes(transactions.log)

    async def stuck(scope, receive, send):
        entered.set()
        await anyio.sleep(1000)

    batch_id = await kept(store)
    async with process(transactions, store, stuck, lease=0.3).running():
        await entered.wait()
        store._records[batch_id].parts[None].epoch += 1
        await until(lambda: "rollback" in transactions.log)

    assert transactions.log == ["begin", "rollback"]
    assert (await store.snapshot(batch_id)).completed == 0
    assert store.released == []


async def test_a_batch_that_is_cancelled_during_the_commit():
    """
    It is held to the end, so that no other process takes it for one whose holder has died, and its
    operations are told that they have happened.
    """
    transactions = Transactions()
    transactions.may_commit = anyio.Event()
    store = Notes(transactions.log)
    batch_id = await kept(store)
    async with process(transactions, store, lease=0.3).running():
        await transactions.committing.wait()
        await store.cancel(batch_id)
        told = store.asked["save"]
        await until(lambda: store.asked["save"] > told + 5)
        transactions.may_commit.set()
        await finished(store, batch_id)

    assert (await store.snapshot(batch_id)).status == "cancelled"
    assert await endings(store, batch_id) == [200] * TOTAL
    assert transactions.log == ["begin", "a", "b", "c", "told", "commit"]


async def test_a_store_that_is_silent_before_anything():
    """
    No transaction begins before it is known that the batch is still held.
    """
    transactions = Transactions()
    store = Notes(transactions.log)
    store.errors["save"] = StoreUnavailable("silent")
    batch_id = await kept(store)
    async with process(transactions, store).running():
        await until(lambda: store.asked.get("save", 0) > 1)
        before = list(transactions.log)
        store.errors.clear()
        await finished(store, batch_id)

    assert before == []
    assert transactions.log[-1] == "commit"


async def test_a_process_that_stops_before_anything():
    """
    It leaves the batch as it is.
    """
    transactions = Transactions()
    store = Notes(transactions.log)
    store.errors["save"] = StoreUnavailable("silent")
    await kept(store)
    with anyio.fail_after(10):
        async with process(transactions, store, drain_timeout=0.05).running():
            await until(lambda: store.asked.get("save", 0))

    assert transactions.log == []


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("leak", LEAKS)
async def test_an_operation_that_leaves_a_cancel_scope_open(leak, moment):
    """
    It has answered, and so it has succeeded; the process goes on.
    """
    transactions = Transactions()
    store = Notes(transactions.log)

    async def app(scope, receive, send):
        if moment == "before" and leak is LEAKS[0]:
            leak()
        await respond(send)
        if moment == "after":
            leak()

    first = await kept(store)
    async with process(transactions, store, app).running():
        await finished(store, first)
        second = await kept(store)
        await finished(store, second)

    assert transactions.log == ["begin", "told", "commit"] * 2
    assert (await store.snapshot(first)).succeeded == TOTAL


async def test_an_error_of_the_store_is_not_taken_for_a_leak(caplog):
    """
    The batch is given up by this process, and the log says why.
    """
    transactions = Transactions()
    store = Notes(transactions.log)
    store.errors["trial"] = RuntimeError("a bug")
    await kept(store)
    async with process(transactions, store).running():
        await until(lambda: "is given up by this process" in caplog.text)

    assert "a bug" in caplog.text
    assert transactions.log == ["begin", "rollback"]
