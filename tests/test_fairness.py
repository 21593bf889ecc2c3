"""
Who may run when: within a batch, between batches, and beside everything else in the process.

Nothing here is timed. Where a batch must not wait for another, the operations that run meanwhile
are counted.
"""

import itertools
from time import perf_counter

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_batch import BatchMiddleware, Limits
from support import (
    Exchange,
    Meter,
    call,
    http_scope,
    releasing,
    respond,
    settled,
    submit,
    submitted,
)

GET = {"method": "GET", "path": "/"}


def metered(meter, pauses=3):
    """
    An app that counts how many operations are at work at a time.
    """

    async def app(scope, receive, send):
        with meter:
            for _ in range(pauses):
                await anyio.lowlevel.checkpoint()
            await respond(send, b"fine")

    return app


async def submit_all(middleware, batches, operations):
    """
    Send that many batches at a time, and return their answers.
    """
    answers = []

    async def submit_one():
        answers.append(await submit(middleware, *["GET /"] * operations))

    async with anyio.create_task_group() as tasks:
        for _ in range(batches):
            tasks.start_soon(submit_one)
    return answers


@pytest.mark.parametrize("concurrency", [1, 3, 10])
async def test_concurrency_is_reached_and_never_exceeded(concurrency):
    """
    One batch runs as many operations at a time as it may, and not one more.
    """
    meter = Meter()
    middleware = BatchMiddleware(metered(meter, 20), limits=Limits(concurrency=concurrency))

    answer = await submit(middleware, *["GET /"] * 50)

    assert answer.statuses == [200] * 50
    assert (meter.total, meter.most) == (50, concurrency)


@pytest.mark.parametrize(("concurrency", "total"), [(1, 1), (2, 3), (5, 12), (10, 40)])
async def test_total_concurrency_holds_over_several_batches(concurrency, total):
    """
    All batches of the process together stay within total_concurrency, and use it.
    """
    meter = Meter()
    limits = Limits(concurrency=concurrency, total_concurrency=total)
    middleware = BatchMiddleware(metered(meter, 20), limits=limits)

    answers = await submit_all(middleware, 6, 30)

    assert [answer.statuses for answer in answers] == [[200] * 30] * 6
    assert (meter.total, meter.most) == (180, total)
    assert middleware.statistics().running == 0
    assert middleware.statistics().waiting == 0


@pytest.mark.parametrize("pauses", [0, 1, 5])
@pytest.mark.parametrize(("concurrency", "total"), [(1, 1), (2, 2), (10, 10), (3, 7)])
async def test_contending_batches_all_finish(pauses, concurrency, total):
    """
    However few tokens there are, every batch gets its turn and none keeps the others from theirs.
    """
    meter = Meter()
    limits = Limits(concurrency=concurrency, total_concurrency=total, batch_timeout=20)
    middleware = BatchMiddleware(metered(meter, pauses), limits=limits)

    answers = await submit_all(middleware, 5, 40)

    assert [answer.statuses for answer in answers] == [[200] * 40] * 5
    assert meter.most <= total


@pytest.mark.parametrize("total", [10, 40])
async def test_finding_4_a_small_batch_does_not_wait_for_a_large_one(total):
    """
    Finding 4: one operation behind a thousand is answered after a few of them, not after all.
    """
    large, done_before_small = Meter(), []

    async def app(scope, receive, send):
        if scope["path"] == "/small":
            await anyio.lowlevel.checkpoint()
            await respond(send, b"small")
            return
        with large:
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
            await respond(send, b"large")

    limits = Limits(sync_operations=1000, concurrency=10, total_concurrency=total)
    middleware = BatchMiddleware(app, limits=limits)
    async with submitted(middleware, *["GET /large"] * 1000) as behind:
        while large.total < 100:
            await anyio.lowlevel.checkpoint()
        for _ in range(5):
            before = large.total
            small = await submit(middleware, "GET /small")
            done_before_small.append(large.total - before)
            assert small.bodies == ["small"]
        was_answered = behind.answered.is_set()

    assert not was_answered
    assert behind.bodies == ["large"] * 1000
    assert max(done_before_small) <= 100


async def test_finding_4_a_small_batch_does_not_wait_for_operations_that_never_pause():
    """
    Finding 4: nor does a thousand operations that never wait for anything keep it away.
    """
    done, done_before_small = [], []

    async def app(scope, receive, send):
        _spin(0.0002)
        done.append(scope["path"])
        await respond(send, b"fine")

    limits = Limits(sync_operations=1000, concurrency=10, total_concurrency=10)
    middleware = BatchMiddleware(app, limits=limits)
    async with submitted(middleware, *["GET /large"] * 1000):
        while len(done) < 50:
            await anyio.lowlevel.checkpoint()
        before = len(done)
        await submit(middleware, "GET /small")
        done_before_small.append(len(done) - before)

    assert max(done_before_small) <= 300


async def test_direct_requests_need_no_token():
    """
    While batches take all there is, a request that is no batch goes straight to the app.
    """
    release = anyio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/stuck":
            await release.wait()
        await respond(send, b"fine")

    middleware = BatchMiddleware(app, limits=Limits(concurrency=2, total_concurrency=2))
    async with submitted(middleware, "GET /stuck", "GET /stuck", "GET /fine") as stuck:
        await settled()
        running = middleware.statistics().running
        direct = await call(middleware, Exchange(http_scope("GET", "/direct")))
        release.set()

    assert running == 2
    assert (direct.status, direct.body) == (200, b"fine")
    assert stuck.statuses == [200] * 3


def _spin(seconds):
    """
    Keep the processor busy, as an endpoint that computes does.
    """
    end = perf_counter() + seconds
    while perf_counter() < end:
        pass


@pytest.mark.parametrize("seconds", [0.0001, 0.002])
async def test_operations_that_compute_leave_time_for_other_tasks(seconds):
    """
    Operations that never wait are interrupted after each time slice, so that the process lives.
    """
    turns, done = [], []

    async def count_turns():
        while True:
            await anyio.lowlevel.checkpoint()
            turns.append(len(done))

    async def app(scope, receive, send):
        _spin(seconds)
        done.append(1)
        await respond(send, b"fine")

    middleware = BatchMiddleware(app)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count_turns)
        await settled()
        answer = await submit(middleware, *["GET /"] * 100)
        tasks.cancel_scope.cancel()
    seen = sorted(set(turns))
    longest = max(after - before for before, after in itertools.pairwise(seen))

    assert answer.statuses == [200] * 100
    assert longest <= max(2, 0.004 / seconds)


async def test_finding_5_a_batch_leaves_threads_for_others():
    """
    Finding 5: sync endpoints share 40 threads; one batch never takes more than its concurrency.
    """
    threads = anyio.to_thread.current_default_thread_limiter()
    taken = []

    def endpoint(request):
        taken.append(anyio.from_thread.run_sync(lambda: threads.borrowed_tokens))
        return PlainTextResponse("fine")

    app = Starlette(routes=[Route("/", endpoint)])
    answer = await submit(BatchMiddleware(app), *["GET /"] * 60)

    assert answer.bodies == ["fine"] * 60
    assert max(taken) <= 10
    assert threads.borrowed_tokens == 0


@pytest.mark.parametrize("on_disconnect", ["abort", "finish"])
async def test_a_batch_that_is_over_does_not_wait_in_line(on_disconnect):
    """
    A batch whose time is over while it waits for a token leaves at once, and holds up nobody.
    """
    release = anyio.Event()

    async def app(scope, receive, send):
        with anyio.CancelScope(shield=True):
            await release.wait()

    limits = Limits(concurrency=1, total_concurrency=1, batch_timeout=0.2)
    middleware = BatchMiddleware(app, limits=limits, on_disconnect=on_disconnect)
    async with submitted(middleware, {**GET, "timeout": 0.01}) as stuck:
        with releasing(release):
            await stuck.answered.wait()
            answer = await submit(middleware, "GET /", "GET /")
            statistics = middleware.statistics()

    assert stuck.bodies == ["operation_timeout"]
    assert (answer.statuses, answer.bodies) == ([424, 424], ["batch_timeout"] * 2)
    assert (statistics.running, statistics.waiting, statistics.abandoned) == (1, 0, 1)


async def test_f19_a_batch_whose_client_has_gone_does_not_wait_in_line():
    """
    F19: a batch that still waits for its first token is dropped when its client hangs up.
    """
    release = anyio.Event()
    started = []

    async def app(scope, receive, send):
        started.append(scope["path"])
        await release.wait()
        await respond(send, b"fine")

    limits = Limits(concurrency=1, total_concurrency=1)
    middleware = BatchMiddleware(app, limits=limits)
    async with submitted(middleware, "GET /stuck") as stuck:
        await settled()
        async with submitted(middleware, "GET /dropped", "GET /dropped") as dropped:
            await settled()
            in_line = middleware.statistics().waiting
            dropped.disconnect()
            await dropped.returned.wait()
        waiting = middleware.statistics().waiting
        release.set()

    assert (in_line, waiting) == (1, 0)
    assert started == ["/stuck"]
    assert stuck.bodies == ["fine"]


async def test_a_line_is_served_in_order():
    """
    Batches that came first are done first where all are alike.
    """
    finished = []
    release = anyio.Event()

    async def app(scope, receive, send):
        await release.wait()
        await respond(send, b"fine")

    limits = Limits(concurrency=1, total_concurrency=1)
    middleware = BatchMiddleware(app, limits=limits)

    async def submit_one(number):
        await submit(middleware, "GET /", "GET /")
        finished.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(submit_one, number)
            await settled()
        release.set()

    assert finished == list(range(5))


@pytest.mark.parametrize("first", ["asyncio", "trio"])
def test_one_event_loop_after_another(first, caplog):
    """
    An app that is made once and run several times, as tests do it, has its line on each loop.
    """
    meter = Meter()
    limits = Limits(concurrency=1, total_concurrency=1, batch_timeout=20)
    middleware = BatchMiddleware(metered(meter), limits=limits)
    backends = [first, first, "trio" if first == "asyncio" else "asyncio", first]
    answers = [anyio.run(submit_all, middleware, 3, 5, backend=backend) for backend in backends]

    assert [[answer.statuses for answer in each] for each in answers] == [[[200] * 5] * 3] * 4
    assert meter.most == 1
    assert caplog.records == []
