"""
Atomic batches: whatever happens around their ends, nothing uses a transaction that has ended.
"""

from contextlib import asynccontextmanager

import anyio
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_batch import BatchMiddleware, Limits, bulk
from asgi_batch._transaction import run_in
from asgi_batch.errors import OutcomeUnknown
from support import batch_scope, releasing, respond, settled, submit, submitted, until
from test_isolation import LEAKS

LONG = 1000.0
LATER = {"headers": [(b"content-type", b"application/json"), (b"prefer", b"respond-async")]}


class Log(list):
    """
    Notes what becomes of the transaction, and what is done beside it.
    """

    @asynccontextmanager
    async def __call__(self):
        self.append("begin")
        try:
            yield
        except BaseException:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            self.append("rollback")
            raise
        self.append("commit")


def atomic(app, transaction, **limits):
    return BatchMiddleware(app, transaction=transaction, limits=Limits(**limits))


async def answer(scope, receive, send):
    await respond(send)


async def test_a_bulk_call_has_ended_before_its_transaction_does():
    """
    Also where it takes a moment to be cancelled.
    """
    log = Log()

    @bulk(max_delay=LONG)
    async def insert(items):
        try:
            await anyio.sleep(LONG)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.1)
            log.append("end of call")

    async def app(scope, receive, send):
        await insert(scope["path"])

    await submit(atomic(app, log, operation_timeout=0.1), "POST /a", "POST /b", atomic=True)

    assert log == ["begin", "end of call", "rollback"]


async def test_a_background_task_has_ended_before_its_transaction_does():
    """
    Also where the client goes while it runs.
    """
    log = Log()

    async def late():
        log.append("late")
        try:
            await anyio.sleep(LONG)
        finally:
            log.append("end of task")

    async def endpoint(request):
        return JSONResponse({}, background=BackgroundTask(late))

    app = Starlette(routes=[Route("/a", endpoint, methods=["POST"])])
    async with submitted(atomic(app, log), "POST /a", atomic=True) as exchange:
        await until(lambda: "late" in log)
        exchange.disconnect()
        with anyio.fail_after(5):
            await exchange.returned.wait()

    assert log == ["begin", "late", "end of task", "rollback"]


class TestBegin:
    """
    Transactions that take their time to begin.
    """

    async def test_it_does_not_begin(self):
        """
        After the time of an operation nobody waits for it any more.
        """

        @asynccontextmanager
        async def transaction():
            await anyio.sleep(LONG)
            yield

        app = atomic(answer, transaction, operation_timeout=0.05)
        with anyio.fail_after(5):
            exchange = await submit(app, "POST /a", atomic=True)

        assert (exchange.status, exchange.json()["code"]) == (503, "transaction_unavailable")

    async def test_a_process_that_stops_meanwhile(self):
        """
        It waits no longer than that.
        """
        begun = anyio.Event()

        @asynccontextmanager
        async def transaction():
            begun.set()
            await anyio.sleep(LONG)
            yield

        app = atomic(answer, transaction, operation_timeout=0.2, drain_timeout=0.05)
        with anyio.fail_after(5):
            async with app.running():
                await submit(app, "POST /a", atomic=True, scope=batch_scope(**LATER))
                await begun.wait()

    async def test_a_factory_that_fails(self):
        """
        It is as if the transaction could not be begun.
        """

        def transaction():
            raise ValueError("no pool")

        exchange = await submit(atomic(answer, transaction), "POST /a", atomic=True)

        assert (exchange.status, exchange.json()["code"]) == (503, "transaction_unavailable")


class TestScopes:
    """
    Transactions that have cancel scopes or task groups of their own.
    """

    @pytest.mark.parametrize(
        "error", [None, ValueError(), ConnectionResetError(), OutcomeUnknown()]
    )
    @pytest.mark.parametrize("path", ["a", "404"])
    async def test_they_are_left_in_order(self, path, error):
        """
        What has been committed is told as committed, and what may have been as unknown.
        """
        log = []

        @asynccontextmanager
        async def transaction():
            with anyio.fail_after(LONG):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(anyio.sleep, 0)
                    try:
                        yield
                    except BaseException:
                        log.append("rollback")
                        raise
                    if error is not None:
                        raise error
                    log.append("commit")

        async def app(scope, receive, send):
            await respond(send, status=404 if scope["path"] == "/404" else 200)

        exchange = await submit(atomic(app, transaction), f"POST /{path}", atomic=True)

        if path == "404":
            expected = [404], ["rollback"]
        elif error is None:
            expected = [200], ["commit"]
        else:
            expected = [424 if isinstance(error, ValueError) else 502], []
        assert (exchange.statuses, log) == expected

    async def test_one_that_has_a_time_of_its_own(self):
        """
        When that is over, the batch is rolled back.
        """
        log = Log()

        @asynccontextmanager
        async def transaction():
            with anyio.fail_after(0.1):
                async with log():
                    yield

        async def app(scope, receive, send):
            await anyio.sleep(LONG if scope["path"] == "/slow" else 0)
            await respond(send)

        with anyio.fail_after(5):
            exchange = await submit(
                atomic(app, transaction), "POST /a", "POST /slow", "POST /b", atomic=True
            )

        assert log == ["begin", "rollback"]
        assert exchange.bodies == ["rolled_back"] * 3


async def test_a_late_background_task_that_fails_after_the_end(caplog):
    """
    It changes nothing that has been told.
    """
    go_on, log = anyio.Event(), Log()

    async def app(scope, receive, send):
        await respond(send)
        with anyio.CancelScope(shield=True):
            await go_on.wait()
        raise ValueError("too late")

    app = atomic(app, log, operation_timeout=0.05)
    with releasing(go_on):
        async with app.running():
            exchange = await submit(app, "POST /a", atomic=True, scope=batch_scope(**LATER))
            batch_id = exchange.json()["batchId"]
            with anyio.fail_after(5):
                async for snapshot in app.progress.watch(batch_id):
                    last = snapshot
            go_on.set()
            await settled()

    assert (last.status, last.error, last.failed) == ("failed", "rolled_back", 1)
    assert "given up by this process" not in caplog.text


class TestTooLate:
    """
    Transactions that do not listen to a cancellation, or make something else of it.
    """

    async def test_one_that_begins_too_late(self):
        """
        It is rolled back before anything runs in it.
        """
        log, runs = Log(), []

        @asynccontextmanager
        async def transaction():
            async with log():
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.1)
                yield

        async def app(scope, receive, send):
            runs.append(scope["path"])

        exchange = await submit(
            atomic(app, transaction, operation_timeout=0.02), "POST /a", atomic=True
        )

        assert exchange.status == 503
        assert (log, runs) == (["begin", "rollback"], [])

    async def test_a_commit_that_is_cancelled_has_no_known_outcome(self):
        """
        Whatever error its driver makes of that.
        """

        @asynccontextmanager
        async def transaction():
            yield
            try:
                await anyio.sleep(LONG)
            except BaseException:  # noqa: BLE001
                raise ValueError("The statement was cancelled.") from None

        exchange = await submit(
            atomic(answer, transaction, operation_timeout=0.05), "POST /a", atomic=True
        )

        assert exchange.bodies == ["commit_unknown"]

    async def test_a_rollback_that_does_not_end(self, caplog):
        """
        The server does it when it hears no more.
        """

        @asynccontextmanager
        async def transaction():
            try:
                yield
            finally:
                await anyio.sleep(LONG)

        async def app(scope, receive, send):
            await respond(send, status=404)

        exchange = await submit(
            atomic(app, transaction, operation_timeout=0.05), "POST /a", atomic=True
        )

        assert exchange.statuses == [404]
        assert "was not rolled back within 0.05 seconds" in caplog.text


class Raising:
    """
    A transaction that raises what it was left with, as an object may.
    """

    def __init__(self):
        self.left_with = []

    def __call__(self):
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, error, traceback):
        self.left_with.append(kind)
        if error is not None:
            raise error


async def test_a_transaction_that_raises_what_it_was_left_with(caplog):
    """
    That is no error of the rollback.
    """
    transaction = Raising()

    async def app(scope, receive, send):
        await respond(send, status=409)

    exchange = await submit(BatchMiddleware(app, transaction=transaction), "POST /a", atomic=True)

    assert exchange.statuses == [409]
    assert len(transaction.left_with) == 1
    assert "could not be rolled back" not in caplog.text


async def test_an_error_of_our_own_rolls_back():
    """
    And is raised afterwards.
    """
    log = Log()

    async def work():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run_in(log, work, patience=5)

    assert log == ["begin", "rollback"]


@pytest.mark.parametrize("leak", LEAKS)
async def test_an_operation_that_leaves_a_cancel_scope_open(leak):
    """
    It has answered, and so it has succeeded; the batch is committed and answered.
    """
    log = Log()

    async def app(scope, receive, send):
        await respond(send)
        leak()

    exchange = await submit(
        BatchMiddleware(app, transaction=log), "POST /a", "POST /b", atomic=True
    )

    assert exchange.statuses == [200, 200]
    assert log == ["begin", "commit"]


async def test_a_server_that_stops_during_the_commit():
    """
    What has been committed is no error, and the cancellation is obeyed.
    """
    log, committing = [], anyio.Event()

    @asynccontextmanager
    async def transaction():
        yield
        committing.set()
        await anyio.sleep(0.05)
        log.append("commit")

    async def app(scope, receive, send):
        await respond(send)

    middleware = BatchMiddleware(app, transaction=transaction)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: submit(middleware, "POST /a", atomic=True))
        await committing.wait()
        tasks.cancel_scope.cancel()

    assert log == ["commit"]
