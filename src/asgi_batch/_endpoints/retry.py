"""
``POST /batch/{id}/retry``: what has not succeeded, as a new batch.
"""

from __future__ import annotations

from typing import Final

import msgspec

from asgi_batch._core.models import Batch
from asgi_batch._core.packing import unpack_operations
from asgi_batch._core.preferences import preferences_of
from asgi_batch._core.records import Remains, Snapshot
from asgi_batch._endpoints.accepting import AcceptingEndpoint
from asgi_batch._endpoints.batch_endpoint import BatchEndpoint
from asgi_batch.errors import (
    BatchNotFinished,
    InvalidParameter,
    NothingToRetry,
    OperationsErased,
)

_PAGE: Final = 1000
_ERASED: Final = "The operations of this batch are no longer kept; send them again as a new batch."


class RetryEndpoint(BatchEndpoint, AcceptingEndpoint):
    """
    The operations keep their ids; who sends this request is who they are sent for.
    """

    methods = ("POST",)

    async def _answer(self) -> None:
        self._check_room()
        content = await self._body.read()
        if content is None:
            return
        if content:
            raise InvalidParameter("Send no body: the operations are those of the batch.")
        snapshot = await self._snapshot()
        batch = await self._rest_of(snapshot)
        preferences = preferences_of(self._scope["headers"])
        wait = preferences.wait
        await self._accept(
            batch,
            preferences,
            wait=None if wait is None else min(wait, self._engine.limits.batch_timeout),
            idempotency=self._idempotency(b"retry " + snapshot.batch_id.encode()),
            parent=snapshot.batch_id,
        )

    async def _rest_of(self, snapshot: Snapshot) -> Batch:
        if not snapshot.is_finished:
            raise BatchNotFinished("The batch still runs; wait for its end, or cancel it.")
        if snapshot.succeeded == snapshot.total:
            raise NothingToRetry("Every operation of the batch has succeeded.")
        try:
            remains = await self._settings.background.store.remains(snapshot.batch_id)
            if remains is None:
                raise OperationsErased(_ERASED)
            return _batch_of(remains, await self._indexes(snapshot))
        except msgspec.DecodeError:
            raise OperationsErased("The operations of this batch cannot be read.") from None

    async def _indexes(self, snapshot: Snapshot) -> set[int]:
        """
        The operations that have not succeeded.
        """
        store, after, found = self._settings.background.store, -1, set[int]()
        while after + 1 < snapshot.total:
            page = await store.results(snapshot.batch_id, after=after, limit=_PAGE, outcome=None)
            if page is None or not page.entries:
                raise OperationsErased(_ERASED)
            after = page.after
            found |= {entry.index for entry in page.entries if entry.outcome != "succeeded"}
        return found


def _batch_of(remains: Remains, indexes: set[int]) -> Batch:
    left = [each for each in unpack_operations(remains.chunks) if each.index in indexes]
    renumbered = [msgspec.structs.replace(each, index=index) for index, each in enumerate(left)]
    return Batch(renumbered, remains.stops_on_error)
