"""
Worker processes: an app under its own lifespan, without a server, that carries out batches.

``python -m asgi_batch.worker module:app`` runs one for a queue that has no command of its own.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final, cast

import anyio
from anyio.abc import TaskStatus

from asgi_batch._dispatch import WORKER
from asgi_batch.errors import ConfigurationError
from asgi_batch.ports import Queue, Run
from asgi_batch.types import ASGIApp, Message, Scope

logger = logging.getLogger("asgi_batch")

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
    async with _serving(app) as offers:
        yield _chosen(offers, queue)[1]


def load(target: str) -> ASGIApp:
    """
    The app that *target* names, as ``module:attribute``.

    Raises:
        ConfigurationError: There is none.
    """
    module, _, attribute = target.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in (attribute or "app").split("."):
            found = getattr(found, name)
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"{target!r} names no app: {error}. Write module:app.") from error
    return cast("ASGIApp", found)


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Carry out the batches of a queue until SIGTERM or SIGINT, then give back what is not finished.
    """
    parser = argparse.ArgumentParser("python -m asgi_batch.worker", description=main.__doc__)
    parser.add_argument("app", help="where the app is: module:attribute")
    target = parser.parse_args(arguments).app
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    sys.path.insert(0, "")
    try:
        anyio.run(_work, load(target))
    except ConfigurationError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


async def _work(app: ASGIApp) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals, _errors_alone():
        await _receive(app, signals)


async def _receive(app: ASGIApp, signals: AsyncIterator[signal.Signals]) -> None:
    async with anyio.create_task_group() as tasks:
        async with _serving(app) as offers:
            queue, run = _chosen(offers, None)
            tasks.start_soon(queue.receive, run)
            logger.info("Batches are carried out.")
            await anext(signals)
            logger.info("What runs comes to its end, or is given back.")
        # Only now: what the app has given back is acknowledged.
        tasks.cancel_scope.cancel()


def _chosen(offers: Sequence[tuple[Queue, Run]], queue: Queue | None) -> tuple[Queue, Run]:
    found = [each for each in offers if queue is None or each[0] is queue]
    if len(found) != 1:
        raise ConfigurationError(_SEVERAL if found else _NONE)
    return found[0]


@asynccontextmanager
async def _serving(app: ASGIApp) -> AsyncIterator[Sequence[tuple[Queue, Run]]]:
    offers: list[tuple[Queue, Run]] = []
    scope: Scope = {
        "type": "lifespan",
        "asgi": {"version": "3.0", "spec_version": "2.0"},
        "state": {},
        WORKER: lambda queue, run: offers.append((queue, run)),
    }
    stop = anyio.Event()
    with _errors_alone():
        async with anyio.create_task_group() as tasks:
            await tasks.start(partial(_live, app, scope, stop))
            try:
                yield offers
            finally:
                stop.set()


@contextmanager
def _errors_alone() -> Iterator[None]:
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


if __name__ == "__main__":
    main()
