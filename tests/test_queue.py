"""
Batches that worker processes carry out: what goes over a queue, and what happens where it fails.
"""

import json
from contextlib import asynccontextmanager

import anyio
import pytest

from asgi_batch import BatchMiddleware
from asgi_batch.errors import ConfigurationError, StoreUnavailable
from asgi_batch.ports import HostedQueue, Queue
from background import App, Store, finished
from later_support import ask, post, prefer, results_of
from queue_support import CHUNK, Line, limits, web, worker
from support import until

LATER = prefer(b"respond-async")


@pytest.fixture
def store():
    """
    One for all processes.
    """
    return Store()


@pytest.fixture
def queue():
    """
    One for all processes.
    """
    return Line()


def reads(count, path="/ok"):
    """
    So many operations.
    """
    return [f"GET {path}{number}" for number in range(count)]


async def accepted(middleware, *operations, **envelope):
    """
    The id of a batch that is carried out later.
    """
    answer = await post(middleware, *operations, headers=[LATER], **envelope)
    assert answer.status == 202
    return answer.json()["batchId"]


async def ends_of(store, batch_id):
    """
    What each operation of a finished batch was answered: the status, or the library's code.
    """
    await finished(store, batch_id)
    page = await store.results(batch_id, after=-1, limit=1000, outcome=None)
    results = [json.loads(entry.result) for entry in page.entries]
    return [
        each["error"]["code"] if each.get("source") == "batch" else each["status"]
        for each in results
    ]


async def test_a_batch_is_carried_out_by_workers(store, queue):
    """
    In chunks, and by nobody else; its results are as if it had been one.
    """
    front, back = App(), App()
    async with web(front, store, queue) as middleware, worker(back, store, queue):
        answer = await post(middleware, *reads(10), headers=[LATER])
        results = await results_of(middleware, answer)
        status = (await ask(middleware, answer.json()["statusUrl"])).json()

    assert queue.sent == [(answer.json()["batchId"], chunk) for chunk in range(3)]
    assert front.starts == []
    assert sorted(back.starts) == sorted(f"/ok{number}" for number in range(10))
    assert [each["result"] for each in results] == [f"/ok{number}" for number in range(10)]
    assert (status["status"], status["succeeded"], status["progress"]) == ("completed", 10, 1)


async def test_workers_share_a_batch(store, queue):
    """
    As many as there are work on it at a time.
    """
    front, apps = App(), [App(), App()]
    async with (
        web(front, store, queue) as middleware,
        worker(apps[0], store, queue),
        worker(apps[1], store, queue),
    ):
        batch_id = await accepted(middleware, *reads(16, "/wait"))
        await until(lambda: [len(app.starts) for app in apps] == [8, 8])
        for app in apps:
            app.gate.set()
        ends = await ends_of(store, batch_id)

    assert ends == [200] * 16


@pytest.mark.parametrize(
    ("count", "envelope"), [(CHUNK, {}), (3 * CHUNK, {"onError": "stop"})], ids=["small", "stops"]
)
async def test_some_batches_stay_whole(store, queue, count, envelope):
    """
    Those that fit into a chunk, and those in which what starts depends on what has ended.
    """
    app = App()
    async with web(App(), store, queue) as middleware, worker(app, store, queue):
        batch_id = await accepted(middleware, *reads(count), **envelope)
        ends = await ends_of(store, batch_id)

    assert queue.sent == [(batch_id, None)]
    assert ends == [200] * count


async def test_a_batch_that_stops_on_error_stops_in_time(store, queue):
    """
    Nothing starts after the first failure, however many workers there are.
    """
    app = App()
    bounds = {"concurrency": 1}
    async with (
        web(App(), store, queue, **bounds) as middleware,
        worker(app, store, queue, **bounds),
    ):
        batch_id = await accepted(middleware, "GET /fail", *reads(9), onError="stop")
        ends = await ends_of(store, batch_id)

    assert app.starts == ["/fail"]
    assert ends == [500, *["skipped"] * 9]


async def test_an_atomic_batch_stays_whole(store, queue):
    """
    It is one transaction, in one process.
    """
    entered = []

    @asynccontextmanager
    async def transaction():
        entered.append(True)
        yield

    app, settings = App(), {"transaction": transaction}
    async with (
        web(App(), store, queue, settings=settings) as middleware,
        worker(app, store, queue, settings=settings),
    ):
        batch_id = await accepted(middleware, *reads(3 * CHUNK), atomic=True)
        ends = await ends_of(store, batch_id)

    assert (queue.sent, entered) == ([(batch_id, None)], [True])
    assert ends == [200] * 12


async def test_f55_a_message_may_come_three_times(store, queue):
    """
    F55: at the same time, late, and to two workers; each operation runs once.
    """
    queue.times = 3
    apps = [App(), App()]
    async with (
        web(App(), store, queue) as middleware,
        worker(apps[0], store, queue),
        worker(apps[1], store, queue),
    ):
        batch_id = await accepted(middleware, *[f"POST /{n}" for n in range(10)])
        ends = await ends_of(store, batch_id)
        for chunk in (2, 1, 0, None):
            await queue.send(batch_id, chunk)
        await until(lambda: not queue.waiting)

    assert sorted(apps[0].starts + apps[1].starts) == sorted(f"/{n}" for n in range(10))
    assert ends == [200] * 10


@pytest.mark.parametrize("batch_id", ["x" * 32, "", "../../x", "{ab:0}", "\r\nFLUSHALL"])
async def test_a_message_of_what_is_not_there_does_nothing(store, queue, batch_id):
    """
    Whoever can write into the queue can have nothing carried out but what has been accepted.
    """
    app = App()
    async with web(App(), store, queue) as middleware, worker(app, store, queue):
        for chunk in (None, 0, 7, -1):
            await queue.send(batch_id, chunk)
        ends = await ends_of(store, await accepted(middleware, *reads(3)))

    assert ends == [200] * 3
    assert len(app.starts) == 3


async def test_f56_a_lost_message_is_sent_again(store, queue):
    """
    F56: when its time is over, and then less and less often; what has been claimed is not.
    """
    app = App()
    async with (
        web(App(), store, queue, resend_interval=30.0) as middleware,
        worker(app, store, queue, resend_interval=30.0),
    ):
        queue.is_losing = True
        batch_id = await accepted(middleware, *reads(6))
        await until(lambda: len(queue.sent) == 2)
        store._clock.now += 29
        asked = store.asked.get("overdue", 0)
        await until(lambda: store.asked.get("overdue", 0) > asked + 3)
        before = len(queue.sent)
        queue.is_losing = False
        store._clock.now += 2
        ends = await ends_of(store, batch_id)

    assert before == 2
    assert queue.sent[2:] == [(batch_id, 0), (batch_id, 1)]
    assert ends == [200] * 6


async def test_f56_a_batch_is_accepted_while_the_queue_is_away(store, queue, caplog):
    """
    F56: it is in the store, and the queue is told when it is back.
    """
    app = App()
    async with web(App(), store, queue) as middleware, worker(app, store, queue):
        queue.error = ConnectionError("The broker is away.")
        batch_id = await accepted(middleware, *reads(6))
        await until(lambda: "The broker is away." in caplog.text)
        store._clock.now += 31
        await until(lambda: caplog.text.count("told later") >= 2)
        queue.error = None
        store._clock.now += 62
        ends = await ends_of(store, batch_id)

    assert ends == [200] * 6
    assert batch_id not in caplog.text


async def test_f57_the_chunks_of_a_dead_worker_are_taken_over(store, queue):
    """
    F57: at the end of the lease somebody else hears of them; what is not safe to repeat is not.
    """
    first, second = App(), App()
    async with web(App(), store, queue, lease=30.0) as middleware:
        batch_id = await accepted(middleware, *["POST /wait", "GET /wait"] * 3)
        async with worker(first, store, queue, lease=30.0) as dying:
            await until(lambda: len(first.starts) == 6)
            # It is there no more, for all that others can see.
            store.errors["save"] = store.errors["trial"] = StoreUnavailable("Gone.")
            for each in dying._background._holding.carriers:
                each._is_over = True
            await until(lambda: dying._background._holding.carriers)
            dying._background._tasks.cancel_scope.cancel()
            dying._background._is_on = False
        store.errors.clear()
        sent = len(queue.sent)
        store._clock.now += 31
        async with worker(second, store, queue, lease=30.0):
            second.gate.set()
            ends = await ends_of(store, batch_id)

    assert sorted(queue.sent[sent:]) == [(batch_id, 0), (batch_id, 1)]
    assert ends == ["outcome_unknown", 200] * 3
    assert second.starts == ["/wait"] * 3


async def test_a_worker_that_stops_gives_back_what_it_holds(store, queue):
    """
    Another one goes on at once: it need not wait for the end of a lease.
    """
    first, second = App(), App()
    async with web(App(), store, queue) as middleware:
        batch_id = await accepted(middleware, *reads(8, "/wait"))
        async with worker(first, store, queue, concurrency=1, drain_timeout=0.05):
            await until(lambda: len(first.starts) == 2)
        async with worker(second, store, queue):
            second.gate.set()
            ends = await ends_of(store, batch_id)

    # The processes that look for what has been left behind may be as quick.
    assert set(queue.sent[2:]) == {(batch_id, 0), (batch_id, 1)}
    assert ends == [200] * 8
    assert set(second.attempts.values()) == {1, 2}


async def test_a_message_that_comes_while_a_worker_stops_goes_to_another(store, queue):
    """
    And not before it has stopped: it would come back again and again.
    """
    first, second = App(), App()
    async with web(App(), store, queue) as middleware:
        held = await accepted(middleware, "GET /wait")
        async with worker(first, store, queue) as stopping:
            await until(lambda: first.starts)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stopping._background.stop)
                await until(lambda: not stopping._background._is_on)
                batch_id = await accepted(middleware, *reads(3))
                await anyio.wait_all_tasks_blocked()
                before = list(queue.sent)
                first.gate.set()
            await until(lambda: len(queue.sent) > 3)
        async with worker(second, store, queue):
            ends = await ends_of(store, batch_id)

    # Once by the client, once when the worker had stopped, once when nobody waited for it.
    assert queue.sent.count((batch_id, None)) == 3
    assert before == [(held, None), (batch_id, None)]
    assert (batch_id, None) in queue.sent[2:]
    assert ends == [200] * 3


async def test_a_worker_without_its_store_goes_on_later(store, queue, caplog):
    """
    The message is lost, and sent again.
    """
    app = App()
    async with web(App(), store, queue) as middleware, worker(app, store, queue):
        store.errors["claim"] = StoreUnavailable("It does not answer.")
        batch_id = await accepted(middleware, *reads(3))
        await until(lambda: "could not be claimed" in caplog.text)
        store.errors.clear()
        store._clock.now += 31
        ends = await ends_of(store, batch_id)

    assert ends == [200] * 3


async def test_a_batch_without_workers_can_be_cancelled(store, queue):
    """
    Who has cancelled it sees its end.
    """
    async with web(App(), store, queue) as middleware:
        batch_id = await accepted(middleware, *reads(10))
        answer = await ask(middleware, f"/batch/{batch_id}", "DELETE")
        snapshot = await finished(store, batch_id)
        again = await ask(middleware, f"/batch/{batch_id}", "DELETE")

    assert answer.json()["status"] == again.json()["status"] == "cancelled"
    assert (snapshot.status, snapshot.skipped) == ("cancelled", 10)


async def test_c7_nothing_starts_after_a_cancellation(store, queue):
    """
    C7: all workers have heard of it before its client is answered.
    """
    apps = [App(), App()]
    bounds = {"concurrency": 1}
    async with (
        web(App(), store, queue, **bounds) as middleware,
        worker(apps[0], store, queue, **bounds),
        worker(apps[1], store, queue, **bounds),
    ):
        batch_id = await accepted(middleware, *reads(20, "/wait"))
        await until(lambda: [len(app.starts) for app in apps] == [2, 2])
        await ask(middleware, f"/batch/{batch_id}", "DELETE")
        for app in apps:
            app.gate.set()
        snapshot = await finished(store, batch_id)

    assert [len(app.starts) for app in apps] == [2, 2]
    assert (snapshot.status, snapshot.succeeded, snapshot.skipped) == ("cancelled", 4, 16)


async def test_a_client_can_wait_for_a_worker(store, queue):
    """
    What is done in time is answered at once, wherever it was done.
    """
    async with web(App(), store, queue) as middleware, worker(App(), store, queue):
        answer = await post(middleware, *reads(6), headers=[prefer(b"wait=20")])

    assert answer.status == 200
    assert answer.json()["summary"] == {"total": 6, "succeeded": 6, "failed": 0, "skipped": 0}


async def test_small_batches_are_answered_where_they_come_in(store, queue):
    """
    Nobody waits for a worker who has not asked for that.
    """
    app = App()
    async with web(app, store, queue) as middleware:
        answer = await post(middleware, *reads(3))

    assert answer.status == 200
    assert (len(app.starts), queue.sent) == (3, [])


async def test_a_retry_goes_over_the_queue(store, queue):
    """
    As every batch does that is carried out later.
    """
    async with web(App(), store, queue) as middleware, worker(App(), store, queue):
        batch_id = await accepted(middleware, *reads(6), *reads(6, "/fail"))
        await finished(store, batch_id)
        answer = await ask(middleware, f"/batch/{batch_id}/retry", "POST")
        again = await finished(store, answer.json()["batchId"])

    assert (again.total, again.failed) == (6, 6)
    assert [each for each in queue.sent if each[0] != batch_id] == [
        (again.batch_id, 0),
        (again.batch_id, 1),
    ]


async def test_each_process_tells_of_what_it_has_done(store, queue):
    """
    Together of all operations, and the last of them of the end.
    """
    reports = []
    settings = {"on_end": reports.append}
    async with (
        web(App(), store, queue) as middleware,
        worker(App(), store, queue, settings=settings),
    ):
        batch_id = await accepted(middleware, *reads(10))
        await finished(store, batch_id)
        await until(lambda: len(reports) == 3)

    assert sorted(each.ending for each in reports) == ["completed", "released", "released"]
    assert sorted(each.succeeded for each in reports) == [2, 4, 4]
    assert sorted(each.total for each in reports) == [2, 4, 4]


async def test_a_batch_that_cannot_be_read_fails_once(store, queue):
    """
    Whoever has another chunk of it has nothing left to do.
    """
    app = App()
    async with web(App(), store, queue) as middleware:
        batch_id = await accepted(middleware, *reads(6))
        record = store._records[batch_id]
        record.batch.chunks[1] = record.batch.chunks[0]
        async with worker(app, store, queue):
            snapshot = await finished(store, batch_id)

    assert (snapshot.status, snapshot.error) == ("failed", "record_corrupt")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (StoreUnavailable("It does not answer."), "not known"),
        (RuntimeError("A bug."), "it goes on"),
    ],
)
async def test_f35_what_has_to_be_sent_again_is_asked_until_the_store_is_back(
    store, queue, caplog, error, message
):
    """
    A process that cannot be told goes on asking, and carries on with all else.
    """
    async with web(App(), store, queue) as middleware, worker(App(), store, queue):
        queue.is_losing = True
        batch_id = await accepted(middleware, *reads(3))
        await until(lambda: queue.sent)
        store.errors["overdue"] = error
        await until(lambda: message in caplog.text)
        queue.is_losing = False
        del store.errors["overdue"]
        store._clock.now += 31
        ends = await ends_of(store, batch_id)

    assert ends == [200] * 3


async def test_processes_without_a_queue_take_chunks_too(store, queue):
    """
    A deployment that gives its queue up leaves no batch behind.
    """
    app = App()
    async with web(App(), store, queue) as middleware:
        batch_id = await accepted(middleware, *reads(10))
    store._clock.now += 31
    async with BatchMiddleware(app, store=store, limits=limits()).running():
        ends = await ends_of(store, batch_id)

    assert ends == [200] * 10


async def test_workers_take_what_was_accepted_without_a_queue(store, queue):
    """
    A deployment that starts to have a queue leaves no batch behind.
    """
    app = App()
    batch_id = None
    middleware = BatchMiddleware(App(), store=store, limits=limits(background_batches=1))
    async with middleware.running():
        store.errors["claim"] = StoreUnavailable("It does not answer.")
        batch_id = await accepted(middleware, *reads(10))
    store.errors.clear()
    async with web(App(), store, queue), worker(app, store, queue):
        ends = await ends_of(store, batch_id)

    assert queue.sent[:1] == [(batch_id, None)]
    assert ends == [200] * 10


def test_queues_are_known_by_what_they_can_do():
    """
    One of two calls is a queue, and one that can be attached has workers of its own.
    """

    class Hosted(Line):
        def attach(self, working):
            self.working = working

    assert isinstance(Line(), Queue)
    assert not isinstance(Line(), HostedQueue)
    assert isinstance(Hosted(), HostedQueue)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"queue": "redis://localhost", "store": Store()}, "give an object with send and receive"),
        ({"queue": Line()}, 'store="redis://localhost"'),
    ],
)
def test_what_is_no_queue_is_refused(settings, reason):
    """
    And so is one with a store that other processes do not see.
    """
    with pytest.raises(ConfigurationError, match=reason):
        BatchMiddleware(App(), **settings)
