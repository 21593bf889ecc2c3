"""
What is told of each batch at its end: to the log, and to the app's own hook.
"""

import json
import logging
import string

import anyio
import pytest

from asgi_batch import BatchMiddleware, BatchReport, ConfigurationError, Limits
from asgi_batch._core.records import NewBatch
from background import App, Store, finished, left_behind, running, submit
from later_support import ask, numbers, serving
from later_support import finished as ended
from support import Exchange, batch_body, batch_scope, call, releasing, until

CANARY = "canary-5f1c"
OTEL = "OpenTelemetry() of asgi_batch.contrib.opentelemetry"


def plain(report):
    """
    What differs between two reports of the same kind, without what differs anyway.
    """
    names = ("mode", "ending", "code", "total", "succeeded", "failed", "skipped")
    return tuple(getattr(report, name) for name in names)


async def post(app, body, *headers):
    scope = batch_scope()
    scope["headers"] = [*scope["headers"], *headers]
    return await call(app, Exchange(scope, body))


class TestNow:
    async def test_a_batch_is_told_once(self):
        """
        With its counts, the time it took, and so much of its id as finds it in a log.
        """
        reports = []
        app = BatchMiddleware(numbers, on_end=reports.append)
        await post(app, batch_body(["GET /0", "GET /1", "GET /2"], onError="stop"))
        (report,) = reports

        assert plain(report) == ("now", "completed", None, 3, 1, 1, 1)
        assert 0 < report.seconds < 30
        assert len(report.batch) == 8

    @pytest.mark.parametrize(
        ("body", "code", "total"),
        [
            (b"{", "invalid_json", 0),
            (b'{"operations": []}', "invalid_batch", 0),
            (batch_body(["GET /0"] * 101), "background_unavailable", 101),
        ],
    )
    async def test_a_refusal_is_told(self, body, code, total):
        """
        With its code, and how many operations it would have had where that is known.
        """
        reports = []
        await post(BatchMiddleware(numbers, on_end=reports.append), body)

        assert [plain(each) for each in reports] == [("now", "refused", code, total, 0, 0, 0)]
        assert reports[0].batch is None

    async def test_a_client_that_goes_is_told(self):
        """
        What had its result by then is counted.
        """
        app, reports = App(), []
        middleware = BatchMiddleware(app, on_end=reports.append, limits=Limits(concurrency=1))
        exchange = Exchange(batch_scope(), batch_body(["GET /a", "GET /wait"]))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(middleware, exchange.scope, exchange.receive, exchange.send)
            await until(lambda: "/wait" in app.starts)
            exchange.disconnect()

        assert [(each.ending, each.succeeded) for each in reports] == [("aborted", 1)]

    async def test_what_the_hook_raises_is_logged(self, caplog):
        """
        And the client gets its answer.
        """

        def fail(_):
            raise RuntimeError("no room for metrics")

        answer = await post(BatchMiddleware(numbers, on_end=fail), batch_body(["GET /0"]))

        assert answer.status == 200
        assert "no room for metrics" in caplog.text


class TestLater:
    async def test_its_whole_end_is_told_by_whoever_brings_it_about(self):
        """
        Results that an earlier process has saved count as well.
        """
        store, reports = Store(), []
        batch_id = await left_behind(store, "GET /0", "POST /1", "GET /2", allowed=2)
        async with running(App(), store, on_end=reports.append):
            await finished(store, batch_id)
            await until(lambda: reports)

        assert [plain(each) for each in reports] == [("later", "completed", None, 3, 2, 1, 0)]
        assert reports[0].batch == batch_id[:8]

    async def test_a_cancellation_is_told(self):
        """
        With what had run and what will not.
        """
        reports = []
        app = App()
        async with serving(app, on_end=reports.append, limits=Limits(concurrency=1)) as middleware:
            accepted = await post(
                middleware, batch_body(["GET /wait", "GET /b"]), (b"prefer", b"respond-async")
            )
            await until(lambda: app.starts)
            with releasing(app.gate):
                await ask(middleware, f"/batch/{accepted.json()['batchId']}", "DELETE")
            await ended(middleware, accepted)
            await until(lambda: reports)

        assert [plain(each) for each in reports] == [("later", "cancelled", None, 2, 1, 0, 1)]

    async def test_a_batch_that_is_given_back_is_told_as_such(self):
        """
        Another process goes on with it, and will tell its end.
        """
        store, app, reports = Store(), App(), []
        async with running(
            app, store, on_end=reports.append, drain_timeout=0.01, concurrency=1
        ) as background:
            await submit(background, "GET /a", "GET /wait", "GET /b")
            await until(lambda: "/wait" in app.starts)

        assert [each.ending for each in reports] == ["released"]
        assert reports[0].total == 3

    async def test_a_batch_that_cannot_be_read_is_told(self, caplog):
        """
        With the code that its status has, too.
        """
        store, reports = Store(), []
        batch_id = store.new_id()
        new = NewBatch(batch_id=batch_id, total=1, chunks=[b"rubbish"], caller=b"")
        await store.create(new, limit=10)
        async with running(App(), store, on_end=reports.append):
            snapshot = await finished(store, batch_id)
            await until(lambda: reports)

        assert snapshot.error == "record_corrupt"
        assert plain(reports[0]) == ("later", "failed", "record_corrupt", 1, 0, 0, 0)


class TestLog:
    async def test_one_record_for_each_batch(self, caplog):
        """
        A sentence for people, and the report as data for machines.
        """
        caplog.set_level(logging.INFO, "asgi_batch")
        await post(BatchMiddleware(numbers), batch_body(["GET /0", "GET /1"]))
        (record,) = [each for each in caplog.records if hasattr(each, "asgi_batch")]
        told = record.asgi_batch

        assert f"Batch {told['batch']} completed: 2 operations, 1 succeeded" in record.getMessage()
        assert (told["mode"], told["ending"], told["failed"]) == ("now", "completed", 1)
        assert json.loads(json.dumps(told)) == told

    async def test_nothing_is_written_where_nobody_reads(self, caplog):
        """
        The record is of level INFO, which is off unless somebody turns it on.
        """
        await post(BatchMiddleware(numbers), batch_body(["GET /0"]))

        assert caplog.records == []

    async def test_t46_no_secret_and_no_whole_id_is_ever_in_the_log(self, caplog):
        """
        T46: nothing that a client or an app has written, whatever goes wrong, at any level.
        """
        caplog.set_level(logging.DEBUG)
        caplog.set_level(logging.DEBUG, "asgi_batch")

        async def app(scope, receive, send):
            raise ValueError("The app's own exception is the app's own affair.")

        secret = CANARY.encode()
        headers = [(b"authorization", secret), (b"cookie", secret), (b"x-api-key", secret)]
        operations = [
            {"id": CANARY, "method": "POST", "path": f"/{CANARY}?{CANARY}", "body": CANARY}
        ]
        body = json.dumps({"operations": operations}).encode()
        async with serving(app) as middleware:
            await post(middleware, body, *headers)
            accepted = await post(middleware, body, (b"prefer", b"respond-async"), *headers)
            await ended(middleware, accepted)
            await post(middleware, body.replace(b"POST", secret), *headers)
            await post(middleware, body[:-4], *headers)
            await ask(middleware, f"/batch/{CANARY * 4}/status", headers=headers)
        text = "".join(
            f"{record.getMessage()}{record.__dict__}{record.exc_text}" for record in caplog.records
        )

        assert "Batch" in text
        assert CANARY not in text
        assert accepted.json()["batchId"] not in text


class TestLabels:
    async def test_t52_ten_thousand_ids_are_a_handful_of_labels(self):
        """
        T52: nothing that clients choose becomes a label.
        """
        seen = set()
        app = BatchMiddleware(numbers, on_end=lambda report: seen.add(str(report.labels)))
        letters = string.ascii_letters + string.digits
        for number in range(100):
            paths = [{"id": f"{number}-{each}", "method": "GET", "path": "/0"} for each in letters]
            await post(app, json.dumps({"operations": paths}).encode())
            await post(app, json.dumps({letters[number % 60]: number}).encode())

        assert seen == {
            "{'mode': 'now', 'ending': 'completed', 'code': ''}",
            "{'mode': 'now', 'ending': 'refused', 'code': 'invalid_batch'}",
        }


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"on_end": "print"}, "on_end='print': pass a function that takes a report."),
        ({"tracer": "otel"}, f"tracer='otel': pass a Tracer, such as {OTEL}."),
    ],
)
def test_wrong_hooks(settings, sentence):
    """
    They are refused at once, with what to pass.
    """
    with pytest.raises(ConfigurationError) as error:
        BatchMiddleware(numbers, **settings)

    assert str(error.value) == sentence


def test_a_report_says_what_it_is():
    """
    All that is not told is zero.
    """
    report = BatchReport(mode="now", ending="refused", code="invalid_json", seconds=0.1)

    assert plain(report) == ("now", "refused", "invalid_json", 0, 0, 0, 0)
