"""
Batches in OpenTelemetry traces: a span for each batch, and in it one for each operation.

Spans have counts, methods and statuses; never paths, headers, bodies or whole ids.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry import context, trace
from opentelemetry.propagate import extract, inject
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider

from asgi_batch._core.models import CurrentOperation, HeaderPair
from asgi_batch._core.reports import BatchReport, Mode
from asgi_batch.types import ASGIApp, Message, Receive, Scope, Send

_NAME = "asgi_batch"


class BatchTrace:
    """
    One batch in a trace.
    """

    def __init__(self, span: Span) -> None:
        self._span = span

    def enter(self) -> None:
        """
        Make what the calling context starts from now on a part of it.
        """
        context.attach(trace.set_span_in_context(self._span))

    def end(self, report: BatchReport) -> None:
        """
        Close it, with what *report* says.
        """
        numbers = {
            "total": report.total,
            "succeeded": report.succeeded,
            "failed": report.failed,
            "skipped": report.skipped,
        }
        self._span.set_attributes({f"asgi_batch.{name}": value for name, value in numbers.items()})
        self._span.set_attribute("asgi_batch.ending", report.ending)
        if report.batch is not None:
            self._span.set_attribute("asgi_batch.batch", report.batch)
        if report.code is not None:
            self._span.set_status(Status(StatusCode.ERROR, report.code))
        self._span.end()


class OpenTelemetry:
    """
    Makes spans of batches, for ``BatchMiddleware(tracer=OpenTelemetry())``.

    A batch that is answered at once is a child of whatever span is current, such as that of the
    request; one in the background begins a trace of its own, linked to that of its request. What
    the app sees in ``traceparent`` is the span of the operation.

    Args:
        provider: Makes the tracer; the global one where left out.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer(_NAME, tracer_provider=provider)

    def begin(self, mode: Mode, headers: Sequence[HeaderPair]) -> BatchTrace:
        """
        Begin with a batch whose request had these *headers*.
        """
        if mode == "now":
            return BatchTrace(self._tracer.start_span("batch"))
        request = trace.get_current_span(extract(_plain(headers))).get_span_context()
        links = [Link(request)] if request.is_valid else []
        return BatchTrace(self._tracer.start_span("batch", context.Context(), links=links))

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """
        *app* with a span around each operation.
        """
        return _Traced(app, self._tracer)


class _Traced:
    """
    Calls *app* for an operation inside of a span.
    """

    def __init__(self, app: ASGIApp, tracer: trace.Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation: CurrentOperation = scope["asgi_batch"]
        attributes = {"http.request.method": scope["method"], "asgi_batch.index": operation.index}
        with self._tracer.start_as_current_span(
            "operation",
            kind=SpanKind.INTERNAL,
            attributes=attributes,
            # What an exception says may be the caller's own data.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:

            async def told(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _note_status(span, message.get("status"))
                await send(message)

            try:
                await self._app(_with_parent(scope), receive, told)
            except BaseException:
                span.set_status(StatusCode.ERROR)
                raise


def _note_status(span: Span, status: object) -> None:
    if isinstance(status, int):
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(StatusCode.ERROR)


def _with_parent(scope: Scope) -> Scope:
    carrier: dict[str, str] = {}
    inject(carrier)
    mine = [(name.lower().encode(), value.encode()) for name, value in carrier.items()]
    names = {name for name, _ in mine}
    others = [pair for pair in scope["headers"] if pair[0] not in names]
    return {**scope, "headers": [*others, *mine]}


def _plain(headers: Sequence[HeaderPair]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
