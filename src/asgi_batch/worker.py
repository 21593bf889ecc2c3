"""
Worker processes, which carry out batches without being servers.

``python -m asgi_batch.worker module:app`` runs one for a queue that has no command of its own.
Nothing in the library imports this module, since Python warns of a command that is there already.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import anyio

from asgi_batch._working import chosen, errors_alone, serving, working
from asgi_batch.errors import ConfigurationError
from asgi_batch.types import ASGIApp

__all__ = ["load", "main", "working"]

logger = logging.getLogger("asgi_batch")


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
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals, errors_alone():
        await _receive(app, signals)


async def _receive(app: ASGIApp, signals: AsyncIterator[signal.Signals]) -> None:
    async with anyio.create_task_group() as tasks:
        async with serving(app) as offers:
            queue, run = chosen(offers, None)
            tasks.start_soon(queue.receive, run)
            logger.info("Batches are carried out.")
            await anext(signals)
            logger.info("What runs comes to its end, or is given back.")
        # Only now: what the app has given back is acknowledged.
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    main()
