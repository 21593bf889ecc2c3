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
from asgi_batch.dialects import native
from asgi_batch.errors import (
    BatchNotFinished,
    BatchNotFound,
    InvalidParameter,
    NothingToRetry,
    OperationsErased,
)

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
        native.check_routes(batch.operations, self._rules)
        preferences = preferences_of(self._scope["headers"])
        await self._charge(batch)
        await self._accept(
            batch,
            preferences,
            wait=self._patience(preferences, otherwise=None),
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
        except BatchNotFound:
            raise OperationsErased(_ERASED) from None
        except msgspec.DecodeError:
            raise OperationsErased("The operations of this batch cannot be read.") from None

    async def _indexes(self, snapshot: Snapshot) -> set[int]:
        """
        The operations that have not succeeded.
        """
        return {
            entry.index
            async for entries in self._pages(snapshot)
            for entry in entries
            if entry.outcome != "succeeded"
        }


def _batch_of(remains: Remains, indexes: set[int]) -> Batch:
    left = [each for each in unpack_operations(remains.chunks) if each.index in indexes]
    renumbered = [msgspec.structs.replace(each, index=index) for index, each in enumerate(left)]
    return Batch(renumbered, remains.stops_on_error, remains.atomic)
