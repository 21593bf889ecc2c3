"""
What the Redis store does with the count of an owner's batches when something of them is lost.
"""

import anyio
import pytest

from asgi_batch.errors import TooManyBatches
from redis_support import key_of
from store_support import LEASE, a_batch, saving
from wide import widely

OWNER = "mine"


# The Redis store on the event loops that it runs on.
KINDS = ["redis-asyncio", *widely("redis-uvloop")]


async def owned(store, name=None, owner_limit=2):
    """
    What comes of a new batch of the owner.
    """
    batch = a_batch(store, name, owner=OWNER)
    return await store.create(batch, limit=1000, owner_limit=owner_limit)


def counted(store, server, batch_id):
    """
    How many unfinished batches Redis counts for the owner.
    """
    return server.client.zcard(store._keys.of(batch_id, owner=OWNER)[5])


@pytest.mark.parametrize("name", [None, "name"])
async def test_t34_a_batch_that_redis_has_lost_is_not_counted(store, server, name):
    """
    T34: whoever has as many as may be gets the place of one that is gone.
    """
    lost, kept = [(await owned(store)).snapshot.batch_id for _ in range(2)]
    server.client.delete(key_of(store, lost, "rec"), key_of(store, lost, "ops"))
    after = await owned(store, name)
    with pytest.raises(TooManyBatches):
        await owned(store, name and "other")

    assert after.is_new
    assert counted(store, server, kept) == 2


async def test_t34_a_batch_that_nobody_can_carry_out_is_not_counted(store, server):
    """
    T34: Redis has thrown its operations away, so a claim ends it without its holder.
    """
    batch_id = (await owned(store, owner_limit=1)).snapshot.batch_id
    server.client.delete(key_of(store, batch_id, "ops"))
    claim = await store.claim(LEASE, batch_id)
    ended = await store.snapshot(batch_id)
    after = await owned(store, owner_limit=1)

    assert claim is None
    assert ended.error == "record_corrupt"
    assert after.is_new


async def test_t34_a_lost_reply_to_the_last_place(store, far_store, proxy):
    """
    T34: the second try finds the batch there, and takes no second place.
    """
    proxy.drop_reply_to(b"EVALSHA")
    first = await owned(far_store, owner_limit=1)

    assert proxy.dropped == 1
    assert first.is_new
    with pytest.raises(TooManyBatches):
        await owned(far_store, owner_limit=1)


async def test_t34_places_that_are_lost_are_given_once(store, server):
    """
    T34: of many that come at once as many get in as have gone.
    """
    ids = [(await owned(store, owner_limit=5)).snapshot.batch_id for _ in range(5)]
    server.client.delete(*(key_of(store, each, "rec") for each in ids[:3]))
    taken = []

    async def send():
        try:
            taken.append(await owned(store, owner_limit=5))
        except TooManyBatches:
            taken.append(None)

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(send)

    assert sum(each is not None for each in taken) == 3
    assert counted(store, server, ids[0]) == 5


async def test_an_owner_costs_no_more_commands(store, server):
    """
    Neither to accept a batch of nobody nor to end it is Redis asked for an owner.
    """
    server.client.config_resetstat()
    created = await store.create(a_batch(store), limit=1000, owner_limit=1)
    claim = await store.claim(LEASE, created.snapshot.batch_id)
    await store.save(claim.hold, saving(range(10), ends=True))
    stats = server.client.info("commandstats")

    assert stats["cmdstat_zcard"]["calls"] == 1
    assert stats["cmdstat_zrem"]["calls"] == 1
    assert "cmdstat_zremrangebyscore" not in stats


@pytest.mark.parametrize("end", ["end", "cancel", "fail"])
async def test_t34_what_has_ended_is_not_kept_for_its_owner(store, server, end):
    """
    T34: it makes room by itself, before anybody looks for batches that are lost.
    """
    one, other = [a_batch(store, owner=OWNER) for _ in range(2)]
    for batch in (one, other):
        await store.create(batch, limit=10, owner_limit=2)
    if end == "cancel":
        await store.cancel(one.batch_id)
    claim = await store.claim(LEASE, one.batch_id)
    if end == "fail":
        await store.fail(claim.hold, "error")
    else:
        await store.save(claim.hold, saving(range(10), ends=True))
    key = store._keys.of(one.batch_id, owner=OWNER)[5]

    assert server.client.zrange(key, 0, -1) == [other.batch_id.encode()]
