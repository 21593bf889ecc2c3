"""
An app whose batches are carried out by workers of a queue of its own: a list in Redis.

``EFFECTS`` names the file in which each start and end is written down, ``REDIS`` the store.
"""

import os
from contextlib import asynccontextmanager

import anyio
import msgspec
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_batch import BatchMiddleware, Limits, current_operation

_EFFECTS = os.open(os.environ["EFFECTS"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)


def note(*words):
    """
    One line, whole, whoever else writes.
    """
    os.write(_EFFECTS, (" ".join(map(str, words)) + "\n").encode())


class ListQueue:
    """
    All that a queue has to be.
    """

    def __init__(self, url):
        self._url = url

    async def send(self, batch_id, chunk):
        async with Redis.from_url(self._url) as client:
            await client.rpush("messages", msgspec.json.encode([batch_id, chunk]))

    async def receive(self, run):
        async with Redis.from_url(self._url) as client:
            while True:
                found = await client.blpop("messages", timeout=1)
                if found is not None:
                    await run(*msgspec.json.decode(found[1]))


@asynccontextmanager
async def lifespan(_):
    note("opened", os.getpid())
    yield
    note("closed", os.getpid())


async def work(request):
    """
    Takes a moment.
    """
    current = current_operation()
    what = (os.getpid(), request.method, current.index, current.attempt)
    note("start", *what)
    await anyio.sleep(float(request.query_params.get("seconds", 0.02)))
    note("end", *what)
    return JSONResponse({"pid": os.getpid()})


app = BatchMiddleware(
    Starlette(routes=[Route("/work", work, methods=["GET", "POST", "PUT"])], lifespan=lifespan),
    store=os.environ["REDIS"],
    queue=ListQueue(os.environ["REDIS"]),
    limits=Limits(
        lease=1.0, scan_interval=0.2, cancel_interval=0.2, drain_timeout=5, resend_interval=1.0
    ),
)
