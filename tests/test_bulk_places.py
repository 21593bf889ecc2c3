"""
Bulk functions: places and tokens come out even whatever becomes of those who wait.
"""

import anyio
import anyio.lowlevel
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_batch import BatchMiddleware, Limits, OperationAborted, bulk
from background import DOWN, Store, carrier_of, endings, running
from background import submit as submit_later
from support import Meter, respond, submit, until

LONG = 1000.0


def batching(app, **limits):
    return BatchMiddleware(app, limits=Limits(**{"sync_operations": 1000, **limits}))


def paths(count):
    return [f"GET /{number}" for number in range(count)]


def is_even(app):
    return (app.statistics().running, app.statistics().waiting) == (0, 0)


def endpoint(function):
    return Starlette(routes=[Route("/{name}", function)])


async def test_an_operation_that_gives_up_a_call_may_make_another():
    """
    It has no token then, and gives none back a second time.
    """

    @bulk(max_delay=0.2)
    async def insert(items):
        return items

    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            await anyio.sleep(0.1)
        else:
            with anyio.move_on_after(0.02):
                await insert("given up")
            await insert(scope["path"])
        await respond(send)

    app = batching(app)
    exchange = await submit(app, "GET /a", "GET /b", "GET /slow")

    assert exchange.statuses == [200] * 3
    assert is_even(app)


async def test_an_operation_whose_call_was_ended_may_make_another():
    """
    The same where it is told that the call will never be made.
    """

    @bulk(max_delay=LONG)
    async def insert(items):
        if items[0] == "broken":
            raise anyio.get_cancelled_exc_class()
        return items

    async def app(scope, receive, send):
        with pytest.raises((OperationAborted, TypeError)):  # trio's cannot be made
            await insert("broken")
        await insert(scope["path"])
        await respond(send)

    app = batching(app)
    exchange = await submit(app, *paths(3))

    assert exchange.statuses == [200] * 3
    assert is_even(app)


async def test_nobody_joins_a_call_that_nobody_waits_for_any_more():
    """
    It is about to be cancelled.
    """
    calls = []

    @bulk(max_delay=0.3)
    async def insert(items):
        calls.append(items)
        return items

    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            await anyio.sleep(0.1)
        else:
            with anyio.move_on_after(0.02):
                await insert("given up")
            await insert(scope["path"])
        await respond(send)

    exchange = await submit(batching(app), "GET /a", "GET /slow")

    assert exchange.statuses == [200] * 2
    assert calls == [["/a"]]


@pytest.mark.parametrize("total", [1, 4])
async def test_background_tasks_that_wait_for_a_call_keep_no_token(total):
    """
    Otherwise the call could wait for a token that only they have.
    """
    calls = []

    @bulk(max_delay=0.05)
    async def insert(items):
        calls.append(items)
        return items

    async def answer(request):
        return JSONResponse({}, background=BackgroundTask(insert, request.url.path))

    app = batching(endpoint(answer), concurrency=1, total_concurrency=total, batch_timeout=5)
    with anyio.fail_after(10):
        exchange = await submit(app, *paths(10))

    assert exchange.statuses == [200] * 10
    assert sorted(item for items in calls for item in items) == [f"/{n}" for n in range(10)]
    assert is_even(app)


@pytest.mark.parametrize("batches", [1, 3])
async def test_threads_that_wait_have_all_tokens(batches):
    """
    The call is made in their place.
    """

    @bulk(max_delay=0.05)
    async def insert(items):
        await anyio.sleep(0.001)
        return items

    def answer(request):
        return JSONResponse(insert.sync(request.url.path))

    app = batching(endpoint(answer), concurrency=2, total_concurrency=2, operation_timeout=3)
    exchanges = []

    async def one():
        exchanges.append(await submit(app, *paths(6)))

    async with anyio.create_task_group() as tasks:
        for _ in range(batches):
            tasks.start_soon(one)

    assert [each.bodies for each in exchanges] == [[f"/{n}" for n in range(6)]] * batches
    assert is_even(app)


async def test_tasks_of_an_operation_that_call_one_after_the_other():
    """
    While one of them waits for a token, another may call again.
    """
    meter = Meter()

    @bulk(max_delay=LONG, max_size=3)
    async def insert(items):
        await anyio.sleep(0.001)
        return items

    async def several(name):
        for number in range(4):
            await insert(f"{name} {number}")

    async def app(scope, receive, send):
        if scope["path"] == "/other":
            with meter:
                await anyio.sleep(0.002)
        else:
            async with anyio.create_task_group() as tasks:
                for name in "abc":
                    tasks.start_soon(several, name)
        await respond(send)

    app = batching(app, concurrency=2, total_concurrency=2)

    async def one(*operations):
        exchange = await submit(app, *operations)
        assert set(exchange.statuses) == {200}

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, *paths(20))
        tasks.start_soon(one, *["GET /other"] * 50)

    assert meter.most <= 2
    assert is_even(app)


@pytest.mark.parametrize("error", [SystemExit(1), BaseExceptionGroup("g", [SystemExit(1)])])
async def test_a_function_that_wants_to_end_the_process(error):
    """
    It is the error of its operations, as it would be if an operation raised it.
    """

    @bulk(max_delay=LONG)
    async def insert(items):
        raise error

    async def app(scope, receive, send):
        if scope["path"] != "/2":
            await insert(scope["path"])
        await respond(send)

    app = batching(app)
    exchange = await submit(app, *paths(3))

    assert exchange.statuses == [500, 500, 200]
    assert is_even(app)


@pytest.mark.parametrize("answers", [None, 7])
async def test_a_function_that_returns_no_answers_is_called_once(answers):
    """
    What it has done is done: to call it again would do it twice.
    """
    calls = []

    @bulk(max_delay=LONG)
    async def insert(items):
        calls.append(items)
        return answers

    async def app(scope, receive, send):
        await insert(scope["path"])
        await respond(send)

    exchange = await submit(batching(app), *paths(4))

    assert exchange.statuses == [500] * 4
    assert len(calls) == 1


async def test_a_cancelled_batch_whose_operations_may_not_start():
    """
    Those that wait have nobody to wait for any more, though the store is silent.
    """
    calls, store = [], Store()

    @bulk(max_delay=LONG)
    async def insert(items):
        calls.append(items)
        return items

    async def app(scope, receive, send):
        await insert(scope["path"])
        await respond(send)

    async with running(app, store, concurrency=2, operation_timeout=10) as background:
        batch_id = await submit_later(background, *(f"GET /{n}" for n in range(50)))
        await until(
            lambda: (carrier := carrier_of(background, batch_id)) and carrier._pending.started
        )
        store.errors["save"] = DOWN
        carrier = carrier_of(background, batch_id)
        await until(lambda: not carrier._pending)
        before = list(calls)
        carrier.cancel()
        await until(lambda: calls)
        store.errors.clear()
        ends = await endings(store, batch_id)

    assert before == []
    assert set(ends) == {200, "cancelled"}


async def test_a_full_call_that_has_waited_too_long_for_a_place_is_made_once():
    """
    It is made beside a slow operation, and not once more when that one gives its place up.
    """
    calls = []

    @bulk(max_size=2, max_delay=0.05)
    async def insert(items):
        calls.append(items)
        return items

    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            await anyio.sleep(0.3)
        else:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(insert, "first")
                await anyio.sleep(0.02)
                tasks.start_soon(insert, "second")
        await respond(send)

    app = batching(app, concurrency=1)
    exchange = await submit(app, "GET /a", "GET /slow", "GET /slow")

    assert exchange.statuses == [200] * 3
    assert calls == [["first", "second"]]
    assert is_even(app)


async def test_an_operation_that_is_late_after_its_call_has_been_made():
    """
    It has an answer and no place to go on in: it is 504, and nobody waits for it.
    """

    @bulk(max_delay=LONG)
    async def insert(items):
        return items

    async def app(scope, receive, send):
        await insert(scope["path"])
        if scope["path"] == "/slow":
            await anyio.sleep(0.3)
        await respond(send)

    app = batching(app, concurrency=1)
    late = {"method": "GET", "path": "/late", "timeout": 0.1}
    exchange = await submit(app, "GET /slow", late, "GET /b")

    assert exchange.statuses == [200, 504, 200]
    assert is_even(app)


async def test_what_still_waits_when_the_batch_has_been_answered():
    """
    The call of a background task is made then, though an operation that was given up goes on.
    """
    calls, has_ended = [], anyio.Event()

    @bulk(max_delay=LONG)
    async def insert(items):
        calls.append(items)
        return items

    async def app(scope, receive, send):
        if scope["path"] == "/stuck":
            with anyio.CancelScope(shield=True):
                await has_ended.wait()
            return
        await anyio.sleep(0.01)
        await respond(send)
        await insert(scope["path"])
        has_ended.set()

    app = batching(app)
    stuck = {"method": "GET", "path": "/stuck", "timeout": 0.1}
    exchange = await submit(app, stuck, "GET /a")

    assert exchange.statuses == [504, 200]
    assert calls == [["/a"]]
    assert is_even(app)


async def test_a_server_that_stops_while_a_call_is_made():
    """
    The call is ended, and the cancellation obeyed.
    """
    begun, ends = anyio.Event(), []

    @bulk()
    async def insert(items):
        begun.set()
        try:
            await anyio.sleep(LONG)
        finally:
            ends.append(items)

    async def app(scope, receive, send):
        await insert(scope["path"])
        await respond(send)

    app = batching(app)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(submit, app, *paths(2))
        await begun.wait()
        tasks.cancel_scope.cancel()

    assert ends == [["/0", "/1"]]
    assert is_even(app)
