"""
What the client's flows ask of whoever drives them: a client that awaits, or one that blocks.

A flow is a generator. It decides, yields one of these, and is sent what came of it. So there is one
client, with two ways to wait.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, TypeVar

from asgi_batch.client._operations import Prepared

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """
    Send a request; a `Reply` or a `Lost` comes back.

    Args:
        method: Of the request.
        below: What follows the path of the batch endpoint.
        headers: Of the request, beside those that the client always sends.
        content: The body.
        patience: Seconds that the answer may take, where that is more than usual.
    """

    method: str = "GET"
    below: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    patience: float = 0.0


class Pause(NamedTuple):
    """
    Wait for so many seconds.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Pull:
    """
    The next operation comes back, or None after the last one.
    """

    index: int


class Give(NamedTuple):
    """
    Hand things out, before anything else is done.
    """

    things: Sequence[Any]


class Reply(NamedTuple):
    """
    The answer to a request.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes


class Lost(NamedTuple):
    """
    There was no answer.

    Args:
        error: Of httpx.
        is_unsent: Whether the server cannot have seen the request.
    """

    error: Exception
    is_unsent: bool


Effect: TypeAlias = Ask | Pause | Pull | Give
Flow: TypeAlias = Generator[Effect, Any, T]
Answer: TypeAlias = Reply | Lost | Prepared | None
