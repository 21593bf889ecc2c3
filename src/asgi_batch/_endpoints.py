"""
The faces of the batch endpoint; one object for each request.

They read the request, let others do the work, and write the answer.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio
import orjson
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from asgi_batch._core.models import Batch
from asgi_batch._core.rules import Rules
from asgi_batch._core.scope import MARKER, ScopeTemplate
from asgi_batch._engine import Engine
from asgi_batch._executor import Execution
from asgi_batch._ledger import Ledger
from asgi_batch._pending import Pending
from asgi_batch._request_body import BodyReader
from asgi_batch.dialects import native
from asgi_batch.errors import (
    BatchRefused,
    MethodNotAllowed,
    NestedBatch,
    Overloaded,
    RequestTimeout,
    TooManyOperations,
)
from asgi_batch.types import Receive, Scope, Send

_ALLOW: Final = (b"allow", b"POST, OPTIONS")
_CHUNK: Final = 64 * 1024

# The answer belongs to one caller at one time, and nobody may take it for anything but JSON
# (RELIABILITY T39, T45).
_COMMON_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    What all requests of one middleware have in common.

    Args:
        engine: What batches run with.
        rules: What batches may contain.
        exposed_headers: Names of the app's headers that results show, for `exposed_headers`.
        forward_scope_keys: Keys of the outer scope that operations get to see.
        aborts_on_disconnect: Whether a batch ends when its client has gone.
    """

    engine: Engine
    rules: Rules
    exposed_headers: Mapping[bytes, bytes]
    forward_scope_keys: tuple[str, ...]
    aborts_on_disconnect: bool


class SubmitEndpoint:
    """
    ``POST /batch``: read, check, run, answer.
    """

    def __init__(self, settings: Settings, scope: Scope, receive: Receive, send: Send) -> None:
        self._settings = settings
        self._engine = settings.engine
        self._scope = scope
        self._receive = receive
        self._send = send
        self._body = BodyReader(scope, receive, self._engine.limits, self._engine.gate)
        self._watch = anyio.CancelScope()
        self._cancellation: BaseException | None = None

    async def __call__(self) -> None:
        """
        Answer the request, whatever it is.
        """
        try:
            with self._engine.gate.counting(self._body):
                if self._scope["method"] == "OPTIONS" and MARKER not in self._scope:
                    await self._respond(204, [_ALLOW], [])
                elif (batch := await self._accept()) is not None:
                    await self._run(batch)
        except BatchRefused as refusal:
            await self._refuse(refusal)

    async def _accept(self) -> Batch | None:
        if MARKER in self._scope:
            raise NestedBatch("An operation cannot be a batch itself.")
        if self._scope["method"] != "POST":
            raise MethodNotAllowed("Send the batch with POST.")
        if self._engine.gate.abandoned >= self._engine.limits.max_abandoned:
            raise Overloaded("Too many operations did not stop when they were late.")
        self._body.check_declaration()
        document = await self._body.read()
        if document is None:
            return None
        batch = native.decode(document, self._settings.rules)
        count, limit = len(batch.operations), self._engine.limits.sync_operations
        if count > limit:
            detail = f"The batch has {count} operations; send at most {limit} in one request."
            raise TooManyOperations(detail, limits={"syncOperations": limit})
        return batch

    async def _run(self, batch: Batch) -> None:
        limits = self._engine.limits
        encode = partial(native.encode_result, self._settings.exposed_headers)
        ledger = Ledger(batch, encode, limits.max_response_bytes)
        batch_id = secrets.token_urlsafe(24)
        pending = Pending(
            batch,
            batch_id=batch_id,
            template=ScopeTemplate(self._scope, self._settings.forward_scope_keys),
            context=copy_context(),
        )
        execution = Execution(
            self._engine, batch, batch_id=batch_id, pending=pending, ledger=ledger
        )
        try:
            with self._engine.gate.counting(ledger):
                async with anyio.create_task_group() as tasks:
                    await self._attend(execution, ledger, tasks)
        except* RuntimeError:
            # What apps leave behind in a task comes up when the task ends. It has been logged.
            if not execution.has_remains:
                raise
        if execution.has_remains:
            await self._obey_cancellation()

    async def _attend(self, execution: Execution, ledger: Ledger, tasks: TaskGroup) -> None:
        execution.start(tasks)
        if self._settings.aborts_on_disconnect:
            tasks.start_soon(self._abort_on_disconnect, execution)
        try:
            await execution.wait()
            if not execution.is_aborted:
                # From here on a client that goes finds nothing to end.
                self._watch.cancel()
                await self._answer(ledger)
        except anyio.get_cancelled_exc_class() as cancellation:
            self._cancellation = cancellation
            raise
        finally:
            if not execution.is_aborted:
                self._watch.cancel()
                execution.close()

    async def _obey_cancellation(self) -> None:
        # A task group raises its tasks' errors in place of a cancellation.
        await checkpoint_if_cancelled()
        if self._cancellation is not None:
            raise self._cancellation

    async def _abort_on_disconnect(self, execution: Execution) -> None:
        with self._watch:
            while (await self._receive())["type"] != "http.disconnect":
                await checkpoint()
            await execution.abort()

    async def _answer(self, ledger: Ledger) -> None:
        parts = native.encode_answer(ledger.results, ledger.summary())
        await self._respond(200, [(b"content-type", b"application/json")], parts)

    async def _refuse(self, refusal: BatchRefused) -> None:
        if self._body.is_pending and not isinstance(refusal, RequestTimeout):
            await self._body.drain_if_short()
        headers = [(b"content-type", b"application/problem+json")]
        if refusal.status == 405:
            headers.append(_ALLOW)
        if refusal.retry_after is not None:
            headers.append((b"retry-after", b"%d" % refusal.retry_after))
        if self._body.is_pending and self._scope["http_version"] in ("1.0", "1.1"):
            headers.append((b"connection", b"close"))
        await self._respond(refusal.status, headers, [orjson.dumps(refusal.as_dict())])

    async def _respond(
        self, status: int, headers: Iterable[tuple[bytes, bytes]], parts: list[bytes]
    ) -> None:
        sized = []
        if parts and not self._body.is_pending:
            # Some servers close the connection as soon as the promised length is sent.
            sized = [(b"content-length", b"%d" % sum(map(len, parts)))]
        start = {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, *sized, *_COMMON_HEADERS],
        }
        # A server raises OSError where the client has gone; it knows and needs no second word.
        with suppress(OSError):
            await self._send(start)
            await self._send_body(_chunks(parts))

    async def _send_body(self, chunks: Iterator[bytes]) -> None:
        last = next(chunks, b"")
        for chunk in chunks:
            await self._send({"type": "http.response.body", "body": last, "more_body": True})
            last = chunk
        if self._body.is_pending:
            # The client may look at the answer only after it has sent its all.
            await self._send({"type": "http.response.body", "body": last, "more_body": True})
            await self._body.drain()
            last = b""
        await self._send({"type": "http.response.body", "body": last, "more_body": False})


def _chunks(parts: list[bytes]) -> Iterator[bytes]:
    chunk: list[bytes] = []
    size = 0
    for part in parts:
        chunk.append(part)
        size += len(part)
        if size >= _CHUNK:
            yield b"".join(chunk)
            chunk, size = [], 0
    if chunk:
        yield b"".join(chunk)
