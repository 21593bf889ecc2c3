"""
What tests of the client share: the libraries that it runs on, and one way to use both clients.
"""

import json
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import anyio.to_thread
import httpx

from asgi_batch.client import AsyncBatchClient, BatchClient
from redis_server import redis_server
from servers import serving

KIND = "uvicorn-h11-asyncio"
APP = "apps.called:app"


@contextmanager
def called(folder, **limits):
    """
    A server of the app that remembers its calls, over a Redis of its own.
    """
    with redis_server(folder / "redis") as redis:
        env = {"STORE": redis.url, "LIMITS": json.dumps({"cancel_interval": 0.1, **limits})}
        with serving(KIND, APP, folder / "app", env=env) as server:
            yield server


def seen(server):
    """
    What has been called since the last time: method, path, and whether in a batch.
    """
    return [tuple(each) for each in httpx.get(f"{server.url}/seen").json()]


def unlock(server, name):
    """
    Let the operations go on that wait at the gate of that *name*.
    """
    httpx.post(f"{server.url}/gate/{name}")


class Threaded:
    """
    The client that blocks, each of its calls in a thread, so that one test is for both clients.
    """

    def __init__(self, client):
        self.client = client

    def __getattr__(self, name):
        return partial(self._call, name)

    async def _call(self, name, *arguments, **options):
        method = getattr(self.client, name)
        return await anyio.to_thread.run_sync(partial(method, *arguments, **options))


@asynccontextmanager
async def client_of(url, library, kind, **options):
    """
    A client for the server at *url*, which awaits or blocks.
    """
    if kind == "async":
        async with library.AsyncClient(base_url=url, timeout=20) as http:
            yield AsyncBatchClient(http, **options)
    else:
        with library.Client(base_url=url, timeout=20) as http:
            yield Threaded(BatchClient(http, **options))


async def all_of(client, name, *arguments, **options):
    """
    All that ``stream``, ``watch`` or ``results`` hands out.
    """
    if isinstance(client, AsyncBatchClient):
        return [each async for each in getattr(client, name)(*arguments, **options)]
    call = partial(getattr(client.client, name), *arguments, **options)
    return await anyio.to_thread.run_sync(lambda: list(call()))
