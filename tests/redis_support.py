"""
What tests of the Redis store under faults share: open stores, bounds, and what lies behind them.
"""

import time
from contextlib import asynccontextmanager, contextmanager

import anyio
import pytest
from redis.asyncio.connection import Connection

from asgi_batch.errors import StoreUnavailable
from asgi_batch.stores.redis import RedisStore
from store_support import LEASE, saving

TTL = 60.0
# What a caller waits for the store at most.
BOUND = 2.5
# The same on a machine that is busy.
SOON = 2 * BOUND
UNKNOWN = "a" * 32


@asynccontextmanager
async def opened(url, **settings):
    """
    An open store.
    """
    store = RedisStore(url, **{"allow_clear_text": "encryption_key" not in settings, **settings})
    await store.open(TTL)
    try:
        yield store
    finally:
        await store.aclose()


def key_of(store, batch_id, kind):
    """
    The key of one part of a batch.
    """
    names = ("rec", "ops", "res", "lease", "queue", "owner")
    return store._keys.of(batch_id)[names.index(kind)]


async def how_long(call):
    """
    Seconds until *call* says that the store does not answer.
    """
    start = anyio.current_time()
    with pytest.raises(StoreUnavailable):
        await call
    return anyio.current_time() - start


@contextmanager
def held_up(seconds):
    """
    The event loop stands still for *seconds* in the first call that sends something to Redis.
    """
    send = Connection._send_packed_command

    async def send_and_stand_still(self, command):
        await send(self, command)
        patch.undo()
        time.sleep(seconds)  # noqa: ASYNC251

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "_send_packed_command", send_and_stand_still)
        yield


async def insist(call):
    """
    The first answer of *call*, and how long each of its failures took.
    """
    waits = []
    with anyio.fail_after(60):
        while True:
            start = anyio.current_time()
            try:
                return await call(), waits
            except StoreUnavailable:
                waits.append(anyio.current_time() - start)


async def every_verb(store, hold):
    """
    Do all that can be done with a batch, one after the other, and return what came of it.
    """
    return [
        await store.snapshot(hold.batch_id),
        await store.results(hold.batch_id, after=-1, limit=5, outcome=None),
        await store.remains(hold.batch_id),
        await store.claim(LEASE),
        await store.claim(LEASE, hold.batch_id),
        await store.save(hold, saving([0])),
        await store.cancel(hold.batch_id),
        await store.release(hold, 0),
        await store.fail(hold, "error"),
        await store.save(hold, saving([1], ends=True)),
    ]


def assert_pool_is_whole(store):
    """
    No connection is in use, and as many calls may be made at a time as ever.
    """
    assert not store._link._pool._in_use_connections
    assert store._link._slots.value == store._max_connections
