"""
One operation, one ASGI call, one result: the contract of RELIABILITY §4, here and nowhere else.

A `Subrequest` is both ends of the conversation with the app. It knows nothing of other
operations, of deadlines or of tasks.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import anyio
import msgspec
from anyio.lowlevel import checkpoint

from asgi_batch._core.failures import Failure
from asgi_batch._core.media_types import is_endless
from asgi_batch._core.models import HeaderPair, Operation, Result
from asgi_batch.errors import OperationAborted
from asgi_batch.types import Message

Settle: TypeAlias = Callable[[Result], None]

logger = logging.getLogger("asgi_batch")

# First letters of the types of endless streams, so that most headers need no second look.
_MAYBE_ENDLESS: Final = frozenset((b"t", b"T", b"m", b"M", b" "))
# RFC 9110 section 6.4.1.
_WITHOUT_BODY: Final = frozenset((*range(100, 200), 204, 304))

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
        small_bytes: Size of a body up to which its result counts as small.
        max_bytes: Size of the body, at least *small_bytes*.
        max_messages: Body messages.
    """

    small_bytes: int
    max_bytes: int
    max_messages: int


class Subrequest:
    """
    The server's side of one ASGI call.

    Args:
        operation: What is asked of the app.
        settle: Told the result, once, as soon as it is known; may be replaced until then.
        settle_large: Told instead of *settle* where the result is not small.
        bounds: What is taken of the app's answer.
    """

    __slots__ = (
        "_body",
        "_bounds",
        "_ended",
        "_headers",
        "_is_read",
        "_messages",
        "_status",
        "operation",
        "phase",
        "settle",
        "settle_large",
    )

    def __init__(
        self, operation: Operation, settle: Settle, settle_large: Settle, bounds: AnswerBounds
    ) -> None:
        self.operation = operation
        self.phase: int = WAITING
        self.settle = settle
        self.settle_large = settle_large
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
        Take the app's next message; gives way to other tasks on all but the first and the last.

        Raises:
            OperationAborted: Nobody waits for this answer any more.
        """
        try:
            kind, phase = message["type"], self.phase
            if phase == STARTED and kind == "http.response.body":
                body = message.get("body", b"")
                status = self._status
                if status in _WITHOUT_BODY or self.operation.method == "HEAD":
                    body = b""
                if type(body) is not bytes or message.get("more_body", False) or self._body:
                    if self._collect(body, message):
                        return
                elif len(body) > self._bounds.small_bytes:
                    self._complete(body)
                    return
                else:
                    self.phase = COMPLETE
                    if self._ended is not None:
                        self._ended.set()
                    self.settle(Result(self.operation, status, self._headers, body))
                    return
            elif phase == WAITING and kind == "http.response.start":
                self._take_start(message["status"], message.get("headers", ()))
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
        is_begun = self.phase == STARTED
        self._fail(Failure.APP_INCOMPLETE_RESPONSE if is_begun else Failure.APP_NO_RESPONSE)

    def crash(self, error_id: str) -> None:
        """
        Settle what an app leaves that has raised an exception.
        """
        if self.phase == WAITING:
            self._fail(Failure.APP_EXCEPTION, error_id)
        elif self.phase == STARTED:
            self._fail(Failure.APP_INCOMPLETE_RESPONSE, error_id)

    def _take_start(self, status: object, headers: Iterable[HeaderPair]) -> None:
        if not (isinstance(status, int) and 100 <= status <= 599):
            raise ValueError("status must be an int from 100 to 599")
        self._status = status
        self._headers = headers = list(headers)
        for name, value in headers:
            if not (isinstance(name, bytes) and isinstance(value, bytes)):
                raise TypeError("header names and values must be bytes")
            if value[:1] in _MAYBE_ENDLESS and is_endless(name, value):
                raise self._fail(Failure.STREAMING_NOT_SUPPORTED)
        if headers and type(headers[0]) is not tuple:
            # The app could change lists later.
            self._headers = [(name, value) for name, value in headers]
        self.phase = STARTED

    def _collect(self, body: object, message: Message) -> bool:
        """
        Take a part of a body; true where it was the last.
        """
        if not isinstance(body, (bytes, bytearray, memoryview)):
            raise TypeError("body must be bytes")
        if not self._body:
            self._body = bytearray()
        self._body += bytes(body)
        if not message.get("more_body", False):
            self._complete(bytes(self._body))
            return True
        self._messages += 1
        are_too_many = self._messages >= self._bounds.max_messages
        if are_too_many or len(self._body) > self._bounds.max_bytes:
            raise self._fail(Failure.RESPONSE_TOO_LARGE)
        return False

    def _complete(self, body: bytes) -> None:
        if len(body) > self._bounds.max_bytes:
            raise self._fail(Failure.RESPONSE_TOO_LARGE)
        self._end(COMPLETE)
        self.settle_large(Result(self.operation, self._status, self._headers, body))

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
        self.settle(Result.failed(self.operation, failure, error_id))
        return OperationAborted(failure.detail)

    def _end(self, phase: int) -> None:
        self.phase = phase
        self._body = b""
        if self._ended is not None:
            self._ended.set()
