"""
Runs the background around the app's own lifespan, or by itself where the app has none.

The store opens before the app starts up, batches run between its startup and its shutdown, and
the store closes last. Nothing of the app's own conversation with the server is changed.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import Final

from asgi_batch._background import Background
from asgi_batch.errors import AsgiBatchError
from asgi_batch.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("asgi_batch")

_STARTED: Final = "lifespan.startup.complete"
_FAILED: Final = "lifespan.startup.failed"
_STOPPED: Final = "lifespan.shutdown.complete"


class Lifespan:
    """
    One lifespan of a server's worker.

    Args:
        app: The wrapped app.
        background: What is to run.
        scope: Of the lifespan.
        receive: Of the lifespan.
        send: Of the lifespan.
    """

    def __init__(
        self, app: ASGIApp, background: Background, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._app = app
        self._background = background
        self._scope = scope
        self._server_receive = receive
        self._server_send = send
        self._startup: Message | None = None
        self._said: str | None = None

    async def __call__(self) -> None:
        """
        Hold the conversation of the lifespan to its end.
        """
        self._startup = await self._server_receive()
        failure: Exception | None = None
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._background.opened())
            except AsgiBatchError as error:
                await self._server_send({"type": _FAILED, "message": f"asgi_batch: {error}"})
                return
            try:
                await self._app(self._scope, self._receive, self._send)
            except Exception as error:
                failure = error
            if self._said is None:
                logger.debug("The app takes no part in lifespan: %r", failure)
                failure = None
                await self._run_alone()
        # Outside of the background's tasks, so that the server gets it as the app has raised it.
        if failure is not None:
            raise failure

    async def _run_alone(self) -> None:
        # An app that raises, or returns, before it has said a word takes no part in lifespan.
        await self._send({"type": _STARTED})
        if self._startup is not None:
            await self._receive()
        await self._receive()
        await self._send({"type": _STOPPED})

    async def _receive(self) -> Message:
        if self._startup is not None:
            message, self._startup = self._startup, None
            return message
        # There is nothing to receive after the startup but the shutdown.
        message = await self._server_receive()
        await self._background.stop()
        return message

    async def _send(self, message: Message) -> None:
        self._said = message["type"]
        if self._said == _STARTED:
            self._background.start(self._scope)
        await self._server_send(message)
