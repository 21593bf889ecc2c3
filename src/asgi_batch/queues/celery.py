"""
Batches on Celery: its own worker processes carry them out, whatever its broker and its pool.

A message names a chunk of a batch, in JSON. Each worker process has one event loop in a thread
of its own, begun with its first message, after the fork: there the app has its own lifespan.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from contextlib import ExitStack, suppress
from typing import Any, Final

import anyio
from anyio.abc import TaskStatus
from anyio.from_thread import start_blocking_portal
from celery import Celery, signals
from celery.exceptions import Reject

from asgi_batch.ports import ConfigurationError, Run, Working

# What senders may cost while the broker is away: the sweeper sends again what they could not.
_RETRY: Final = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2}
_TIMEOUT: Final = 5.0


class CeleryQueue:
    """
    Hands batches to the workers of a Celery app, for ``BatchMiddleware(queue=CeleryQueue(app))``.

    They are started with the module that makes both apps: ``celery -A module worker``.

    Args:
        celery_app: The Celery app. How its messages are routed is its affair.
        name: Of the Celery task, one for each wrapped app.

    Raises:
        ConfigurationError: The name is taken.
    """

    def __init__(self, celery_app: Celery, *, name: str = "asgi_batch.run") -> None:
        def carry(batch_id: str, chunk: int | None) -> None:
            self._carry(batch_id, chunk)

        self._message = celery_app.task(
            carry,
            name=name,
            shared=False,
            lazy=False,
            serializer="json",
            ignore_result=True,
            acks_late=True,
            reject_on_worker_lost=True,
            # What has failed would fail again at once; the sweeper takes its time.
            acks_on_failure_or_timeout=True,
        )
        if self._message.run is not carry:
            raise ConfigurationError(f"There is a Celery task {name!r} already: pass another name.")
        self._working: Working | None = None
        self._home: _Home | None = None
        self._lock = threading.Lock()
        self._senders = anyio.CapacityLimiter(4)
        # A pool does not tell its processes to stop. What rings is never read, so that all see it.
        self._bell, self._hammer = os.pipe()
        # Without a uid Celery would take the methods of two queues for one.
        heard = {"weak": False, "dispatch_uid": self}
        signals.worker_shutting_down.connect(self._ring, **heard)
        signals.worker_process_shutdown.connect(self._leave, **heard)
        signals.worker_shutdown.connect(self._leave, **heard)

    def attach(self, working: Working) -> None:
        """
        Say how the app lives in a worker process, as `BatchMiddleware` does.
        """
        self._working = working

    async def send(self, batch_id: str, chunk: int | None) -> None:
        """
        Send a message, within some seconds, whatever the broker does.
        """
        with anyio.fail_after(_TIMEOUT):
            await anyio.to_thread.run_sync(
                self._send, batch_id, chunk, abandon_on_cancel=True, limiter=self._senders
            )

    async def receive(self, run: Run) -> None:
        """
        Raise `ConfigurationError`: Celery's own command does this.
        """
        raise ConfigurationError("Start the workers of a CeleryQueue by `celery -A module worker`.")

    def _send(self, batch_id: str, chunk: int | None) -> None:
        self._message.apply_async((batch_id, chunk), retry=True, retry_policy=_RETRY)

    def _carry(self, batch_id: str, chunk: int | None) -> None:
        if self._working is None:
            raise ConfigurationError(
                "No app is attached: let the module that Celery is started with make the"
                " BatchMiddleware, or call queue.attach(lambda: working(app)) in it."
            )
        with self._lock:
            if self._home is None or self._home.is_lost:
                self._leave()
                self._home = _Home(self._working, self._bell)
        self._home.run(batch_id, chunk)

    def _ring(self, **_: Any) -> None:
        os.write(self._hammer, b"!")

    def _leave(self, **_: Any) -> None:
        if self._home:
            self._home.close()


class _Home:
    # The event loop of a worker process, and the app that lives in it until the bell is rung.
    def __init__(self, working: Working, bell: int) -> None:
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal(name="asgi_batch"))
            self._end, (self._run, self._stop) = self._portal.start_task(self._live, working, bell)
            self._stack = stack.pop_all()

    async def _live(self, working: Working, bell: int, *, task_status: TaskStatus[Any]) -> None:
        async with working() as run:
            with anyio.CancelScope() as scope:
                task_status.started((run, scope.cancel))
                await anyio.wait_readable(bell)

    @property
    def is_lost(self) -> bool:
        return self._end.done() and self._end.exception() is not None

    def run(self, batch_id: str, chunk: int | None) -> None:
        if self._end.done():
            raise Reject("This worker stops.", requeue=True)
        call = self._portal.start_task_soon(self._run, batch_id, chunk)
        # What has come while the app was stopping waits for nobody; it is sent again.
        wait((call, self._end), return_when=FIRST_COMPLETED)
        call.cancel()
        with suppress(CancelledError):
            call.result()

    def close(self) -> None:
        self._portal.call(self._stop)
        self._end.exception()
        self._stack.close()
