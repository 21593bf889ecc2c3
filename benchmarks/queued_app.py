"""
An app whose batches are carried out by the workers of a queue, or by itself where there is none.

``STORE`` is the URL of its store, ``BROKER`` that of the broker of Celery or, with ``bullmq+`` in
front of it, of BullMQ; empty for none. ``/wait/{seconds}`` answers after as long, with the moment
at which it was called. Limits are the defaults.
"""

import os
import time

import anyio
from celery import Celery
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from asgi_batch import BatchMiddleware
from asgi_batch.ports import Queue
from asgi_batch.queues.bullmq import BullMQQueue
from asgi_batch.queues.celery import CeleryQueue
from asgi_batch.stores.redis import RedisStore

_BROKER = os.environ["BROKER"]
# SQS is asked as often as it answers.
_TRANSPORT = {"polling_interval": 0.0, "wait_time_seconds": 5} if _BROKER.startswith("sqs") else {}


async def _wait(request: Request) -> Response:
    began = time.monotonic()
    await anyio.sleep(request.path_params["seconds"])
    return JSONResponse({"began": began, "process": os.getpid()})


def _queue() -> Queue | None:
    if not _BROKER:
        return None
    if _BROKER.startswith("bullmq+"):
        return BullMQQueue(_BROKER.removeprefix("bullmq+"))
    return CeleryQueue(celery_app)


celery_app = Celery("queued", broker=_BROKER)
celery_app.conf.update(broker_transport_options=_TRANSPORT, worker_prefetch_multiplier=1)
app = BatchMiddleware(
    Starlette(routes=[Route("/wait/{seconds:float}", _wait)]),
    store=RedisStore(os.environ["STORE"], allow_clear_text=True),
    queue=_queue(),
)
