"""
Batches in OpenTelemetry traces.
"""

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from asgi_batch import BatchMiddleware, BatchReport
from asgi_batch.contrib.opentelemetry import OpenTelemetry
from later_support import finished, serving, submitted
from support import Exchange, batch_body, batch_scope, call, respond, until

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01".encode()


class Traced:
    """
    Collects spans, and what the app has seen.
    """

    def __init__(self):
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = OpenTelemetry(self.provider)
        self.seen = {}

    async def __call__(self, scope, receive, send):
        current = trace.get_current_span().get_span_context()
        self.seen[scope["path"]] = (current, dict(scope["headers"]).get(b"traceparent"))
        await anyio.lowlevel.checkpoint()
        if scope["path"] == "/crash":
            raise ValueError("secret")
        await respond(send, b"{}", status=500 if scope["path"] == "/fail" else 200)

    def named(self, name):
        return [each for each in self._exporter.get_finished_spans() if each.name == name]


async def post(app, *operations, headers=()):
    scope = batch_scope()
    scope["headers"] = [*scope["headers"], *headers]
    return await call(app, Exchange(scope, batch_body(list(operations))))


async def test_a_span_for_the_batch_and_one_for_each_operation():
    """
    With counts, methods, indexes and statuses, and each operation below its batch.
    """
    app = Traced()
    await post(BatchMiddleware(app, tracer=app.tracer), "GET /a", "POST /fail")
    (batch,), operations = app.named("batch"), app.named("operation")

    assert {each.parent.span_id for each in operations} == {batch.context.span_id}
    assert [dict(each.attributes) for each in operations] == [
        {
            "http.request.method": "GET",
            "asgi_batch.index": 0,
            "http.response.status_code": 200,
        },
        {
            "http.request.method": "POST",
            "asgi_batch.index": 1,
            "http.response.status_code": 500,
        },
    ]
    assert [each.status.is_ok for each in operations] == [True, False]
    assert batch.attributes["asgi_batch.total"] == 2
    assert batch.attributes["asgi_batch.succeeded"] == batch.attributes["asgi_batch.failed"] == 1
    assert batch.attributes["asgi_batch.ending"] == "completed"
    assert len(batch.attributes["asgi_batch.batch"]) == 8


async def test_the_batch_is_below_the_span_of_its_request():
    """
    Which whoever is outside has made current; it is so again afterwards.
    """
    app = Traced()
    middleware = BatchMiddleware(app, tracer=app.tracer)
    with app.provider.get_tracer("outside").start_as_current_span("request") as request:
        await post(middleware, "GET /a")
        after = trace.get_current_span()

    assert app.named("batch")[0].parent.span_id == request.get_span_context().span_id
    assert after is request


async def test_the_app_goes_on_with_the_span_of_its_operation():
    """
    It is the current one, and the one that the headers name, however many run at a time.
    """
    app = Traced()
    paths = [f"/{number}" for number in range(20)]
    middleware = BatchMiddleware(app, tracer=app.tracer)
    await post(middleware, *[f"GET {path}" for path in paths], headers=[(b"traceparent", PARENT)])
    spans = {each.attributes["asgi_batch.index"]: each.context for each in app.named("operation")}

    for index, path in enumerate(paths):
        current, header = app.seen[path]

        assert current.span_id == spans[index].span_id
        assert header.startswith(b"00-%032x-%016x-" % (spans[index].trace_id, current.span_id))


async def test_a_crash_is_marked_and_not_described():
    """
    What an exception says may be somebody's secret.
    """
    app = Traced()
    answer = await post(BatchMiddleware(app, tracer=app.tracer), "GET /crash")
    (span,) = app.named("operation")

    assert answer.json()["results"][0]["error"]["code"] == "app_exception"
    assert not span.status.is_ok
    assert (span.status.description, span.events) == (None, ())


@pytest.mark.parametrize(("headers", "count"), [([(b"Traceparent", PARENT)], 1), ([], 0)])
async def test_a_batch_in_the_background_is_linked_to_its_request(headers, count):
    """
    It has a trace of its own, as it may outlive that of its request by far.
    """
    app = Traced()
    async with serving(app, tracer=app.tracer) as middleware:
        await finished(middleware, await submitted(middleware, 3, headers))
        await until(lambda: app.named("batch"))
    (batch,), operations = app.named("batch"), app.named("operation")

    assert [f"{link.context.trace_id:032x}" for link in batch.links] == [TRACE] * count
    assert batch.parent is None
    assert [each.parent.span_id for each in operations] == [batch.context.span_id] * 3


async def test_an_answer_without_a_status_is_left_as_it_is():
    """
    What an app sends is for others to judge.
    """
    traced = Traced()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "headers": []})

    answer = await post(BatchMiddleware(app, tracer=traced.tracer), "GET /a")
    (span,) = traced.named("operation")

    assert answer.json()["results"][0]["status"] == 502
    assert "http.response.status_code" not in span.attributes


async def test_a_failed_batch_says_why():
    """
    With its code, which is one of a few.
    """
    app = Traced()
    span = app.tracer.begin("later", [])
    span.end(BatchReport(mode="later", ending="failed", code="record_corrupt", seconds=0.0))
    (batch,) = app.named("batch")

    assert batch.status.description == "record_corrupt"
    assert "asgi_batch.batch" not in batch.attributes
