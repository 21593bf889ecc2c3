"""
The Redis store under the faults F11, F38 to F44, F47, F49, F50 and F52 to F54: no call is too long.
"""

import json
import os
import subprocess
import sys
import time

import anyio
import pytest
import redis

from asgi_batch._core.records import Hold
from asgi_batch.errors import ConfigurationError, StoreFull, StoreUnavailable
from asgi_batch.stores import _redis_scripts as scripts
from asgi_batch.stores._redis_errors import is_passing
from asgi_batch.stores.redis import RedisStore
from fault_proxy import FaultProxy
from redis_server import redis_cluster, redis_server, wait_until
from redis_support import (
    BOUND,
    SOON,
    TTL,
    UNKNOWN,
    assert_pool_is_whole,
    every_verb,
    held_up,
    how_long,
    key_of,
    opened,
)
from servers import HOST, free_port, kill, start
from store_support import (
    LEASE,
    a_batch,
    claimed,
    counts,
    created,
    eventually,
    saving,
)
from support import until
from wide import widely

# The Redis store on the event loops that it runs on.
KINDS = ["redis-asyncio", *widely("redis-uvloop")]


@pytest.fixture
def fragile(tmp_path):
    """
    A server of its own, which a test may hurt for good.
    """
    with redis_server(tmp_path / "redis") as proc:
        yield proc


# F38: a reply is lost after the script has run.


async def _create(store, hold, batch):
    answer = await store.create(batch, limit=100)
    return answer.is_new, answer.is_same, answer.snapshot.batch_id == batch.batch_id


async def _claim(store, hold, batch):
    await store.release(hold, 0)
    claim = await store.claim(LEASE, hold.batch_id)
    return claim.hold.epoch, claim.snapshot.version


async def _save(store, hold, batch):
    return await store.save(hold, saving([0, 1], trial=2, allowed=3))


async def _release(store, hold, batch):
    return await store.release(hold, 4)


async def _cancel(store, hold, batch):
    snapshot, is_unheard = await store.cancel(hold.batch_id)
    return snapshot.status, is_unheard, snapshot.version


async def _fail(store, hold, batch):
    return await store.fail(hold, "error")


# Each with what its caller is answered, and what of the record must then be so.
_VERBS = {
    "CREATE": (_create, (True, True, True), {}),
    "CLAIM": (_claim, (2, 1), {"epoch": "2", "version": "1"}),
    "SAVE": (
        _save,
        "held",
        {"succeeded": "2", "trials": "2 ", "allowed": "3", "version": "2", "epoch": "1"},
    ),
    "RELEASE": (_release, None, {"allowed": "4", "version": "1", "epoch": "1"}),
    "CANCEL": (_cancel, ("cancelled", True, 2), {"status": "cancelled", "version": "2"}),
    "FAIL": (_fail, None, {"status": "failed", "error": "error", "version": "2"}),
}


def test_f38_every_script_has_a_row():
    """
    F38: a script that is added is tried with a lost reply, too.
    """
    known = {name for name, each in vars(scripts).items() if isinstance(each, scripts.Script)}

    assert {*_VERBS, "POSTPONE"} == known


async def test_f38_what_was_told_in_a_lost_reply_is_told_again(far_store, server, proxy):
    """
    F38: a batch whose turn it is waits for as long as if somebody had been told, and no longer.
    """
    batch_id = await created(far_store)
    proxy.drop_reply_to(scripts.POSTPONE.sha.encode())
    told = [await far_store.overdue(0.3)]
    told.append(await eventually(lambda: far_store.overdue(0.3)))

    assert proxy.dropped == 1
    assert told == [[], [(batch_id, None)]]


@pytest.mark.parametrize("verb", _VERBS)
async def test_f38_a_lost_reply_changes_neither_answer_nor_effect(far_store, server, proxy, verb):
    """
    F38: the script runs twice, and its caller and the record cannot tell.
    """
    act, answer, record = _VERBS[verb]
    claim = await claimed(far_store)
    new = a_batch(far_store, "name")
    server.client.config_resetstat()
    proxy.drop_reply_to(getattr(scripts, verb).sha.encode())
    told = await act(far_store, claim.hold, new)
    calls = server.client.info("commandstats")["cmdstat_evalsha"]["calls"]
    kept = server.client.hgetall(key_of(far_store, claim.hold.batch_id, "rec"))

    assert proxy.dropped == 1
    # That of the claim comes after a release.
    assert calls == 2 + (verb == "CLAIM")
    assert told == answer
    assert {name: kept[name.encode()].decode() for name in record} == record
    assert len(list(server.client.scan_iter("*:rec"))) == 1 + (verb == "CREATE")


# F39: what a network can do.


async def _ask_all(store, ids):
    """
    Ask for many batches at once; each answer with the id that was asked for.
    """
    seen = []

    async def ask(batch_id):
        try:
            seen.append((batch_id, (await store.snapshot(batch_id)).batch_id))
            claim = await store.claim(LEASE, batch_id)
        except StoreUnavailable:
            return
        if claim is not None:
            seen.append((batch_id, claim.caller.decode()))

    async with anyio.create_task_group() as tasks:
        for batch_id in ids:
            tasks.start_soon(ask, batch_id)
    return seen


async def _named_after_their_callers(store, count=8):
    """
    Ids of batches whose callers carry their ids, so that a claim shows whose answer it is.
    """
    ids = [store.new_id() for _ in range(count)]
    for batch_id in ids:
        await created(store, batch_id=batch_id, caller=batch_id.encode())
    return ids


def _drop_requests(proxy):
    proxy.drop_request_with(b"EVALSHA")


def _drop_replies(proxy):
    proxy.drop_reply_to(b"EVALSHA")


def _slow(proxy):
    proxy.latency = 0.15


def _slice(proxy):
    proxy.piece = 1


_FAULTS = {
    "request dropped": _drop_requests,
    "reply dropped": _drop_replies,
    "reset": FaultProxy.reset,
    "half-open": FaultProxy.half_close,
    "slices of one byte": _slice,
    "latency": _slow,
}


@pytest.mark.parametrize("fault", _FAULTS)
async def test_f39_a_bad_network_delays_and_mixes_nothing_up(far_store, server, proxy, fault):
    """
    F39: all calls are answered, each with its own batch, and each batch is claimed once.
    """
    ids = await _named_after_their_callers(far_store)
    _FAULTS[fault](proxy)
    with anyio.fail_after(6 * SOON):
        seen = await _ask_all(far_store, ids)

    assert sorted(seen) == sorted([(each, each) for each in ids] * 2)
    for batch_id in ids:
        assert server.client.hget(key_of(far_store, batch_id, "rec"), "epoch") == b"1"
    assert_pool_is_whole(far_store)


async def test_f39_a_reset_in_the_middle_of_calls_is_got_over(far_store, server, proxy):
    """
    F39: connections that die under way are replaced, and no answer is taken for another.
    """
    ids = await _named_after_their_callers(far_store, 40)
    seen = []

    async def ask():
        seen.extend(await _ask_all(far_store, ids))

    proxy.latency = 0.01
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        for _ in range(3):
            await anyio.sleep(0.03)
            proxy.reset()
    proxy.latency = 0.0
    after = [(await far_store.snapshot(each)).batch_id for each in ids]

    assert seen
    assert all(asked == answered for asked, answered in seen)
    assert after == ids
    assert_pool_is_whole(far_store)


async def test_f39_a_network_that_swallows_everything_is_given_up_in_time(far_store, proxy):
    """
    F39: where nothing comes back, each call ends in time; afterwards all goes on.
    """
    ids = await _named_after_their_callers(far_store)
    proxy.is_silent = True
    wait = await how_long(far_store.snapshot(ids[0]))
    proxy.is_silent = False
    proxy.reset()
    seen = await _ask_all(far_store, ids)

    assert wait <= SOON
    assert sorted(seen) == sorted([(each, each) for each in ids] * 2)


# F40, F49, F50: the pool.


async def test_f40_a_frozen_server_holds_nobody_up(fragile):
    """
    F40: each verb ends in time while the server stands still, and all are answered afterwards.
    """
    async with opened(fragile.url) as store:
        claim = await claimed(store)
        hold = claim.hold
        calls = (
            lambda: store.snapshot(hold.batch_id),
            lambda: store.results(hold.batch_id, after=-1, limit=5, outcome=None),
            lambda: store.claim(LEASE),
            lambda: store.save(hold, saving([0])),
            lambda: store.create(a_batch(store), limit=10),
            lambda: store.cancel(hold.batch_id),
            lambda: store.release(hold, 0),
            lambda: store.fail(hold, "error"),
        )
        waits = []

        async def wait(call):
            waits.append(await how_long(call()))

        with fragile.frozen():
            async with anyio.create_task_group() as tasks:
                for call in calls:
                    tasks.start_soon(wait, call)
            waits.append(await how_long(store.snapshot(hold.batch_id)))
        start = anyio.current_time()
        snapshot = await store.snapshot(hold.batch_id)
        recovery = anyio.current_time() - start

        assert len(waits) == len(calls) + 1
        assert max(waits) <= SOON
        assert snapshot.batch_id == hold.batch_id
        assert recovery <= BOUND
        assert_pool_is_whole(store)


async def test_f40_an_end_that_comes_while_it_is_sent_is_heard(fragile):
    """
    F40: a process that stands still for longer than a call may take gives it up as it goes on.
    """
    async with opened(fragile.url) as store:
        batch_id = await created(store)
        with fragile.frozen(), held_up(BOUND):
            wait = await how_long(store.snapshot(batch_id))

        assert wait <= SOON
        assert_pool_is_whole(store)


async def test_f49_a_pool_that_is_used_up_is_said_in_time(server):
    """
    F49: of 200 calls on 4 connections that do not come back, those that wait give up after a
    second and are told to try again; the pool is whole in the end.
    """
    waits = []

    async def wait(store):
        waits.append(await how_long(store.snapshot(UNKNOWN)))

    async with (
        FaultProxy(server.port).running() as proxy,
        opened(f"redis://{HOST}:{proxy.port}", max_connections=4) as store,
    ):
        proxy.is_silent = True
        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(wait, store)
        proxy.is_silent = False
        proxy.reset()

        assert await store.snapshot(UNKNOWN) is None
        assert_pool_is_whole(store)
    waits.sort()

    assert len(waits) == 200
    # Those without a connection give up first, and all but three are without one: the fourth is
    # for those who hold batches.
    assert waits[196] < waits[197]
    assert waits[196] < BOUND
    assert waits[-1] <= SOON


async def test_f49_many_calls_share_few_connections(server):
    """
    F49: 200 calls at once on 4 connections are all answered, over those four.
    """
    async with opened(server.url, max_connections=4) as store:
        ids = await _named_after_their_callers(store, 100)
        seen = await _ask_all(store, ids)
        clients = [each for each in server.client.client_list() if each["name"] != "probe"]

        assert sorted(seen) == sorted([(each, each) for each in ids] * 2)
        # One is that of the test.
        assert len(clients) <= 5
        assert_pool_is_whole(store)


async def test_f50_ten_thousand_cancelled_calls_leave_no_trace(store, server):
    """
    F50: the pool is whole, its connections are the same, nothing spins, and no answer is mixed up.
    """
    ids = await _named_after_their_callers(store, 20)
    connections = server.client.info("stats")["total_connections_received"]
    seen, ends = [], []

    async def look(batch_id):
        try:
            seen.append((batch_id, (await store.snapshot(batch_id)).batch_id))
        finally:
            ends.append(batch_id)

    for number in range(200):
        async with anyio.create_task_group() as tasks:
            for each in range(50):
                tasks.start_soon(look, ids[each % len(ids)])
            for _ in range(number % 15):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    after = [(await store.snapshot(each)).batch_id for each in ids]
    busy = time.process_time()
    await anyio.sleep(0.5)
    busy = time.process_time() - busy

    # A task that is cancelled before its first step has made no call.
    assert len(ends) > 8000
    assert len(seen) < len(ends)
    assert all(asked == answered for asked, answered in seen)
    assert after == ids
    assert busy < 0.25
    assert server.client.info("stats")["total_connections_received"] < connections + 10
    assert_pool_is_whole(store)


# F41 to F44: Redis loses something, or has no room.


async def test_f41_what_was_acknowledged_survives_a_crash_of_redis(tmp_path):
    """
    F41: batch, results and lease are there after kill -9 and a restart, and the holder goes on.
    """
    with redis_server(tmp_path, appendonly=True) as proc:
        async with opened(proc.url) as store:
            claim = await claimed(store, name="name")
            await store.save(claim.hold, saving([0, 1]))
            proc.kill()
            wait = await how_long(store.save(claim.hold, saving([2])))
            with proc.revived():
                standing = await store.save(claim.hold, saving([2]))
                snapshot = await store.snapshot(claim.hold.batch_id)
                again = await store.create(a_batch(store, "name"), limit=10)
                other = await store.claim(LEASE)

    assert wait <= SOON
    assert standing == "held"
    assert counts(snapshot) == (3, 0, 0)
    assert again.snapshot.batch_id == claim.hold.batch_id
    assert other is None


async def test_f42_what_is_gone_stays_gone(store, server):
    """
    F42: after FLUSHALL every verb says that there is no batch, and none makes a key.
    """
    claim = await claimed(store, name="name")
    await store.save(claim.hold, saving([0]))
    server.client.flushall()
    answers = await every_verb(store, claim.hold)

    assert answers == [None, None, None, None, None, "lost", None, None, None, "lost"]
    assert server.client.dbsize() == 0


@pytest.mark.parametrize("kind_of_key", ["rec", "ops", "res", "lease", "queue"])
async def test_f42_a_key_that_is_lost_brings_no_other_back(store, server, kind_of_key):
    """
    F42: without its record a batch is gone; without another key it ends as it can. None of its
    keys lives for ever, and the record is not made anew.
    """
    claim = await claimed(store, name="name")
    await store.save(claim.hold, saving([0]))
    server.client.delete(key_of(store, claim.hold.batch_id, kind_of_key))
    standing = await store.save(claim.hold, saving([1]))
    ended = await store.save(claim.hold, saving(range(2, 10), ends=True))
    snapshot = await store.snapshot(claim.hold.batch_id)

    if kind_of_key == "rec":
        assert (standing, ended, snapshot) == ("lost", "lost", None)
        assert not server.client.exists(key_of(store, claim.hold.batch_id, "rec"))
    else:
        assert (standing, ended, snapshot.status) == ("held", "held", "completed")


@pytest.fixture
def full(server):
    """
    Call it to fill the server up; it has room again in the end.
    """
    yield lambda: server.config(maxmemory="1mb")
    server.config(maxmemory=0)


async def _finish(store, hold):
    return await store.save(hold, saving(range(10), ends=True))


async def _renew(store, hold):
    return await store.save(hold, saving(lease=LEASE))


async def _release_and_claim(store, hold):
    await store.release(hold, 0)
    claim = await store.claim(LEASE, hold.batch_id)
    return claim.hold.epoch


async def _cancel_once(store, hold):
    return (await store.cancel(hold.batch_id))[0].status


async def _fail_once(store, hold):
    await store.fail(hold, "error")
    return (await store.snapshot(hold.batch_id)).status


@pytest.mark.parametrize(
    ("act", "answer"),
    [
        (_renew, "held"),
        (_finish, "held"),
        (_release_and_claim, 2),
        (_cancel_once, "cancelled"),
        (_fail_once, "failed"),
    ],
)
async def test_f43_a_full_server_lets_what_it_has_go_on(store, server, full, act, answer):
    """
    F43: renewing, finishing, giving back, claiming, cancelling and failing need no room.
    """
    claim = await claimed(store)
    full()

    assert await act(store, claim.hold) == answer


async def test_f43_a_full_server_takes_no_batch_and_says_why(store, server, full):
    """
    F43: it is full, which is not the same as gone; nothing is left of what it refused.
    """
    full()
    with pytest.raises(StoreFull):
        await store.create(a_batch(store, "name"), limit=10)

    assert server.client.dbsize() == 0


async def test_f43_a_lease_is_renewed_while_the_server_is_full(store, server, full):
    """
    F43: nobody else gets a batch that is held, however long the server is full.
    """
    batch_id = await created(store)
    claim = await store.claim(LEASE / 2, batch_id)
    full()
    await store.save(claim.hold, saving(lease=LEASE))
    left = server.client.pttl(key_of(store, batch_id, "lease"))

    assert left > LEASE * 900
    assert await store.claim(LEASE) is None


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
async def test_f44_a_server_that_may_throw_batches_away_is_refused(server, policy):
    """
    F44: the start fails with the reason, for every policy but one.
    """
    server.config(maxmemory_policy=policy)
    try:
        with pytest.raises(ConfigurationError, match=f'unsafe_eviction_policy.*"{policy}"'):
            await RedisStore(server.url).open(TTL)
    finally:
        server.config(maxmemory_policy="noeviction")


# F47: Redis says that it cannot just now.

# What redis-py asks at the most where nobody asks it to go on.
ONCE = 3


async def test_f47_noscript_is_no_fault(store, server):
    """
    F47: each verb is carried out by a server that has forgotten all scripts.
    """
    hold = (await claimed(store)).hold
    for act, _, _ in _VERBS.values():
        server.client.script_flush()
        await act(store, hold, a_batch(store))
        hold = (await claimed(store)).hold

    assert server.client.info("errorstats")["errorstat_NOSCRIPT"]["count"] >= len(_VERBS)


def _is_busy(proc):
    try:
        return not proc.client.ping()
    except redis.ResponseError as error:
        return str(error).startswith("BUSY")


async def test_f47_busy_is_waited_for_and_then_said(fragile):
    """
    F47: a short script of somebody else delays a call, and a long one makes it fail in time.
    """
    fragile.config(busy_reply_threshold=20)
    async with opened(fragile.url) as store, anyio.create_task_group() as tasks:
        batch_id = await created(store)
        other = await anyio.connect_tcp(HOST, fragile.port)
        async with other:
            await other.send(b"EVAL 'while true do end' 0\r\n")
            await until(lambda: _is_busy(fragile))
            wait = await how_long(store.cancel(batch_id))
            answers = []

            async def cancel():
                answers.append(await store.cancel(batch_id))

            tasks.start_soon(cancel)
            await anyio.sleep(0.1)
            fragile.client.script_kill()
            await until(lambda: answers)

    assert wait <= SOON
    assert answers[0][0].status == "cancelled"


async def test_f47_loading_is_waited_for_and_then_said(tmp_path):
    """
    F47: a server that is still reading its data is asked until time is up, and answers later.
    """
    with redis_server(tmp_path, "--save", "3600 1") as proc:
        async with opened(proc.url) as store:
            batch_id = await created(store)
            proc.client.mset({f"{{x}}{number}": os.urandom(1100) for number in range(500)})
            proc.client.save()
            proc.kill()
            # Ten milliseconds a key, and it answers after each, as no two are alike.
            slowly = (
                "--key-load-delay",
                "10000",
                "--loading-process-events-interval-bytes",
                "1024",
            )
            with proc.revived(*slowly) as slow:
                wait = await how_long(store.snapshot(batch_id))
                tries = slow.client.info("errorstats")["errorstat_LOADING"]["count"]
                is_loading = slow.client.info("persistence")["loading"]
                wait_until(lambda: not slow.client.info("persistence")["loading"])
                snapshot = await store.snapshot(batch_id)

    assert wait <= SOON
    assert tries > ONCE
    assert is_loading
    assert snapshot.batch_id == batch_id


async def test_f47_misconf_is_waited_for_and_then_said(tmp_path):
    """
    F47: a server that cannot save to its disk changes nothing, is asked until time is up, and is
    as good as any once it can.
    """
    with redis_server(tmp_path, "--save", "3600 1000000") as proc:
        async with opened(proc.url) as store:
            batch_id = await created(store)
            # Where the dump should be, there is something in the way.
            (tmp_path / "dump.rdb").mkdir()
            proc.client.bgsave()
            wait_until(lambda: proc.client.info("persistence")["rdb_last_bgsave_status"] == "err")
            waits = [
                await how_long(store.create(a_batch(store), limit=10)),
                await how_long(store.claim(LEASE)),
            ]
            tries = proc.client.info("errorstats")["errorstat_MISCONF"]["count"]
            status = (await store.snapshot(batch_id)).status
            (tmp_path / "dump.rdb").rmdir()
            proc.client.bgsave()
            wait_until(lambda: proc.client.info("persistence")["rdb_last_bgsave_status"] == "ok")
            claim = await store.claim(LEASE)

    assert max(waits) <= SOON
    assert tries > 2 * ONCE
    assert status == "processing"
    assert claim.hold == Hold(batch_id, 1)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """
    A cluster of one node, and another node that it has met and that owns no slots.
    """
    folder = tmp_path_factory.mktemp("cluster")
    with redis_cluster(folder / "own") as [node], redis_cluster(folder / "other") as [other]:
        other.client.execute_command("CLUSTER", "FLUSHSLOTS")
        bus = other.client.config_get("cluster-port")["cluster-port"]
        node.client.execute_command("CLUSTER", "MEET", HOST, other.port, bus)
        name = other.client.execute_command("CLUSTER", "MYID")
        wait_until(lambda: name in node.client.execute_command("CLUSTER", "NODES"))
        yield node, other


def _slots(node, *words):
    return node.client.execute_command("CLUSTER", *words)


@pytest.mark.parametrize("error", ["CLUSTERDOWN", "MOVED", "ASK", "TRYAGAIN"])
async def test_f47_a_cluster_whose_slots_are_on_their_way_is_waited_for_and_then_said(nodes, error):
    """
    F47: CLUSTERDOWN, MOVED, ASK and TRYAGAIN are asked about until time is up, and pass.
    """
    node, _ = nodes
    node.client.flushall()
    node.client.config_resetstat()
    own, others = (_slots(each, "MYID") for each in nodes)
    async with opened(node.url) as store:
        batch_id = await created(store, "name")
        missing = store.new_id("name" if error in ("ASK", "TRYAGAIN") else "another")
        slot = _slots(node, "KEYSLOT", key_of(store, missing, "rec"))
        # Of the five keys of the batch, a claim finds some but not all.
        asked = batch_id if error == "TRYAGAIN" else missing
        call = store.claim if error == "TRYAGAIN" else _snapshot_of(store)
        leave, come_back = {
            "CLUSTERDOWN": (("DELSLOTS", slot), ("ADDSLOTS", slot)),
            "MOVED": (("SETSLOT", slot, "NODE", others), ("SETSLOT", slot, "NODE", own)),
        }.get(error, (("SETSLOT", slot, "MIGRATING", others), ("SETSLOT", slot, "STABLE")))
        _slots(node, *leave)
        wait = await how_long(call(LEASE, asked))
        _slots(node, *come_back)
        wait_until(lambda: b"cluster_state:ok" in _slots(node, "INFO"))
        claim = await store.claim(LEASE, batch_id)
        after = await store.snapshot(missing)

    assert node.client.info("errorstats")[f"errorstat_{error}"]["count"] > ONCE
    assert wait <= SOON
    assert claim.hold == Hold(batch_id, 1)
    assert after is None


def _snapshot_of(store):
    async def ask(_, batch_id):
        return await store.snapshot(batch_id)

    return ask


# F52 to F54: other versions, wrong settings, and the end of the time to live.


async def test_f52_a_record_of_another_version_is_left_alone(store, server):
    """
    F52: no verb reads, changes, prolongs or removes any key of it.
    """
    claim = await claimed(store, name="name")
    await store.save(claim.hold, saving([0]))
    server.client.hset(key_of(store, claim.hold.batch_id, "rec"), "schema", "99")
    queue = key_of(store, claim.hold.batch_id, "queue")
    # Its turn has come, so that a claim comes across it.
    server.client.zadd(queue, {claim.hold.batch_id: 0})
    before = _all_but(queue, server)
    answers = await every_verb(store, claim.hold)
    for batch in (a_batch(store, "name"), a_batch(store, batch_id=claim.hold.batch_id)):
        with pytest.raises(StoreUnavailable, match="Another version"):
            await store.create(batch, limit=10)

    assert answers == [None, None, None, None, None, "lost", None, None, None, "lost"]
    assert _all_but(queue, server) == before
    assert server.client.zrange(queue, 0, -1) == [claim.hold.batch_id.encode()]


def _all_but(left_out, proc):
    """
    What is in each key, and when it ends.
    """
    return {
        key: (proc.client.dump(key), proc.client.pexpiretime(key))
        for key in proc.client.scan_iter()
        if key.decode() != left_out
    }


async def test_f53_a_wrong_password_is_said_once(fragile):
    """
    F53: the start fails with the reason and without the password, after a few tries at the most.
    """
    fragile.client.acl_setuser("someone", enabled=True, passwords=["+right"], categories=["+@all"])
    with pytest.raises(ConfigurationError, match="refuses the user or password") as caught:
        await RedisStore(f"redis://someone:s3cret@{HOST}:{fragile.port}").open(TTL)

    assert "s3cret" not in str(caught.value)
    assert fragile.client.info("errorstats")["errorstat_WRONGPASS"]["count"] <= 3


@pytest.mark.parametrize("right", ["-@scripting", "-evalsha", "-info"])
async def test_f53_a_user_who_may_do_too_little_is_refused(fragile, right):
    """
    F53: whoever may not run scripts or what they need is told so at the start.
    """
    fragile.client.acl_setuser(
        "weak", enabled=True, passwords=["+pw"], categories=["+@all"], keys=["*"]
    )
    fragile.client.execute_command("ACL", "SETUSER", "weak", right)
    with pytest.raises(ConfigurationError, match="lets this user do too little"):
        await RedisStore(f"redis://weak:pw@{HOST}:{fragile.port}").open(TTL)

    assert fragile.client.info("errorstats")["errorstat_NOPERM"]["count"] <= 3


async def test_f53_a_user_whose_scripts_may_do_too_little_is_refused(fragile):
    """
    F53: what a script may not do is noticed at the start, too.
    """
    fragile.client.acl_setuser(
        "weak",
        enabled=True,
        passwords=["+pw"],
        categories=["+@all"],
        commands=["-hmget"],
        keys=["*"],
    )
    with pytest.raises(ConfigurationError, match="refuses what the store asks of it"):
        await RedisStore(f"redis://weak:pw@{HOST}:{fragile.port}").open(TTL)


async def test_f54_nothing_is_left_at_the_end_of_the_time_to_live(server):
    """
    F54: a finished batch is as unknown as any once its time is up, and none of its keys is left.
    """
    store = RedisStore(server.url)
    await store.open(0.3, 0.2)
    try:
        completed, failed = await claimed(store, name="name"), await claimed(store)
        await store.save(completed.hold, saving(range(10), ends=True))
        await store.save(failed.hold, saving(range(10), "failed", ends=True))

        async def is_gone():
            return await store.snapshot(failed.hold.batch_id) is None

        await eventually(is_gone)
        await until(lambda: server.client.dbsize() == 0)
        answers = await every_verb(store, completed.hold)
    finally:
        await store.aclose()

    assert answers == [None, None, None, None, None, "lost", None, None, None, "lost"]
    assert server.client.dbsize() == 0


async def test_f54_a_batch_that_nobody_carries_out_ends_as_a_whole(store, server):
    """
    F54: all keys of an unfinished batch end, too, and at one time.
    """
    claim = await claimed(store, name="name")
    await store.save(claim.hold, saving([0]))
    ends = [
        server.client.pexpiretime(key)
        for key in server.client.scan_iter()
        if not key.endswith(b":lease")
    ]

    assert len(ends) == 5
    assert min(ends) > 0
    assert max(ends) - min(ends) < 60_000


# F11: a process forks.


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_f11_a_forked_process_uses_no_connection_of_its_parent(fragile, tmp_path, loop):
    """
    F11: parent and child ask at the same time, each over its own connections, and each gets the
    answers to its own questions; that the child closes its store closes nothing of the parent's.
    """
    env = {"REDIS": fragile.url, "LOOP": loop}
    process, log_file = start([sys.executable, "-m", "apps.forking"], tmp_path / "fork", env)
    try:
        status = process.wait(60)
    finally:
        kill(process)
    written = log_file.read_text()
    assert "Traceback" not in written, written
    sides = {side["side"]: side for side in map(json.loads, written.splitlines())}

    assert status == 0, written
    assert sides == {
        side: {"side": side, "is_right": True, "is_apart": True} for side in ("parent", "child")
    }


def test_f11_a_store_that_is_not_open_has_no_connection(fragile):
    """
    F11: what is made before a fork, as in an app that is loaded before its workers are, connects
    to nothing.
    """
    before = fragile.client.info("stats")["total_connections_received"]
    RedisStore(fragile.url)

    assert fragile.client.info("stats")["total_connections_received"] == before


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """
    A key and a certificate for it that nobody has signed but itself.
    """
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    names = ("-addext", f"subjectAltName=IP:{HOST}", "-keyout", key, "-out", certificate)
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return key, certificate


@pytest.fixture
def tls_url(certificates, tmp_path):
    """
    Where a Redis server listens that speaks TLS, and nothing else, there.
    """
    key, certificate = certificates
    port = free_port()
    options = ("--tls-port", port, "--tls-cert-file", certificate, "--tls-key-file", key)
    with redis_server(tmp_path, *map(str, options), "--tls-auth-clients", "no"):
        yield f"rediss://{HOST}:{port}"


async def test_f53_a_certificate_that_nobody_vouches_for_is_refused(tls_url):
    """
    F53: the start fails and names TLS and the reason.
    """
    with pytest.raises(ConfigurationError, match=r"by TLS: .*certificate"):
        await RedisStore(tls_url).open(TTL)


async def test_f53_a_certificate_that_is_known_is_taken(tls_url, certificates):
    """
    F53: with TLS as it should be, the store is as any.
    """
    async with opened(f"{tls_url}?ssl_ca_certs={certificates[1]}") as store:
        assert await store.snapshot(await created(store)) is not None


async def test_f11_a_store_that_finds_itself_in_another_process_connects_anew(store, monkeypatch):
    """
    F11: from then on it has connections of its own, and those of its parent stay open.
    """
    batch_id = (await store.create(a_batch(store), limit=100)).snapshot.batch_id
    pool = store._link._pool
    monkeypatch.setattr(store._link, "_process", -1)
    found = await store.snapshot(batch_id)

    assert found.batch_id == batch_id
    assert store._link._pool is not pool
    assert store._link._process == os.getpid()
    await pool.aclose()


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (RuntimeError("unable to perform operation; the handler is closed"), True),
        (RuntimeError("something else"), False),
        (redis.exceptions.ResponseError("BUSY Redis is busy"), True),
        (redis.exceptions.ResponseError("ERR no such command"), False),
        (redis.exceptions.TryAgainError("later"), True),
    ],
)
def test_f47_what_passes_by_itself_is_told_from_what_does_not(error, passes):
    """
    F47: only what a moment may cure is tried again.
    """
    assert is_passing(error) is passes
