"""
The same two endpoints in six frameworks, each written as that framework wants it.

``/echo`` shows the request it got, ``/reply`` answers what the query asks for. What else there
is, such as the answer to an unknown path, is the framework's own.
"""

import json
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from fastapi import FastAPI
from litestar import Litestar, Request, Response, route
from litestar.params import FromQuery
from litestar.response import Stream
from pydantic import BaseModel
from quart import Quart, request
from quart import Response as QuartResponse
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from apps.reflection import METHODS, Reply, seen


async def read_body(receive: Any) -> bytes:
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def bare(scope: Any, receive: Any, send: Any) -> None:
    body = await read_body(receive)
    if scope["path"].endswith("/reply"):
        reply = Reply.from_query(scope["query_string"])
    else:
        document = json.dumps(seen(scope, body)).encode()
        reply = Reply(200, [("content-type", "application/json")], [document])
    headers = [(name.encode(), value.encode()) for name, value in reply.headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    for chunk in reply.chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body"})


async def starlette_echo(request: Any) -> JSONResponse:
    return JSONResponse(seen(request.scope, await request.body()))


async def starlette_reply(request: Any) -> StreamingResponse:
    reply = Reply.from_query(request.scope["query_string"])
    response = StreamingResponse(reply.stream(), reply.status)
    response.raw_headers = [(name.encode(), value.encode()) for name, value in reply.headers]
    return response


starlette = Starlette(
    routes=[
        Route("/echo", starlette_echo, methods=METHODS),
        Route("/echo/{segment}", starlette_echo, methods=METHODS),
        Route("/reply", starlette_reply, methods=METHODS),
        Route("/only-get/", starlette_echo, methods=["GET"]),
    ]
)

fastapi = FastAPI()
fastapi.add_route("/echo", starlette_echo, METHODS)
fastapi.add_route("/echo/{segment}", starlette_echo, METHODS)
fastapi.add_route("/reply", starlette_reply, METHODS)


class Note(BaseModel):
    text: str
    rank: float = 0.5


@fastapi.post("/notes/{number}")
async def create_note(number: int, note: Note, draft: bool = False) -> dict[str, Any]:
    return {"number": number, "note": note, "draft": draft}


@fastapi.get("/only-get/")
def only_get(rank: float = 1.0) -> float:
    return rank


quart = Quart(__name__)


@quart.route("/echo", methods=METHODS)
@quart.route("/echo/<segment>", methods=METHODS)
async def quart_echo(segment: str = "") -> Any:
    return seen(request.scope, await request.get_data())


@quart.route("/reply", methods=METHODS)
async def quart_reply() -> QuartResponse:
    reply = Reply.from_query(request.scope["query_string"])
    response = QuartResponse(reply.stream(), reply.status)
    del response.headers["content-type"]
    for name, value in reply.headers:
        response.headers.add(name, value)
    return response


@quart.get("/only-get/")
async def quart_only_get() -> Any:
    return "<p>Hello!</p>"


@route(["/echo", "/echo/{segment:str}"], http_method=METHODS, status_code=200)
async def litestar_echo(request: Request) -> Response:
    return Response(seen(request.scope, await request.body()))


@route("/reply", http_method=METHODS)
async def litestar_reply(request: Request) -> Response:
    reply = Reply.from_query(request.scope["query_string"])
    headers = dict(reply.headers)
    media_type = headers.pop("content-type", None)
    if reply.status in (204, 304):
        return Response(None, status_code=reply.status, headers=headers)
    return Stream(reply.stream, status_code=reply.status, headers=headers, media_type=media_type)


@route("/only-get", http_method=["GET"])
async def litestar_only_get(rank: FromQuery[float] = 1.0) -> dict[str, float]:
    return {"rank": rank}


litestar = Litestar([litestar_echo, litestar_reply, litestar_only_get])


def django_echo(request: Any, segment: str = "") -> JsonResponse:
    return JsonResponse(seen(request.scope, request.body))


async def django_reply(request: Any) -> HttpResponse:
    reply = Reply.from_query(request.scope["query_string"])
    response = StreamingHttpResponse(reply.stream(), status=reply.status)
    del response["content-type"]
    for name, value in reply.headers:
        response[name] = value
    return response


# The name that Django looks for in the module of the URLs.
urlpatterns = [
    path("echo", django_echo),
    path("echo/<segment>", django_echo),
    path("reply", django_reply),
    path("only-get/", django_echo),
]
settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
)
django = get_asgi_application()

MIRRORS = {
    "bare": bare,
    "starlette": starlette,
    "fastapi": fastapi,
    "quart": quart,
    "litestar": litestar,
    "django": django,
}
