"""
How one batch is carried out: what starts when, in which order results come back, and what a
failure means for the rest.
"""

import random

import anyio
import anyio.lowlevel
import pytest

from asgi_batch import BatchMiddleware, Limits
from asgi_batch._gate import Door
from support import Meter, respond, settled, submit, submitted


async def test_results_come_in_the_order_of_the_request():
    """
    Whoever finishes first, the first operation's result is the first.
    """
    total = 10
    turns = [anyio.Event() for _ in range(total + 1)]
    finished = []

    async def app(scope, receive, send):
        number = int(scope["path"][1:])
        await turns[number + 1].wait()
        await respond(send, scope["path"].encode())
        finished.append(number)
        turns[number].set()

    async with submitted(BatchMiddleware(app), *[f"GET /{n}" for n in range(total)]) as answer:
        turns[total].set()

    assert finished == list(reversed(range(total)))
    assert answer.bodies == [f"/{number}" for number in range(total)]
    assert [result["id"] for result in answer.results] == [str(number) for number in range(total)]


@pytest.mark.parametrize("seed", range(5))
async def test_results_come_in_order_whatever_operations_do(seed):
    """
    Answers, failures and exceptions at random moments never change places.
    """
    chance = random.Random(seed)
    fates = [chance.choice(["fine", "fails", "raises", "silent"]) for _ in range(100)]
    pauses = [chance.randrange(4) for _ in fates]
    expected = {
        "fine": (200, "fine"),
        "fails": (409, "conflict"),
        "raises": (500, "app_exception"),
        "silent": (502, "app_no_response"),
    }

    async def app(scope, receive, send):
        number = int(scope["path"][1:])
        for _ in range(pauses[number]):
            await anyio.lowlevel.checkpoint()
        if fates[number] == "raises":
            raise ValueError
        if fates[number] != "silent":
            status, body = expected[fates[number]]
            await respond(send, body.encode(), status=status)

    operations = [f"GET /{number}" for number in range(100)]
    answer = await submit(BatchMiddleware(app), *operations)
    found = list(zip(answer.statuses, answer.bodies, strict=True))

    assert found == [expected[fate] for fate in fates]
    assert answer.json()["summary"] == {
        "total": 100,
        "succeeded": fates.count("fine"),
        "failed": 100 - fates.count("fine"),
        "skipped": 0,
    }


async def test_operations_start_in_the_order_of_the_request():
    """
    With one at a time, and with several, nobody overtakes at the start.
    """
    started = []

    async def app(scope, receive, send):
        started.append(int(scope["path"][1:]))
        await anyio.lowlevel.checkpoint()
        await respond(send)

    for concurrency in (1, 10):
        limits = Limits(concurrency=concurrency)
        middleware = BatchMiddleware(app, limits=limits)
        await submit(middleware, *[f"GET /{number}" for number in range(50)])

    assert started == list(range(50)) * 2


async def test_operations_that_never_wait_need_no_second_worker():
    """
    What never pauses runs one after the other, however much could run at a time.
    """
    meter, running = Meter(), set()

    async def app(scope, receive, send):
        with meter:
            running.add(middleware.statistics().running)
            await respond(send)

    middleware = BatchMiddleware(app)
    answer = await submit(middleware, *["GET /"] * 100)

    assert answer.statuses == [200] * 100
    assert (meter.most, running) == (1, {1})


@pytest.mark.parametrize("fate", ["raises", "silent", "broken"])
@pytest.mark.parametrize("pauses", [0, 10])
async def test_failures_do_not_use_up_the_workers(fate, pauses):
    """
    Operations that fail are followed by others, as many at a time as before.
    """
    meter = Meter()

    async def app(scope, receive, send):
        with meter:
            for _ in range(pauses):
                await anyio.lowlevel.checkpoint()
            if fate == "raises":
                raise ValueError
            if fate == "broken":
                await send({"type": "nonsense"})

    middleware = BatchMiddleware(app, limits=Limits(concurrency=3))
    answer = await submit(middleware, *["GET /"] * 50)

    assert all(status in (500, 502) for status in answer.statuses)
    assert (len(answer.results), meter.total) == (50, 50)
    assert meter.most <= 3
    assert pauses == 0 or meter.most == 3
    assert middleware.statistics().running == 0


async def test_a_thousand_operations():
    """
    The largest batch there is, in one go.
    """

    async def app(scope, receive, send):
        await anyio.lowlevel.checkpoint()
        await respond(send, scope["path"].encode())

    middleware = BatchMiddleware(app, limits=Limits(sync_operations=1000))
    answer = await submit(middleware, *[f"GET /{number}" for number in range(1000)])

    assert answer.bodies == [f"/{number}" for number in range(1000)]
    assert answer.json()["summary"]["succeeded"] == 1000


async def test_statistics_tell_what_is_running():
    """
    The middleware says what it is doing, and that it is doing nothing.
    """
    release = anyio.Event()

    async def app(scope, receive, send):
        await release.wait()
        await respond(send)

    middleware = BatchMiddleware(app, limits=Limits(concurrency=3, total_concurrency=4))
    before = middleware.statistics()
    async with submitted(middleware, *["GET /"] * 5), submitted(middleware, *["GET /"] * 5):
        await settled()
        during = middleware.statistics()
        release.set()
    after = middleware.statistics()

    assert (before.running, before.waiting, before.abandoned, before.held_bytes) == (0, 0, 0, 0)
    assert (during.running, during.abandoned) == (4, 0)
    assert during.waiting > 0
    assert during.held_bytes > 0
    assert after == before


# --- onError


FAILURES = {"client": 404, "server": 503, "raises": 500, "silent": 502, "late": 504}


def failing_at(path, fate):
    """
    An app that fails in one way at one path, and notes what has started.
    """
    started = []

    async def app(scope, receive, send):
        started.append(scope["path"])
        await anyio.lowlevel.checkpoint()
        if scope["path"] != path:
            await respond(send, b"fine")
        elif fate == "raises":
            raise ValueError
        elif fate == "late":
            await anyio.sleep_forever()
        elif fate != "silent":
            await respond(send, b"failed", status=FAILURES[fate])

    return app, started


@pytest.mark.parametrize("fate", FAILURES)
@pytest.mark.parametrize("position", [0, 2, 4])
async def test_on_error_stop_starts_nothing_after_a_failure(fate, position):
    """
    The operations after the first failure are skipped with 424, and the app never sees them.
    """
    app, started = failing_at(f"/{position}", fate)
    limits = Limits(concurrency=1, operation_timeout=0.1)
    operations = [f"GET /{number}" for number in range(5)]
    answer = await submit(BatchMiddleware(app, limits=limits), *operations, onError="stop")
    skipped = 4 - position

    assert answer.statuses == [200] * position + [FAILURES[fate]] + [424] * skipped
    assert answer.bodies[position + 1 :] == ["skipped"] * skipped
    assert started == [f"/{number}" for number in range(position + 1)]
    assert answer.json()["summary"] == {
        "total": 5,
        "succeeded": position,
        "failed": 1,
        "skipped": skipped,
    }


@pytest.mark.parametrize("fate", FAILURES)
async def test_on_error_continue_is_the_default(fate):
    """
    Partial failure is the rule: everything else runs all the same.
    """
    app, started = failing_at("/1", fate)
    limits = Limits(concurrency=1, operation_timeout=0.1)
    middleware = BatchMiddleware(app, limits=limits)
    operations = [f"GET /{number}" for number in range(4)]
    by_default = await submit(middleware, *operations)
    as_asked = await submit(middleware, *operations, onError="continue")

    assert by_default.statuses == as_asked.statuses == [200, FAILURES[fate], 200, 200]
    assert started == [f"/{number}" for number in range(4)] * 2


async def test_on_error_stop_lets_what_runs_come_to_its_end():
    """
    Operations that had started keep their results; none starts after the failure.
    """
    failed, started = anyio.Event(), []

    async def app(scope, receive, send):
        started.append(scope["path"])
        if scope["path"] == "/1":
            await settled()
            await respond(send, status=400)
            failed.set()
        else:
            await failed.wait()
            await settled()
            await respond(send, b"fine")

    middleware = BatchMiddleware(app, limits=Limits(concurrency=3))
    operations = [f"GET /{number}" for number in range(6)]
    answer = await submit(middleware, *operations, onError="stop")

    assert answer.statuses == [200, 400, 200, 424, 424, 424]
    assert started == ["/0", "/1", "/2"]
    assert answer.json()["summary"] == {"total": 6, "succeeded": 2, "failed": 1, "skipped": 3}


@pytest.mark.parametrize("status", [200, 204, 301, 304, 399])
async def test_on_error_stop_knows_what_is_no_failure(status):
    """
    A redirect is an answer like any other.
    """

    async def app(scope, receive, send):
        await respond(send, status=status)

    answer = await submit(BatchMiddleware(app), "GET /a", "GET /b", onError="stop")

    assert answer.statuses == [status] * 2


async def test_on_error_stop_before_anything_else_has_started():
    """
    An operation that fails without ever pausing is seen in time.
    """
    started = []

    async def app(scope, receive, send):
        started.append(scope["path"])
        raise ValueError

    answer = await submit(BatchMiddleware(app), "GET /a", "GET /b", "GET /c", onError="stop")

    assert answer.statuses == [500, 424, 424]
    assert started == ["/a"]


async def test_a_failure_in_the_background_stops_nothing():
    """
    What happens after an answer is no failure of the batch.
    """

    async def app(scope, receive, send):
        await respond(send, b"fine")
        await anyio.lowlevel.checkpoint()
        raise ValueError

    middleware = BatchMiddleware(app, limits=Limits(concurrency=1))
    answer = await submit(middleware, "GET /a", "GET /b", "GET /c", onError="stop")

    assert answer.bodies == ["fine"] * 3


async def test_an_error_of_our_own_is_not_taken_for_an_app_s(monkeypatch, caplog):
    """
    What goes wrong between operations comes out, and is not logged as something an app did.
    """

    async def app(scope, receive, send):
        await respond(send)

    async def broken(self, borrower):
        raise RuntimeError("the gate is broken")

    monkeypatch.setattr(Door, "acquire", broken)
    with pytest.raises(ExceptionGroup) as caught:
        await submit(BatchMiddleware(app), "GET /")

    assert caught.group_contains(RuntimeError, match="the gate is broken")
    assert caplog.records == []
