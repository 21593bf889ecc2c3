"""
The apps that the benchmarks call, all with the same two routes, and the requests to them.

``GET /items/{id}`` answers with a small object, ``POST /items`` with the object it was sent.
"""

import json
from typing import NamedTuple

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_batch import BatchMiddleware, Limits
from asgi_batch.types import ASGIApp, Receive, Scope, Send

_ITEM = {"name": "x", "price": 2.5}


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """
    The least that an app can do: no routing, no parsing, a constant answer.
    """
    if scope["method"] == "POST":
        await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"11")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"ok":true}'})


async def _read(request: Request) -> JSONResponse:
    return JSONResponse({"id": request.path_params["item_id"], "name": "x"})


async def _create(request: Request) -> JSONResponse:
    return JSONResponse(await request.json(), 201)


starlette = Starlette(
    routes=[Route("/items/{item_id:int}", _read), Route("/items", _create, methods=["POST"])]
)

fastapi = FastAPI()


class Item(BaseModel):
    name: str
    price: float


@fastapi.get("/items/{item_id}")
async def _read_item(item_id: int) -> dict[str, object]:
    return {"id": item_id, "name": "x"}


@fastapi.post("/items", status_code=201)
async def _create_item(item: Item) -> Item:
    return item


APPS: dict[str, ASGIApp] = {"bare": bare, "starlette": starlette, "fastapi": fastapi}


def wrapped(app: ASGIApp) -> BatchMiddleware:
    """
    *app* with a batch endpoint that answers a thousand operations at once, otherwise as it comes.
    """
    return BatchMiddleware(app, limits=Limits(sync_operations=1000))


def guarded(app: ASGIApp) -> BatchMiddleware:
    """
    The same with rules for routes, and a limit of operations that is never reached.
    """
    return BatchMiddleware(
        app,
        limits=Limits(sync_operations=1000),
        allow=["/items/**", "GET /users/*"],
        deny=["/admin/**", "/login"],
        rate_limit="999999999/minute",
    )


class Call(NamedTuple):
    """
    What is asked of an app, whether by itself or as an operation.
    """

    method: str
    path: str
    body: bytes


def calls(count: int) -> list[Call]:
    """
    *count* calls, reads and writes in turn.
    """
    body = _dump(_ITEM)
    return [
        Call("POST", "/items", body) if index % 2 else Call("GET", f"/items/{index}", b"")
        for index in range(count)
    ]


def batch_of(count: int) -> bytes:
    """
    The same calls as one batch.
    """
    operations = [
        {"id": f"op{index}", "method": call.method, "path": call.path}
        | ({"body": _ITEM} if call.body else {})
        for index, call in enumerate(calls(count))
    ]
    return _dump({"operations": operations})


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
