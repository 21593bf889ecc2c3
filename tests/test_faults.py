"""
Faults of clients and of wrapped apps (RELIABILITY F19, F29 to F33): what is late, what is gone,
what does not stop, and what must be left when all is over.

Deadlines are the thing tested here, so that these tests look at the clock; the margins are wide.
"""

import asyncio
import gc
import itertools
import logging
import threading
import time
from contextlib import suppress

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
import sniffio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_batch import BatchMiddleware, Limits, OperationAborted
from support import (
    Exchange,
    batch_body,
    batch_scope,
    call,
    releasing,
    respond,
    settled,
    submit,
    submitted,
    until,
)

# Seconds that an operation or a batch may take in these tests, and that an answer may come later
# on a busy machine.
DEADLINE = 0.2
MARGIN = 3.0
# What the clocks of event loops round by.
TICK = 0.01


@pytest.fixture(autouse=True)
async def nothing_is_left_behind():
    """
    Every test ends with the tasks, thread tokens and threads at work that it began with.
    """
    threads = anyio.to_thread.current_default_thread_limiter()
    before = _tasks()
    yield
    await until(lambda: _tasks() <= before and not threads.borrowed_tokens)


def _tasks():
    if sniffio.current_async_library() == "asyncio":
        return len(asyncio.all_tasks())
    import trio

    return trio.lowlevel.current_statistics().tasks_living


def errors(caplog):
    """
    What was logged as an error.
    """
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


# --- F29: an operation that never returns


async def test_f29_an_operation_that_never_returns_is_a_504_on_time():
    """
    F29: its result comes at its deadline, the others' are theirs, and nothing of it goes on.
    """
    cancelled = []

    async def app(scope, receive, send):
        if scope["path"] == "/never":
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.append(scope["path"])
        await respond(send, b"fine")

    middleware = BatchMiddleware(app, limits=Limits(operation_timeout=DEADLINE))
    start = anyio.current_time()
    answer = await submit(middleware, "GET /a", "GET /never", "GET /b", "GET /never")
    elapsed = anyio.current_time() - start

    assert answer.statuses == [200, 504, 200, 504]
    assert answer.bodies == ["fine", "operation_timeout", "fine", "operation_timeout"]
    assert cancelled == ["/never"] * 2
    assert DEADLINE - TICK <= elapsed <= DEADLINE + MARGIN


async def test_f29_each_operation_has_a_deadline_of_its_own():
    """
    F29: the time of an operation begins when it starts, not when the batch does.
    """
    ended = {}

    async def app(scope, receive, send):
        began = anyio.current_time()
        try:
            await anyio.sleep_forever()
        finally:
            ended[scope["path"]] = anyio.current_time() - began

    limits = Limits(operation_timeout=DEADLINE, concurrency=1)
    answer = await submit(BatchMiddleware(app, limits=limits), "GET /a", "GET /b", "GET /c")

    assert answer.bodies == ["operation_timeout"] * 3
    assert all(DEADLINE * 0.9 <= seconds <= DEADLINE + MARGIN for seconds in ended.values())


async def test_an_operation_may_ask_for_less_time():
    """
    ``timeout`` is the operation's own deadline, below that of the limits.
    """
    done = anyio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/short":
            try:
                await anyio.sleep_forever()
            finally:
                done.set()
        await done.wait()
        await respond(send, b"fine")

    short = {"method": "GET", "path": "/short", "timeout": 0.1}
    middleware = BatchMiddleware(app)
    start = anyio.current_time()
    answer = await submit(middleware, "GET /long", short, "GET /long")
    elapsed = anyio.current_time() - start

    assert answer.bodies == ["fine", "operation_timeout", "fine"]
    assert 0.1 - TICK <= elapsed <= 0.1 + MARGIN


async def test_a_short_timeout_is_seen_although_nobody_else_is_in_a_hurry():
    """
    An operation that starts late with a short timeout is not forgotten over the others' long ones.
    """
    go = anyio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/first":
            await go.wait()
            await respond(send, b"fine")
        else:
            await anyio.sleep_forever()

    short = {"method": "GET", "path": "/short", "timeout": 0.1}
    middleware = BatchMiddleware(app, limits=Limits(concurrency=1))
    async with submitted(middleware, "GET /first", short) as answer:
        await anyio.sleep(0.3)
        go.set()
        start = anyio.current_time()
        await answer.answered.wait()
        elapsed = anyio.current_time() - start

    assert answer.bodies == ["fine", "operation_timeout"]
    assert 0.1 - TICK <= elapsed <= 0.1 + MARGIN


async def test_a_late_operation_hears_that_nobody_listens():
    """
    At its deadline an operation is cancelled, and what it still sends raises an OSError.
    """
    seen = []

    async def app(scope, receive, send):
        await receive()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            seen.append("cancelled")
            with anyio.CancelScope(shield=True):
                seen.append((await receive())["type"])
                try:
                    await respond(send, b"too late")
                except OperationAborted:
                    seen.append("refused")
            raise

    middleware = BatchMiddleware(app, limits=Limits(operation_timeout=DEADLINE))
    answer = await submit(middleware, "GET /")

    assert answer.bodies == ["operation_timeout"]
    assert seen == ["cancelled", "http.disconnect", "refused"]


async def test_the_first_result_counts():
    """
    An operation that answers after its deadline changes nothing, not even the summary.
    """
    late = anyio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/waits":
            await late.wait()
            await respond(send, b"fine")
            return
        try:
            await anyio.sleep_forever()
        except BaseException:
            with anyio.CancelScope(shield=True):
                try:
                    await respond(send, b"too late")
                finally:
                    late.set()
            raise

    limits = Limits(operation_timeout=5)
    short = {"method": "GET", "path": "/late", "timeout": 0.1}
    answer = await submit(BatchMiddleware(app, limits=limits), short, "GET /waits")

    assert answer.bodies == ["operation_timeout", "fine"]
    assert answer.json()["summary"] == {"total": 2, "succeeded": 1, "failed": 1, "skipped": 0}


async def test_an_exception_of_a_late_operation_is_no_news(caplog):
    """
    What an app raises while it is being cancelled neither changes its result nor is an error.
    """

    async def app(scope, receive, send):
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("while cleaning up")

    limits = Limits(operation_timeout=0.1)
    answer = await submit(BatchMiddleware(app, limits=limits), "GET /a", "GET /b")

    assert answer.bodies == ["operation_timeout"] * 2
    assert errors(caplog) == []


async def test_an_app_may_wrap_its_cancellation_in_a_group():
    """
    A task group that is left by cancellation and by an error raises both; ours is obeyed.
    """

    async def app(scope, receive, send):
        try:
            await anyio.sleep_forever()
        except BaseException as cancelled:  # noqa: BLE001
            raise BaseExceptionGroup("both", [cancelled, ValueError("boom")]) from None

    limits = Limits(operation_timeout=0.1)
    middleware = BatchMiddleware(app, limits=limits)
    answer = await submit(middleware, "GET /a", "GET /b")

    assert answer.bodies == ["operation_timeout"] * 2
    assert middleware.statistics().running == 0


async def test_an_app_may_raise_a_group_instead_of_its_cancellation(caplog):
    """
    A cancelled operation that raises errors of its own is late all the same, and nothing else.
    """

    async def app(scope, receive, send):
        try:
            await anyio.sleep_forever()
        finally:
            raise ExceptionGroup("while cleaning up", [ValueError("boom")])

    limits = Limits(operation_timeout=0.1, concurrency=1)
    answer = await submit(BatchMiddleware(app, limits=limits), "GET /a", "GET /b")

    assert answer.bodies == ["operation_timeout"] * 2
    assert errors(caplog) == []


# --- F30: a thread that nobody can stop


async def test_f30_a_sync_endpoint_cannot_hold_up_the_answer():
    """
    F30: 504 on time and the answer goes out, while the thread still runs; its token is kept and
    it counts as abandoned until it ends.
    """
    release = threading.Event()

    def stuck(request):
        release.wait()
        return PlainTextResponse("too late")

    def fine(request):
        return PlainTextResponse("fine")

    app = Starlette(routes=[Route("/stuck", stuck), Route("/fine", fine)])
    middleware = BatchMiddleware(app, limits=Limits(operation_timeout=DEADLINE))
    threads = anyio.to_thread.current_default_thread_limiter()
    start = anyio.current_time()
    async with submitted(middleware, "GET /fine", "GET /stuck", "GET /fine") as answer:
        with releasing(release):
            await answer.answered.wait()
            elapsed = anyio.current_time() - start
            is_back = answer.returned.is_set()
            during = middleware.statistics()
            in_threads = threads.borrowed_tokens
    after = middleware.statistics()

    assert answer.bodies == ["fine", "operation_timeout", "fine"]
    assert DEADLINE - TICK <= elapsed <= DEADLINE + MARGIN
    assert not is_back
    assert (during.running, during.abandoned, in_threads) == (1, 1, 1)
    assert (after.running, after.abandoned, after.held_bytes) == (0, 0, 0)


async def test_f30_too_many_abandoned_operations_close_the_door():
    """
    F30: with max_abandoned threads stuck, new batches are 503 overloaded, until the first ends.
    """
    release = [threading.Event() for _ in range(3)]

    def stuck(request):
        release[request.path_params["number"]].wait()
        return PlainTextResponse("too late")

    def fine(request):
        return PlainTextResponse("fine")

    app = Starlette(routes=[Route("/fine", fine), Route("/{number:int}", stuck)])
    limits = Limits(operation_timeout=0.1, max_abandoned=3)
    middleware = BatchMiddleware(app, limits=limits)
    async with submitted(middleware, "GET /0", "GET /1") as first:
        with releasing(*release):
            await first.answered.wait()
            below = await submit(middleware, "GET /fine")
            async with submitted(middleware, "GET /2") as second:
                with releasing(release[2]):
                    await second.answered.wait()
                    refused = await submit(middleware, "GET /fine")
            again = await submit(middleware, "GET /fine")

    assert below.status == 200
    assert (refused.status, refused.json()["code"]) == (503, "overloaded")
    assert int(refused.headers["retry-after"]) > 0
    assert again.status == 200


async def test_f30_threads_that_outlive_a_gone_client_count_as_abandoned():
    """
    F30, F19: a client cannot fill the process with stuck threads by hanging up each time.
    """
    release = threading.Event()
    started = anyio.Event()

    def stuck(request):
        anyio.from_thread.run_sync(started.set)
        release.wait()
        return PlainTextResponse("too late")

    def fine(request):
        return PlainTextResponse("fine")

    app = Starlette(routes=[Route("/stuck", stuck), Route("/fine", fine)])
    middleware = BatchMiddleware(app, limits=Limits(max_abandoned=1))
    async with submitted(middleware, "GET /stuck") as exchange:
        with releasing(release):
            await started.wait()
            exchange.disconnect()
            await until(lambda: middleware.statistics().abandoned)
            refused = await submit(middleware, "GET /fine")

    assert refused.status == 503
    assert middleware.statistics().abandoned == 0


# --- F31: an app that does not obey


async def test_f31_an_app_that_swallows_cancellation_cannot_hold_up_the_answer():
    """
    F31: 504 on time and the answer goes out; the operation counts as abandoned until it ends.
    """
    release = anyio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/fine":
            await respond(send, b"fine")
            return
        while not release.is_set():
            with suppress(BaseException):
                await anyio.sleep(0.01)

    middleware = BatchMiddleware(app, limits=Limits(operation_timeout=DEADLINE))
    start = anyio.current_time()
    async with submitted(middleware, "GET /fine", "GET /deaf", "GET /fine") as answer:
        with releasing(release):
            await answer.answered.wait()
            elapsed = anyio.current_time() - start
            is_back = answer.returned.is_set()
            during = middleware.statistics()
    after = middleware.statistics()

    assert answer.bodies == ["fine", "operation_timeout", "fine"]
    assert DEADLINE - TICK <= elapsed <= DEADLINE + MARGIN
    assert not is_back
    assert (during.running, during.abandoned) == (1, 1)
    assert (after.running, after.abandoned) == (0, 0)


async def test_f31_an_operation_that_failed_and_goes_on_counts_as_abandoned():
    """
    F31: an app that is told that its answer is too large, and goes on regardless, is cut with the
    answer, and counted where it cannot be.
    """
    release = anyio.Event()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not release.is_set():
            with suppress(BaseException):
                await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})

    middleware = BatchMiddleware(app, limits=Limits(max_result_bytes=1000))
    async with submitted(middleware, "GET /") as answer:
        with releasing(release):
            await answer.answered.wait()
            await until(lambda: middleware.statistics().abandoned)

    assert answer.bodies == ["response_too_large"]
    assert middleware.statistics().abandoned == 0


# --- F32: background tasks


async def test_f32_a_slow_background_task_does_not_delay_the_answer():
    """
    F32: the answer goes out at once, the task runs to its end, and the batch waits for it.
    """
    release = anyio.Event()
    finished = []

    async def slow(name):
        await release.wait()
        finished.append(name)

    async def endpoint(request):
        return PlainTextResponse("fine", background=BackgroundTask(slow, request.url.path))

    app = Starlette(routes=[Route("/{name}", endpoint)])
    middleware = BatchMiddleware(app, limits=Limits(operation_timeout=DEADLINE))
    async with submitted(middleware, "GET /a", "GET /b") as answer:
        await answer.answered.wait()
        before = list(finished)
        await anyio.sleep(2 * DEADLINE)  # a background task has no deadline
        release.set()
        await answer.returned.wait()

    assert answer.bodies == ["fine"] * 2
    assert before == []
    assert sorted(finished) == ["/a", "/b"]


async def test_f32_background_tasks_do_not_hide_what_is_late():
    """
    F32, F29: operations that have answered and go on are left alone, and those beside them that
    have not are given up at their deadline.
    """
    release = anyio.Event()
    finished = []

    async def app(scope, receive, send):
        if scope["path"] == "/late":
            await anyio.sleep_forever()
        await respond(send, b"fine")
        await release.wait()
        finished.append(scope["path"])

    middleware = BatchMiddleware(app, limits=Limits(operation_timeout=DEADLINE))
    async with submitted(middleware, *["GET /fine", "GET /late"] * 5) as answer:
        await answer.answered.wait()
        release.set()
        await answer.returned.wait()

    assert answer.statuses == [200, 504] * 5
    assert finished == ["/fine"] * 5


async def test_f29_an_operation_may_start_long_after_the_last_look():
    """
    F29: with a timeout above a second, too, one that starts later than others has its own deadline.
    """
    timeout = 1.2

    async def app(scope, receive, send):
        if scope["path"] == "/late":
            await anyio.sleep_forever()
        await anyio.sleep(0.05)
        await respond(send, b"fine")

    limits = Limits(operation_timeout=timeout, concurrency=1)
    with anyio.fail_after(timeout + MARGIN):
        answer = await submit(BatchMiddleware(app, limits=limits), "GET /fine", "GET /late")

    assert answer.statuses == [200, 504]


async def test_f32_background_tasks_do_not_take_the_place_of_operations():
    """
    F32: more operations than concurrency, each with a background task that waits for the answer.
    """
    release = anyio.Event()
    running = []

    async def app(scope, receive, send):
        await respond(send, b"fine")
        running.append(middleware.statistics().running)
        await release.wait()

    limits = Limits(concurrency=2, total_concurrency=12)
    middleware = BatchMiddleware(app, limits=limits)
    async with submitted(middleware, *["GET /"] * 12) as answer:
        await answer.answered.wait()
        during = middleware.statistics().running
        release.set()

    assert answer.bodies == ["fine"] * 12
    assert during == 12
    assert max(running) <= 12


async def test_f32_background_tasks_may_run_in_tasks_of_their_own():
    """
    F32: it is the last message that counts, whichever of the app's tasks sends it.
    """
    release = anyio.Event()

    async def answer_and_go_on(send):
        await respond(send, b"fine")
        await release.wait()

    async def app(scope, receive, send):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer_and_go_on, send)

    limits = Limits(concurrency=2, total_concurrency=12, batch_timeout=1)
    middleware = BatchMiddleware(app, limits=limits)
    async with submitted(middleware, *["GET /"] * 12) as answer:
        with releasing(release):
            await answer.answered.wait()

    assert answer.bodies == ["fine"] * 12


async def test_f32_background_tasks_keep_their_tokens():
    """
    F32: they are work all the same: with total_concurrency of them, further operations wait.
    """
    release = anyio.Event()
    started = []

    async def app(scope, receive, send):
        started.append(scope["path"])
        await respond(send, b"fine")
        await release.wait()

    limits = Limits(concurrency=2, total_concurrency=5)
    middleware = BatchMiddleware(app, limits=limits)
    async with submitted(middleware, *["GET /"] * 12) as answer:
        await settled()
        before = len(started)
        release.set()

    assert before == 5
    assert answer.bodies == ["fine"] * 12
    assert middleware.statistics().running == 0


async def test_f32_background_tasks_that_never_end_cannot_keep_batches_waiting():
    """
    F32: where they hold every token, a batch is told so at batch_timeout, and nothing of it runs.
    """
    release = anyio.Event()
    started = []

    async def app(scope, receive, send):
        started.append(scope["path"])
        await respond(send, b"fine")
        await release.wait()

    limits = Limits(concurrency=2, total_concurrency=2, batch_timeout=DEADLINE)
    middleware = BatchMiddleware(app, limits=limits)
    async with submitted(middleware, "GET /a", "GET /b") as first:
        with releasing(release):
            await first.answered.wait()
            second = await submit(middleware, "GET /c", "GET /d")

    assert first.statuses == [200] * 2
    assert (second.statuses, second.bodies) == ([424] * 2, ["batch_timeout"] * 2)
    assert started == ["/a", "/b"]


async def test_f32_a_background_task_outlives_a_client_that_goes_after_the_answer():
    """
    F32: once it is answered, an operation's background task is nobody's to cancel.
    """
    release = anyio.Event()
    finished = []

    async def app(scope, receive, send):
        await respond(send, b"fine")
        await release.wait()
        finished.append(scope["path"])

    middleware = BatchMiddleware(app)
    async with submitted(middleware, "GET /a") as answer:
        await answer.answered.wait()
        answer.disconnect()
        await settled()
        release.set()

    assert finished == ["/a"]


async def test_f32_a_background_task_outlives_a_client_that_goes_before_the_answer():
    """
    F32: an operation that has been answered goes on, although its batch never will be.
    """
    release = anyio.Event()
    finished = []

    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            await anyio.sleep_forever()
        await respond(send, b"fine")
        await release.wait()
        finished.append(scope["path"])

    middleware = BatchMiddleware(app)
    async with submitted(middleware, "GET /a", "GET /slow") as answer:
        await settled()
        answer.disconnect()
        await until(lambda: middleware.statistics().running == 1)
        release.set()

    assert finished == ["/a"]
    assert answer.sent == []


# --- F33: an app that sends for ever


async def test_f33_an_app_that_only_sends_leaves_the_event_loop_alone():
    """
    F33: it is cut, and everybody else gets a turn between any two of its messages.
    """
    turns = []

    async def count_turns():
        while True:
            await anyio.lowlevel.checkpoint()
            turns.append(1)

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"", "more_body": True})

    middleware = BatchMiddleware(app, limits=Limits(max_messages=2000))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count_turns)
        answer = await submit(middleware, "GET /")
        tasks.cancel_scope.cancel()

    assert answer.bodies == ["response_too_large"]
    assert len(turns) >= 1000


@pytest.mark.parametrize("raises", [False, True])
async def test_f33_an_app_that_never_stops_sending_is_cancelled(raises):
    """
    F33: an app that ignores every OSError is cancelled when the batch is answered.
    """
    stopped = []

    async def app(scope, receive, send):
        try:
            while True:
                with suppress(OSError):
                    await send({"type": "http.response.body" if raises else "nonsense"})
        finally:
            stopped.append(1)

    answer = await submit(BatchMiddleware(app), "GET /")

    assert answer.bodies == ["app_protocol_error"]
    assert stopped == [1]


# --- the time of the whole batch


async def test_a_batch_that_takes_too_long_is_answered_all_the_same():
    """
    At batch_timeout what is running is 504, what has not started 424, what is done stays done.
    """
    started = []

    async def app(scope, receive, send):
        started.append(scope["path"])
        if scope["path"] != "/fast":
            await anyio.sleep_forever()
        await respond(send, b"fine")

    limits = Limits(batch_timeout=DEADLINE, concurrency=2)
    middleware = BatchMiddleware(app, limits=limits)
    start = anyio.current_time()
    answer = await submit(middleware, "GET /fast", "GET /a", "GET /b", "GET /c", "GET /d")
    elapsed = anyio.current_time() - start

    assert answer.statuses == [200, 504, 504, 424, 424]
    assert answer.bodies == ["fine"] + ["batch_timeout"] * 4
    assert answer.json()["summary"] == {"total": 5, "succeeded": 1, "failed": 2, "skipped": 2}
    assert started == ["/fast", "/a", "/b"]
    assert DEADLINE - TICK <= elapsed <= DEADLINE + MARGIN


async def test_a_batch_of_stuck_threads_is_answered_in_time():
    """
    Operations that cannot be stopped take the place of others, and the batch ends all the same.
    """
    release = threading.Event()

    def stuck(request):
        release.wait()
        return PlainTextResponse("too late")

    app = Starlette(routes=[Route("/", stuck)])
    limits = Limits(operation_timeout=0.1, batch_timeout=0.4, concurrency=2)
    middleware = BatchMiddleware(app, limits=limits)
    start = anyio.current_time()
    async with submitted(middleware, *["GET /"] * 5) as answer:
        with releasing(release):
            await answer.answered.wait()
            elapsed = anyio.current_time() - start

    assert answer.statuses == [504, 504, 424, 424, 424]
    assert answer.bodies == ["operation_timeout"] * 2 + ["batch_timeout"] * 3
    assert elapsed <= 0.4 + MARGIN


# --- F19: the client goes


async def test_f19_a_gone_client_stops_its_batch(caplog):
    """
    F19: nothing further starts, what runs is told and ends, tokens are back, nothing is logged.
    """
    started, heard = [], []

    async def app(scope, receive, send):
        started.append(scope["path"])
        await receive()
        heard.append((await receive())["type"])

    middleware = BatchMiddleware(app, limits=Limits(concurrency=2))
    start = anyio.current_time()
    async with submitted(middleware, *[f"GET /{number}" for number in range(6)]) as exchange:
        await settled()
        exchange.disconnect()
        await exchange.returned.wait()
    elapsed = anyio.current_time() - start
    statistics = middleware.statistics()

    assert started == ["/0", "/1"]
    assert heard == ["http.disconnect"] * 2
    assert exchange.sent == []
    assert exchange.sends == 0
    assert (statistics.running, statistics.waiting, statistics.held_bytes) == (0, 0, 0)
    assert elapsed <= 1 + MARGIN
    assert errors(caplog) == []


async def test_f19_an_operation_that_hears_of_it_may_tidy_up():
    """
    F19: one that ends by itself is not cancelled on the way.
    """
    tidied = []

    async def app(scope, receive, send):
        await receive()
        await receive()
        await anyio.sleep(0.05)
        tidied.append(scope["path"])

    async with submitted(BatchMiddleware(app), "GET /a", "GET /b") as exchange:
        await settled()
        exchange.disconnect()
        await exchange.returned.wait()

    assert sorted(tidied) == ["/a", "/b"]


async def test_f19_a_gone_client_cancels_what_does_not_listen(caplog):
    """
    F19: an operation that waits for something else is cancelled after a moment of grace.
    """
    ended = []

    async def app(scope, receive, send):
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(scope["path"])

    middleware = BatchMiddleware(app)
    start = anyio.current_time()
    async with submitted(middleware, "GET /a", "GET /b") as exchange:
        await settled()
        exchange.disconnect()
        await exchange.returned.wait()
    elapsed = anyio.current_time() - start

    assert sorted(ended) == ["/a", "/b"]
    assert middleware.statistics().running == 0
    assert elapsed <= 1 + MARGIN
    assert errors(caplog) == []


async def test_f19_an_operation_that_sends_to_nobody_gets_an_oserror():
    """
    F19: send() raises what the ASGI specification says, which is no error of the app's.
    """
    raised = []

    async def app(scope, receive, send):
        await receive()
        await receive()
        try:
            await respond(send, b"nobody hears")
        except OSError as error:
            raised.append(type(error))
            raise

    middleware = BatchMiddleware(app)
    async with submitted(middleware, "GET /") as exchange:
        await settled()
        exchange.disconnect()

    assert raised == [OperationAborted]
    assert exchange.sent == []


async def test_f19_a_client_may_go_while_it_sends_the_batch():
    """
    F19: half a batch is no batch; nothing runs and nothing is answered.
    """
    started = []

    async def app(scope, receive, send):
        started.append(scope["path"])

    body = batch_body(["GET /"])
    exchange = Exchange(batch_scope(), [body[:10], body[10:]])
    exchange._chunks.pop()
    exchange.disconnect()

    async def receive():
        message = await exchange.receive()
        return {**message, "more_body": True} if message["type"] == "http.request" else message

    middleware = BatchMiddleware(app)
    await middleware(exchange.scope, receive, exchange.send)

    assert (started, exchange.sent) == ([], [])
    assert middleware.statistics().held_bytes == 0


@pytest.mark.parametrize("is_strict", [False, True])
async def test_f19_a_client_may_go_at_the_last_moment(is_strict, caplog):
    """
    F19: an answer that nobody takes any more is no error, whatever the server's send() says.
    """

    async def app(scope, receive, send):
        exchange.disconnect()
        await respond(send, b"fine")

    middleware = BatchMiddleware(app, on_disconnect="finish")
    exchange = Exchange(batch_scope(), batch_body(["GET /"]), is_strict=is_strict)
    await call(middleware, exchange)

    assert exchange.sent == []
    assert errors(caplog) == []


@pytest.mark.parametrize("content", [b"not json", b'{"operations": []}'])
async def test_f19_a_client_may_go_before_its_batch_is_refused(content):
    """
    F19: a refusal that nobody takes any more is no error either.
    """

    async def app(scope, receive, send):
        raise AssertionError

    async def receive():
        message = await exchange.receive()
        exchange.disconnect()
        return message

    exchange = Exchange(batch_scope(), content, is_strict=True)
    await BatchMiddleware(app)(exchange.scope, receive, exchange.send)

    assert exchange.sent == []


async def test_on_disconnect_finish_goes_on_to_the_end():
    """
    With on_disconnect="finish" every operation runs, although nobody will hear of it.
    """
    release = anyio.Event()
    finished = []

    async def app(scope, receive, send):
        await release.wait()
        await respond(send, b"fine")
        finished.append(scope["path"])

    limits = Limits(concurrency=1)
    middleware = BatchMiddleware(app, limits=limits, on_disconnect="finish")
    async with submitted(middleware, "GET /a", "GET /b", "GET /c") as exchange:
        await settled()
        exchange.disconnect()
        await settled()
        release.set()

    assert finished == ["/a", "/b", "/c"]
    assert exchange.sent == []


async def test_messages_after_the_body_are_not_taken_for_a_disconnect():
    """
    A server or middleware that goes on sending empty body messages is listened to, and ignored.
    """
    extra = [{"type": "http.request", "body": b"", "more_body": False}] * 50

    async def app(scope, receive, send):
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        await respond(send, b"fine")

    exchange = Exchange(batch_scope(), batch_body(["GET /"]))

    async def receive():
        if exchange._chunks or not extra:
            return await exchange.receive()
        return extra.pop()

    await BatchMiddleware(app)(exchange.scope, receive, exchange.send)

    assert exchange.bodies == ["fine"]


@pytest.mark.parametrize("kind", [RuntimeError, ValueError])
@pytest.mark.parametrize("side", ["receive", "send"])
async def test_a_fault_of_the_server_is_the_servers(kind, side):
    """
    What receive() or send() raise goes back where it came from, and everything is given back.
    """

    async def app(scope, receive, send):
        for _ in range(50):
            await anyio.lowlevel.checkpoint()
        await respond(send, b"fine")

    exchange = Exchange(batch_scope(), batch_body(["GET /"] * 3))

    async def receive():
        if side == "receive" and not exchange._chunks:
            raise kind("of the server")
        return await exchange.receive()

    async def send(message):
        if side == "send":
            raise kind("of the server")
        await exchange.send(message)

    middleware = BatchMiddleware(app)
    with pytest.raises(ExceptionGroup) as raised:
        await middleware(exchange.scope, receive, send)
    statistics = middleware.statistics()

    assert raised.group_contains(kind, match="of the server")
    assert (statistics.running, statistics.waiting, statistics.held_bytes) == (0, 0, 0)


# --- the batch request is cancelled


@pytest.mark.parametrize("swallows", [False, True])
async def test_f19_a_cancelled_request_leaves_nothing_behind(swallows, caplog):
    """
    F19: a server that cancels the request, as at shutdown, gets all tasks and tokens back.
    """
    started = []

    async def app(scope, receive, send):
        started.append(scope["path"])
        try:
            await anyio.sleep_forever()
        except BaseException:
            if not swallows:
                raise
        await respond(send, b"fine")

    middleware = BatchMiddleware(app, limits=Limits(concurrency=2))
    sent = []
    for _ in range(10):  # in which order tasks hear of it is a matter of chance
        exchange = Exchange(batch_scope(), batch_body(["GET /"] * 6))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, middleware, exchange)
            await settled()
            tasks.cancel_scope.cancel()
        sent += exchange.sent
    statistics = middleware.statistics()

    assert len(started) == 20
    assert sent == []
    assert (statistics.running, statistics.waiting, statistics.abandoned) == (0, 0, 0)
    assert statistics.held_bytes == 0
    assert errors(caplog) == []


async def test_f19_a_request_that_is_cancelled_in_line_leaves_nothing_behind():
    """
    F19: neither a token nor a place in the line stays with a batch that never began.
    """
    release = anyio.Event()

    async def app(scope, receive, send):
        await release.wait()
        await respond(send, b"fine")

    middleware = BatchMiddleware(app, limits=Limits(concurrency=1, total_concurrency=1))
    async with submitted(middleware, "GET /") as first:
        await settled()
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                exchange = Exchange(batch_scope(), batch_body(["GET /"] * 3))
                tasks.start_soon(call, middleware, exchange)
            await settled()
            in_line = middleware.statistics().waiting
            tasks.cancel_scope.cancel()
        waiting = middleware.statistics().waiting
        release.set()
    again = await submit(middleware, "GET /")

    assert (in_line, waiting) == (5, 0)
    assert first.bodies == again.bodies == ["fine"]
    assert middleware.statistics().running == 0


async def test_f19_a_request_cancelled_with_a_thread_at_work_waits_for_the_thread():
    """
    F19: a thread cannot be cancelled; its token is back when it is.
    """
    release, started = threading.Event(), anyio.Event()

    def endpoint(request):
        anyio.from_thread.run_sync(started.set)
        release.wait()
        return PlainTextResponse("fine")

    app = Starlette(routes=[Route("/", endpoint)])
    middleware = BatchMiddleware(app)
    exchange = Exchange(batch_scope(), batch_body(["GET /"]))
    async with anyio.create_task_group() as tasks:
        with releasing(release):
            tasks.start_soon(call, middleware, exchange)
            await started.wait()
            tasks.cancel_scope.cancel()

    assert middleware.statistics().running == 0
    assert exchange.sent == []


# --- what a process holds


async def test_max_held_bytes_bounds_what_all_batches_hold():
    """
    Bodies and results of running batches count; a batch too many is 503 overloaded.
    """
    release = anyio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            await release.wait()
        await respond(send, b"x" * 1000)

    limits = Limits(max_held_bytes=2000)
    middleware = BatchMiddleware(app, limits=limits)
    large = {"method": "POST", "path": "/", "body": "x" * 1500}
    async with submitted(middleware, "GET /slow", "GET /", "GET /") as exchange:
        await settled()
        held = middleware.statistics().held_bytes
        refused = await submit(middleware, "GET /")
        release.set()
    again = await submit(middleware, large)

    assert held > 2000
    assert (refused.status, refused.json()["code"]) == (503, "overloaded")
    assert exchange.statuses == [200] * 3
    assert again.statuses == [200]
    assert middleware.statistics().held_bytes == 0


async def test_t30_a_batch_whose_answer_grows_too_large_stops():
    """
    T30: the operation that does not fit is 502, what has not started is 424, and it all says why.
    """
    started = []

    async def app(scope, receive, send):
        started.append(scope["path"])
        await respond(send, b"x" * 400)

    limits = Limits(max_response_bytes=1100, concurrency=1)
    operations = [f"GET /{number}" for number in range(5)]
    answer = await submit(BatchMiddleware(app, limits=limits), *operations)

    assert answer.statuses == [200, 200, 502, 424, 424]
    assert answer.bodies[2:] == ["batch_response_too_large"] * 3
    assert started == ["/0", "/1", "/2"]
    assert answer.json()["summary"] == {"total": 5, "succeeded": 2, "failed": 1, "skipped": 2}


async def test_a_finished_batch_is_free_to_be_collected():
    """
    Nothing keeps a batch's body or results once it is answered.
    """
    body = b"x" * 100_003

    async def app(scope, receive, send):
        await respond(send, body + scope["path"].encode())

    answer = await submit(BatchMiddleware(app), "GET /unforgettable")
    expected = len(answer.bodies[0])
    del answer
    gc.collect()
    kept = [each for each in gc.get_objects() if type(each) is bytearray and len(each) > 100_000]

    assert expected == 100_003 + len("/unforgettable")
    assert kept == []


async def test_t30_large_results_do_not_wait_in_memory():
    """
    T30: a result of more than a little is counted before the next operation starts.
    """
    held = []

    async def app(scope, receive, send):
        held.append(middleware.statistics().held_bytes)
        await respond(send, b"x" * 2000)

    middleware = BatchMiddleware(app)
    answer = await submit(middleware, *(f"GET /{number}" for number in range(5)))

    assert answer.statuses == [200] * 5
    assert all(later - earlier > 2000 for earlier, later in itertools.pairwise(held))


async def test_t30_the_first_result_that_does_not_fit_is_told_at_once():
    """
    T30: also where results were entered in groups so far.
    """
    started = []

    async def app(scope, receive, send):
        started.append(scope["path"])
        await respond(send, b"x" * 1000)

    limits = Limits(max_response_bytes=300_000, sync_operations=1000)
    operations = [f"GET /{number}" for number in range(400)]
    answer = await submit(BatchMiddleware(app, limits=limits), *operations)
    summary = answer.json()["summary"]

    assert summary["failed"] == 1
    assert summary["skipped"] == 400 - len(started)
    assert answer.statuses == [200] * summary["succeeded"] + [502] + [424] * summary["skipped"]
    assert sum(len(str(body)) for body in answer.bodies[: summary["succeeded"]]) < 300_000


async def test_results_do_not_wait_for_operations_that_compute():
    """
    Small results are entered together, but within a time slice, so that a late batch knows them.
    """

    async def app(scope, receive, send):
        if scope["path"] == "/last":
            await anyio.sleep_forever()
        started = time.monotonic()
        while time.monotonic() - started < 0.003:
            pass
        await respond(send, b"done")

    limits = Limits(batch_timeout=0.5, operation_timeout=30)
    answer = await submit(BatchMiddleware(app, limits=limits), "GET /1", "GET /2", "GET /last")

    assert answer.statuses == [200, 200, 504]
