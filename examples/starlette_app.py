"""
A small Starlette app with a batch endpoint.

Run it with ``uvicorn examples.starlette_app:app`` or ``python examples/starlette_app.py``.
"""

import json
import os
from http import HTTPStatus
from itertools import count

import uvicorn
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from asgi_batch import BatchMiddleware

users = {1: "Ada", 2: "Grace", 3: "Edsger"}
new_ids = count(4)


async def read_name(request: Request) -> str:
    try:
        body = await request.json()
    except json.JSONDecodeError:
        body = None
    name = body.get("name") if isinstance(body, dict) else None
    if not isinstance(name, str) or not name:
        raise HTTPException(422, "A user needs a name.")
    return name


def known_id(request: Request) -> int:
    user_id: int = request.path_params["user_id"]
    if user_id not in users:
        raise HTTPException(404)
    return user_id


async def hello(request: Request) -> Response:
    return PlainTextResponse("Hello!")


async def crash(request: Request) -> Response:
    raise RuntimeError("This endpoint always crashes.")


async def create_user(request: Request) -> Response:
    name = await read_name(request)
    user_id = next(new_ids)
    users[user_id] = name
    headers = {"location": f"/users/{user_id}"}
    return JSONResponse({"id": user_id, "name": name}, 201, headers)


class User(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        user_id = known_id(request)
        return JSONResponse({"id": user_id, "name": users[user_id]})

    async def put(self, request: Request) -> Response:
        user_id = known_id(request)
        users[user_id] = await read_name(request)
        return JSONResponse({"id": user_id, "name": users[user_id]})

    async def delete(self, request: Request) -> Response:
        del users[known_id(request)]
        return Response(status_code=204)


async def on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


async def on_crash(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": HTTPStatus.INTERNAL_SERVER_ERROR.phrase}, 500)


starlette_app = Starlette(
    routes=[
        Route("/hello", hello),
        Route("/crash", crash),
        Route("/users", create_user, methods=["POST"]),
        Route("/users/{user_id:int}", User),
    ],
    exception_handlers={HTTPException: on_http_error, Exception: on_crash},
)
app = BatchMiddleware(starlette_app, console=True)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
