"""
What a process does with batches in Redis that it cannot read: it neither runs nor ends nor keeps
them, and goes on with all others.
"""

import pytest

from asgi_batch.errors import RecordCorrupt, StoreUnavailable
from redis_server import redis_server
from redis_support import key_of, opened
from store_support import LEASE, claimed, created, saving
from wide import widely

OLD, NEW = b"o" * 32, b"n" * 32


# The Redis store on the event loops that it runs on.
KINDS = ["redis-asyncio", *widely("redis-uvloop")]


@pytest.fixture
async def old(server):
    """
    A store with the old key.
    """
    async with opened(server.url, encryption_key=OLD) as store:
        yield store


@pytest.fixture
async def new(server):
    """
    A store with the new key only.
    """
    async with opened(server.url, encryption_key=NEW) as store:
        yield store


def everything(server):
    """
    All that Redis keeps, but for the queues.
    """
    return {key: server.client.dump(key) for key in server.client.scan_iter("*:b:*")}


async def test_t41_a_batch_of_another_key_is_not_touched(server, old, new, caplog):
    """
    T41: it is not kept alive either, so that a lost key leaves nothing behind for good.
    """
    batch_id = await created(old)
    keys = [key_of(old, batch_id, each) for each in ("rec", "ops")]
    for key in keys:
        server.client.pexpire(key, 60_000)
    before = everything(server)
    claims = [await new.claim(LEASE, batch_id) for _ in range(3)]

    assert claims == [None] * 3
    assert everything(server) == before
    assert all(server.client.pttl(key) <= 60_000 for key in keys)
    assert caplog.text.count("is left to others") == 1
    assert await old.claim(LEASE, batch_id) is not None


async def test_t41_results_need_a_key(server, old):
    """
    T41: a process that has none cannot show them, and says so.
    """
    claim = await claimed(old)
    await old.save(claim.hold, saving([0]))
    async with opened(server.url, allow_clear_text=True) as clear:
        with pytest.raises(StoreUnavailable, match="a key that is not here"):
            await clear.results(claim.hold.batch_id, after=-1, limit=5, outcome=None)


async def test_t41_batches_of_another_key_hold_up_no_others(old, new):
    """
    T41: however many of them have waited for longer.
    """
    for _ in range(40):
        await created(old, batch_id=old.new_id("name"))
    batch_id = await created(new, batch_id=new.new_id("name"))
    claims = [await new.claim(LEASE) for _ in range(4)]

    assert [each.hold.batch_id for each in claims if each is not None] == [batch_id]


async def test_t41_what_is_left_to_others_is_told_again_after_a_while(old, new, caplog):
    """
    T41: a process remembers some of what it has told, and not all of it.
    """
    new._claimer._told = {b"%d" % number for number in range(100)}
    await new.claim(LEASE, await created(old))

    assert len(new._claimer._told) == 1
    assert caplog.text.count("is left to others") == 1


@pytest.mark.parametrize("settings", [{"encryption_key": OLD}, {"allow_clear_text": True}])
@pytest.mark.parametrize("field", ["caller", "trials", "allowed", "finished"])
async def test_t43_a_record_that_is_not_whole_has_no_request(server, settings, field):
    """
    T43: whatever is missing or wrong in it, the background finds nothing to carry out.
    """
    async with opened(server.url, **settings) as store:
        batch_id = await created(store)
        record = key_of(store, batch_id, "rec")
        if field == "caller":
            server.client.hdel(record, field)
        elif field == "finished":
            server.client.hset(record, "succeeded", 1)
            server.client.hset(key_of(store, batch_id, "res"), "x", "s")
            server.client.pexpire(key_of(store, batch_id, "res"), 60_000)
        else:
            server.client.hset(record, field, "x")
        claim = await store.claim(LEASE)

    assert claim.caller == b""


@pytest.mark.parametrize("field", ["epoch", "succeeded", "version", "updated_at", "created_at"])
async def test_t43_a_record_of_rubbish_holds_up_no_other(server, old, field, caplog):
    """
    T43: counts and times are not sealed, and whoever writes into Redis can spoil them.
    """
    spoiled = await created(old)
    server.client.hset(key_of(old, spoiled, "rec"), field, "x")
    batch_id = await created(old)
    claims = [await old.claim(LEASE) for _ in range(2)]
    held = [each.hold.batch_id for each in claims if each is not None]

    assert batch_id in held
    # Where a field is only ever written, nothing is wrong with the request.
    assert spoiled in held or "cannot be read" in caplog.text


async def test_t43_a_record_of_rubbish_is_told_to_nobody(server, old, caplog):
    """
    T43: what is overdue besides is.
    """
    spoiled, batch_id = await created(old), await created(old)
    server.client.hset(key_of(old, spoiled, "rec"), "updated_at", "x")

    assert await old.overdue(60) == [(batch_id, None)]
    assert "cannot be read" in caplog.text


async def test_t43_a_server_that_is_away_is_no_record_of_rubbish(tmp_path):
    """
    T43: then nothing can be claimed at all, and that is said.
    """
    with redis_server(tmp_path) as proc:
        async with opened(proc.url, encryption_key=OLD) as store:
            batch_id = await created(store)
            proc.kill()
            for ask in (store.claim(LEASE, batch_id), store.overdue(60)):
                with pytest.raises(StoreUnavailable):
                    await ask


@pytest.mark.parametrize("settings", [{"encryption_key": OLD}, {"allow_clear_text": True}])
@pytest.mark.parametrize("result", [b"", b"r{}", b"\x00"])
async def test_t43_a_result_without_an_outcome_is_not_shown(server, settings, result):
    """
    T43: there is no telling what it is.
    """
    async with opened(server.url, **settings) as store:
        claim = await claimed(store)
        await store.save(claim.hold, saving([0]))
        server.client.hset(key_of(store, claim.hold.batch_id, "res"), 0, result)
        with pytest.raises(RecordCorrupt):
            await store.results(claim.hold.batch_id, after=-1, limit=5, outcome=None)
