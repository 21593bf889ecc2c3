"""
Batches on BullMQ, whose queues in Redis programs in Node.js share; for asyncio only.

The data of a BullMQ job is ``{"batch": "…", "chunk": 0}`` and nothing else, whoever adds it. What
becomes of a job says only that a worker has seen to it: how a batch ended is known to the store.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import anyio
from bullmq import Job, Worker
from bullmq import Queue as Connected
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from asgi_batch.ports import Run

logger = logging.getLogger("asgi_batch")

# What a sender may cost while Redis is away: the sweeper sends again what it could not.
_TIMEOUT: Final = 5.0
_RETRY: Final = Retry(ExponentialBackoff(cap=0.5, base=0.1), 2)
# Jobs that have ended and can still be looked at.
_KEPT: Final = {"removeOnComplete": {"count": 1000}, "removeOnFail": {"count": 1000}}
# Milliseconds between two tries of a worker to reach Redis.
_PAUSE: Final = 1000
# Seconds that a worker may be deaf for its own end, since it has asked Redis for the next job.
_DEAF: Final = 1


class BullMQQueue:
    """
    Hands batches to workers over BullMQ, for ``BatchMiddleware(queue=BullMQQueue("redis://…"))``.

    They are started by ``python -m asgi_batch.worker module:app``.

    Args:
        url: Of the Redis server of the queue, which need not be that of the store.
        name: Of the queue, one for each wrapped app.
        concurrency: Chunks that a worker process carries out at a time.
    """

    def __init__(self, url: str, name: str = "asgi-batch", *, concurrency: int = 4) -> None:
        self._url = url
        self._name = name
        self._concurrency = concurrency
        self._connected: tuple[asyncio.AbstractEventLoop, Redis, Connected] | None = None

    async def send(self, batch_id: str, chunk: int | None) -> None:
        """
        Add a job, within some seconds, whatever Redis does.
        """
        with anyio.fail_after(_TIMEOUT):
            await self._queue().add("run", {"batch": batch_id, "chunk": chunk}, _KEPT)

    async def receive(self, run: Run) -> None:
        """
        Process jobs until cancelled; those that are going on then are not waited for.
        """
        going_on = set[anyio.CancelScope]()

        async def process(job: Job, _: str) -> None:
            with anyio.CancelScope() as scope:
                going_on.add(scope)
                try:
                    await run(job.data["batch"], job.data["chunk"])
                finally:
                    going_on.discard(scope)

        worker = Worker(self._name, process, self._settings())
        worker.on("error", _tell)
        # Closed and not cancelled, so that the jobs that go on end, and are not found stalled.
        loop = asyncio.ensure_future(worker.run())
        try:
            await asyncio.wait([loop])
        finally:
            for scope in going_on:
                scope.cancel()
            with anyio.CancelScope(shield=True):
                ends = [loop, asyncio.ensure_future(worker.close())]
                _, late = await asyncio.wait(ends, timeout=_TIMEOUT)
                if late:
                    # Redis is away, and BullMQ would go on asking for it.
                    await worker.close(force=True)
                    await asyncio.wait(ends)

    async def aclose(self) -> None:
        """
        Close what `send` has opened, in the event loop in which it was called.
        """
        if self._connected is not None:
            _, client, _ = self._connected
            self._connected = None
            await client.aclose()

    def _queue(self) -> Connected:
        # Connections belong to an event loop.
        loop = asyncio.get_running_loop()
        if self._connected is None or self._connected[0] is not loop:
            client = Redis.from_url(self._url, decode_responses=True, retry=_RETRY)
            queue = Connected(self._name, {"connection": client})
            self._connected = loop, client, queue
        return self._connected[2]

    def _settings(self) -> dict[str, Any]:
        return {
            "connection": self._url,
            "autorun": False,
            "concurrency": self._concurrency,
            "drainDelay": _DEAF,
            "runRetryDelay": _PAUSE,
            **_KEPT,
        }


def _tell(error: Exception, *_: object) -> None:
    logger.warning("A BullMQ worker goes on after an error: %r", error)
