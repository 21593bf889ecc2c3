"""
What tests of the client share: the libraries that it runs on, and one way to use both clients.
"""

import json
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import anyio
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


class Gateway:
    """
    Stands in front of *app*, and answers the first requests as told.

    Args:
        app: The app.
        answers: By method, one after the other: status, body and headers, an exception or
            ``"hang"``; or a function of the request's body. Where there is none, the app is asked.
    """

    def __init__(self, app, **answers):
        self.app = app
        self.answers = {name: list(each) for name, each in answers.items()}
        self.requests = []

    async def __call__(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        self.requests.append((scope["method"], scope["path"], body))
        answer = self._answer(scope["method"], body)
        if answer == "hang":
            await anyio.sleep_forever()
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            given = [{"type": "http.request", "body": body, "more_body": False}]

            async def again():
                return given.pop() if given else await receive()

            await self.app(scope, again, send)
        else:
            status, body, headers = answer
            pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": status, "headers": pairs})
            await send({"type": "http.response.body", "body": body})

    def _answer(self, method, body):
        left = self.answers.get(method)
        if not left:
            return None
        return left[0](body) if callable(left[0]) else left.pop(0)

    def sent(self, method="POST"):
        """
        How many operations each request of *method* had.
        """
        return [
            len(json.loads(body)["operations"])
            for each, _, body in self.requests
            if each == method and body
        ]


def problem(status, code, **members):
    body = {"status": status, "code": code, "detail": "So it is.", **members}
    return status, json.dumps(body).encode(), {}
