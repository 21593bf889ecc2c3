"""
A Litestar app whose batches are carried out later.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Request, Response, get, route
from litestar.params import FromPath

from apps.later import GREETING, SETTINGS, is_met, note, shown, take_a_moment
from asgi_batch import BatchMiddleware


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    note("startup")
    app.state.update(name="litestar", greeting=GREETING)
    yield
    note("shutdown")


@get("/greeting", sync_to_thread=True)
def greeting(request: Request) -> dict[str, str]:
    return {"app": request.app.state.name, "greeting": request.app.state.greeting}


@route("/echo", http_method=["GET", "PUT", "POST"], status_code=200)
async def echo(request: Request) -> dict[str, Any]:
    return shown(request.scope, await request.body())


@route("/moment", http_method=["GET", "POST"], status_code=200)
async def moment() -> dict[str, int]:
    return await take_a_moment()


@get("/flaky/{name:str}")
async def flaky(name: FromPath[str]) -> Response:
    return Response({"name": name}, status_code=200 if is_met(name) else 503)


@get("/crash")
async def crash() -> None:
    raise RuntimeError("This endpoint always crashes.")


litestar = Litestar([greeting, echo, moment, flaky, crash], lifespan=[lifespan])
app = BatchMiddleware(litestar, **SETTINGS)
