"""
An app whose requests and answers hold secrets, over a store with the key ``KEY``, or with none.
"""

import os

import anyio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_batch import BatchMiddleware, Limits
from asgi_batch.stores.redis import RedisStore

released = anyio.Event()


async def echo(request):
    """
    The body, with a cookie; 404 where the query asks for it.
    """
    status = int(request.query_params.get("status", 200))
    cookie = {"set-cookie": "session=canary-set-cookie"}
    return PlainTextResponse(await request.body(), status, headers=cookie)


async def wait(request):
    """
    Answers once somebody has asked for ``/release``.
    """
    await released.wait()
    return PlainTextResponse("")


async def release(request):
    """
    Let all answer that wait.
    """
    released.set()
    return PlainTextResponse("")


_KEY = os.environ["KEY"] or None

app = BatchMiddleware(
    Starlette(
        routes=[
            Route("/canary-path", echo, methods=["POST"]),
            Route("/canary-wait", wait, methods=["POST"]),
            Route("/release", release),
        ]
    ),
    store=RedisStore(os.environ["REDIS"], encryption_key=_KEY, allow_clear_text=_KEY is None),
    limits=Limits(
        background_batches=1, scan_interval=0.2, retry_ttl=float(os.environ["RETRY_TTL"])
    ),
)
