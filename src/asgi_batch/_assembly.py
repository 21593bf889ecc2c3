"""
Puts together what the rooms below want from what `BatchMiddleware` is given; it checks nothing.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from asgi_batch._core.routes import Routes
from asgi_batch._core.rules import Atomic, Rules
from asgi_batch._engine import Engine
from asgi_batch._gate import Gate
from asgi_batch._reporter import OnEnd, Reporter
from asgi_batch._subrequest import AnswerBounds
from asgi_batch._terms import Terms
from asgi_batch._worker import Turns
from asgi_batch.dialects import native
from asgi_batch.limits import Limits
from asgi_batch.ports import Store, Tracer, TransactionFactory
from asgi_batch.types import ASGIApp

# Bytes of a body that may wait for others to be written together.
_SMALL_RESULT: Final = 1024


def engine_of(
    app: ASGIApp,
    limits: Limits,
    gate: Gate,
    on_end: OnEnd | None,
    tracer: Tracer | None,
    transaction: TransactionFactory | None,
) -> Engine:
    """
    What all batches of one middleware run with.
    """
    bounds = AnswerBounds(
        small_bytes=min(_SMALL_RESULT, limits.max_result_bytes),
        max_bytes=limits.max_result_bytes,
        max_messages=limits.max_messages,
    )
    return Engine(
        app=app if tracer is None else tracer.wrap(app),
        limits=limits,
        gate=gate,
        bounds=bounds,
        reporter=Reporter(on_end, tracer),
        transaction=transaction,
    )


def terms_of(engine: Engine, store: Store, shown: frozenset[str]) -> Terms:
    """
    On which terms its batches are held, with results that show the headers in *shown*.
    """
    names = [name.encode() for name in shown]
    exposed = {b"content-length": b"", **dict(zip(names, names, strict=True))}
    encode = partial(native.encode_result, exposed)
    return Terms(store=store, engine=engine, encode=encode, turns=Turns())


def rules_of(
    limits: Limits,
    *,
    batch_path: str,
    lenient_paths: bool,
    operation_headers: frozenset[str],
    routes: Routes | None,
    atomic: Atomic,
    app: ASGIApp,
) -> Rules:
    """
    What batches may contain.
    """
    return Rules(
        batch_path=batch_path,
        lenient_paths=lenient_paths,
        operation_headers=operation_headers,
        routes=routes,
        atomic=atomic,
        # FastAPI has one of its own, which the scope does not tell; of others it is a directory.
        root_path=getattr(app, "root_path", "") if hasattr(app, "root_path_in_servers") else "",
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
