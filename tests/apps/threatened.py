"""
An app that shows what reaches it, and misbehaves when asked to, as open to all as an API can be.
"""

import contextvars

import anyio
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from asgi_batch import BatchMiddleware, Limits

MAX_BODY_BYTES = 200_000
SECRET = "canary-5f0c2e"

_visitor = contextvars.ContextVar("visitor", default=None)


async def seen(request):
    """
    The request as the app sees it.
    """
    body = await request.body()
    return JSONResponse(
        {
            "method": request.method,
            "path": request.scope["path"],
            "query": request.scope["query_string"].decode(),
            "client": request.client.host,
            "headers": dict(request.headers),
            "body": body.decode(),
        }
    )


async def leave(request):
    """
    What an earlier call has left in the context and in the state; leaves something itself.
    """
    found = [_visitor.get(), getattr(request.state, "visitor", None)]
    _visitor.set("somebody")
    request.state.visitor = "somebody"
    return JSONResponse(found)


async def huge(_):
    """
    More than an operation may answer.
    """
    return PlainTextResponse("x" * 300_000)


async def crash(_):
    """
    An exception with something in it that nobody may see.
    """
    raise ValueError(SECRET)


async def cookie(_):
    """
    A cookie, and headers that would change how the outer answer is read.
    """
    headers = {"set-cookie": f"session={SECRET}", "content-encoding": "gzip", "x-outer": "1"}
    return JSONResponse({}, 418, headers)


async def redirect(_):
    """
    Elsewhere.
    """
    return RedirectResponse("/seen")


async def slow(_):
    """
    An answer that takes some time.
    """
    await anyio.sleep(0.3)
    return Response(status_code=204)


async def slower(_):
    """
    One that takes longer.
    """
    await anyio.sleep(1)
    return Response(status_code=204)


def _routes():
    yield Route("/seen", seen, methods=["GET", "POST"])
    yield Route("/admin/{rest:path}", seen, methods=["GET", "POST"])
    for endpoint in (leave, huge, crash, cookie, redirect, slow, slower):
        yield Route(f"/{endpoint.__name__}", endpoint)


_starlette = Starlette(routes=list(_routes()))


async def _untamed(scope, receive, send):
    """
    What only an app without a framework does.
    """
    path = scope.get("path")
    if path not in ("/endless", "/file", "/split"):
        await _starlette(scope, receive, send)
        return
    headers = [(b"content-type", b"application/octet-stream"), (b"link", b"a\r\nset-cookie: b=c")]
    headers = headers if path == "/split" else headers[:1]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while path == "/endless":
        await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
    if path == "/file":
        await send({"type": "http.response.pathsend", "path": "/etc/passwd"})
    await send({"type": "http.response.body", "body": b"{}"})


def _owner(scope):
    return dict(scope["headers"]).get(b"x-user", b"").decode() or None


app = BatchMiddleware(
    _untamed,
    limits=Limits(
        max_operations=50,
        sync_operations=20,
        max_body_bytes=MAX_BODY_BYTES,
        max_result_bytes=100_000,
        body_timeout=1,
        owner_batches=2,
    ),
    deny=["/admin/**"],
    owner=_owner,
    operation_headers=["x-tenant"],
)
