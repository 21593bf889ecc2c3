"""
What a queue is tested on alone: it writes down what it is told to run, and carries out nothing.

``EFFECTS`` names the file, ``BROKER`` the broker. An id such as ``"x-0.5"`` takes half a second, or
until the process is told to stop; ``"break"`` ends the lifespan; ``SICK`` makes it fail to begin.
"""

import os
from contextlib import asynccontextmanager

import anyio
from celery import Celery

from asgi_batch.queues.celery import CeleryQueue

_EFFECTS = os.open(os.environ["EFFECTS"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
_FAST = {"polling_interval": 0.1, "wait_time_seconds": 0, "region": "us-east-1"}


def note(*words):
    """
    One line, whole, whoever else writes.
    """
    os.write(_EFFECTS, (" ".join(map(str, (os.getpid(), *words))) + "\n").encode())


@asynccontextmanager
async def working():
    """
    The stand-in of an app under its lifespan.
    """
    leaving, broken = anyio.Event(), anyio.Event()

    async def run(batch_id, chunk):
        note("start", batch_id, chunk)
        if batch_id == "break":
            broken.set()
        with anyio.move_on_after(float(batch_id.partition("-")[2] or 0)):
            await leaving.wait()
        note("given-back" if leaving.is_set() else "end", batch_id, chunk)

    async def watch():
        await broken.wait()
        raise RuntimeError("The app has ended its lifespan by itself.")

    note("begin")
    if os.environ.get("SICK"):
        raise RuntimeError("The app does not start.")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        yield run
        leaving.set()
        await anyio.sleep(0.05)
        tasks.cancel_scope.cancel()
    note("leave")


celery_app = Celery("hearing", broker=os.environ["BROKER"])
celery_app.conf.update(
    broker_transport_options=_FAST if os.environ["BROKER"].startswith("sqs") else {},
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
)
queue = CeleryQueue(celery_app)
if not os.environ.get("ALONE"):
    queue.attach(working)
