"""
An app behind all controls, which counts its calls in Redis; ``REDIS`` and ``RATE`` are given.
"""

import os

import redis.asyncio as redis
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_batch import BatchMiddleware

_URL = os.environ["REDIS"]


async def count(request):
    """
    One more call of this path, whichever process has got it.
    """
    async with redis.from_url(_URL) as client:
        number = await client.incr(f"calls:{request.url.path}")
    return JSONResponse({"number": number})


def owner(scope):
    """
    Whoever a request names; a real app would have checked it.
    """
    return dict(scope["headers"]).get(b"x-user", b"").decode() or None


app = BatchMiddleware(
    Starlette(
        routes=[
            Route("/open/{name}", count, methods=["GET", "POST"]),
            Route("/admin/{name}", count, methods=["GET", "POST"]),
        ]
    ),
    store=_URL,
    deny=["/admin/**"],
    owner=owner,
    rate_limit=os.environ["RATE"],
    allowed_origins=["https://app.example"],
)
