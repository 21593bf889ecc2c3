"""
`BatchMiddleware`: settings, and one question asked of each request: is it ours?
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, Literal

from asgi_batch._background import Background
from asgi_batch._core.headers import (
    OPERATION_HEADERS,
    RESULT_HEADERS,
    is_header_name,
    is_secret_header,
    why_forbidden,
)
from asgi_batch._core.rules import Rules
from asgi_batch._core.scope import route_path
from asgi_batch._endpoints import Settings, endpoint_for
from asgi_batch._engine import Engine
from asgi_batch._ledger import Encode
from asgi_batch._lifespan import Lifespan
from asgi_batch._subrequest import AnswerBounds
from asgi_batch._terms import Terms
from asgi_batch._worker import Turns
from asgi_batch.dialects import native
from asgi_batch.errors import ConfigurationError
from asgi_batch.limits import Gate, GateStatistics, Limits
from asgi_batch.ports import Store
from asgi_batch.progress import Progress
from asgi_batch.stores import open_store
from asgi_batch.types import ASGIApp, Receive, Scope, Send

# What a scope must not hand on: it belongs to the route of the batch request.
_ROUTE_KEYS: Final = frozenset(
    """
    type asgi http_version method path raw_path query_string root_path headers state extensions
    path_params endpoint route router asgi_batch
    """.split()
)
# Bytes of a body that may wait for others to be written together.
_SMALL_RESULT: Final = 1024
_PLAIN_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+").fullmatch


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
    ) -> None:
        if not callable(app):
            raise ConfigurationError(f"BatchMiddleware({app!r:.100}): pass an ASGI app.")
        limits = limits if limits is not None else Limits()
        _check_limits(limits)
        _check_choice("path_policy", path_policy, ("strict", "lenient"))
        _check_choice("on_disconnect", on_disconnect, ("abort", "finish"))
        self.app = app
        self._path = _checked_path(path)
        self._gate = Gate(limits.total_concurrency)
        engine = _engine(app, limits, self._gate)
        encode = _encoder(RESULT_HEADERS | _checked_names("expose_headers", expose_headers))
        terms = Terms(store=_checked_store(store), engine=engine, encode=encode, turns=Turns())
        self._background = Background(terms, limits)
        self._settings = Settings(
            engine=engine,
            encode=encode,
            background=self._background,
            rules=_rules(
                limits,
                batch_path=self._path,
                lenient_paths=path_policy == "lenient",
                operation_headers=OPERATION_HEADERS
                | _checked_names("operation_headers", operation_headers),
            ),
            forward_scope_keys=_checked_scope_keys(forward_scope_keys),
            aborts_on_disconnect=on_disconnect == "abort",
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Answer a batch request; hand everything else on.
        """
        if scope["type"] == "http":
            endpoint = endpoint_for(route_path(scope), self._path)
            if endpoint is not None:
                await endpoint(self._settings, scope, receive, send)()
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

    def statistics(self) -> GateStatistics:
        """
        What this process is doing for batches just now.
        """
        return self._gate.statistics()


def _engine(app: ASGIApp, limits: Limits, gate: Gate) -> Engine:
    bounds = AnswerBounds(
        small_bytes=min(_SMALL_RESULT, limits.max_result_bytes),
        max_bytes=limits.max_result_bytes,
        max_messages=limits.max_messages,
    )
    return Engine(app=app, limits=limits, gate=gate, bounds=bounds)


def _encoder(shown: frozenset[str]) -> Encode:
    names = [name.encode() for name in shown]
    exposed = {b"content-length": b"", **dict(zip(names, names, strict=True))}
    return partial(native.encode_result, exposed)


def _rules(
    limits: Limits, *, batch_path: str, lenient_paths: bool, operation_headers: frozenset[str]
) -> Rules:
    return Rules(
        batch_path=batch_path,
        lenient_paths=lenient_paths,
        operation_headers=operation_headers,
        max_operations=limits.max_operations,
        max_operation_bytes=limits.max_operation_bytes,
        max_path_bytes=limits.max_path_bytes,
        max_query_bytes=limits.max_query_bytes,
        max_headers=limits.max_headers,
        max_header_bytes=limits.max_header_bytes,
        max_json_depth=limits.max_json_depth,
        max_problems=limits.max_problems,
        operation_timeout=limits.operation_timeout,
    )


def _check_limits(limits: object) -> None:
    if not isinstance(limits, Limits):
        raise ConfigurationError(f"limits={limits!r:.100}: pass Limits(…).")


def _checked_store(store: str | Store) -> Store:
    if isinstance(store, str):
        return open_store(store)
    if not hasattr(store, "claim"):
        raise ConfigurationError(f'store={store!r:.100}: write a URL such as "redis://localhost".')
    return store


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigurationError(f"{name}={value!r:.100}: write {' or '.join(map(repr, choices))}.")


def _checked_path(path: object) -> str:
    if not isinstance(path, str) or _PLAIN_PATH(path) is None:
        raise ConfigurationError(
            f'path={path!r:.100}: write a path such as "/batch", that starts with "/", does not end'
            ' with it, and holds letters, digits, "-", "_", "." and "/" only.'
        )
    return path


def _checked_names(setting: str, names: object) -> frozenset[str]:
    listed = _checked_strings(setting, names)
    for name in listed:
        if not is_header_name(name):
            raise ConfigurationError(f"{setting}: {name!r:.100} is not the name of a header.")
        reason = why_forbidden(name.lower()) if setting == "operation_headers" else None
        if setting == "expose_headers" and is_secret_header(name.lower()):
            reason = f"{name} would hand cookies to scripts."
        if reason is not None:
            raise ConfigurationError(f"{setting}: leave {name!r} out. {reason}")
    return frozenset(name.lower() for name in listed)


def _checked_scope_keys(keys: object) -> tuple[str, ...]:
    listed = _checked_strings("forward_scope_keys", keys)
    for key in listed:
        if key in _ROUTE_KEYS:
            raise ConfigurationError(
                f"forward_scope_keys: leave {key!r} out; it is made for each operation."
            )
    return listed


def _checked_strings(setting: str, values: object) -> tuple[str, ...]:
    if isinstance(values, Iterable) and not isinstance(values, (str, bytes)):
        listed = tuple(values)
        if all(isinstance(value, str) for value in listed):
            return listed
    raise ConfigurationError(f'{setting}={values!r:.100}: write a list of names, ["…", "…"].')
