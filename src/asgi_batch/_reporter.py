"""
Tells of each batch once, at its end: a record for the log, the app's own hook, and a trace.

It looks at no operation; what it tells is in `BatchReport`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import asdict
from time import monotonic
from typing import TypeAlias

import msgspec

from asgi_batch._core.models import HeaderPair, Summary
from asgi_batch._core.records import Claim
from asgi_batch._core.reports import BatchReport, Ending, Mode, short
from asgi_batch.ports import BatchSpan, Tracer

logger = logging.getLogger("asgi_batch")

#: What an app does with reports.
OnEnd: TypeAlias = Callable[[BatchReport], None]


class Watch:
    """
    One batch that is being watched.

    Args:
        reporter: Told of its end.
        mode: Whether it is answered at once.
        batch_id: The batch.
        since: When it began, by the monotonic clock.
        span: Its part of a trace.
    """

    __slots__ = ("_batch", "_mode", "_reporter", "_span", "_started_at")

    def __init__(
        self, reporter: Reporter, mode: Mode, batch_id: str, since: float, span: BatchSpan | None
    ) -> None:
        self._reporter = reporter
        self._mode = mode
        self._batch = short(batch_id)
        self._span = span
        self._started_at = since

    def prepare(self, context: Context) -> Context:
        """
        Make what is started in *context* a part of the batch in traces.
        """
        if self._span is not None:
            context.run(self._span.enter)
        return context

    def end(self, ending: Ending, summary: Summary, code: str | None = None) -> None:
        """
        Tell of the end.
        """
        report = BatchReport(
            mode=self._mode,
            ending=ending,
            code=code,
            seconds=monotonic() - self._started_at,
            batch=self._batch,
            **msgspec.structs.asdict(summary),
        )
        if self._span is not None:
            self._span.end(report)
        self._reporter.tell(report)


class Reporter:
    """
    Tells of batches.

    Args:
        on_end: The app's own hook.
        tracer: Makes traces.
    """

    def __init__(self, on_end: OnEnd | None = None, tracer: Tracer | None = None) -> None:
        self._on_end = on_end
        self._tracer = tracer

    def begin(
        self,
        mode: Mode,
        headers: Sequence[HeaderPair],
        batch_id: str,
        since: float | None = None,
    ) -> Watch:
        """
        Watch a batch.

        Args:
            mode: Whether it is answered at once.
            headers: Of its request, which may name the trace that it belongs to.
            batch_id: The batch.
            since: When it began, by the monotonic clock; now where left out.
        """
        span = None if self._tracer is None else self._tracer.begin(mode, headers)
        return Watch(self, mode, batch_id, monotonic() if since is None else since, span)

    def fail(self, claim: Claim, code: str) -> None:
        """
        Tell of a batch that nobody can carry out.
        """
        snapshot = claim.snapshot
        report = BatchReport(
            mode="later",
            ending="failed",
            code=code,
            total=snapshot.total,
            succeeded=snapshot.succeeded,
            failed=snapshot.failed,
            skipped=snapshot.skipped,
            seconds=0.0,
            batch=short(snapshot.batch_id),
        )
        self.tell(report)

    def tell(self, report: BatchReport) -> None:
        """
        Log *report*, and hand it to the hook, whose errors reach no batch.
        """
        if logger.isEnabledFor(logging.INFO):
            logger.info(
                "Batch %s %s: %d operations, %d succeeded, %d failed, %d skipped, %.3f s",
                report.batch or "-",
                report.ending if report.code is None else f"{report.ending} ({report.code})",
                report.total,
                report.succeeded,
                report.failed,
                report.skipped,
                report.seconds,
                extra={"asgi_batch": asdict(report)},
            )
        if self._on_end is not None:
            try:
                self._on_end(report)
            except Exception:
                logger.exception("on_end has failed; the batch is not touched by that.")
