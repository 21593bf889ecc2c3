"""
What the Redis store does when Redis, the network or a caller does something unkind.
"""

import asyncio
import socket
import sys

import anyio
import pytest
import redis
import trio

from asgi_batch._core.records import Hold
from asgi_batch.errors import ConfigurationError, Overloaded, StoreFull, StoreUnavailable
from asgi_batch.stores import open_store
from asgi_batch.stores._redis_link import _check_server
from asgi_batch.stores._shards import is_at_home
from asgi_batch.stores.memory import MemoryStore
from asgi_batch.stores.redis import RedisStore
from redis_server import redis_server
from redis_support import BOUND, TTL, UNKNOWN, how_long, key_of, opened
from servers import HOST, free_port
from store_support import (
    LEASE,
    SHORT,
    a_batch,
    claimed,
    counts,
    created,
    eventually,
    saving,
)
from support import until
from wide import widely

WEEK = 7 * 24 * 3600


# The Redis store on the event loops that it runs on.
KINDS = ["redis-asyncio", *widely("redis-uvloop")]


@pytest.fixture
async def fragile(tmp_path):
    """
    A server of its own, which a test may hurt for good, and a store on it.
    """
    with redis_server(tmp_path / "redis") as proc:
        async with opened(proc.url) as store:
            yield proc, store


def is_busy(proc):
    """
    Whether the server answers nobody because of a script.
    """
    try:
        return not proc.client.ping()
    except redis.ResponseError as error:
        return "BUSY" in str(error)


async def every_verb(store, hold):
    """
    Do all that can be done with a batch, one after the other, and return what came of it.
    """
    return [
        await store.snapshot(hold.batch_id),
        await store.results(hold.batch_id, after=-1, limit=5, outcome=None),
        await store.claim(LEASE),
        await store.claim(LEASE, hold.batch_id),
        await store.save(hold, saving([0])),
        await store.cancel(hold.batch_id),
        await store.release(hold, 0),
        await store.fail(hold, "error"),
        await store.save(hold, saving([1], ends=True)),
        await store.remains(hold.batch_id),
    ]


# A reply is lost: the effect is there once, and the answer is the first one.


async def test_lost_reply_to_create(far_store, proxy):
    """
    The batch is new to its caller, also where the answer came only with the second try.
    """
    proxy.drop_reply_to(b"EVALSHA")
    answer = await far_store.create(a_batch(far_store, "name"), limit=10)

    assert proxy.dropped == 1
    assert answer.is_new
    assert await far_store.claim(LEASE) is not None
    assert await far_store.claim(LEASE) is None


async def test_lost_reply_to_claim(far_store, proxy):
    """
    The caller holds the batch, which is claimed once.
    """
    batch_id = await created(far_store)
    proxy.drop_reply_to(b"EVALSHA")
    claim = await far_store.claim(LEASE, batch_id)

    assert proxy.dropped == 1
    assert claim.hold == Hold(batch_id, 1)


async def test_lost_reply_to_save(far_store, proxy):
    """
    Results, trial and version count once.
    """
    claim = await claimed(far_store)
    proxy.drop_reply_to(b"EVALSHA")
    standing = await far_store.save(claim.hold, saving([0, 1], trial=2))
    snapshot = await far_store.snapshot(claim.hold.batch_id)
    await far_store.release(claim.hold, 0)

    assert proxy.dropped == 1
    assert standing == "held"
    assert counts(snapshot) == (2, 0, 0)
    assert snapshot.version == claim.snapshot.version + 1
    assert (await far_store.claim(LEASE)).trials == {2: 1}


async def test_lost_reply_to_the_last_save(far_store, proxy):
    """
    The holder is not told that it has lost the batch that it has just ended.
    """
    claim = await claimed(far_store, name="name")
    proxy.drop_reply_to(b"EVALSHA")
    standing = await far_store.save(claim.hold, saving(range(10), ends=True))

    assert proxy.dropped == 1
    assert standing == "held"
    assert (await far_store.snapshot(claim.hold.batch_id)).status == "completed"


async def test_lost_reply_to_release(far_store, proxy):
    """
    The batch is free once, for one claim.
    """
    claim = await claimed(far_store)
    proxy.drop_reply_to(b"EVALSHA")
    await far_store.release(claim.hold, 0)

    assert proxy.dropped == 1
    assert (await far_store.claim(LEASE)).hold.epoch == 2
    assert await far_store.claim(LEASE) is None


async def test_lost_reply_to_cancel(far_store, proxy):
    """
    The batch is cancelled once, and its holder has not heard of it.
    """
    claim = await claimed(far_store)
    proxy.drop_reply_to(b"EVALSHA")
    snapshot, is_unheard = await far_store.cancel(claim.hold.batch_id)

    assert proxy.dropped == 1
    assert (snapshot.status, is_unheard) == ("cancelled", True)
    assert snapshot.version == claim.snapshot.version + 1


async def test_lost_reply_to_fail(far_store, proxy):
    """
    The batch ends once.
    """
    claim = await claimed(far_store)
    proxy.drop_reply_to(b"EVALSHA")
    await far_store.fail(claim.hold, "error")
    snapshot = await far_store.snapshot(claim.hold.batch_id)

    assert proxy.dropped == 1
    assert (snapshot.status, snapshot.error) == ("failed", "error")
    assert snapshot.version == claim.snapshot.version + 1


async def test_lost_reply_to_reading(far_store, proxy):
    """
    What changes nothing is asked again.
    """
    batch_id = await created(far_store)
    proxy.drop_reply_to(b"HMGET")

    assert (await far_store.snapshot(batch_id)).batch_id == batch_id
    assert proxy.dropped == 1


# Redis is not there, does not answer, or cannot just now.


async def test_server_that_is_gone(fragile, tmp_path):
    """
    Each call says so in time; once there is a server again, all goes on by itself.
    """
    proc, store = fragile
    proc.kill()
    waits = [
        await how_long(store.create(a_batch(store), limit=1)),
        await how_long(store.claim(LEASE)),
        await how_long(store.save(Hold(UNKNOWN, 1), saving())),
        await how_long(RedisStore(proc.url).open(TTL)),
    ]
    with proc.restarted(tmp_path / "again"):
        answer = await store.create(a_batch(store), limit=1)

    assert max(waits) <= BOUND
    assert answer.is_new


async def test_server_that_is_frozen(fragile):
    """
    Each call ends in time, also one that waits for a connection; afterwards nothing is mixed up.
    """
    proc, _ = fragile
    waits = []

    async def wait(batch_id):
        waits.append(await how_long(store.snapshot(batch_id)))

    async with opened(proc.url, max_connections=2) as store:
        ids = [await created(store) for _ in range(4)]
        with proc.frozen():
            async with anyio.create_task_group() as tasks:
                for batch_id in ids:
                    tasks.start_soon(wait, batch_id)
        start = anyio.current_time()
        snapshots = [await store.snapshot(batch_id) for batch_id in ids]
        recovery = anyio.current_time() - start
        in_use = set(store._link._pool._in_use_connections)

    assert len(waits) == 4
    assert max(waits) <= BOUND
    # Two had a connection, two waited for one.
    assert sorted(waits)[1] < 1.5
    assert [snapshot.batch_id for snapshot in snapshots] == ids
    assert recovery <= 1
    assert not in_use


async def test_cancelled_calls_leave_the_pool_whole(store, server):
    """
    Whoever is cancelled while a call is under way, no answer goes to somebody else.
    """
    ids = [await created(store) for _ in range(8)]
    connections = server.client.info("stats")["total_connections_received"]
    seen = []

    async def look(batch_id):
        seen.append((batch_id, (await store.snapshot(batch_id)).batch_id))

    for round_number in range(50):
        async with anyio.create_task_group() as tasks:
            for batch_id in ids * 3:
                tasks.start_soon(look, batch_id)
            for _ in range(round_number % 12):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    for batch_id in ids:
        await look(batch_id)

    assert all(asked == answered for asked, answered in seen)
    assert not store._link._pool._in_use_connections
    assert store._link._slots.value == 10
    # None was given up in the middle of an answer.
    assert server.client.info("stats")["total_connections_received"] < connections + 10


async def test_replica_becomes_primary_in_time(store, server):
    """
    A write that is refused by a replica is tried again until it is none.
    """
    claim = await claimed(store)
    server.client.config_resetstat()
    server.client.replicaof(HOST, free_port())
    standings = []

    async def save():
        standings.append(await store.save(claim.hold, saving([0])))

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(save)
            await until(lambda: "errorstat_READONLY" in server.client.info("errorstats"))
            server.client.replicaof("NO", "ONE")
    finally:
        server.client.replicaof("NO", "ONE")

    assert standings == ["held"]


async def test_busy_server(fragile):
    """
    A server that runs somebody else's script is asked again until time is up.
    """
    proc, store = fragile
    batch_id = await created(store)
    proc.config(busy_reply_threshold=50)
    with socket.create_connection((HOST, proc.port)) as other:
        other.sendall(b"EVAL 'while true do end' 0\r\n")
        await until(lambda: is_busy(proc))
        wait = await how_long(store.cancel(batch_id))
        proc.client.script_kill()
        await until(lambda: not is_busy(proc))

    assert wait <= BOUND
    assert (await store.snapshot(batch_id)).status == "processing"


async def test_scripts_are_sent_again_where_they_are_unknown(store, server):
    """
    A server that has forgotten all scripts is no different from one that knows them.
    """
    server.client.script_flush()
    claim = await claimed(store)
    server.client.script_flush()
    standing = await store.save(claim.hold, saving([0]))
    server.client.script_flush()
    await store.release(claim.hold, 0)
    server.client.script_flush()
    cancelled, _ = await store.cancel(claim.hold.batch_id)
    second = await store.claim(LEASE)
    server.client.script_flush()
    await store.fail(second.hold, "error")

    assert standing == "held"
    assert cancelled.status == "cancelled"
    assert (await store.snapshot(claim.hold.batch_id)).status == "failed"


# Redis is full, or has lost something.


async def test_full_server_takes_no_batch_and_finishes_those_it_has(store, server):
    """
    Only new work is refused: leases are renewed and results kept.
    """
    first, second = await claimed(store), await claimed(store)
    third = await created(store)
    server.config(maxmemory="1mb")
    try:
        with pytest.raises(StoreFull):
            await store.create(a_batch(store), limit=100)
        held = await store.save(first.hold, saving([0], lease=LEASE))
        cancelled, _ = await store.cancel(first.hold.batch_id)
        ended = await store.save(first.hold, saving(range(1, 10), ends=True))
        claim = await store.claim(LEASE, third)
        await store.release(claim.hold, 0)
        await store.fail(second.hold, "error")
    finally:
        server.config(maxmemory=0)

    assert (held, cancelled.status, ended) == ("held", "cancelled", "cancelled")
    assert counts(await store.snapshot(first.hold.batch_id)) == (10, 0, 0)
    assert (await store.snapshot(second.hold.batch_id)).status == "failed"
    assert (await store.claim(LEASE)).hold == Hold(third, 2)


async def test_nothing_comes_back_after_a_flush(store, server):
    """
    The holder of a batch that is gone is told so, and makes no key.
    """
    claim = await claimed(store, name="name")
    await store.save(claim.hold, saving([0]))
    server.client.flushall()
    answers = await every_verb(store, claim.hold)

    assert answers == [None, None, None, None, "lost", None, None, None, "lost", None]
    assert server.client.dbsize() == 0


async def test_name_of_a_lost_record_is_free(store, server):
    """
    What a name stands for is gone, so the name can be given again.
    """
    batch_id = await created(store, "name")
    server.client.delete(key_of(store, batch_id, "rec"))
    answer = await store.create(a_batch(store, "name"), limit=10)

    assert answer.is_new
    assert answer.snapshot.batch_id != batch_id


async def test_queue_forgets_what_cannot_be_carried_out(store, server):
    """
    Batches whose record or operations are lost are claimed by nobody.
    """
    one, other = await created(store), await created(store)
    server.client.delete(key_of(store, one, "rec"), key_of(store, other, "ops"))
    claim = await store.claim(LEASE)

    assert claim is None
    assert server.client.exists(key_of(store, one, "queue"), key_of(store, other, "queue")) == 0


async def test_unknown_version_is_left_alone(store, server):
    """
    A record that a later version has written is neither read nor changed.
    """
    claim = await claimed(store, name="name")
    record = key_of(store, claim.hold.batch_id, "rec")
    server.client.hset(record, "schema", "99")
    before = server.client.hgetall(record)
    server.client.zadd(key_of(store, claim.hold.batch_id, "queue"), {claim.hold.batch_id: 0})
    answers = await every_verb(store, claim.hold)
    for batch in (a_batch(store, "name"), a_batch(store, batch_id=claim.hold.batch_id)):
        with pytest.raises(StoreUnavailable, match="Another version"):
            await store.create(batch, limit=10)

    assert answers == [None, None, None, None, "lost", None, None, None, "lost", None]
    assert server.client.hgetall(record) == before


# What is kept, for how long, and where.


async def test_end_erases_what_is_needed_no_longer(store, server):
    """
    Operations and caller are gone; what is left lives as long as results do.
    """
    completed, failed = await claimed(store, name="name"), await claimed(store, name="other")
    await store.save(completed.hold, saving(range(10), ends=True))
    await store.save(failed.hold, saving([0]))
    await store.fail(failed.hold, "error")
    for hold in (completed.hold, failed.hold):
        await store.release(hold, 0)

    for batch_id in (completed.hold.batch_id, failed.hold.batch_id):
        assert server.client.hget(key_of(store, batch_id, "rec"), "caller") is None
        gone = [key_of(store, batch_id, kind) for kind in ("ops", "lease", "queue")]
        assert server.client.exists(*gone) == 0
    left = list(server.client.scan_iter())
    assert len(left) == 6
    assert all(server.client.pttl(key) <= TTL * 1000 for key in left)


async def test_f54_first_results_of_an_end_that_is_none_have_a_time_to_live(store, server):
    """
    F54: the batch goes on, and if nobody takes it over, nothing is left of it.
    """
    claim = await claimed(store)
    standing = await store.save(claim.hold, saving([0], ends=True))

    assert standing == "lost"
    assert server.client.pttl(key_of(store, claim.hold.batch_id, "res")) > 0


@pytest.mark.parametrize(("retry_ttl", "expected"), [(10, 10), (600, TTL)])
async def test_operations_live_on_where_some_have_not_succeeded(store, server, retry_ttl, expected):
    """
    For as long as they may be tried again, but not for longer than there are results.
    """
    await store.open(TTL, retry_ttl)
    claim = await claimed(store)
    await store.save(claim.hold, saving(range(10), "failed", ends=True))
    left = server.client.pttl(key_of(store, claim.hold.batch_id, "ops"))

    assert expected - 10 < left / 1000 <= expected
    assert server.client.hget(key_of(store, claim.hold.batch_id, "rec"), "caller") is None


async def test_operations_of_an_unknown_version_are_left_alone(store, server):
    """
    F52: nobody tries again what he may not understand.
    """
    await store.open(TTL, TTL)
    claim = await claimed(store)
    await store.save(claim.hold, saving(range(10), "failed", ends=True))
    before = await store.remains(claim.hold.batch_id)
    server.client.hset(key_of(store, claim.hold.batch_id, "rec"), "schema", "99")

    assert before is not None
    assert await store.remains(claim.hold.batch_id) is None


async def test_batch_lives_on_while_something_happens(store, server):
    """
    Saving and claiming put off the end of a batch that takes long.
    """
    claim = await claimed(store)
    await store.save(claim.hold, saving([0]))
    keys = [key_of(store, claim.hold.batch_id, kind) for kind in ("rec", "ops", "res", "queue")]

    def let_a_week_pass():
        server.client.hset(keys[0], "kept_at", "0")
        for key in keys:
            server.client.expire(key, 10)

    let_a_week_pass()
    await store.save(claim.hold, saving([1]))
    after_saving = [server.client.ttl(key) for key in keys]
    await store.release(claim.hold, 0)
    let_a_week_pass()
    await store.claim(LEASE)
    after_claiming = [server.client.ttl(key) for key in keys]

    assert min(after_saving) > WEEK - 60
    assert min(after_claiming) > WEEK - 60


async def test_held_batch_is_looked_at_again_when_its_lease_ends(store, server):
    """
    A claim that finds a batch held puts it off, so that it is not in the way of others.
    """
    batch_id = await created(store)
    claim = await store.claim(SHORT)
    await store.save(claim.hold, saving(lease=LEASE))
    queue = key_of(store, batch_id, "queue")
    seconds, _ = server.client.time()

    async def is_put_off():
        assert await store.claim(LEASE) is None
        return server.client.zscore(queue, batch_id) > (seconds + LEASE / 2) * 1_000_000

    assert await eventually(is_put_off)


async def test_limit_counts_other_shards_only_where_need_be(store):
    """
    A shard that has its share asks how many the others have.
    """
    ids = [store.new_id("same shard") for _ in range(16)]
    for batch_id in ids:
        await store.create(a_batch(store, batch_id=batch_id), limit=17)
    last = await store.create(a_batch(store), limit=17)

    assert last.is_new
    with pytest.raises(Overloaded):
        await store.create(a_batch(store, batch_id=store.new_id("same shard")), limit=17)


@pytest.mark.parametrize(
    "make", [MemoryStore, lambda: RedisStore("redis://localhost")], ids=["memory", "redis"]
)
def test_no_id_looks_like_an_option(make):
    """
    ``asgi-batch watch -x…`` would ask for a batch that way; one of 64 random ids begins like that.
    """
    firsts = {make().new_id(*names)[0] for names in ((), ("key",), (None, "Ada")) * 700}

    assert len(firsts) > 10
    assert "-" not in firsts


async def test_batch_costs_few_commands(store, server):
    """
    A thousand operations whose results are saved by the hundred take a tenth of a command each.
    """
    server.client.config_resetstat()
    claim = await claimed(store, name="name", total=1000)
    for first in range(0, 1000, 100):
        await store.save(
            claim.hold, saving(range(first, first + 100), allowed=first, ends=first == 900)
        )
    stats = server.client.info("commandstats")
    calls = sum(each["calls"] for name, each in stats.items() if "config" not in name)

    assert calls <= 100


# Several at once.


async def test_one_of_many_submissions_of_a_name_is_new(store):
    """
    All get the same batch.
    """
    answers = []

    async def submit():
        answers.append(await store.create(a_batch(store, "name"), limit=100))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(submit)

    assert sum(answer.is_new for answer in answers) == 1
    assert len({answer.snapshot.batch_id for answer in answers}) == 1


async def test_batch_is_claimed_by_one_of_many(store):
    """
    As many claims as there are batches succeed, each with another one.
    """
    ids = {await created(store) for _ in range(10)}
    claims = []

    async def claim():
        claims.append(await store.claim(LEASE))

    async with anyio.create_task_group() as tasks:
        for _ in range(30):
            tasks.start_soon(claim)

    held = [each.hold.batch_id for each in claims if each is not None]
    assert sorted(held) == sorted(ids)


# Redis Cluster.


async def test_all_steps_stay_in_one_slot(tmp_path):
    """
    A node of a cluster refuses whatever touches two slots.
    """
    # The bus would otherwise take a port that the system may have given to a connection.
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with redis_server(tmp_path, *options) as proc:
        proc.client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        await until(lambda: b"cluster_state:ok" in proc.client.execute_command("CLUSTER", "INFO"))
        async with opened(proc.url) as store:
            named = await created(store, "name")
            again = await store.create(a_batch(store, "name"), limit=0)
            holds = [(await claimed(store)).hold for _ in range(20)]
            answers = [await every_verb(store, hold) for hold in holds]
            last = await claimed(store, name="another")
            standing = await store.save(last.hold, saving(range(10), ends=True))

    assert again.snapshot.batch_id == named
    assert all(answer[4] == "held" for answer in answers)
    assert standing == "held"


# Settings.


async def test_unsafe_eviction_is_refused(server):
    """
    Where Redis may throw batches away, a store starts only when it is told to.
    """
    server.config(maxmemory_policy="allkeys-lru")
    try:
        with pytest.raises(ConfigurationError, match="unsafe_eviction_policy"):
            await RedisStore(server.url).open(TTL)
        async with opened(server.url, allow_unsafe_eviction=True) as bold:
            assert await bold.claim(LEASE) is None
    finally:
        server.config(maxmemory_policy="noeviction")


async def test_wrong_password_is_said_and_not_tried_on_and_on(fragile):
    """
    The error names the cause, and does not name the password.
    """
    proc, _ = fragile
    proc.client.acl_setuser("someone", enabled=True, passwords=["+right"], categories=["+@all"])
    with pytest.raises(ConfigurationError, match="refuses the user or password") as caught:
        await RedisStore(f"redis://someone:wrong@{HOST}:{proc.port}").open(TTL)

    assert "wrong" not in str(caught.value).replace("invalid username-password", "")
    assert proc.client.info("errorstats")["errorstat_WRONGPASS"]["count"] <= 3


async def test_user_without_scripts_is_refused(fragile):
    """
    A user who may not run scripts is noticed at the start.
    """
    proc, _ = fragile
    proc.client.acl_setuser(
        "weak", enabled=True, passwords=["+pw"], categories=["+@all", "-@scripting"], keys=["*"]
    )
    with pytest.raises(ConfigurationError, match="lets this user do too little"):
        await RedisStore(f"redis://weak:pw@{HOST}:{proc.port}").open(TTL)


async def test_tls_to_a_server_without_it_is_refused():
    """
    The error names TLS.
    """

    async def greet(_, writer):
        writer.write(b"-ERR this is no TLS\r\n")
        writer.close()

    async with await asyncio.start_server(greet, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConfigurationError, match="TLS"):
            await RedisStore(f"rediss://{HOST}:{port}").open(TTL)


async def test_url_does_not_change_how_the_store_talks(server):
    """
    Options that would break the store are overruled, others are not.
    """
    async with opened(f"{server.url}?decode_responses=true&protocol=3&client_name=me") as store:
        claim = await claimed(store)
        names = [client["name"] for client in server.client.client_list()]

    assert claim.caller == b"caller"
    assert "me" in names


async def test_closed_store_does_not_answer(server):
    """
    It says so, before it was opened and after.
    """
    store = RedisStore(server.url)
    await store.aclose()

    with pytest.raises(StoreUnavailable, match="not open"):
        await store.snapshot(UNKNOWN)


async def test_hostile_ids_reach_no_server(store, server):
    """
    What is no batch id is answered without asking.
    """
    server.client.config_resetstat()
    for batch_id in ("{ab:0}:b:" + UNKNOWN, "*" * 32, "a" * 32 + "\r\nFLUSHALL", "../" * 10, "a"):
        await every_verb(store, Hold(batch_id, 1))
    asked = server.client.info("commandstats")

    # One claim of any batch each is no question about this one.
    assert asked["cmdstat_time"]["calls"] == asked["cmdstat_zrange"]["calls"] / 32 == 5
    assert set(asked) == {"cmdstat_time", "cmdstat_zrange", "cmdstat_config|resetstat"}


@pytest.mark.parametrize("batch_id", ["{x}", "a" * 65, ""])
async def test_batch_with_a_hostile_id_is_not_kept(store, batch_id):
    """
    Ids come from the store.
    """
    with pytest.raises(ValueError, match="new_id"):
        await store.create(a_batch(store, batch_id=batch_id), limit=1)


async def test_batch_in_the_shard_of_another_name_is_not_kept(store):
    """
    A batch and its name share a shard.
    """
    ids = (store.new_id() for _ in range(1000))
    misplaced = next(each for each in ids if not is_at_home(each, "name", ""))

    with pytest.raises(ValueError, match="same names"):
        await store.create(a_batch(store, "name", batch_id=misplaced), limit=1)


def test_trio_is_refused():
    """
    redis-py is for asyncio only.
    """
    store = RedisStore("redis://localhost")

    with pytest.raises(ConfigurationError, match="runs trio"):
        trio.run(store.open, TTL)


def test_every_process_sees_every_batch():
    """
    A batch that is not there is nowhere.
    """
    store = RedisStore("redis://localhost")

    assert store.durability == "store"
    assert not store.is_elsewhere(UNKNOWN)


@pytest.mark.parametrize("version", ["6.2.14", "", "unstable"])
def test_old_server_is_refused(version):
    """
    Scripts have flags from 7.0 on.
    """
    memory = {"maxmemory_policy": "noeviction"}

    with pytest.raises(ConfigurationError, match=r"needs 7\.0"):
        _check_server({"redis_version": version}, memory, is_eviction_allowed=False)


@pytest.mark.parametrize("url", ["redis://localhost:port", "redis://h/0?db=x", "http://localhost"])
def test_url_that_names_no_server_is_refused(url):
    """
    The error comes before anything is tried.
    """
    with pytest.raises(ConfigurationError, match="store: "):
        RedisStore(url)


@pytest.mark.parametrize("prefix", ["", "{a}", "a:b", "ä", "a" * 33])
def test_prefix_that_could_move_keys_is_refused(prefix):
    """
    Braces would change the slot.
    """
    with pytest.raises(ConfigurationError, match="prefix"):
        RedisStore("redis://localhost", prefix=prefix)


@pytest.mark.parametrize("url", ["redis://localhost", "rediss://localhost", "unix:///tmp/x"])
def test_one_door_opens_redis(url):
    """
    All three ways to name a Redis server lead to the Redis store.
    """
    assert isinstance(open_store(url), RedisStore)


def test_one_door_opens_memory_and_nothing_else():
    """
    What is unknown is refused, with what to write instead and without what may be secret.
    """
    with pytest.raises(ConfigurationError, match="redis://host:6379/0"):
        open_store("postgres://localhost")

    assert isinstance(open_store("memory://"), MemoryStore)


def test_missing_package_is_named(monkeypatch):
    """
    Without redis-py, the error says what to install.
    """
    monkeypatch.setitem(sys.modules, "asgi_batch.stores.redis", None)

    with pytest.raises(ConfigurationError, match=r"pip install asgi-batch\[redis\]"):
        open_store("redis://localhost")


async def test_t42_a_claim_tells_how_long_nothing_has_happened(store, server):
    """
    T42: by the server's clock, since whoever claims may have one of its own.
    """
    batch_id = await created(store)
    record = key_of(store, batch_id, "rec")
    hour = 3600 * 1_000_000
    server.client.hset(record, "updated_at", int(server.client.hget(record, "updated_at")) - hour)
    claim = await store.claim(LEASE, batch_id)

    assert 3600.0 <= claim.idle < 3600.0 + LEASE


async def test_f46_results_of_chunks_that_redis_has_lost_are_made_again(store, server):
    """
    F46: their batch does not end without them, though their holders have gone long ago.
    """
    batch_id = await created(store, chunks=[b"a", b"b"], chunk_size=5)
    claims = [await store.claim(LEASE, batch_id, chunk) for chunk in (0, 1)]
    standings = [await store.save(claims[0].hold, saving(range(5), ends=True))]
    server.client.hdel(key_of(store, batch_id, "res"), "2", "3")
    server.client.hincrby(key_of(store, batch_id, "rec"), "succeeded", -2)
    standings.append(await store.save(claims[1].hold, saving(range(5, 10), ends=True)))
    between = await store.snapshot(batch_id)
    again = await store.claim(LEASE, batch_id, 0)
    other = await store.claim(LEASE, batch_id, 1)
    standings.append(await store.save(again.hold, saving((2, 3), ends=True)))
    standings.append(await store.save(other.hold, saving(ends=True)))
    last = await store.snapshot(batch_id)

    assert standings == ["ended", "ended", "ended", "held"]
    assert (between.is_finished, again.hold.epoch, again.finished) == (False, 2, {0, 1, 4})
    assert (last.status, last.succeeded) == ("completed", 10)


@pytest.mark.parametrize("end", ["fail", "complete"])
async def test_nothing_of_a_divided_batch_is_in_line_after_its_end(store, server, end):
    """
    Neither in that of batches nor in that of chunks; its leases are gone.
    """
    batch_id = await created(store, chunks=[b"a", b"b"], chunk_size=5)
    claims = [await store.claim(LEASE, batch_id, chunk) for chunk in (0, 1)]
    for claim in claims:
        if end == "fail":
            await store.fail(claim.hold, "error")
        else:
            await store.save(claim.hold, saving(claim.indexes, ends=True))

    assert (await store.snapshot(batch_id)).is_finished
    for kind in ("*:queue", "*:chunks", "*:lease", "*:ops"):
        assert list(server.client.scan_iter(kind)) == []
