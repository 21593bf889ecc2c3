"""
A store whose process dies at a step of its choice, as the crash of a machine would have it.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from asgi_batch.stores.redis import RedisStore


class CrashingStore(RedisStore):
    """
    Attributes:
        point: ``"before"`` or ``"after"`` a step: ``create``, ``claim`` of a batch, ``first`` save,
            save of ``entries``, ``trial``, last save that ``ends``, ``release``, ``cancel``.
    """

    point = ""
    _has_batch = False
    _has_saved = False

    async def create(self, batch, **limits):
        with self._around("create"):
            created = await super().create(batch, **limits)
        self._has_batch = True
        return created

    async def claim(self, lease, batch_id=None):
        if self._has_batch:
            self._die("before claim")
        claim = await super().claim(lease, batch_id)
        if claim is not None:
            self._die("after claim")
        return claim

    async def save(self, hold, saving):
        with self._around(self._kind(saving)):
            self._has_saved = True
            return await super().save(hold, saving)

    async def release(self, hold, allowed):
        with self._around("release"):
            await super().release(hold, allowed)

    async def cancel(self, batch_id):
        with self._around("cancel"):
            return await super().cancel(batch_id)

    def _kind(self, saving):
        if saving.trial is not None:
            return "trial"
        if saving.ends:
            return "ends"
        if not self._has_saved and self.point.endswith("first"):
            return "first"
        return "entries" if saving.entries else ""

    @contextmanager
    def _around(self, step: str) -> Iterator[None]:
        self._die(f"before {step}")
        yield
        self._die(f"after {step}")

    def _die(self, point: str) -> None:
        if point == self.point:
            os.kill(os.getpid(), signal.SIGKILL)
