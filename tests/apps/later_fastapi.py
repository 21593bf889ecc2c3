"""
A FastAPI app whose batches are carried out later.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request

from apps.later import GREETING, SETTINGS, is_met, note, shown, take_a_moment
from asgi_batch import BatchMiddleware


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    note("startup")
    app.state.name = "fastapi"
    yield {"greeting": GREETING}
    note("shutdown")


api = FastAPI(lifespan=lifespan)


@api.get("/greeting")
def greeting(request: Request) -> dict[str, str]:
    return {"app": request.app.state.name, "greeting": request.state.greeting}


@api.api_route("/echo", methods=["GET", "PUT", "POST"])
async def echo(request: Request) -> dict[str, object]:
    return shown(request.scope, await request.body())


@api.api_route("/moment", methods=["GET", "POST"])
async def moment() -> dict[str, int]:
    return await take_a_moment()


@api.get("/flaky/{name}")
async def flaky(name: str) -> dict[str, str]:
    if not is_met(name):
        raise HTTPException(503)
    return {"name": name}


@api.get("/crash")
async def crash() -> None:
    raise RuntimeError("This endpoint always crashes.")


app = BatchMiddleware(api, **SETTINGS)
