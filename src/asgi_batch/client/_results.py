"""
What became of operations, and how it is read from the wire.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from asgi_batch._core.media_types import JSON, PLAIN_JSON, kind_of
from asgi_batch.errors import AnswerUnreadable, OperationFailed

T = TypeVar("T")

_ERROR: Final = 400
_SKIPPED: Final = 424
# Characters of a body that an error shows.
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """
    What one operation was answered.

    Args:
        id: Of the operation.
        index: Which of all operations that were handed over; of a page of results, which of those.
        status: The HTTP status.
        headers: What the batch shows of the answer's headers; names are in lower case.
        content: The body, byte for byte as the app has sent it.
        source: ``"app"``; ``"batch"`` where the server made this in place of the app, and
            ``"client"`` where the client did, because the operation was not sent.
    """

    id: str
    index: int
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    source: str = "app"

    @property
    def is_success(self) -> bool:
        """
        Whether the status is below 400.
        """
        return self.status < _ERROR

    @property
    def is_skipped(self) -> bool:
        """
        Whether the operation never ran, or what it did was undone.
        """
        return self.status == _SKIPPED and self.source != "app"

    @property
    def code(self) -> str:
        """
        The stable name of a reason that is not the app's; empty otherwise.
        """
        return "" if self.source == "app" or not self.content else str(self.json().get("code", ""))

    @property
    def text(self) -> str:
        """
        The body as text.
        """
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        """
        The body, parsed.
        """
        return json.loads(self.content)

    def raise_for_status(self) -> Result:
        """
        Return the result itself, if its status is below 400.

        Raises:
            OperationFailed: It is not.
        """
        if self.is_success:
            return self
        said = self.text if len(self.content) <= _SHOWN else f"{self.text[:_SHOWN]}…"
        raise OperationFailed(f"Operation {self.id}: {self.status} {said}".rstrip(), self)


class WireResult(msgspec.Struct, gc=False):
    """
    A result as the wire contract has it. Bodies stay as they were written.
    """

    id: str
    status: int
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET
    encoding: str = ""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    source: str = "app"

    @property
    def content(self) -> bytes:
        """
        The body, byte for byte as the app has sent it.
        """
        body = self.error if isinstance(self.result, UnsetType) else self.result
        if isinstance(body, UnsetType):
            return b""
        kind = self.headers.get("content-type", "application/json")
        if not self.encoding and kind_of(kind.encode()) in (JSON, PLAIN_JSON):
            return bytes(body)
        text = msgspec.json.decode(body, type=str)
        return b64decode(text) if self.encoding == "base64" else text.encode()

    def at(self, index: int, name: str | None = None) -> Result:
        """
        The same for people; *name* where it is known by another one.
        """
        return Result(
            id=name or self.id,
            index=index,
            status=self.status,
            headers=self.headers,
            content=self.content,
            source=self.source,
        )


class Page(msgspec.Struct):
    """
    The answer to a batch, or a page of results: *next* is where the following one is.
    """

    results: list[WireResult]
    next: str | None = None


decode_page: Final = msgspec.json.Decoder(Page).decode


def read(content: bytes, kind: type[T]) -> T:
    """
    What *content* says, as an answer of a batch endpoint.

    Raises:
        AnswerUnreadable: It is none.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        shown = content[:_SHOWN].decode(errors="replace")
        raise AnswerUnreadable(f"This is no answer of a batch endpoint: {shown}") from error


def made_here(*, name: str, index: int, status: int, code: str, detail: str) -> Result:
    """
    A result for an operation that was not sent.
    """
    content = msgspec.json.encode({"code": code, "detail": detail})
    return Result(id=name, index=index, status=status, content=content, source="client")
