"""
The server's side of ASGI, in process: what a request costs where no network takes part.
"""

from collections.abc import Sequence
from typing import TypeAlias

import anyio

from asgi_batch.types import ASGIApp, Message, Receive, Scope, Send
from benchmarks.apps import wrapped

#: A scope and the body that goes with it.
Prepared: TypeAlias = tuple[Scope, bytes]

# The pieces in which uvicorn hands a body on.
_CHUNK = 64 * 1024

_HEADERS = [
    (b"host", b"api.example.org"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"user-agent", b"benchmark/1.0"),
    (b"authorization", b"Bearer 8f14e45fceea167a5a36dedd4bea2543"),
    (b"content-type", b"application/json"),
]


class DirectCall:
    """
    `receive` and `send` for one small request, with as little as that takes.
    """

    __slots__ = ("body", "chunks", "headers", "status")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.chunks: list[bytes] = []

    async def receive(self) -> Message:
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = message["headers"]
        else:
            self.chunks.append(message.get("body", b""))


class BatchCall:
    """
    `receive` and `send` for one batch request: the body in pieces, and a client that stays.
    """

    def __init__(self, document: bytes) -> None:
        starts = range(0, len(document), _CHUNK)
        self.messages = [
            {
                "type": "http.request",
                "body": document[start : start + _CHUNK],
                "more_body": start != starts[-1],
            }
            for start in starts
        ]
        self.messages.reverse()
        self.chunks: list[bytes] = []
        self.status = 0

    async def receive(self) -> Message:
        if not self.messages:
            await anyio.sleep_forever()
        return self.messages.pop()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.chunks.append(message["body"])


def batch_scope(document: bytes) -> Scope:
    """
    The scope of a batch request that carries *document*.
    """
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/batch",
        "raw_path": b"/batch",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [*_HEADERS, (b"content-length", b"%d" % len(document))],
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "state": {},
    }


async def call_directly(app: ASGIApp, prepared: Sequence[Prepared]) -> list[bytes]:
    """
    Call *app* for one request after the other: the bodies of the answers.
    """
    answers = []
    for scope, body in prepared:
        call = DirectCall(body)
        await app(scope, call.receive, call.send)
        answers.append(b"".join(call.chunks))
    return answers


async def call_batch(app: ASGIApp, document: bytes) -> bytes:
    """
    Send *document* through *app* as a batch request: the body of the answer.
    """
    call = BatchCall(document)
    await app(batch_scope(document), call.receive, call.send)
    return b"".join(call.chunks)


async def scopes_of(document: bytes) -> list[Scope]:
    """
    The scopes that the operations of *document* get, but for the mark of the batch.

    A direct call with such a scope asks the app for the very same thing as the operation.
    """
    seen: dict[int, Scope] = {}

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        seen[scope.pop("asgi_batch").index] = scope
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    await call_batch(wrapped(note), document)
    return [seen[index] for index in sorted(seen)]


def copied(scope: Scope) -> Scope:
    """
    A scope of its own that says the same as *scope*.
    """
    containers = {
        key: value.copy() for key, value in scope.items() if isinstance(value, (dict, list))
    }
    return {**scope, **containers}
