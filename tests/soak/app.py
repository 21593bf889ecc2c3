"""
The app that is run for long; it tells what its process holds when asked.

``REDIS`` names the store.
"""

import asyncio
import os
import time
from dataclasses import asdict

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from asgi_batch import BatchMiddleware
from soak.limits import LIMITS


async def quick(request: Request) -> Response:
    return JSONResponse({"id": 7})


async def work(request: Request) -> Response:
    await anyio.sleep(float(request.query_params.get("seconds", "0.01")))
    return JSONResponse({"text": "x" * 1000})


def block(request: Request) -> Response:
    time.sleep(0.005)
    return JSONResponse({})


async def fail(request: Request) -> Response:
    return JSONResponse({"detail": "No."}, 503)


async def crash(request: Request) -> Response:
    raise RuntimeError("This endpoint always crashes.")


async def held(request: Request) -> Response:
    return JSONResponse({"tasks": len(asyncio.all_tasks()), **asdict(app.statistics())})


METHODS = ["GET", "POST", "PUT"]
app = BatchMiddleware(
    Starlette(
        routes=[
            Route("/quick", quick, methods=METHODS),
            Route("/work", work, methods=METHODS),
            Route("/block", block, methods=METHODS),
            Route("/fail", fail, methods=METHODS),
            Route("/crash", crash, methods=METHODS),
            Route("/held", held),
        ]
    ),
    store=os.environ["REDIS"],
    limits=LIMITS,
)
