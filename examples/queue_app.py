"""
An app whose batches are carried out by Celery workers.

``REDIS_URL`` names the Redis server that keeps batches; it carries the messages as well. The two
kinds of processes are started with this same module: ``uvicorn examples.queue_app:app`` and
``celery -A examples.queue_app:celery_app worker``. ``python examples/demo_queue.py`` starts both.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from celery import Celery
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_batch import BatchMiddleware
from asgi_batch.queues.celery import CeleryQueue

redis = os.environ.get("REDIS_URL", "redis://localhost:6379")

celery_app = Celery("shop", broker=f"{redis}/1")
# A message is a chunk of a batch, and no process takes more of them than it works on.
celery_app.conf.worker_prefetch_multiplier = 1


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, int]]:
    """
    Open what operations need, such as a pool of database connections: once in each process.
    """
    yield {"process": os.getpid()}


async def thumbnail(request: Request) -> JSONResponse:
    """
    Have a picture made smaller by another service.
    """
    await anyio.sleep(0.02)
    return JSONResponse({"picture": request.path_params["name"], "by": request.state.process})


app = BatchMiddleware(
    Starlette(routes=[Route("/thumbnails/{name}", thumbnail, methods=["PUT"])], lifespan=lifespan),
    store=f"{redis}/0",
    queue=CeleryQueue(celery_app),
)
