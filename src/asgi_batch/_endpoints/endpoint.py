"""
What all faces of the batch endpoint have in common: how they answer and how they refuse.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from time import monotonic
from typing import Final

import anyio
import orjson
from anyio.lowlevel import checkpoint

from asgi_batch._background import Background
from asgi_batch._core.origins import is_foreign
from asgi_batch._core.records import Entry
from asgi_batch._core.rules import Rules
from asgi_batch._core.scope import MARKER, path_prefix
from asgi_batch._engine import Engine
from asgi_batch._ledger import Encode
from asgi_batch._rate import Limiter
from asgi_batch._request_body import BodyReader
from asgi_batch.console import Pages
from asgi_batch.errors import (
    BatchRefused,
    CrossSiteRequest,
    MethodNotAllowed,
    NestedBatch,
    Overloaded,
    OwnerUnknown,
    RequestTimeout,
)
from asgi_batch.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger("asgi_batch")

_CHUNK: Final = 64 * 1024

# The answer belongs to one caller at one time, nobody may take it for anything but JSON, and its
# URL, which may be all it takes to see it, goes nowhere (RELIABILITY T37, T39, T45).
_COMMON_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)

# Methods that change something (RFC 9110 section 9.2.1).
_UNSAFE: Final = frozenset(("POST", "DELETE"))

JSON: Final = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    What all requests of one middleware have in common.

    Args:
        app: Whatever is not about batches goes to it.
        engine: What batches run with.
        rules: What batches may contain.
        encode: Writes a result.
        background: Carries out batches that outlive their request.
        forward_scope_keys: Keys of the outer scope that operations get to see.
        allowed_origins: Whose pages may have browsers send requests that change something.
        owner: Tells whose a request is; None where batches have no owners.
        limiter: Counts the operations of each caller; None where nothing does.
        keeps_credentials: Whether a batch may be kept whose request has credentials.
        aborts_on_disconnect: Whether a batch ends when its client has gone.
        pages: What browsers are shown; None where there is no page.
    """

    app: ASGIApp
    engine: Engine
    rules: Rules
    encode: Encode
    background: Background
    forward_scope_keys: tuple[str, ...]
    allowed_origins: frozenset[str]
    owner: Callable[[Scope], str | None] | None
    limiter: Limiter | None
    keeps_credentials: bool
    aborts_on_disconnect: bool
    pages: Pages | None


class Endpoint(ABC):
    """
    One request to the batch endpoint or below it.

    Args:
        settings: What all requests have in common.
        scope: Of the request.
        receive: Of the request.
        send: Of the request.
    """

    methods: tuple[str, ...] = ()
    #: Whether a browser that asks for HTML gets a page at the same path.
    has_page: bool = False
    #: Operations of the batch in the request, once they have been found to be sound.
    operations: int | None = None

    def __init__(self, settings: Settings, scope: Scope, receive: Receive, send: Send) -> None:
        self._settings = settings
        self._engine = settings.engine
        self._scope = scope
        self._receive = receive
        self._send = send
        self._started_at = monotonic()
        self._result_bytes = 0
        self._fields: Sequence[tuple[bytes, bytes]] = ()
        self._common_headers = _COMMON_HEADERS
        self._body = BodyReader(scope, receive, self._engine.limits, self._engine.gate)

    async def __call__(self) -> None:
        """
        Answer the request, whatever it is.
        """
        method = self._scope["method"]
        try:
            with self._engine.gate.counting(self):
                if MARKER in self._scope:
                    raise NestedBatch("An operation cannot be a batch itself.")
                if method == "OPTIONS":
                    await self._describe()
                elif method in self.methods:
                    self._check_origin(method)
                    await self._answer()
                else:
                    raise MethodNotAllowed(f"Use {' or '.join(self.methods)} here.")
        except BatchRefused as refusal:
            await self._refuse(refusal)

    def _check_origin(self, method: str) -> None:
        allowed = self._settings.allowed_origins
        if method in _UNSAFE and is_foreign(self._scope["headers"], allowed):
            raise CrossSiteRequest("This origin may not send batches, nor cancel them.")

    async def _describe(self) -> None:
        await self._respond(204, [self._allow], [])

    @property
    def size(self) -> int:
        """
        Bytes that the request has in memory: its body, and results that are being sent.
        """
        return self._body.size + self._result_bytes

    def _hold(self, entries: Iterable[Entry]) -> None:
        """
        Count results that a store has handed out, and will be sent.

        Raises:
            Overloaded: The process holds too much already.
        """
        self._result_bytes += sum(len(entry.result) for entry in entries)
        if self._engine.gate.held_bytes > self._engine.limits.max_held_bytes:
            raise Overloaded("This process holds as many bytes for batches as it may.")

    @abstractmethod
    async def _answer(self) -> None: ...

    @cached_property
    def _owner(self) -> str:
        """
        Whose request this is, as a digest; empty where it is nobody's.

        Raises:
            OwnerUnknown: The app's function has failed.
        """
        if self._settings.owner is None:
            return ""
        try:
            principal = self._settings.owner(self._scope)
            return "" if principal is None else sha256(principal.encode()).hexdigest()[:32]
        except Exception:
            logger.exception("owner has failed; nobody gets to see a batch.")
            raise OwnerUnknown("It cannot be told whose request this is.") from None

    @property
    def _rules(self) -> Rules:
        """
        What a batch may contain that comes in with this request.
        """
        rules, root = self._settings.rules, self._scope.get("root_path", "")
        # An app's own root path stands in for that of the scope.
        if rules.routes is None or rules.root_path or not root or path_prefix(self._scope):
            return rules
        return replace(rules, root_path=root)

    @property
    def _base(self) -> str:
        """
        Path of the batch endpoint, as clients know it.
        """
        root: str = self._scope.get("root_path", "")
        return root + self._settings.rules.batch_path

    @property
    def _allow(self) -> tuple[bytes, bytes]:
        return b"allow", ", ".join((*self.methods, "OPTIONS")).encode()

    async def _refuse(self, refusal: BatchRefused) -> None:
        if self._body.is_pending and not isinstance(refusal, RequestTimeout):
            await self._body.drain_if_short()
        headers = [(b"content-type", b"application/problem+json"), *refusal.fields]
        if refusal.status == 405:
            headers.append(self._allow)
        if refusal.retry_after is not None:
            headers.append((b"retry-after", b"%d" % refusal.retry_after))
        if self._body.is_pending and self._scope["http_version"] in ("1.0", "1.1"):
            headers.append((b"connection", b"close"))
        await self._respond(refusal.status, headers, [orjson.dumps(refusal.as_dict())])

    def _header(self, name: bytes) -> bytes:
        return b",".join(value for key, value in self._scope["headers"] if key.lower() == name)

    def _is_known(self, tag: bytes) -> bool:
        """
        Whether the client has what *tag* stands for.
        """
        known = self._header(b"if-none-match").split(b",")
        return tag in [each.strip().removeprefix(b"W/") for each in known]

    async def _cancel_on_disconnect(self, waiting: anyio.CancelScope) -> None:
        """
        Let the client's going end *waiting*; the body must have been read.
        """
        while (await self._receive())["type"] != "http.disconnect":
            await checkpoint()
        waiting.cancel()

    async def _respond(
        self, status: int, headers: Iterable[tuple[bytes, bytes]], parts: list[bytes]
    ) -> None:
        sized = []
        if parts and not self._body.is_pending:
            # Some servers close the connection as soon as the promised length is sent.
            sized = [(b"content-length", b"%d" % sum(map(len, parts)))]
        # A server raises OSError where the client has gone; it knows and needs no second word.
        with suppress(OSError):
            await self._start(status, [*headers, *sized])
            await self._send_body(_chunks(parts))

    async def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        named = [*headers, *self._common_headers, *self._fields]
        if self.has_page and self._settings.pages is not None:
            named.append((b"vary", b"accept"))
        if self.operations is not None:
            named.append((b"batch-operations", b"%d" % self.operations))
        await self._send({"type": "http.response.start", "status": status, "headers": named})

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
