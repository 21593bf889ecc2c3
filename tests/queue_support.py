"""
A queue in this process for tests of what goes over one, and workers that take from it.
"""

from collections import deque
from contextlib import asynccontextmanager

import anyio

from asgi_batch import BatchMiddleware, Limits
from asgi_batch.worker import working
from support import PATIENCE

CHUNK = 4


class Line:
    """
    Messages in the order in which they came.

    Attributes:
        sent: All that were sent, lost ones too.
        error: Raised by whoever sends, where there is one.
        is_losing: Whether messages are lost.
        times: How often each message comes.
        waiting: Those that nobody has taken.
    """

    def __init__(self):
        self.sent, self.error, self.is_losing, self.times = [], None, False, 1
        self.waiting = deque()
        self._news = anyio.Event()

    async def send(self, batch_id, chunk):
        await anyio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        self.sent.append((batch_id, chunk))
        self.waiting.extend([(batch_id, chunk)] * (0 if self.is_losing else self.times))
        self._news.set()
        self._news = anyio.Event()

    async def receive(self, run):
        """
        Two messages at a time.
        """
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(self._receive, run)

    async def _receive(self, run):
        while True:
            while not self.waiting:
                await self._news.wait()
            await run(*self.waiting.popleft())


def limits(**others):
    """
    Bounds that make batches small and everything quick.
    """
    quick = {"scan_interval": 0.02, "cancel_interval": 0.02, "chunk_operations": CHUNK}
    return Limits(**{**quick, **others})


@asynccontextmanager
async def web(app, store, queue, *, settings=None, **bounds):
    """
    A process that accepts batches.
    """
    options = {"store": store, "queue": queue, "limits": limits(**bounds), **(settings or {})}
    middleware = BatchMiddleware(app, **options)
    async with middleware.running():
        with anyio.fail_after(PATIENCE):
            yield middleware


@asynccontextmanager
async def worker(app, store, queue, *, settings=None, **bounds):
    """
    A process that carries out what comes over the queue; ends as a worker does on SIGTERM.
    """
    options = {"store": store, "queue": queue, "limits": limits(**bounds), **(settings or {})}
    middleware = BatchMiddleware(app, **options)
    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(PATIENCE):
            async with working(middleware) as run:
                tasks.start_soon(queue.receive, run)
                yield middleware
        tasks.cancel_scope.cancel()
