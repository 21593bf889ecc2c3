"""
`BatchMiddleware`: settings, and one question asked of each request: is it ours?
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

from asgi_batch._arguments import (
    check_app,
    check_choice,
    check_hooks,
    checked_atomic,
    checked_limits,
    checked_names,
    checked_origins,
    checked_owner,
    checked_path,
    checked_queue,
    checked_scope_keys,
    checked_store,
    limiter_for,
    routes_of,
)
from asgi_batch._assembly import engine_of, rules_of, terms_of
from asgi_batch._background import Background
from asgi_batch._core.headers import OPERATION_HEADERS, RESULT_HEADERS
from asgi_batch._core.reports import BatchReport
from asgi_batch._core.scope import MARKER
from asgi_batch._endpoints import DirectRequest, Settings, endpoint_for
from asgi_batch._gate import Gate, GateStatistics
from asgi_batch._lifespan import Lifespan
from asgi_batch._working import working
from asgi_batch.console import pages_of
from asgi_batch.limits import Limits, RateLimit
from asgi_batch.openapi import described, merged
from asgi_batch.ports import HostedQueue, Queue, Store, Tracer, TransactionFactory
from asgi_batch.progress import Progress
from asgi_batch.types import ASGIApp, Receive, Scope, Send


class BatchMiddleware:
    """
    Gives an ASGI app a batch endpoint.

    Wrap the app from the outside, so that operations pass through everything that direct
    requests pass through. All other requests, websockets and lifespan go to *app* untouched.

    Args:
        app: Any ASGI 3 app.
        path: Path of the endpoint, relative to the root path under which *app* is mounted.
        limits: Bounds in time, size and number; the defaults of `Limits` where left out.
        operation_headers: Further headers that an operation may set, such as ``"x-tenant"``.
            Those that say who the caller is, or that frame a message, cannot be allowed.
        expose_headers: Further headers of the app that a result shows, such as
            ``"x-total-count"``. Cookies cannot be shown.
        forward_scope_keys: Keys that middleware outside of this one adds to the scope and the app
            relies on, such as ``"session"``. The object itself is shared by all operations.
        path_policy: ``"strict"`` refuses paths with an encoded slash, a ``;`` or an empty segment,
            which proxies and routers read differently; ``"lenient"`` lets them through.
        store: Where batches are kept that outlive their request: ``"memory://"``, which ends with
            the process, ``"redis://…"``, or a `Store` object.
        on_disconnect: ``"abort"`` ends a batch when its client has gone; ``"finish"`` runs it to
            its end, with nobody to hear of it.
        allow: Patterns of what operations may reach, such as ``"GET /users/**"``; everything where
            None.
        deny: Patterns of what they may not reach, even if it is allowed.
        owner: Tells from the ASGI scope whose a request is, such as the name of a user; None for
            nobody's. Batches in the background are then seen by their owners only.
        rate_limit: How many operations one caller may send in a time, such as ``"1000/minute"``, in
            batches and by themselves (extra ``rate-limit``).
        allowed_origins: Origins of other sites, such as ``"https://app.example"``, whose pages may
            have browsers send batches; ``"*"`` for all. Clients that are no browsers need none.
        transaction: Makes the transaction of an atomic batch, such as ``Database(engine)`` of
            ``asgi_batch.contrib.sqlalchemy`` (extra ``sqlalchemy``): a function without arguments
            that returns an async context manager.
        atomic: ``"optional"`` makes batches atomic that ask for it, where there is a
            *transaction*; ``"always"`` all of them; ``"never"`` none.
        credentials: ``"refuse"`` refuses batches that would be kept in the store together with
            ``Authorization``, ``Cookie`` or ``Proxy-Authorization``.
        on_end: Called with a `BatchReport` at the end of each batch, for metrics. It must be
            quick; what it raises is logged.
        queue: Tells worker processes of batches that outlive their request, such as
            ``CeleryQueue(app)`` of ``asgi_batch.queues.celery`` (extra ``celery``); they are then
            carried out there, and need a *store* that all processes share.
        tracer: Makes traces, such as ``OpenTelemetry()`` of ``asgi_batch.contrib.opentelemetry``
            (extra ``otel``).
        console: Whether browsers that open *path* get a page, on which people send batches and see
            them run.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        path: str = "/batch",
        limits: Limits | None = None,
        operation_headers: Iterable[str] = (),
        expose_headers: Iterable[str] = (),
        forward_scope_keys: Iterable[str] = (),
        store: str | Store = "memory://",
        path_policy: Literal["strict", "lenient"] = "strict",
        on_disconnect: Literal["abort", "finish"] = "abort",
        allow: Iterable[str] | None = None,
        deny: Iterable[str] = (),
        owner: Callable[[Scope], str | None] | None = None,
        rate_limit: str | RateLimit | None = None,
        allowed_origins: Iterable[str] = (),
        transaction: TransactionFactory | None = None,
        atomic: Literal["optional", "always", "never"] = "optional",
        credentials: Literal["keep", "refuse"] = "keep",
        on_end: Callable[[BatchReport], None] | None = None,
        tracer: Tracer | None = None,
        queue: Queue | None = None,
        console: bool = False,
    ) -> None:
        check_app(app)
        limits = checked_limits(limits)
        check_choice("path_policy", path_policy, ("strict", "lenient"))
        check_choice("on_disconnect", on_disconnect, ("abort", "finish"))
        check_choice("credentials", credentials, ("keep", "refuse"))
        check_hooks(on_end, tracer)
        atomic = checked_atomic(atomic, transaction)
        self.app = app
        self._gate = Gate(limits.total_concurrency)
        engine = engine_of(app, limits, self._gate, on_end, tracer, transaction)
        shown = RESULT_HEADERS | checked_names("expose_headers", expose_headers)
        terms = terms_of(engine, checked_store(store), shown)
        queue = checked_queue(queue, terms.store)
        self._limiter = limiter_for(rate_limit, store)
        self._background = Background(terms, limits, self._limiter, queue)
        self._settings = Settings(
            app=app,
            owner=checked_owner(owner),
            limiter=self._limiter,
            engine=engine,
            encode=terms.encode,
            background=self._background,
            rules=rules_of(
                limits,
                batch_path=checked_path(path),
                lenient_paths=path_policy == "lenient",
                atomic=atomic,
                routes=routes_of(allow, deny),
                app=app,
                operation_headers=OPERATION_HEADERS
                | checked_names("operation_headers", operation_headers),
            ),
            forward_scope_keys=checked_scope_keys(forward_scope_keys),
            allowed_origins=checked_origins(allowed_origins),
            keeps_credentials=credentials == "keep",
            aborts_on_disconnect=on_disconnect == "abort",
            pages=pages_of(console),
        )
        if isinstance(queue, HostedQueue):
            queue.attach(partial(working, self, queue))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Answer a batch request; hand everything else on.
        """
        if scope["type"] == "http":
            endpoint = endpoint_for(scope, self._settings)
            if endpoint is not None:
                await endpoint(self._settings, scope, receive, send)()
                return
            if self._limiter is not None and self._limiter.counts_direct and MARKER not in scope:
                await DirectRequest(self._settings, scope, receive, send)()
                return
        elif scope["type"] == "lifespan":
            await Lifespan(self.app, self._background, scope, receive, send)()
            return
        await self.app(scope, receive, send)

    @asynccontextmanager
    async def running(self, scope: Scope | None = None) -> AsyncIterator[None]:
        """
        Carry out batches that outlive their request for as long as the context lasts.

        Only for apps whose lifespan no server runs, such as one that is mounted in another: enter
        it in the lifespan of the outer app.

        Args:
            scope: What operations find in theirs, as a server's lifespan would have put it there:
                ``"state"``, and ``"app"`` or ``"litestar_app"`` where the app relies on them.

        Raises:
            ConfigurationError: The store cannot be used.
        """
        async with self._background.opened():
            self._background.start(scope or {})
            yield

    @property
    def progress(self) -> Progress:
        """
        How far batches are, for code of the app.

        Raises:
            BackgroundUnavailable: The app's lifespan has not started.
        """
        return Progress.of(self._background.store)

    def openapi(self, document: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """
        What the batch endpoint takes and answers, with its path and its limits, in OpenAPI 3.1.

        Args:
            document: Describes the app; a new one is returned that describes both. Where left out,
                the answer describes batches only.

        Raises:
            ConfigurationError: The document is of another version of OpenAPI.
        """
        rules, limits = self._settings.rules, self._settings.engine.limits
        addition = described(
            {
                "batch_path": rules.batch_path,
                "operation_headers": ", ".join(sorted(rules.operation_headers)),
                **asdict(limits),
            }
        )
        return addition if document is None else merged(document, addition)

    def statistics(self) -> GateStatistics:
        """
        What this process is doing for batches just now.
        """
        return self._gate.statistics()
