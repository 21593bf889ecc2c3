"""
Tells a queue of batches, once when they are accepted and again where nobody has claimed them.

Messages may be lost, late or doubled: they only say that there is something to claim.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import anyio

from asgi_batch._core.records import Share
from asgi_batch._core.reports import short
from asgi_batch.errors import AsgiBatchError
from asgi_batch.limits import Limits
from asgi_batch.ports import Queue, Run, Store

logger = logging.getLogger("asgi_batch")

#: Where the scope of a lifespan says that it is that of a worker process: what is called there
#: with a queue, and with what carries out its messages.
WORKER: Final = "asgi_batch.worker"
Offer: TypeAlias = Callable[[Queue | None, Run], None]


class Dispatch:
    """
    What goes from one process to the workers of a queue.

    Args:
        queue: Carries messages.
        store: Knows what has to be claimed.
        limits: Bounds in time and size.
    """

    def __init__(self, queue: Queue, store: Store, limits: Limits) -> None:
        self._queue = queue
        self._store = store
        self._limits = limits

    async def tell(self, shares: Iterable[Share]) -> None:
        """
        Send a message for each of *shares*, up to the first that the queue does not take.
        """
        for batch_id, chunk in shares:
            try:
                await self._queue.send(batch_id, chunk)
            except Exception:
                # Only the plug knows what its broker raises.
                logger.exception("The queue is told later of batch %s….", short(batch_id))
                return

    async def pass_on(self, share: Share, has_stopped: anyio.Event) -> None:
        """
        Let another worker have *share*, whose message has come while this one stops: not before it
        has, or it would come back, and once it has not before nobody waits for it.
        """
        try:
            if has_stopped.is_set():
                await anyio.sleep_forever()
            await has_stopped.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await self.tell([share])

    async def sweep_for_ever(self) -> None:
        """
        Send again, now and then, what nobody has claimed.
        """
        while True:
            # Not all processes at the same moment.
            some_more = 1 + secrets.randbelow(400) / 1000
            await anyio.sleep(0.8 * some_more * self._limits.scan_interval)
            try:
                await self.tell(await self._store.overdue(self._limits.resend_interval))
            except AsgiBatchError as error:
                logger.warning("What has to be sent again is not known: %s", error)
            except Exception:
                logger.exception("Looking for what has to be sent again failed; it goes on.")
