"""
An app that remembers each call, for tests of clients: answers of all kinds, and some that change.

``STORE`` says where batches are kept, and ``LIMITS`` holds the limits that differ, as JSON.
"""

import gzip
import json
import os

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from asgi_batch import BatchMiddleware, Limits, current_operation

BODIES = {
    "json": Response(b'{"a" : [1.0, 12345678901234567890]}', media_type="application/json"),
    "problem": Response(b'{"title":"No"}', 422, media_type="application/problem+json"),
    "nonsense": Response(b"{oops", media_type="application/json"),
    "text": Response("Grüße", media_type="text/plain"),
    "latin": Response("Grüße".encode("latin-1"), media_type="text/plain; charset=latin-1"),
    "binary": Response(b"\x00\xff\x01", media_type="application/octet-stream"),
    "gzip": Response(
        gzip.compress(b'{"a":1}', mtime=0),
        media_type="application/json",
        headers={"content-encoding": "gzip"},
    ),
    "null": Response(b"null", media_type="application/json"),
    "string": Response(b'"text"', media_type="application/json"),
    "empty": Response(b""),
    "nothing": Response(status_code=204),
    "error": Response("No.", 500, headers={"x-hidden": "1"}),
    "teapot": Response(status_code=418, headers={"location": "/tea", "etag": '"1"'}),
}

calls: list[tuple[str, str, bool]] = []
_busy: dict[str, int] = {}
_gates: dict[str, anyio.Event] = {}


def _gate(name: str) -> anyio.Event:
    return _gates.setdefault(name, anyio.Event())


async def item(request: Request) -> Response:
    return JSONResponse({"id": request.path_params["number"], "query": request.url.query})


async def create(request: Request) -> Response:
    body = await request.body()
    return Response(body, 201, headers={"location": "/items/1"}, media_type="application/json")


async def body(request: Request) -> Response:
    return BODIES[request.path_params["kind"]]


async def headers(request: Request) -> Response:
    return JSONResponse({"headers": request.headers.items()})


async def busy(request: Request) -> Response:
    """
    Too busy for as many times as the query says.
    """
    name, status = request.url.path, int(request.query_params.get("status", "503"))
    _busy[name] = _busy.get(name, 0) + 1
    if _busy[name] <= int(request.query_params["times"]):
        return JSONResponse({"busy": True}, status, headers={"retry-after": "0"})
    return JSONResponse({"attempts": _busy[name]})


async def gate(request: Request) -> Response:
    await _gate(request.path_params["name"]).wait()
    return JSONResponse({"open": True})


async def unlock(request: Request) -> Response:
    _gate(request.path_params["name"]).set()
    return Response(status_code=204)


async def cookie(request: Request) -> Response:
    return Response("", headers={"set-cookie": "a=b"})


async def redirect(request: Request) -> Response:
    return RedirectResponse("/items/7")


async def large(request: Request) -> Response:
    return Response(b"x" * int(request.path_params["size"]), media_type="text/plain")


async def stream(request: Request) -> Response:
    async def events():
        yield "data: 1\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def boom(request: Request) -> Response:
    raise RuntimeError("This endpoint always crashes.")


async def seen(request: Request) -> Response:
    """
    What has been called since the last time.
    """
    told = JSONResponse(list(calls))
    calls.clear()
    return told


class Remembering:
    """
    Writes each call down.
    """

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and scope["path"] not in ("/seen", "/favicon.ico"):
            is_operation = current_operation() is not None
            calls.append((scope["method"], scope["path"], is_operation))
        await self._app(scope, receive, send)


api = Starlette(
    routes=[
        Route("/items/{number:int}", item, methods=["GET", "DELETE"]),
        Route("/items", create, methods=["POST", "PUT", "PATCH", "OPTIONS"]),
        Route("/body/{kind}", body),
        Route("/headers", headers, methods=["GET", "POST"]),
        Route("/busy/{name}", busy, methods=["GET", "POST"]),
        Route("/gate/{name}", gate, methods=["GET", "PATCH"]),
        Route("/gate/{name}", unlock, methods=["POST"]),
        Route("/cookie", cookie),
        Route("/redirect", redirect),
        Route("/large/{size:int}", large),
        Route("/stream", stream),
        Route("/boom", boom),
        Route("/seen", seen),
    ],
    middleware=[Middleware(Remembering)],
)

app = BatchMiddleware(
    api,
    store=os.environ.get("STORE", "memory://"),
    limits=Limits(**json.loads(os.environ.get("LIMITS", "{}"))),
)
