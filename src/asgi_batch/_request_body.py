"""
The body of a batch request: what it must declare, how large it may be, how long it may take.

Everything is counted while it arrives, so that what a client declares is never relied on; the
bytes themselves are not looked at (RELIABILITY T19 to T21, T26, T32).
"""

from __future__ import annotations

from typing import Final

import anyio

from asgi_batch._gate import Gate
from asgi_batch.errors import (
    Overloaded,
    PayloadTooLarge,
    RequestTimeout,
    UnsupportedContentEncoding,
    UnsupportedMediaType,
)
from asgi_batch.limits import Limits
from asgi_batch.types import Receive, Scope

# Seconds for which the rest of a refused body is read and dropped, so that a client that is still
# sending gets to see the answer instead of a connection reset.
_DRAIN_SECONDS: Final = 5.0

# Bytes of a body that is rather read than its connection closed, and seconds that it may take.
_SHORT: Final = 64 * 1024
_SHORT_SECONDS: Final = 1.0

# A request without any of them has no body; in HTTP/2 one may have no length, but then a type.
_BODY_SIGNS: Final = (b"content-length", b"transfer-encoding", b"content-type")


class BodyReader:
    """
    Reads one request's body.

    Args:
        scope: Of the request.
        receive: Of the request; nobody else may call it before the body is read.
        limits: Bounds in time and size.
        gate: Knows what the process holds already.
    """

    def __init__(self, scope: Scope, receive: Receive, limits: Limits, gate: Gate) -> None:
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._receive = receive
        self._limits = limits
        self._gate = gate
        self.size = 0
        self.is_complete = False

    @property
    def is_pending(self) -> bool:
        """
        Whether the client may be sending still.
        """
        return not self.is_complete and any(
            name.lower() in _BODY_SIGNS and value != b"0" for name, value in self._headers
        )

    def check_declaration(self) -> None:
        """
        Check what the headers say of the body.

        Raises:
            UnsupportedContentEncoding: It is compressed.
            UnsupportedMediaType: It is not JSON in UTF-8.
            PayloadTooLarge: It is declared to be too large.
        """
        encodings = self._header(b"content-encoding")
        if any(encoding.strip().lower() != b"identity" for encoding in encodings):
            raise UnsupportedContentEncoding("Send the body as it is, without Content-Encoding.")
        media_types = self._header(b"content-type")
        if len(media_types) != 1 or not _is_json(media_types[0]):
            raise UnsupportedMediaType("Send the batch as application/json, in UTF-8.")
        for length in self._header(b"content-length"):
            if length.isdigit() and int(length[:20]) > self._limits.max_body_bytes:
                raise self._too_large()

    async def read(self) -> bytes | None:
        """
        The whole body; None where the client has gone before its end.

        Raises:
            PayloadTooLarge: It is larger than ``max_body_bytes``.
            RequestTimeout: It took longer than ``body_timeout``.
            Overloaded: The process holds ``max_held_bytes`` already.
        """
        chunks: list[bytes] = []
        try:
            with anyio.fail_after(self._limits.body_timeout):
                while not self.is_complete:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        return None
                    chunk = message.get("body", b"")
                    self.is_complete = not message.get("more_body", False)
                    self._hold(len(chunk))
                    chunks.append(chunk)
        except TimeoutError:
            detail = f"The body did not arrive within {self._limits.body_timeout:g} seconds."
            raise RequestTimeout(detail) from None
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def drain(self) -> None:
        """
        Read and drop what the client is still sending, within bounds.
        """
        await self._drop(2 * self._limits.max_body_bytes, _DRAIN_SECONDS)

    async def drain_if_short(self) -> None:
        """
        Read and drop a body that is declared to be short, so that its connection can be kept.
        """
        lengths = self._header(b"content-length")
        if lengths and lengths[0].isdigit() and int(lengths[0][:20]) <= _SHORT:
            await self._drop(_SHORT, _SHORT_SECONDS)

    async def _drop(self, left: int, seconds: float) -> None:
        if self._header(b"expect"):
            return
        with anyio.move_on_after(seconds):
            while not self.is_complete and left > 0:
                message = await self._receive()
                left -= len(message.get("body", b""))
                self.is_complete = not message.get("more_body", False)

    def _hold(self, size: int) -> None:
        self.size += size
        if self.size > self._limits.max_body_bytes:
            raise self._too_large()
        if self._gate.held_bytes > self._limits.max_held_bytes:
            raise Overloaded("The server holds too many batches in memory; try again later.")

    def _too_large(self) -> PayloadTooLarge:
        limit = self._limits.max_body_bytes
        detail = f"The body is larger than {limit} bytes; send fewer operations in one request."
        return PayloadTooLarge(detail, limits={"maxBodyBytes": limit})

    def _header(self, name: bytes) -> list[bytes]:
        return [value for key, value in self._headers if key.lower() == name]


def _is_json(content_type: bytes) -> bool:
    media_type, *parameters = (part.strip().lower() for part in content_type.split(b";"))
    charsets = [
        value.strip(b'"')
        for name, _, value in (parameter.partition(b"=") for parameter in parameters)
        if name == b"charset"
    ]
    is_json = media_type == b"application/json" or (
        media_type.startswith(b"application/") and media_type.endswith(b"+json")
    )
    return is_json and all(charset in (b"utf-8", b"utf8") for charset in charsets)
