"""
Clients of batches that outlive their request, in this process: they send, ask and wait for the end.
"""

import json
from contextlib import asynccontextmanager

import anyio

from asgi_batch import BatchMiddleware
from support import Exchange, batch_body, batch_scope, call, http_scope, respond

UNKNOWN = "x" * 32


async def numbers(scope, receive, send):
    """
    An app that knows even numbers only.
    """
    number = int(scope["path"][1:])
    body = json.dumps({"number": number}).encode()
    status = 404 if number % 2 else 200
    await respond(send, body, status=status, content_type=b"application/json")


@asynccontextmanager
async def serving(app=numbers, **settings):
    """
    *app* with its background.
    """
    middleware = BatchMiddleware(app, **settings)
    async with middleware.running():
        yield middleware


async def ask(app, path, method="GET", headers=(), **members):
    """
    One request about a batch.
    """
    path, _, query = path.partition("?")
    scope = http_scope(method, path, query_string=query.encode(), headers=list(headers), **members)
    return await call(app, Exchange(scope))


async def submitted(app, count, headers=(), **envelope):
    """
    Send a batch of *count* operations for later.
    """
    scope = batch_scope()
    scope["headers"] = [*scope["headers"], (b"prefer", b"respond-async"), *headers]
    body = batch_body([f"GET /{number}" for number in range(count)], **envelope)
    return await call(app, Exchange(scope, body))


async def finished(app, accepted):
    """
    The status of a batch that was accepted, once it is finished.
    """
    return await ended(app, accepted.json()["statusUrl"])


async def ended(app, url):
    """
    The status at *url* once the batch is finished.
    """
    answers = []

    async def is_finished():
        answers.append(await ask(app, url))
        return answers[-1].json()["finishedAt"] is not None

    with anyio.fail_after(20):
        while not await is_finished():
            await anyio.lowlevel.checkpoint()
    return answers[-1]


def request(*operations, headers=(), is_strict=False, **envelope):
    """
    A request with a batch and further *headers*.
    """
    scope = batch_scope()
    scope["headers"] = [*scope["headers"], *headers]
    return Exchange(scope, batch_body(operations, **envelope), is_strict=is_strict)


async def post(app, *operations, headers=(), **envelope):
    """
    Send a batch with further *headers*.
    """
    return await call(app, request(*operations, headers=headers, **envelope))


def prefer(value):
    """
    A ``Prefer`` header.
    """
    return (b"prefer", value)


async def results_of(app, accepted):
    """
    All results of a batch once it is finished.
    """
    await finished(app, accepted)
    answer = await ask(app, f"{accepted.json()['resultsUrl']}?limit=1000")
    return answer.json()["results"]
