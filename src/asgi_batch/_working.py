"""
An app under its own lifespan, without a server, that is ready to carry out messages.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Final

import anyio
from anyio.abc import TaskStatus

from asgi_batch._dispatch import WORKER
from asgi_batch.errors import ConfigurationError
from asgi_batch.ports import Queue, Run
from asgi_batch.types import ASGIApp, Message, Scope

_NONE: Final = "Nothing in this app carries out messages: write BatchMiddleware(…, queue=…)."
_SEVERAL: Final = "There are several queues in this app: write working(app, queue)."


@asynccontextmanager
async def working(app: ASGIApp, queue: Queue | None = None) -> AsyncIterator[Run]:
    """
    Have *app* ready to carry out messages for as long as the context lasts.

    Its lifespan is run once, as a server would (ASGI lifespan specification). When the context is
    left, what runs gets `Limits.drain_timeout` for its end, and is given back otherwise; calls that
    are waiting return.

    Args:
        app: An app with a `BatchMiddleware` in it that has a queue.
        queue: Which one, where there are several.

    Yields:
        What carries out a message, given its batch id and its chunk.

    Raises:
        ConfigurationError: There is no such queue, or the app did not start.
    """
    async with serving(app) as offers:
        yield chosen(offers, queue)[1]


def chosen(offers: Sequence[tuple[Queue, Run]], queue: Queue | None) -> tuple[Queue, Run]:
    """
    The offer for *queue*, or the only one.

    Raises:
        ConfigurationError: There is none, or there are several.
    """
    found = [each for each in offers if queue is None or each[0] is queue]
    if len(found) != 1:
        raise ConfigurationError(_SEVERAL if found else _NONE)
    return found[0]


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[Sequence[tuple[Queue, Run]]]:
    """
    Have *app* live, as a server would; each queue in it comes with what carries out its messages.
    """
    offers: list[tuple[Queue, Run]] = []
    scope: Scope = {
        "type": "lifespan",
        "asgi": {"version": "3.0", "spec_version": "2.0"},
        "state": {},
        WORKER: lambda queue, run: offers.append((queue, run)),
    }
    stop = anyio.Event()
    with errors_alone():
        async with anyio.create_task_group() as tasks:
            await tasks.start(partial(_live, app, scope, stop))
            try:
                yield offers
            finally:
                stop.set()


@contextmanager
def errors_alone() -> Iterator[None]:
    """
    Raise the first of several errors, without what has gathered them.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group


async def _live(
    app: ASGIApp, scope: Scope, stop: anyio.Event, *, task_status: TaskStatus[None]
) -> None:
    has_begun = False

    async def receive() -> Message:
        nonlocal has_begun
        if has_begun:
            await stop.wait()
            return {"type": "lifespan.shutdown"}
        has_begun = True
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            task_status.started()
        elif message["type"].endswith(".failed"):
            raise ConfigurationError(f"The app has failed: {message.get('message', '')}")

    # Whoever runs the worker may end it at any time; the app comes to its own end nevertheless.
    with anyio.CancelScope(shield=True):
        await app(scope, receive, send)
