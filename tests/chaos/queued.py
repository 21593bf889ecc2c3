"""
The app of the chaos, but the workers of a queue carry its batches out.

``BROKER`` is the URL of the broker; ``LIVES`` names a file in which each process writes down that
the app has started in it, and that it has stopped; ``RESEND`` is the seconds after which a message
is sent again.
"""

import os

from asgi_batch import BatchMiddleware, Limits
from asgi_batch.queues.celery import CeleryQueue
from chaos.app import lifespan, operate
from chaos.queues import celery_of, is_celery, queue_of
from chaos.settings import CANCEL_INTERVAL, CONCURRENCY, DRAIN_TIMEOUT, LEASE, SCAN_INTERVAL

_BROKER = os.environ["BROKER"]
_LIVES = os.open(os.environ["LIVES"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)


async def _app(scope, receive, send):
    if scope["type"] != "lifespan":
        await operate(scope, send)
        return
    _note("start")
    await lifespan(receive, send)
    _note("stop")


def _note(event: str) -> None:
    os.write(_LIVES, f"{event} {os.getpid()}\n".encode())


if is_celery(_BROKER):
    celery_app = celery_of(_BROKER)
    queue = CeleryQueue(celery_app)
else:
    queue = queue_of(_BROKER)
app = BatchMiddleware(
    _app,
    store=os.environ["REDIS"],
    queue=queue,
    limits=Limits(
        lease=LEASE,
        scan_interval=SCAN_INTERVAL,
        cancel_interval=CANCEL_INTERVAL,
        drain_timeout=DRAIN_TIMEOUT,
        concurrency=CONCURRENCY,
        resend_interval=float(os.environ.get("RESEND", 2 * LEASE)),
        result_ttl=600.0,
        retry_ttl=60.0,
    ),
)
