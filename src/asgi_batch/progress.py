"""
How far a batch is, for code of the app and for other processes: look it up, or watch it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Final, Self

import anyio

from asgi_batch._core.records import Snapshot
from asgi_batch.errors import BatchNotFound, ConfigurationError
from asgi_batch.ports import Store
from asgi_batch.stores import open_store

# Each wait for a change is so much longer than the one before.
_GROWTH: Final = 1.5


async def follow(
    store: Store, batch_id: str, *, known: int = 0, shortest: float, longest: float
) -> AsyncGenerator[Snapshot, None]:
    """
    Each change of a batch that a look at the store shows, up to its end.

    Args:
        store: Where the batch is.
        batch_id: The batch.
        known: Version of the last snapshot that need not be told again.
        shortest: Seconds between two looks after a change.
        longest: Seconds between two looks while nothing changes.

    Raises:
        BatchNotFound: There is no such batch, or no longer.
        StoreUnavailable: The store does not answer.
    """
    wait = shortest
    while True:
        snapshot = await _look_up(store, batch_id)
        if snapshot.version > known:
            known, wait = snapshot.version, shortest
            yield snapshot
        if snapshot.is_finished:
            return
        await anyio.sleep(wait)
        wait = min(wait * _GROWTH, longest)


class Progress:
    """
    Tells how far batches are, whoever owns them; it changes nothing.

    Inside of the app `BatchMiddleware.progress` is one that is ready. Elsewhere, such as in a
    script, it is opened like this::

        async with Progress("redis://localhost/0") as progress:
            async for snapshot in progress.watch(batch_id):
                print(f"{snapshot.percentage:.0f} %")

    Args:
        store: The URL that the middleware has, or a `Store` object that is not in use.

    Raises:
        ConfigurationError: Batches of another process cannot be seen with this *store*.
    """

    def __init__(self, store: str | Store) -> None:
        self._store = open_store(store) if isinstance(store, str) else store
        self._is_owner = True
        if isinstance(store, str) and self._store.durability == "process":
            raise ConfigurationError(
                f"Progress({store!r:.100}): what is in memory is seen in its own process only;"
                " use the progress of the BatchMiddleware there."
            )

    @classmethod
    def of(cls, store: Store) -> Self:
        """
        One for a *store* that is open, and is opened and closed by somebody else.
        """
        progress = cls(store)
        progress._is_owner = False
        return progress

    async def __aenter__(self) -> Self:
        """
        Open the store.

        Raises:
            ConfigurationError: It cannot be used.
            StoreUnavailable: It does not answer.
        """
        if self._is_owner:
            await self._store.open(0.0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """
        Close the store.
        """
        if self._is_owner:
            with anyio.CancelScope(shield=True):
                await self._store.aclose()

    async def look_up(self, batch_id: str) -> Snapshot:
        """
        How far a batch is.

        Raises:
            BatchNotFound: There is no such batch, or no longer.
            StoreUnavailable: The store does not answer.
        """
        return await _look_up(self._store, batch_id)

    def watch(self, batch_id: str, *, interval: float = 0.5) -> AsyncGenerator[Snapshot, None]:
        """
        How far a batch is now, and each time that it has got further, up to its end.

        Args:
            batch_id: The batch.
            interval: Seconds between two looks.

        Raises:
            BatchNotFound: There is no such batch, or no longer.
            StoreUnavailable: The store does not answer.
        """
        return follow(self._store, batch_id, shortest=interval, longest=interval)


async def _look_up(store: Store, batch_id: str) -> Snapshot:
    snapshot = await store.snapshot(batch_id)
    if snapshot is None:
        raise BatchNotFound("There is no such batch, or it has expired.")
    return snapshot
