"""
One operation, one ASGI call, one result: the contract of RELIABILITY §4, here and nowhere else.

A `Subrequest` is both ends of the conversation with the app. It knows nothing of other
operations, of deadlines or of tasks.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Final, TypeAlias

import anyio
import msgspec
from anyio.lowlevel import checkpoint

from asgi_batch._core.headers import exposed_headers
from asgi_batch._core.media_types import ENDLESS, kind_of
from asgi_batch._core.models import Operation, Result
from asgi_batch.errors import Failure, OperationAborted
from asgi_batch.types import Message

Settle: TypeAlias = Callable[[Result], None]

logger = logging.getLogger("asgi_batch")

_WITHOUT_BODY: Final = (204, 304)

# How far an answer is; it only ever goes up. Plain numbers, because they are looked at in every
# message of every operation.
WAITING: Final = 0
STARTED: Final = 1
COMPLETE: Final = 2
ABORTED: Final = 3


class AnswerBounds(msgspec.Struct, frozen=True):
    """
    What is taken of an answer.

    Args:
        exposed: Names of the headers that a result shows, each mapped to itself.
        max_bytes: Size of the body.
        max_messages: Body messages.
    """

    exposed: dict[bytes, bytes]
    max_bytes: int
    max_messages: int


class Subrequest:
    """
    The server's side of one ASGI call.

    Args:
        operation: What is asked of the app.
        settle: Told the result, once, as soon as it is known.
        bounds: What is taken of the app's answer.
    """

    __slots__ = (
        "_body",
        "_bounds",
        "_drops_body",
        "_ended",
        "_headers",
        "_is_read",
        "_messages",
        "_settle",
        "_status",
        "operation",
        "phase",
    )

    def __init__(self, operation: Operation, settle: Settle, bounds: AnswerBounds) -> None:
        self.operation = operation
        self.phase: int = WAITING
        self._settle = settle
        self._bounds = bounds
        self._is_read = False
        self._ended: anyio.Event | None = None
        self._body: bytes | bytearray = b""
        self._messages = 0

    async def receive(self) -> Message:
        """
        The whole body at first; then ``http.disconnect``, but not before the answer is complete.

        An early disconnect makes frameworks cut their answer short, and an empty message makes
        them spin.
        """
        if not self._is_read:
            self._is_read = True
            if self.phase < COMPLETE:
                body = bytes(self.operation.body)
                return {"type": "http.request", "body": body, "more_body": False}
        if self.phase < COMPLETE:
            if self._ended is None:
                self._ended = anyio.Event()
            await self._ended.wait()
        else:
            await checkpoint()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """
        Take the app's next message.

        It gives way to other tasks on every message but the first and the last, so that no app
        can keep the event loop to itself by sending.

        Raises:
            OperationAborted: Nobody waits for this answer any more.
        """
        try:
            kind = message["type"]
            if kind == "http.response.body" and self.phase == STARTED:
                if not self._take_body(message):
                    return
            elif kind == "http.response.start" and self.phase == WAITING:
                self._take_start(message)
                return
            else:
                self._take_stray(kind)
        except OperationAborted:
            await checkpoint()
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            aborted = self._break_off(error)
            await checkpoint()
            raise aborted from error
        await checkpoint()

    def abort(self) -> None:
        """
        Stop listening: ``receive()`` gives a disconnect, ``send()`` raises `OperationAborted`.
        """
        if self.phase < COMPLETE:
            self._end(ABORTED)

    def finish(self) -> None:
        """
        Settle what an app leaves that has returned without a complete answer.
        """
        if self.phase == WAITING:
            self._fail(Failure.APP_NO_RESPONSE)
        elif self.phase == STARTED:
            self._fail(Failure.APP_INCOMPLETE_RESPONSE)

    def crash(self, error_id: str) -> None:
        """
        Settle what an app leaves that has raised an exception.
        """
        if self.phase == WAITING:
            self._fail(Failure.APP_EXCEPTION, error_id)
        elif self.phase == STARTED:
            self._fail(Failure.APP_INCOMPLETE_RESPONSE, error_id)

    def _take_start(self, message: Message) -> None:
        status = message["status"]
        if not (isinstance(status, int) and 100 <= status <= 599):
            raise ValueError("status must be an int from 100 to 599")
        self._status: int = status
        self._drops_body = (
            status in _WITHOUT_BODY or status < 200 or self.operation.method == "HEAD"
        )
        self._headers = exposed_headers(message.get("headers", ()), self._bounds.exposed)
        if kind_of(self._headers.get(b"content-type", b"")) == ENDLESS:
            raise self._fail(Failure.STREAMING_NOT_SUPPORTED)
        self.phase = STARTED

    def _take_body(self, message: Message) -> bool:
        body = message.get("body", b"")
        if not isinstance(body, bytes):
            if not isinstance(body, (bytearray, memoryview)):
                raise TypeError("body must be bytes")
            body = bytes(body)
        if self._drops_body:
            body = b""
        if len(body) + len(self._body) > self._bounds.max_bytes:
            raise self._fail(Failure.RESPONSE_TOO_LARGE)
        if message.get("more_body", False):
            self._collect(body)
            return True
        result = Result(
            self.operation,
            self._status,
            self._headers,
            bytes(self._body + body) if self._body else body,
        )
        self._end(COMPLETE)
        self._settle(result)
        return False

    def _collect(self, body: bytes) -> None:
        self._messages += 1
        if self._messages >= self._bounds.max_messages:
            raise self._fail(Failure.RESPONSE_TOO_LARGE)
        if not self._body:
            self._body = bytearray()
        self._body += body

    def _take_stray(self, kind: object) -> None:
        if self.phase == ABORTED:
            raise OperationAborted("The batch no longer waits for this operation.")
        if self.phase == COMPLETE or (kind == "http.response.debug" and self.phase == WAITING):
            return
        raise ValueError(f"message out of order or of unknown type: {kind!r:.100}")

    def _break_off(self, error: Exception) -> OperationAborted:
        error_id = secrets.token_hex(6)
        message = "Operation %d: the app broke the ASGI protocol (error id %s): %s"
        logger.error(message, self.operation.index, error_id, error)
        return self._fail(Failure.APP_PROTOCOL_ERROR, error_id)

    def _fail(self, failure: Failure, error_id: str | None = None) -> OperationAborted:
        self._end(ABORTED)
        self._settle(Result.failed(self.operation, failure, error_id))
        return OperationAborted(failure.detail)

    def _end(self, phase: int) -> None:
        self.phase = phase
        self._body = b""
        if self._ended is not None:
            self._ended.set()
