"""
An app for the tests of the command line: it writes down what starts, and answers as it is told.

``EFFECTS`` is the file for that. What is below ``/held`` waits until there is the file ``GATE``;
what is below ``/once`` and ``/later`` fails the first time, and ``/later`` waits the second time.
``LIMITS`` are limits, in JSON.
"""

import json
import os
from pathlib import Path

import anyio
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from asgi_batch import BatchMiddleware, Limits

_EFFECTS = os.open(os.environ["EFFECTS"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
_GATE = Path(os.environ["GATE"])
_BODIES = {
    "pretty": ('{\n  "a": 1.0,\n  "b": "x\\ny"\n}', "application/json", {}),
    "problem": ('{"title": "no"}', "application/problem+json", {}),
    "broken": ("{oops", "application/json", {}),
    "worse": (b"\xff{", "application/json", {}),
    "text": ("hello\nworld", "text/plain; charset=utf-8", {}),
    "latin": (b"\xe9", "text/plain; charset=utf-8", {}),
    "bytes": (b"\x00\x01", "application/octet-stream", {}),
    "packed": ("{}", "application/json", {"content-encoding": "gzip"}),
    "empty": ("", None, {}),
}
_failed = set()


async def gate():
    while not await anyio.Path(_GATE).exists():  # noqa: ASYNC110
        await anyio.sleep(0.01)


async def answer(request):
    kind, name = request.path_params["kind"], request.path_params["name"]
    body = await request.body()
    os.write(_EFFECTS, f"{request.method} {kind}/{name} {body.decode()}\n".encode())
    if kind in ("once", "later") and (kind, name) not in _failed:
        _failed.add((kind, name))
        return JSONResponse({"detail": "not yet"}, 500)
    if kind in ("held", "later"):
        await gate()
    if kind == "shown":
        content, media_type, headers = _BODIES[name]
        return Response(content, 200, headers, media_type)
    status = 404 if kind == "gone" else 201 if request.method == "POST" else 200
    seen = {name: request.headers[name] for name in ("x-team", "x-op") if name in request.headers}
    return JSONResponse({"name": name, **seen}, status)


methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
starlette_app = Starlette(routes=[Route("/{kind}/{name}", answer, methods=methods)])
app = BatchMiddleware(starlette_app, limits=Limits(**json.loads(os.environ.get("LIMITS", "{}"))))
