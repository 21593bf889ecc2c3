"""
An app that writes down each start and end of an operation in a file, whatever becomes of Redis.

``REDIS`` names the store, ``EFFECTS`` the file, ``LEASE`` and ``DRAIN`` are seconds; ``CRASH`` is a
step of the store that the process does not survive, such as ``"before claim"``. ``QUEUE`` are the
ports of a queue that this server is a worker of, its own first; without them it has no queue.
"""

import asyncio
import json
import os
import secrets
import time
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from urllib.parse import parse_qs

from asgi_batch import BatchMiddleware, Limits
from asgi_batch.errors import OutcomeUnknown
from asgi_batch.stores.redis import RedisStore
from asgi_batch.worker import working
from chaos.crashing import CrashingStore
from chaos.datagrams import DatagramQueue
from chaos.settings import (
    BEAT,
    CANCEL_INTERVAL,
    CHUNK,
    CONCURRENCY,
    DRAIN_TIMEOUT,
    LATE,
    MAX_CONNECTIONS,
    RESEND,
    SCAN_INTERVAL,
)

_EFFECTS = os.open(os.environ["EFFECTS"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
# What has been done in a transaction: the query of each operation, and what tells its run.
_DONE = ContextVar("done")


def _note(*words: object) -> None:
    """
    One line, whole, whoever else writes.
    """
    os.write(_EFFECTS, (" ".join(map(str, words)) + "\n").encode())


async def _watch() -> None:
    """
    Note when this process has stood still, as one does that is paused or gets no processor.
    """
    last = time.monotonic()
    while True:
        await asyncio.sleep(BEAT)
        now = time.monotonic()
        if now - last > BEAT + LATE:
            _note("late", os.getpid(), last, now)
        last = now


async def lifespan(receive, send):
    await receive()
    watching = asyncio.create_task(_watch())
    await send({"type": "lifespan.startup.complete"})
    await receive()
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    await send({"type": "lifespan.shutdown.complete"})


@asynccontextmanager
async def transaction():
    """
    What is done in it is durable once a line says so, which is written as its operations wish.
    """
    done = []
    token = _DONE.set(done)
    try:
        yield
    finally:
        _DONE.reset(token)
    query = done[0][0]
    commit, seconds = query["commit"][0], float(query["c"][0])
    await asyncio.sleep(seconds / 2)
    if commit == "refused":
        raise ValueError(commit)
    if commit != "lost":
        nonces = [nonce for _, nonce in done]
        _note("commit", os.getpid(), time.monotonic(), query["tag"][0], *nonces)
    await asyncio.sleep(seconds / 2)
    if commit != "done":
        raise OutcomeUnknown(commit)


async def operate(scope, send):
    current = scope["asgi_batch"]
    query = parse_qs(scope["query_string"].decode())
    seconds, status, tag = float(query["s"][0]), int(query["status"][0]), query["tag"][0]
    run = {"pid": os.getpid(), "attempt": current.attempt, "nonce": secrets.token_hex(8)}
    where = (current.batch_id, current.index, scope["method"], current.attempt, run["nonce"], tag)
    _note("start", os.getpid(), time.monotonic(), *where)
    try:
        if seconds:
            await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        _note("gone", os.getpid(), time.monotonic(), *where)
        raise
    _note("end", os.getpid(), time.monotonic(), *where)
    _DONE.get([]).append((query, run["nonce"]))
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(run).encode()})


async def _app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    else:
        await operate(scope, send)


def _store() -> RedisStore:
    point = os.environ.get("CRASH", "")
    kind = CrashingStore if point else RedisStore
    store = kind(os.environ["REDIS"], max_connections=MAX_CONNECTIONS)
    if isinstance(store, CrashingStore):
        store.point = point
    return store


def _queue() -> DatagramQueue | None:
    ports = [int(port) for port in os.environ.get("QUEUE", "").split()]
    return DatagramQueue(ports) if ports else None


async def app(scope, receive, send):
    if scope["type"] != "lifespan" or _own_queue is None:
        await _batches(scope, receive, send)
        return
    await receive()
    async with working(_batches) as run:
        receiving = asyncio.create_task(_own_queue.receive(run))
        await send({"type": "lifespan.startup.complete"})
        await receive()
    receiving.cancel()
    with suppress(asyncio.CancelledError):
        await receiving
    await send({"type": "lifespan.shutdown.complete"})


_own_queue = _queue()
_batches = BatchMiddleware(
    _app,
    store=_store(),
    queue=_own_queue,
    transaction=transaction,
    limits=Limits(
        lease=float(os.environ["LEASE"]),
        scan_interval=SCAN_INTERVAL,
        cancel_interval=CANCEL_INTERVAL,
        drain_timeout=float(os.environ.get("DRAIN", DRAIN_TIMEOUT)),
        concurrency=CONCURRENCY,
        chunk_operations=CHUNK,
        resend_interval=RESEND,
        result_ttl=600.0,
        retry_ttl=60.0,
    ),
)
