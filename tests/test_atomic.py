"""
Atomic batches: all operations happen, or none does, and the answer says which.

The transactions of these tests only note what becomes of them; those of real databases are in
test_servers_atomic.py.
"""

import json
from contextlib import asynccontextmanager
from contextvars import ContextVar

import anyio
import anyio.lowlevel
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_batch import (
    BatchMiddleware,
    ConfigurationError,
    Limits,
    bulk,
    current_operation,
)
from asgi_batch.errors import OutcomeUnknown
from support import (
    Exchange,
    batch_body,
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

connection = ContextVar("connection", default=None)


class Transactions:
    """
    Makes transactions that note what becomes of them.

    Args:
        begin: Raised in place of a beginning.
        commit: Raised in place of a commit.
        rollback: Raised in place of a rollback.
        swallows: Whether it keeps to itself why it was rolled back.
    """

    def __init__(self, *, begin=None, commit=None, rollback=None, swallows=False):
        self.log = []
        self.begin = begin
        self.commit = commit
        self.rollback = rollback
        self.swallows = swallows
        self.committing = anyio.Event()
        self.may_commit = None

    @asynccontextmanager
    async def __call__(self):
        if self.begin is not None:
            raise self.begin
        self.log.append("begin")
        token = connection.set(self)
        try:
            yield
        except BaseException:
            await anyio.lowlevel.checkpoint()
            self.log.append("rollback")
            if self.rollback is not None:
                raise self.rollback from None
            if not self.swallows:
                raise
        else:
            self.committing.set()
            if self.may_commit is not None:
                await self.may_commit.wait()
            if self.commit is not None:
                self.log.append("no commit")
                raise self.commit
            self.log.append("commit")
        finally:
            connection.reset(token)


def app_of(transactions):
    """
    Notes each call in the log of its transaction; ``/503`` is answered with that, and so on.
    """

    async def app(scope, receive, send):
        name = scope["path"].removeprefix("/")
        found = connection.get()
        transactions.log.append(name if found is transactions else f"outside: {name}")
        if name == "crash":
            raise ValueError(name)
        if name == "hang":
            await anyio.sleep(1000)
        await respond(send, name.encode(), status=int(name) if name.isdigit() else 200)
        if name == "late crash":
            raise ValueError(name)
        if name == "late hang":
            await anyio.sleep(1000)

    return app


def atomic_app(transactions, app=None, **limits):
    app = app or app_of(transactions)
    return BatchMiddleware(app, transaction=transactions, limits=Limits(**limits))


async def run(transactions, *paths, **limits):
    operations = [f"POST /{path}" for path in paths]
    return await submit(atomic_app(transactions, **limits), *operations, atomic=True)


async def test_all_succeed():
    """
    They run in order, one at a time, within one transaction, which is committed.
    """
    transactions = Transactions()
    exchange = await run(transactions, "a", "b", "c")

    assert transactions.log == ["begin", "a", "b", "c", "commit"]
    assert exchange.bodies == ["a", "b", "c"]
    assert exchange.json()["summary"] == {"total": 3, "succeeded": 3, "failed": 0, "skipped": 0}


@pytest.mark.parametrize(
    ("name", "status", "error"),
    [
        ("400", 400, "400"),
        ("404", 404, "404"),
        ("500", 500, "500"),
        ("599", 599, "599"),
        ("crash", 500, "app_exception"),
        ("late%20crash", 500, "app_exception"),
        ("hang", 504, "operation_timeout"),
        ("late%20hang", 504, "operation_timeout"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_one_fails(name, status, error, place):
    """
    It keeps its own error, all others are told that they were undone, and so they are.
    """
    transactions = Transactions()
    names = ["a", "b"]
    names.insert(place, name)
    exchange = await run(transactions, *names, operation_timeout=0.05)

    ran = [each.replace("%20", " ") for each in names[: place + 1]]
    assert transactions.log == ["begin", *ran, "rollback"]
    expected = [(424, "rolled_back")] * 3
    expected[place] = (status, error)
    assert list(zip(exchange.statuses, exchange.bodies, strict=True)) == expected
    assert exchange.json()["summary"] == {"total": 3, "succeeded": 0, "failed": 1, "skipped": 2}


@pytest.mark.parametrize("name", ["200", "204", "301", "399"])
async def test_what_is_no_failure(name):
    """
    Below 400 everything is a success.
    """
    transactions = Transactions()
    await run(transactions, name)

    assert transactions.log[-1] == "commit"


async def test_a_transaction_that_swallows_its_cause():
    """
    It may; the batch is rolled back all the same.
    """
    transactions = Transactions(swallows=True)
    exchange = await run(transactions, "a", "400")

    assert transactions.log == ["begin", "a", "400", "rollback"]
    assert exchange.bodies == ["rolled_back", "400"]


class TestEnd:
    """
    Transactions that do not begin or end as they should.
    """

    async def test_it_cannot_be_begun(self, caplog):
        """
        The batch is refused, and nothing has run.
        """
        transactions = Transactions(begin=ValueError("no database"))
        exchange = await run(transactions, "a")

        assert (exchange.status, exchange.json()["code"]) == (503, "transaction_unavailable")
        assert exchange.headers["retry-after"] == "1"
        assert transactions.log == []
        assert "no database" in caplog.text

    async def test_it_does_not_begin(self, caplog):
        """
        After the time of an operation nobody waits for it any more, and the batch is refused.
        """

        @asynccontextmanager
        async def hanging():
            await anyio.sleep(1000)
            yield

        app = BatchMiddleware(
            app_of(Transactions()), transaction=hanging, limits=Limits(operation_timeout=0.05)
        )
        exchange = await submit(app, "POST /a", atomic=True)

        assert (exchange.status, exchange.json()["code"]) == (503, "transaction_unavailable")
        assert "was not begun within" in caplog.text

    async def test_it_cannot_be_committed(self, caplog):
        """
        All operations have succeeded, and all are told why they were undone.
        """
        transactions = Transactions(commit=ValueError("serialization"))
        exchange = await run(transactions, "a", "b")

        assert exchange.status == 200
        assert exchange.statuses == [424, 424]
        assert exchange.bodies == ["commit_failed"] * 2
        assert exchange.json()["summary"] == {
            "total": 2,
            "succeeded": 0,
            "failed": 0,
            "skipped": 2,
        }
        assert "serialization" in caplog.text

    @pytest.mark.parametrize(
        "error", [OutcomeUnknown("lost"), ConnectionResetError(), TimeoutError(), EOFError()]
    )
    async def test_nobody_knows_whether_it_was_committed(self, error, caplog):
        """
        Then nobody is told anything else.
        """
        exchange = await run(Transactions(commit=error), "a", "b")

        assert exchange.statuses == [502, 502]
        assert exchange.bodies == ["commit_unknown"] * 2
        assert "may have been committed" in caplog.text

    async def test_it_does_not_end(self, caplog):
        """
        After the time of an operation nobody waits for a commit any more.
        """
        transactions = Transactions()
        transactions.may_commit = anyio.Event()
        with releasing(transactions.may_commit):
            exchange = await run(transactions, "a", operation_timeout=0.05)

        assert exchange.bodies == ["commit_unknown"]
        assert "was not committed within 0.05 seconds" in caplog.text

    async def test_it_cannot_be_rolled_back(self, caplog):
        """
        The database does it by itself when it hears no more.
        """
        transactions = Transactions(rollback=ConnectionResetError("gone"))
        exchange = await run(transactions, "a", "400")

        assert exchange.bodies == ["rolled_back", "400"]
        assert "could not be rolled back" in caplog.text

    async def test_the_process_is_told_to_stop_while_rolling_back(self):
        """
        That is no error of the transaction.
        """
        transactions = Transactions(rollback=KeyboardInterrupt())
        with pytest.raises(BaseException) as caught:  # noqa: PT011
            await run(transactions, "400")

        group = getattr(caught.value, "exceptions", [caught.value])
        assert any(isinstance(each, KeyboardInterrupt) for each in group)

    async def test_a_client_that_goes(self):
        """
        What it has asked for is rolled back.
        """
        transactions = Transactions()
        app = atomic_app(transactions)
        async with submitted(app, "POST /a", "POST /hang", "POST /b", atomic=True) as exchange:
            await until(lambda: "hang" in transactions.log)
            exchange.disconnect()
            await exchange.returned.wait()

        assert transactions.log == ["begin", "a", "hang", "rollback"]
        assert app.statistics().running == 0

    async def test_a_client_that_goes_before_the_transaction_has_begun(self):
        """
        Nothing runs.
        """
        transactions, begun, may_begin = Transactions(), anyio.Event(), anyio.Event()

        @asynccontextmanager
        async def slow():
            begun.set()
            await may_begin.wait()
            async with transactions():
                yield

        app = BatchMiddleware(app_of(transactions), transaction=slow)
        async with submitted(app, "POST /a", atomic=True) as exchange:
            await begun.wait()
            exchange.disconnect()
            await settled()
            may_begin.set()

        assert transactions.log == ["begin", "rollback"]

    async def test_a_client_that_goes_while_it_is_committed(self):
        """
        A commit that has begun is not cut short.
        """
        transactions = Transactions()
        transactions.may_commit = anyio.Event()
        reports = []
        app = BatchMiddleware(app_of(transactions), transaction=transactions, on_end=reports.append)
        with releasing(transactions.may_commit):
            async with submitted(app, "POST /a", atomic=True) as exchange:
                await transactions.committing.wait()
                exchange.disconnect()
                await settled()
                transactions.may_commit.set()

        assert transactions.log == ["begin", "a", "commit"]
        assert [each.ending for each in reports] == ["completed"]

    async def test_a_server_that_stops(self):
        """
        A cancellation from outside rolls back, and is obeyed.
        """
        transactions = Transactions()
        app = atomic_app(transactions)
        exchange = Exchange(batch_scope(), batch_body(["POST /a", "POST /hang"], atomic=True))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, app, exchange)
            await until(lambda: "hang" in transactions.log)
            tasks.cancel_scope.cancel()

        assert transactions.log == ["begin", "a", "hang", "rollback"]
        assert exchange.sent == []

    async def test_the_time_of_the_batch_is_over(self):
        """
        It is rolled back.
        """
        transactions = Transactions()
        exchange = await run(transactions, "a", "hang", "b", batch_timeout=0.05)

        assert transactions.log == ["begin", "a", "hang", "rollback"]
        assert exchange.bodies == ["rolled_back", "batch_timeout", "rolled_back"]

    async def test_finish_on_disconnect(self):
        """
        With ``on_disconnect="finish"`` it is committed.
        """
        transactions, go_on = Transactions(), anyio.Event()

        async def app(scope, receive, send):
            await go_on.wait()
            await respond(send)

        app = BatchMiddleware(app, transaction=transactions, on_disconnect="finish")
        with releasing(go_on):
            async with submitted(app, "POST /a", atomic=True) as exchange:
                await settled()
                exchange.disconnect()
                await settled()
                go_on.set()

        assert transactions.log == ["begin", "commit"]


class TestOrder:
    """
    One operation at a time, to its very end.
    """

    async def test_an_operation_begins_after_the_background_tasks_of_the_last(self):
        """
        Those may use the transaction as well.
        """
        log = []

        async def late(name):
            await anyio.sleep(0.001)
            log.append(f"late {name}")

        async def endpoint(request):
            log.append(request.url.path)
            return JSONResponse({}, background=BackgroundTask(late, request.url.path))

        app = Starlette(routes=[Route("/{name}", endpoint, methods=["POST"])])
        await submit(atomic_app(Transactions(), app), "POST /a", "POST /b", atomic=True)

        assert log == ["/a", "late /a", "/b", "late /b"]

    async def test_operations_know_that_they_are_atomic(self):
        """
        And others that they are not.
        """
        seen = []

        async def app(scope, receive, send):
            seen.append((scope["asgi_batch"].atomic, current_operation().atomic))
            await respond(send)

        app = atomic_app(Transactions(), app)
        await submit(app, "POST /a", atomic=True)
        await submit(app, "POST /a")

        assert seen == [(True, True), (False, False)]

    @pytest.mark.parametrize("max_size", [2, 100])
    async def test_bulk_calls(self, max_size):
        """
        Operations gather, one at a time, and the calls are part of the transaction.
        """
        transactions, calls, now = Transactions(), [], []

        @bulk(max_size=max_size)
        async def insert(items):
            assert now == []
            calls.append((items, connection.get() is transactions))
            await anyio.sleep(0.001)
            return items

        async def app(scope, receive, send):
            now.append(scope["path"])
            assert len(now) == 1
            await anyio.sleep(0.0001)
            now.clear()
            answer = await insert(scope["path"])
            now.append(answer)
            await anyio.sleep(0.0001)
            now.clear()
            await respond(send, answer.encode())

        exchange = await submit(
            atomic_app(transactions, app), *(f"POST /{n}" for n in range(5)), atomic=True
        )

        assert exchange.bodies == [f"/{n}" for n in range(5)]
        assert [item for items, _ in calls for item in items] == [f"/{n}" for n in range(5)]
        assert all(is_within for _, is_within in calls)
        assert len(calls) <= -(-5 // max_size) + 1
        assert transactions.log == ["begin", "commit"]

    async def test_a_bulk_call_that_waits_too_long_waits_for_its_turn(self):
        """
        It never runs beside an operation.
        """
        now, overlaps = [], []

        @bulk(max_delay=0.01)
        async def insert(items):
            overlaps.extend(now)
            return items

        async def app(scope, receive, send):
            if scope["path"] == "/slow":
                now.append("slow")
                await anyio.sleep(0.1)
                now.clear()
            else:
                await insert(scope["path"])
            await respond(send)

        app = atomic_app(Transactions(), app)
        exchange = await submit(app, "POST /a", "POST /slow", "POST /b", atomic=True)

        assert exchange.statuses == [200] * 3
        assert overlaps == []

    async def test_one_bad_item_of_a_bulk_call(self):
        """
        Its operation has the error, and all are rolled back.
        """
        transactions = Transactions()

        @bulk()
        async def insert(items):
            if "/2" in items:
                raise ValueError("bad")
            return items

        async def app(scope, receive, send):
            try:
                await insert(scope["path"])
            except ValueError as error:
                await respond(send, str(error).encode(), status=409)
            else:
                await respond(send)

        exchange = await submit(
            atomic_app(transactions, app), *(f"POST /{n}" for n in range(5)), atomic=True
        )

        assert exchange.bodies == [
            "rolled_back",
            "rolled_back",
            "bad",
            "rolled_back",
            "rolled_back",
        ]
        assert transactions.log == ["begin", "rollback"]


class TestWire:
    """
    Who asks for it, and who may.
    """

    @pytest.mark.parametrize(
        ("settings", "wish", "expected"),
        [
            ({}, {}, False),
            ({}, {"atomic": False}, False),
            ({}, {"atomic": True}, "atomic_not_supported"),
            ({"transaction": Transactions()}, {}, False),
            ({"transaction": Transactions()}, {"atomic": False}, False),
            ({"transaction": Transactions()}, {"atomic": True}, True),
            ({"transaction": Transactions()}, {"atomic": True, "onError": "stop"}, True),
            (
                {"transaction": Transactions(), "atomic": "never"},
                {"atomic": True},
                "atomic_not_supported",
            ),
            ({"transaction": Transactions(), "atomic": "never"}, {}, False),
            ({"transaction": Transactions(), "atomic": "always"}, {}, True),
            ({"transaction": Transactions(), "atomic": "always"}, {"onError": "stop"}, True),
            ({"transaction": Transactions(), "atomic": "always"}, {"atomic": True}, True),
            (
                {"transaction": Transactions(), "atomic": "always"},
                {"atomic": False},
                "atomic_required",
            ),
        ],
    )
    async def test_which_batches_are_atomic(self, settings, wish, expected):
        """
        A batch that asks for it is never carried out in another way.
        """
        seen = []

        async def app(scope, receive, send):
            seen.append(scope["asgi_batch"].atomic)
            await respond(send)

        exchange = await submit(BatchMiddleware(app, **settings), "POST /a", **wish)

        if isinstance(expected, str):
            assert (exchange.status, exchange.json()["code"], seen) == (422, expected, [])
        else:
            assert (exchange.status, seen) == (200, [expected])

    @pytest.mark.parametrize("wish", ["true", 1, None, [], {}])
    async def test_what_is_neither_true_nor_false(self, wish):
        """
        It is refused, together with whatever else is wrong.
        """
        app = atomic_app(Transactions())
        exchange = await submit(app, {"method": "get"}, atomic=wish)
        problems = {each["pointer"]: each for each in exchange.json()["errors"]}

        assert exchange.status == 422
        assert problems["/atomic"]["detail"] == "atomic must be true or false."
        assert "/operations/0/method" in problems

    async def test_an_atomic_batch_that_goes_on_after_errors(self):
        """
        There is no such thing.
        """
        app = atomic_app(Transactions())
        for operation in ("POST /a", {"mehtod": "GET"}):
            exchange = await submit(app, operation, atomic=True, onError="continue")
            pointers = [each["pointer"] for each in exchange.json()["errors"]]

            assert exchange.status == 422
            assert "/onError" in pointers

    async def test_a_hidden_second_wish(self):
        """
        Two members of one name are found.
        """
        body = b'{"operations":[{"method":"POST","path":"/a"}],"atomic":true,"atomic":false}'
        exchange = await call(atomic_app(Transactions()), Exchange(batch_scope(), body))

        assert (exchange.status, exchange.json()["code"]) == (400, "duplicate_key")

    @pytest.mark.parametrize(
        ("settings", "part"),
        [
            ({"atomic": "maybe"}, "atomic='maybe'"),
            ({"atomic": "always"}, "pass a transaction as well"),
            ({"transaction": "sqlite://"}, "pass a function that returns an async context manager"),
        ],
    )
    def test_settings_that_cannot_be(self, settings, part):
        """
        They are refused at construction.
        """
        with pytest.raises(ConfigurationError, match=part):
            BatchMiddleware(app_of(Transactions()), **settings)


class TestBackground:
    """
    Atomic batches that outlive their request.
    """

    @staticmethod
    def scope():
        headers = [(b"content-type", b"application/json"), (b"prefer", b"respond-async")]
        return batch_scope(headers=headers)

    async def accepted(self, app, *paths):
        operations = [f"POST /{path}" for path in paths]
        exchange = await submit(app, *operations, scope=self.scope(), atomic=True)
        assert exchange.status == 202, exchange.body
        return exchange.json()["batchId"]

    async def ended(self, app, batch_id):
        async for snapshot in app.progress.watch(batch_id, interval=0.02):
            last = snapshot
        assert last.is_finished
        results = await call(app, Exchange(http_scope("GET", f"/batch/{batch_id}/results")))
        return last, results.results

    async def test_success(self):
        """
        It is told of as a whole, once it has been committed.
        """
        transactions = Transactions()
        app = atomic_app(transactions)
        async with app.running():
            snapshot, results = await self.ended(app, await self.accepted(app, "a", "b"))

        assert (snapshot.status, snapshot.succeeded) == ("completed", 2)
        assert [each["status"] for each in results] == [200, 200]
        assert transactions.log == ["begin", "a", "b", "commit"]

    async def test_nothing_is_told_before_the_commit(self):
        """
        Whoever asks meanwhile sees a batch without results.
        """
        transactions = Transactions()
        transactions.may_commit = anyio.Event()
        app = atomic_app(transactions)
        with releasing(transactions.may_commit):
            async with app.running():
                batch_id = await self.accepted(app, "a", "b")
                await transactions.committing.wait()
                before = await app.progress.look_up(batch_id)
                transactions.may_commit.set()
                after, _ = await self.ended(app, batch_id)

        assert (before.completed, before.status) == (0, "processing")
        assert after.completed == 2

    @pytest.mark.parametrize(
        ("settings", "paths", "error", "statuses"),
        [
            ({}, ["a", "409"], "rolled_back", [424, 409]),
            ({"commit": ValueError()}, ["a", "b"], "commit_failed", [424, 424]),
            ({"commit": OSError()}, ["a", "b"], "commit_unknown", [502, 502]),
        ],
    )
    async def test_failure(self, settings, paths, error, statuses):
        """
        The batch has failed as a whole, and says why.
        """
        app = atomic_app(Transactions(**settings))
        async with app.running():
            snapshot, results = await self.ended(app, await self.accepted(app, *paths))
            batch_id = snapshot.batch_id
            status = await call(app, Exchange(http_scope("GET", f"/batch/{batch_id}/status")))

        assert (snapshot.status, snapshot.error) == ("failed", error)
        assert status.json()["error"] == {"code": error}
        assert [each["status"] for each in results] == statuses

    async def test_what_was_rolled_back_can_be_tried_again(self):
        """
        As a whole, and again as one transaction.
        """
        transactions = Transactions(commit=ValueError())
        app = atomic_app(transactions)
        async with app.running():
            first, _ = await self.ended(app, await self.accepted(app, "a", "b"))
            transactions.commit = None
            transactions.log.clear()
            url = f"/batch/{first.batch_id}/retry"
            retried = await call(app, Exchange(http_scope("POST", url)))
            second, _ = await self.ended(app, retried.json()["batchId"])

        assert retried.status == 202
        assert (second.status, second.succeeded) == ("completed", 2)
        assert transactions.log == ["begin", "a", "b", "commit"]

    async def test_a_cancellation(self):
        """
        It is rolled back.
        """
        transactions = Transactions()
        app = atomic_app(transactions)
        async with app.running():
            batch_id = await self.accepted(app, "a", "hang", "b")
            await until(lambda: "hang" in transactions.log)
            await call(app, Exchange(http_scope("DELETE", f"/batch/{batch_id}")))
            snapshot, results = await self.ended(app, batch_id)

        assert (snapshot.status, snapshot.error) == ("cancelled", None)
        assert [each["error"]["code"] for each in results] == ["rolled_back"] * 3
        assert transactions.log == ["begin", "a", "hang", "rollback"]

    async def test_no_database(self, caplog):
        """
        The batch waits until there is one, however often that was tried.
        """
        transactions = Transactions(begin=ValueError("no database"))
        app = atomic_app(transactions, lease=0.2, scan_interval=0.05)
        async with app.running():
            batch_id = await self.accepted(app, "a")
            await until(lambda: caplog.text.count("No transaction could be begun.") > 3)
            waiting = await app.progress.look_up(batch_id)
            transactions.begin = None
            snapshot, _ = await self.ended(app, batch_id)

        assert waiting.status == "processing"
        assert (snapshot.status, snapshot.succeeded) == ("completed", 1)

    async def test_a_process_that_stops_in_time(self):
        """
        It lets the batch come to its end.
        """
        transactions, go_on = Transactions(), anyio.Event()
        inner = app_of(transactions)

        async def app(scope, receive, send):
            await go_on.wait()
            await inner(scope, receive, send)

        app = atomic_app(transactions, app)
        async with app.running():
            await self.accepted(app, "a")
            await until(lambda: "begin" in transactions.log)
            go_on.set()

        assert transactions.log == ["begin", "a", "commit"]

    async def test_a_process_that_stops_too_soon(self):
        """
        It rolls back.
        """
        transactions = Transactions()
        app = atomic_app(transactions, drain_timeout=0.05)
        async with app.running():
            await self.accepted(app, "a", "hang")
            await until(lambda: "hang" in transactions.log)

        assert transactions.log == ["begin", "a", "hang", "rollback"]

    async def test_wait_for_the_answer(self):
        """
        ``Prefer: wait`` and an idempotency key work as for other batches.
        """
        transactions = Transactions()
        app = atomic_app(transactions)
        headers = [
            (b"content-type", b"application/json"),
            (b"prefer", b"wait=5"),
            (b"idempotency-key", b"k"),
        ]
        async with app.running():
            answers = [
                await submit(app, "POST /a", scope=batch_scope(headers=headers), atomic=True)
                for _ in range(2)
            ]

        assert [each.status for each in answers] == [200, 200]
        assert json.loads(answers[0].body) == json.loads(answers[1].body)
        assert transactions.log == ["begin", "a", "commit"]
