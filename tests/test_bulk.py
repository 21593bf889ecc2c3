"""
Bulk functions: what operations of a batch ask at the same time becomes one call.
"""

import gc
import threading
import traceback
from contextvars import ContextVar

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_batch import (
    BatchMiddleware,
    BulkError,
    ConfigurationError,
    Limits,
    OperationAborted,
    bulk,
    current_operation,
)
from asgi_batch.bulk import Bulk
from asgi_batch.errors import OutcomeUnknown
from support import (
    Exchange,
    Meter,
    batch_scope,
    call,
    http_scope,
    releasing,
    respond,
    settled,
    submit,
    submitted,
    until,
)

LONG = 1000.0


class Table:
    """
    A bulk function that notes what it is called with, and an app that calls it for each request.

    Args:
        bad: Items that the function raises an error for.
        settings: Of `bulk`; nothing but the number of items decides, unless one says so.
    """

    def __init__(self, *, bad=(), function=None, **settings):
        self.calls = []
        self.bad = set(bad)
        self.insert = bulk(**{"max_delay": LONG, **settings})(function or self._insert())

    def _insert(self):
        async def insert(items):
            self.calls.append(items)
            await anyio.lowlevel.checkpoint()
            if wrong := self.bad.intersection(items):
                raise ValueError(f"bad: {min(wrong)}")
            return [f"{item}!" for item in items]

        return insert

    async def __call__(self, scope, receive, send):
        item = scope["path"].removeprefix("/")
        try:
            answer = await self.insert(item)
        except (ValueError, BulkError, OperationAborted) as error:
            await respond(send, str(error).encode(), status=400)
        else:
            await respond(send, answer.encode())


def paths(count):
    return [f"GET /{number}" for number in range(count)]


def batching(app, **limits):
    return BatchMiddleware(app, limits=Limits(**{"sync_operations": 1000, **limits}))


async def test_calls_of_a_batch_become_one():
    """
    One call for all, though only ten operations may run at a time; each gets its own answer.
    """
    table = Table()
    exchange = await submit(batching(table), *paths(25))

    assert table.calls == [[str(number) for number in range(25)]]
    assert exchange.bodies == [f"{number}!" for number in range(25)]


async def test_outside_of_a_batch_a_call_is_made_at_once():
    """
    A list of one, without a batch, and for a direct request.
    """
    table = Table()
    alone = await table.insert("a")
    exchange = await call(batching(table), direct("/b"))

    assert alone == "a!"
    assert exchange.body == b"b!"
    assert table.calls == [["a"], ["b"]]


def direct(path):
    """
    A request that is no part of a batch.
    """
    return Exchange(http_scope("GET", path))


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [1]), (3, [3]), (4, [3, 1]), (7, [3, 3, 1]), (9, [3, 3, 3])]
)
async def test_max_size_boundary(count, sizes):
    """
    A call is made as soon as it is full, and the rest when nobody can come any more.
    """
    table = Table(max_size=3)
    exchange = await submit(batching(table), *paths(count))

    assert [len(items) for items in table.calls] == sizes
    assert exchange.bodies == [f"{number}!" for number in range(count)]


@pytest.mark.parametrize("concurrency", [1, 2, 10])
async def test_who_waits_gives_its_place_to_others(concurrency):
    """
    However few operations may run at a time, all of them reach the call.
    """
    table = Table()
    await submit(batching(table, concurrency=concurrency, total_concurrency=10), *paths(30))

    assert [len(items) for items in table.calls] == [30]


async def test_what_comes_back_needs_a_place():
    """
    After the call no more operations go on at a time than may, and all tokens are given back.
    """
    table, meter = Table(), Meter()

    async def app(scope, receive, send):
        await table.insert(scope["path"])
        with meter:
            await anyio.sleep(0.001)
        await respond(send)

    app = batching(app, concurrency=3, total_concurrency=4)
    exchange = await submit(app, *paths(20))

    assert exchange.statuses == [200] * 20
    assert meter.most == 3
    assert (app.statistics().running, app.statistics().waiting) == (0, 0)


async def test_max_delay_bounds_the_wait_behind_a_slow_operation():
    """
    The call does not wait for an operation that itself waits for the call.
    """
    table, called = Table(max_delay=0.05), anyio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            await called.wait()
        else:
            await table.insert(scope["path"])
            called.set()
        await respond(send)

    exchange = await submit(batching(app, concurrency=2), "GET /a", "GET /slow", "GET /b")

    assert exchange.statuses == [200] * 3
    assert table.calls == [["/a", "/b"]]


async def test_the_wait_begins_anew_with_each_item():
    """
    A machine that is busy makes no small calls of large ones.
    """
    table = Table(max_delay=0.1)

    async def app(scope, receive, send):
        number = int(scope["path"][1:])
        await anyio.sleep(0.05 * number)
        await table(scope, receive, send)

    exchange = await submit(batching(app), *paths(8))

    assert exchange.statuses == [200] * 8
    assert [len(items) for items in table.calls] == [8]


async def test_slow_operations_that_have_all_places_do_not_hold_up_a_late_call():
    """
    When its time has come it is made beside them; only then do they end.
    """
    called = anyio.Event()

    async def insert(items):
        called.set()
        return items

    table = Table(function=insert, max_delay=0.05)

    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            await called.wait()
        else:
            await table.insert(scope["path"])
        await respond(send)

    exchange = await submit(
        batching(app, concurrency=2, total_concurrency=9), "GET /a", *["GET /slow"] * 5
    )

    assert exchange.statuses == [200] * 6


def saying(**members):
    """
    An exception of a driver.
    """
    error = Exception("driver")
    vars(error).update(members)
    return error


class TestErrors:
    """
    One bad item fails one operation.
    """

    @pytest.mark.parametrize("bad", [["7"], ["0"], ["49"], ["3", "31"], ["8", "9"]])
    async def test_bad_items_are_found(self, bad):
        """
        By halves; the others keep their answers.
        """
        table = Table(bad=bad)
        exchange = await submit(batching(table), *paths(50))

        expected = [f"bad: {n}" if str(n) in bad else f"{n}!" for n in range(50)]
        assert exchange.bodies == expected
        assert len(table.calls) <= 1 + 2 * 6 * len(bad)

    async def test_one_bad_item_of_five_hundred(self):
        """
        Nineteen calls: the first, and two for each time that the rest is halved.
        """
        table = Table(bad=["123"], max_size=500)
        exchange = await submit(batching(table), *paths(1000))

        assert exchange.statuses.count(400) == 1
        assert len(table.calls) <= 20

    async def test_fail_makes_it_the_error_of_all(self):
        """
        With ``on_error="fail"`` there is one call.
        """
        table = Table(bad=["3"], on_error="fail")
        exchange = await submit(batching(table), *paths(5))

        assert exchange.bodies == ["bad: 3"] * 5
        assert len(table.calls) == 1

    @pytest.mark.parametrize(
        ("most", "calls", "clear"),
        [
            (1, 1, 0),
            (2, 1, 0),
            (3, 3, 0),
            (4, 3, 0),
            (5, 5, 0),
            (7, 7, 2),
            (14, 13, 6),
            (15, 15, 8),
        ],
    )
    async def test_max_calls_boundary(self, most, calls, clear):
        """
        There are never more calls, and nobody is blamed for what has not been found out.
        """
        table = Table(bad=map(str, range(8)), max_calls=most)
        exchange = await submit(batching(table), *paths(8))

        assert exchange.statuses == [400] * 8
        assert len(table.calls) == calls
        assert sum(each.startswith("bad: ") for each in exchange.bodies) == clear
        unclear = [each for each in exchange.bodies if not each.startswith("bad: ")]
        assert all("it is not known which of them are to blame" in each for each in unclear)

    async def test_an_exception_in_the_place_of_an_answer(self):
        """
        It is raised for that item, and nothing is halved.
        """
        calls = []

        async def insert(items):
            calls.append(items)
            return [ValueError(f"not {each}") if each == "1" else each for each in items]

        table = Table(function=insert)
        exchange = await submit(batching(table), *paths(3))

        assert exchange.bodies == ["0", "not 1", "2"]
        assert len(calls) == 1

    @pytest.mark.parametrize("answers", [[], ["a"], ["a"] * 4])
    async def test_a_wrong_number_of_answers(self, answers):
        """
        It is an error of the function, told to all, and not looked for by halves.
        """
        calls = []

        async def insert(items):
            calls.append(items)
            return answers

        table = Table(function=insert)
        exchange = await submit(batching(table), *paths(3))

        (told,) = set(exchange.bodies)
        assert "called with 3 items and returned" in told
        assert told.startswith("TestErrors.test_a_wrong_number_of_answers.<locals>.insert")
        assert len(calls) == 1

    @pytest.mark.parametrize(
        "answers", [None, "abc", b"abc", {1: "a", 2: "b", 3: "c"}, {"a", "b", "c"}]
    )
    async def test_answers_that_are_no_list(self, answers):
        """
        Whose is whose could only be guessed.
        """

        async def insert(items):
            return answers

        exchange = await submit(batching(Table(function=insert)), *paths(3))

        (told,) = set(exchange.bodies)
        assert told.endswith("it must return a list of one answer for each.")

    @pytest.mark.parametrize(
        "error",
        [
            OutcomeUnknown("lost"),
            ConnectionResetError(),
            TimeoutError(),
            EOFError(),
            saying(connection_invalidated=True),
            saying(sqlstate="08006"),
        ],
    )
    async def test_what_may_have_happened_is_not_done_again(self, error):
        """
        It is the error of all, as a row that was added would be added twice.
        """
        calls = []

        async def insert(items):
            calls.append(items)
            raise error

        exchange = await submit(batching(Table(function=insert)), *paths(5))

        assert exchange.bodies == ["app_exception"] * 5
        assert len(calls) == 1

    @pytest.mark.parametrize(
        "error",
        [
            saying(),
            saying(connection_invalidated=False),
            saying(sqlstate=None),
            saying(sqlstate="40P01"),
            saying(sqlstate=8),
        ],
    )
    async def test_what_has_surely_not_happened_is_tried_again(self, error):
        """
        As after a deadlock, which may be over.
        """
        calls = []

        async def insert(items):
            calls.append(items)
            if len(calls) == 1:
                raise error
            return items

        exchange = await submit(batching(Table(function=insert)), *paths(5))

        assert exchange.statuses == [200] * 5
        assert len(calls) == 3

    async def test_an_error_that_several_get_does_not_grow(self):
        """
        Each sees where it was raised, and nothing of the others.
        """
        lengths = []
        table = Table(bad=["0"], on_error="fail")

        async def app(scope, receive, send):
            try:
                await table.insert(scope["path"][1:])
            except ValueError as error:
                lengths.append(len(traceback.extract_tb(error.__traceback__)))
            await respond(send)

        await submit(batching(app), *paths(20))

        assert len(lengths) == 20
        assert len(set(lengths)) == 1

    async def test_an_app_s_exception_is_its_operation_s(self):
        """
        What the app does not catch is 500 for that operation.
        """
        table = Table(bad=["1"])

        async def app(scope, receive, send):
            await respond(send, (await table.insert(scope["path"][1:])).encode())

        exchange = await submit(batching(app), *paths(3))

        assert exchange.bodies == ["0!", "app_exception", "2!"]


class TestGroups:
    """
    What may be one call, and what may not.
    """

    async def test_key_tells_calls_apart(self):
        """
        Items of two tenants are never in one call.
        """
        table = Table(key=lambda item: int(item) % 3)
        await submit(batching(table), *paths(10))

        assert sorted(table.calls) == [
            ["0", "3", "6", "9"],
            ["1", "4", "7"],
            ["2", "5", "8"],
        ]

    async def test_unique_passes_equal_items_once(self):
        """
        All that asked for it get the same answer.
        """
        table = Table(unique=True, max_size=4)
        exchange = await submit(batching(table), *(f"GET /{n % 3}" for n in range(9)))

        assert table.calls == [["0", "1", "2"]]
        assert exchange.bodies == [f"{n % 3}!" for n in range(9)]

    async def test_unique_needs_items_that_can_be_told_apart(self):
        """
        What cannot be hashed is an error at the call, and leaves nothing behind.
        """
        table = Table(unique=True)

        async def app(scope, receive, send):
            item = [] if scope["path"] == "/1" else scope["path"]
            await respond(send, (await table.insert(item)).encode())

        exchange = await submit(batching(app), *paths(3))

        assert exchange.bodies == ["/0!", "app_exception", "/2!"]
        assert table.calls == [["/0", "/2"]]

    async def test_two_functions_are_two_calls(self):
        """
        Operations that wait for different calls do not wait for each other.
        """
        one, other = Table(), Table()

        async def app(scope, receive, send):
            await (one if scope["path"] < "/5" else other)(scope, receive, send)

        exchange = await submit(batching(app), *paths(10))

        assert (one.calls, other.calls) == ([list("01234")], [list("56789")])
        assert exchange.statuses == [200] * 10

    async def test_one_call_after_the_other(self):
        """
        An operation that asks twice comes back in between.
        """
        one, other = Table(), Table()

        async def app(scope, receive, send):
            answer = await other.insert(await one.insert(scope["path"][1:]))
            await respond(send, answer.encode())

        exchange = await submit(batching(app), *paths(30))

        assert exchange.bodies == [f"{n}!!" for n in range(30)]
        assert [len(items) for items in one.calls] == [30]
        assert sum(map(len, other.calls)) == 30

    async def test_two_calls_at_a_time(self):
        """
        An operation may wait for several at once, in tasks of its own.
        """
        one, other = Table(), Table()

        async def app(scope, receive, send):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.insert, scope["path"])
                tasks.start_soon(other.insert, scope["path"])
            await respond(send)

        app = batching(app)
        exchange = await submit(app, *paths(30))

        assert exchange.statuses == [200] * 30
        for table in (one, other):
            assert sum(map(len, table.calls)) == 30
            assert len(table.calls) <= 2
        assert app.statistics().running == 0

    async def test_two_batches_never_share_a_call(self):
        """
        Even if they run at the same time, as they may be those of two users.
        """
        table = Table()
        app = batching(table)
        async with anyio.create_task_group() as tasks:
            for prefix in "ab":
                tasks.start_soon(submit, app, *(f"GET /{prefix}{n}" for n in range(20)))

        assert sorted(table.calls) == [[f"{prefix}{n}" for n in range(20)] for prefix in "ab"]

    async def test_at_once_is_alone(self):
        """
        It waits for nobody, and lets nobody pass.
        """
        table = Table()

        async def app(scope, receive, send):
            await respond(send, (await table.insert.at_once(scope["path"])).encode())

        exchange = await submit(batching(app), *paths(3))

        assert exchange.bodies == ["/0!", "/1!", "/2!"]
        assert table.calls == [["/0"], ["/1"], ["/2"]]


class TestContext:
    """
    A call belongs to the batch and to no operation.
    """

    async def test_a_call_sees_nothing_of_an_operation(self):
        """
        Neither its context variables nor that it is one; it sees those of the request.
        """
        outer, inner, seen = ContextVar("outer"), ContextVar("inner"), []

        async def insert(items):
            seen.append((outer.get(None), inner.get(None), current_operation()))
            inner.set("of the call")
            return items

        table = Table(function=insert)

        async def app(scope, receive, send):
            inner.set(scope["path"])
            await table.insert(scope["path"])
            await respond(send, inner.get().encode())

        outer.set("of the request")
        exchange = await submit(batching(app), *paths(3))

        assert seen == [("of the request", None, None)]
        assert exchange.bodies == ["/0", "/1", "/2"]

    async def test_a_call_within_a_call_is_made_at_once(self):
        """
        Nothing waits for what waits for it.
        """
        inner = Table()

        async def insert(items):
            return [await inner.insert(item) for item in items]

        exchange = await submit(batching(Table(function=insert)), *paths(3))

        assert exchange.bodies == ["0!", "1!", "2!"]
        assert inner.calls == [["0"], ["1"], ["2"]]

    async def test_middleware_that_runs_the_app_in_a_task_of_its_own(self):
        """
        Starlette's BaseHTTPMiddleware does.
        """
        table = Table()

        async def endpoint(request):
            return JSONResponse(await table.insert(request.url.path))

        async def dispatch(request, call_next):
            return await call_next(request)

        app = Starlette(
            routes=[Route("/{name}", endpoint)],
            middleware=[Middleware(BaseHTTPMiddleware, dispatch=dispatch)],
        )
        exchange = await submit(batching(app), *paths(30))

        assert exchange.bodies == [f"/{n}!" for n in range(30)]
        assert [len(items) for items in table.calls] == [30]

    async def test_what_an_operation_does_after_its_answer(self):
        """
        Background tasks gather too, and after the batch they call alone.
        """
        table, after = Table(), anyio.Event()

        async def late(name):
            await table.insert(f"soon {name}")
            await after.wait()
            await table.insert(f"late {name}")

        async def endpoint(request):
            return JSONResponse({}, background=BackgroundTask(late, request.url.path))

        app = batching(Starlette(routes=[Route("/{name}", endpoint)]))
        with releasing(after):
            async with submitted(app, *paths(3)) as exchange:
                await exchange.answered.wait()
                after.set()

        assert sorted(item for items in table.calls for item in items) == [
            *(f"late /{n}" for n in range(3)),
            *(f"soon /{n}" for n in range(3)),
        ]


class TestThreads:
    """
    Sync endpoints, which wait in threads.
    """

    @staticmethod
    def app(table):
        def endpoint(request):
            return JSONResponse(table.insert.sync(request.url.path))

        return Starlette(routes=[Route("/{name}", endpoint)])

    @pytest.mark.parametrize("concurrency", [1, 3, 10])
    async def test_sync_endpoints_gather(self, concurrency):
        """
        As many as may run at a time: one that waits in a thread keeps its place, so that a batch
        has never more threads than that.
        """
        table = Table()
        exchange = await submit(batching(self.app(table), concurrency=concurrency), *paths(30))

        assert exchange.bodies == [f"/{n}!" for n in range(30)]
        assert [len(items) for items in table.calls] == [concurrency] * (30 // concurrency)

    async def test_threads_and_tasks(self):
        """
        Sync and async endpoints of one batch are one call.
        """
        table = Table()

        def sync(request):
            return JSONResponse(table.insert.sync(request.url.path))

        async def not_sync(request):
            return JSONResponse(await table.insert(request.url.path))

        app = Starlette(routes=[Route("/s/{n}", sync), Route("/a/{n}", not_sync)])
        exchange = await submit(batching(app), *(f"GET /{'sa'[n % 2]}/{n}" for n in range(18)))

        assert exchange.statuses == [200] * 18
        assert [len(items) for items in table.calls] == [18]

    async def test_a_direct_request(self):
        """
        It calls alone.
        """
        table = Table()
        exchange = await call(batching(self.app(table)), direct("/a"))

        assert exchange.json() == "/a!"

    def test_a_thread_of_no_event_loop(self):
        """
        The error says what to do.
        """
        table, errors = Table(), []

        def run():
            with pytest.raises(BulkError, match="Make the endpoint async") as caught:
                table.insert.sync("a")
            errors.append(caught.value)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

        assert len(errors) == 1
        assert table.calls == []


class TestEnd:
    """
    Operations that do not wait for their call to the end.
    """

    async def test_a_late_operation_leaves_its_call(self):
        """
        It is 504; the others go on, and its item is still part of the call, as it may have been.
        """
        table = Table(max_delay=0.2)
        operations = [{"method": "GET", "path": "/a", "timeout": 0.02}, "GET /b", "GET /slow"]

        async def app(scope, receive, send):
            if scope["path"] == "/slow":
                await anyio.sleep(0.1)
            else:
                await table(scope, receive, send)

        app = batching(app)
        exchange = await submit(app, *operations)

        assert exchange.bodies[:2] == ["operation_timeout", "b!"]
        assert app.statistics().running == 0

    async def test_a_call_that_nobody_waits_for_is_cancelled(self):
        """
        When all its operations are late.
        """
        ends = []

        async def insert(items):
            try:
                await anyio.sleep(LONG)
            except anyio.get_cancelled_exc_class():
                ends.append(items)
                raise

        table = Table(function=insert)
        exchange = await submit(batching(table, operation_timeout=0.05), *paths(3))

        assert exchange.bodies == ["operation_timeout"] * 3
        assert ends == [["0", "1", "2"]]

    async def test_an_app_s_own_timeout(self):
        """
        The operation goes on by itself; places and tokens come out even.
        """
        table = Table()

        async def app(scope, receive, send):
            with anyio.move_on_after(0.02):
                await table.insert(scope["path"])
            await respond(send, b"late")

        async def slow(scope, receive, send):
            if scope["path"] == "/9":
                await anyio.sleep(0.1)
            await app(scope, receive, send)

        middleware = batching(slow, concurrency=2)
        exchange = await submit(middleware, *paths(10))

        assert exchange.statuses == [200] * 10
        assert (middleware.statistics().running, middleware.statistics().waiting) == (0, 0)

    async def test_a_client_that_goes(self):
        """
        No call is made for it that has not begun.
        """
        table = Table()
        waiting = anyio.Event()

        async def app(scope, receive, send):
            if scope["path"] == "/0":
                await waiting.wait()
            await table(scope, receive, send)

        app = batching(app)
        with releasing(waiting):
            async with submitted(app, *paths(3)) as exchange:
                await settled()
                exchange.disconnect()
                await exchange.returned.wait()

        assert table.calls == []
        assert app.statistics().running == 0

    async def test_a_client_that_goes_while_a_call_is_made(self):
        """
        The call is ended, and everything given back.
        """
        begun, ends = anyio.Event(), []

        async def insert(items):
            begun.set()
            try:
                await anyio.sleep(LONG)
            finally:
                ends.append(items)

        app = batching(Table(function=insert))
        async with submitted(app, *paths(3)) as exchange:
            await begun.wait()
            exchange.disconnect()
            await exchange.returned.wait()

        assert ends == [["0", "1", "2"]]
        assert app.statistics().running == 0

    async def test_the_time_of_the_batch_is_over(self):
        """
        What waits then is 504, and no call is made for it.
        """
        table = Table()

        async def app(scope, receive, send):
            if scope["path"] == "/0":
                await anyio.sleep(LONG)
            await table(scope, receive, send)

        exchange = await submit(batching(app, batch_timeout=0.05), *paths(3))

        assert exchange.bodies == ["batch_timeout"] * 3
        assert table.calls == []

    async def test_a_function_that_is_cancelled_by_itself(self):
        """
        It is the error of its operations and harms nobody else.
        """

        async def insert(items):
            raise anyio.get_cancelled_exc_class()

        table = Table()
        broken = Table(function=insert)

        async def app(scope, receive, send):
            await (broken if scope["path"] == "/0" else table)(scope, receive, send)

        exchange = await submit(batching(app), *paths(3))

        assert exchange.statuses[0] >= 400
        assert exchange.bodies[1:] == ["1!", "2!"]

    async def test_a_failure_that_stops_the_batch(self):
        """
        What has asked already keeps its answer; what has not started is skipped.
        """
        table = Table(max_size=5, bad=["3"])
        exchange = await submit(batching(table, concurrency=1), *paths(20), onError="stop")

        assert exchange.bodies[:5] == ["0!", "1!", "2!", "bad: 3", "4!"]
        assert exchange.bodies[-1] == "skipped"


class TestCollector:
    """
    The garbage collector, which would look at all that waits again and again.
    """

    async def test_it_is_patient_while_operations_wait(self):
        """
        And as before when they have gone on.
        """
        before, during = gc.get_threshold(), []

        async def insert(items):
            during.append(gc.get_threshold())
            return items

        gc.set_threshold(800, 9, 8)
        try:
            await submit(batching(Table(function=insert)), *paths(3))
            after = gc.get_threshold()
        finally:
            gc.set_threshold(*before)

        assert during == [(100_000, 9, 8)]
        assert after == (800, 9, 8)

    @pytest.mark.parametrize("chosen", [(0, 10, 10), (200_000, 5, 5)])
    async def test_an_app_that_has_chosen_otherwise(self, chosen):
        """
        Its choice stays.
        """
        before, during = gc.get_threshold(), []

        async def insert(items):
            during.append(gc.get_threshold())
            return items

        gc.set_threshold(*chosen)
        try:
            await submit(batching(Table(function=insert)), *paths(3))
            after = gc.get_threshold()
        finally:
            gc.set_threshold(*before)

        assert (during, after) == ([chosen], chosen)

    async def test_an_app_that_changes_it_meanwhile(self):
        """
        It had a reason.
        """
        before = gc.get_threshold()

        async def insert(items):
            gc.set_threshold(999, 9, 9)
            return items

        try:
            await submit(batching(Table(function=insert)), *paths(3))
            after = gc.get_threshold()
        finally:
            gc.set_threshold(*before)

        assert after == (999, 9, 9)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"max_size": 0}, r"bulk\(max_size=0\): write a whole number above 0"),
        ({"max_size": 1.5}, "max_size=1.5"),
        ({"max_size": True}, "max_size=True"),
        ({"max_calls": 0}, "max_calls=0"),
        ({"max_delay": 0}, r"max_delay=0\): write seconds above 0"),
        ({"max_delay": float("inf")}, "max_delay=inf"),
        ({"max_delay": "1"}, "max_delay='1'"),
        ({"on_error": "ignore"}, "write 'bisect' or 'fail'"),
    ],
)
def test_settings_that_cannot_be(settings, part):
    """
    They are refused when the function is made.
    """
    with pytest.raises(ConfigurationError, match=part):
        bulk(**settings)


def test_a_function_that_is_not_async():
    """
    It is refused, with what to write.
    """
    with pytest.raises(ConfigurationError, match="write it as async def"):
        bulk()(lambda items: items)


def test_a_bulk_function_looks_like_the_function():
    """
    Its name and docstring are those of the function.
    """

    @bulk()
    async def load(_items):
        """Load."""

    assert isinstance(load, Bulk)
    assert (load.__name__, load.__doc__) == ("load", "Load.")


async def test_batches_of_the_background_gather():
    """
    Though operations may start only a few at a time, as the store is told of each.
    """
    table = Table()
    app = BatchMiddleware(table)
    scope = {"headers": [(b"content-type", b"application/json"), (b"prefer", b"respond-async")]}
    async with app.running():
        exchange = await submit(app, *paths(300), scope=batch_scope(**scope))
        batch_id = exchange.json()["batchId"]
        await until(lambda: sum(map(len, table.calls)) == 300)
        with anyio.fail_after(10):
            async for snapshot in app.progress.watch(batch_id):
                last = snapshot

    assert (last.succeeded, last.total) == (300, 300)
    assert max(map(len, table.calls)) == 100


@given(
    items=st.lists(st.integers(0, 9), min_size=1, max_size=40),
    bad=st.sets(st.integers(0, 9)),
    size=st.integers(1, 9),
    concurrency=st.integers(1, 5),
    is_unique=st.booleans(),
)
def test_the_result_is_that_of_one_after_the_other(items, bad, size, concurrency, is_unique):
    """
    Whatever is gathered how: each operation is answered as if it had called alone.
    """
    table = Table(bad=map(str, bad), max_size=size, unique=is_unique)
    app = batching(table, concurrency=concurrency)
    exchange = anyio.run(lambda: submit(app, *(f"GET /{item}" for item in items)))

    assert exchange.bodies == [f"bad: {n}" if n in bad else f"{n}!" for n in items]
    assert max(map(len, table.calls)) <= size
