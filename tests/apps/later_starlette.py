"""
A Starlette app whose batches are carried out later, wrapped from outside and from inside.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from apps.later import GREETING, SETTINGS, is_met, note, shown, take_a_moment
from asgi_batch import BatchMiddleware


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
    note("startup")
    app.state.name = "starlette"
    yield {"greeting": GREETING}
    note("shutdown")


def greeting(request: Request) -> Response:
    return JSONResponse({"app": request.app.state.name, "greeting": request.state.greeting})


async def echo(request: Request) -> Response:
    return JSONResponse(shown(request.scope, await request.body()))


async def moment(request: Request) -> Response:
    return JSONResponse(await take_a_moment())


async def flaky(request: Request) -> Response:
    name = request.path_params["name"]
    return JSONResponse({"name": name}, 200 if is_met(name) else 503)


async def crash(request: Request) -> Response:
    raise RuntimeError("This endpoint always crashes.")


def make() -> Starlette:
    routes = [
        Route("/greeting", greeting),
        Route("/echo", echo, methods=["GET", "PUT", "POST"]),
        Route("/moment", moment, methods=["GET", "POST"]),
        Route("/flaky/{name}", flaky),
        Route("/crash", crash),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


app = BatchMiddleware(make(), **SETTINGS)

added = make()
added.add_middleware(BatchMiddleware, **SETTINGS)
