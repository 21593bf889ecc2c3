"""
``GET /batch/{id}/events``: server-sent events, as the HTML standard describes them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Final

import anyio

from asgi_batch._core.records import Snapshot
from asgi_batch._endpoints.batch_endpoint import BatchEndpoint
from asgi_batch.dialects import native_later
from asgi_batch.errors import BatchRefused
from asgi_batch.ports import Store
from asgi_batch.progress import follow

# Seconds for which one answer goes on; the client comes back for more and misses nothing. It is
# this short because servers wait for answers when they stop, without a word to the app.
_LIFETIME: Final = 15.0
# Milliseconds after which the client comes back.
_RETRY: Final = b"retry: 1000\n\n"

_LAST_WORD: Final = 1.0

# Seconds between two looks at the store.
_SHORTEST: Final = 0.2
_LONGEST: Final = 1.0

_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # Proxies that gather an answer before they pass it on would defeat its purpose.
    (b"x-accel-buffering", b"no"),
)


class EventsEndpoint(BatchEndpoint):
    """
    Tells of each change, and of the end.
    """

    methods = ("GET",)

    async def _answer(self) -> None:
        known = self._last_event_id()
        snapshot = await self._snapshot()
        if snapshot.is_finished and known >= snapshot.version:
            # The one answer after which a browser does not come back.
            await self._respond(204, [], [])
            return
        store = self._settings.background.store
        with self._engine.gate.streaming(self._engine.limits.max_event_streams):
            await self._stream(self._events(store, known))

    def _last_event_id(self) -> int:
        value = self._header(b"last-event-id")
        return int(value) if value.isdigit() and len(value) < 16 else 0

    async def _events(self, store: Store, known: int) -> AsyncGenerator[bytes, None]:
        yield _RETRY
        changes = follow(store, self._batch_id, known=known, shortest=_SHORTEST, longest=_LONGEST)
        # Whatever the reason: the client comes back, and is told then.
        with suppress(BatchRefused):
            async with aclosing(changes):
                async for snapshot in changes:
                    yield self._event(snapshot)

    def _event(self, snapshot: Snapshot) -> bytes:
        name = b"end" if snapshot.is_finished else b"progress"
        document = native_later.encode_snapshot(snapshot, self._base)
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (snapshot.version, name, document)

    async def _stream(self, events: AsyncGenerator[bytes, None]) -> None:
        # A server raises OSError where the client has gone; it knows and needs no second word.
        with suppress(OSError):
            await self._start(200, _HEADERS)
            async with aclosing(events), anyio.create_task_group() as tasks:
                tasks.start_soon(self._cancel_on_disconnect, tasks.cancel_scope)
                with anyio.move_on_after(_LIFETIME), suppress(OSError):
                    async for event in events:
                        await self._send_part(event)
                tasks.cancel_scope.cancel()
            # A client that has stopped reading could hold the last word up for ever.
            with anyio.move_on_after(_LAST_WORD):
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_part(self, event: bytes) -> None:
        await self._send({"type": "http.response.body", "body": event, "more_body": True})
