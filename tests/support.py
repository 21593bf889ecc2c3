"""
A small caller of ASGI apps in this process, which is all the server that these tests need.

It speaks for a server and for the client behind it: it hands over a body, collects the answer,
and says when the client has gone. It knows batches, but none of the library's own code.
"""

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import anyio.lowlevel

Scope = dict[str, Any]
Message = dict[str, Any]

# Seconds after which a test that waits for something is given up, so that it fails and does not
# hang; no test is meant to come near it.
PATIENCE = 30.0


class Exchange:
    """
    One request and its answer, as a server sees them.

    Args:
        scope: Of the request.
        body: Sent as it is; in several messages where it is a list.
        is_strict: Whether ``send()`` raises OSError once the client has gone, as a server of
            spec_version 2.4 does; others drop what they are given.
    """

    def __init__(
        self, scope: Scope, body: bytes | list[bytes] = b"", *, is_strict: bool = False
    ) -> None:
        self.scope = scope
        self.sent: list[Message] = []
        self.sends = 0
        self.answered = anyio.Event()
        self.returned = anyio.Event()
        self._chunks = list(body) if isinstance(body, list) else [body]
        self._is_strict = is_strict
        self._over = anyio.Event()
        self._is_gone = False

    def disconnect(self) -> None:
        """
        The client hangs up.
        """
        self._is_gone = True
        self._over.set()

    async def receive(self) -> Message:
        """
        The body, then nothing until the answer is complete or the client has gone.
        """
        if self._chunks:
            chunk = self._chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(self._chunks)}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """
        Keep *message*.
        """
        self.sends += 1
        await anyio.lowlevel.checkpoint()
        if self._is_gone:
            if self._is_strict:
                raise OSError("The client has gone.")
            return
        self.sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.answered.set()
            self._over.set()

    @property
    def status(self) -> int:
        """
        The answer's status.
        """
        return self.sent[0]["status"]

    @property
    def headers(self) -> dict[str, str]:
        """
        The answer's headers; of repeated ones the last.
        """
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        """
        The answer's body, whole.
        """
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    def json(self) -> Any:
        """
        The body, parsed.
        """
        return json.loads(self.body)

    @property
    def results(self) -> list[dict[str, Any]]:
        """
        The results of a batch.
        """
        return self.json()["results"]

    @property
    def statuses(self) -> list[int]:
        """
        The status of each result of a batch.
        """
        return [result["status"] for result in self.results]

    @property
    def bodies(self) -> list[Any]:
        """
        What each operation of a batch was answered; the code where the library answered.
        """
        return [_body_of(result) for result in self.results]


def _body_of(result: dict[str, Any]) -> Any:
    if result.get("source") == "batch":
        return result["error"]["code"]
    return result.get("result", result.get("error"))


def http_scope(method: str = "GET", path: str = "/", /, **members: Any) -> Scope:
    """
    A scope as a server makes it; *members* replace or add.
    """
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("testserver", 80),
        "client": ("192.0.2.7", 50_000),
        "headers": [],
        "state": {},
        "extensions": {},
        **members,
    }


def batch_scope(**members: Any) -> Scope:
    """
    The scope of a batch request; *members* replace or add.
    """
    headers = [(b"host", b"testserver"), (b"content-type", b"application/json")]
    return http_scope("POST", "/batch", **{"headers": headers, **members})


def batch_body(operations: Iterable[str | dict[str, Any]], **envelope: Any) -> bytes:
    """
    The body of a batch request; an operation may be written as ``"GET /path"``.
    """
    return json.dumps(
        {"operations": [_operation(each) for each in operations], **envelope}
    ).encode()


def _operation(written: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(written, dict):
        return written
    method, path = written.split(" ")
    return {"method": method, "path": path}


async def call(app: Any, exchange: Exchange) -> Exchange:
    """
    Call *app* and wait until it has returned.
    """
    with anyio.fail_after(PATIENCE):
        try:
            await app(exchange.scope, exchange.receive, exchange.send)
        finally:
            exchange.returned.set()
    return exchange


async def submit(
    app: Any, *operations: str | dict[str, Any], scope: Scope | None = None, **envelope: Any
) -> Exchange:
    """
    Send one batch through *app* and wait until it has returned.
    """
    exchange = Exchange(scope or batch_scope(), batch_body(operations, **envelope))
    return await call(app, exchange)


@asynccontextmanager
async def submitted(
    app: Any, *operations: str | dict[str, Any], scope: Scope | None = None, **envelope: Any
) -> AsyncIterator[Exchange]:
    """
    Send one batch through *app* and go on while it works; wait for its return at the end.
    """
    exchange = Exchange(scope or batch_scope(), batch_body(operations, **envelope))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, app, exchange)
        with anyio.fail_after(PATIENCE):
            yield exchange


async def respond(
    send: Any, body: bytes = b"", *, status: int = 200, content_type: bytes = b"text/plain"
) -> None:
    """
    Answer in two messages, as most apps do.
    """
    headers = [(b"content-type", content_type)] if body else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Meter:
    """
    Counts how many are inside of it at a time.
    """

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.total = 0

    def __enter__(self) -> None:
        self.now += 1
        self.total += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        self.now -= 1


async def settled() -> None:
    """
    Let every task that can go on do so, a few times over.
    """
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def until(predicate: Callable[[], object]) -> None:
    """
    Wait for something that sets no event.
    """
    with anyio.fail_after(PATIENCE / 3):
        while not predicate():  # noqa: ASYNC110
            await anyio.sleep(0.005)


@contextmanager
def releasing(*events: Any) -> Iterator[None]:
    """
    Set *events* at the end, also of a test that fails, so that what waits for them can end.
    """
    try:
        yield
    finally:
        for event in events:
            event.set()
