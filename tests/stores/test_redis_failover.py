"""
The Redis store when its server is replaced or comes back: F36, F45 and F46, also with Sentinels.
"""

from collections import Counter
from contextlib import contextmanager

import anyio
import pytest

from asgi_batch.errors import ConfigurationError, StoreUnavailable
from asgi_batch.stores import open_store
from asgi_batch.stores._redis_address import address_of
from asgi_batch.stores.redis import RedisStore
from background import App, finished, running, submit
from fault_proxy import FaultProxy
from redis_server import SERVICE, redis_server, sentinel_url, sentinels, wait_until
from redis_support import SOON, TTL, assert_pool_is_whole, how_long, insist, opened
from servers import HOST, free_port
from store_support import LEASE, a_batch, claimed, counts, created, saving
from support import respond, until
from wide import widely

# The Redis store on the event loops that it runs on.
KINDS = ["redis-asyncio", *widely("redis-uvloop")]


@contextmanager
def pair(folder, *options):
    """
    A primary and its replica, which has all that the primary has.
    """
    # It would otherwise wait five seconds for more replicas.
    options = ("--repl-diskless-sync-delay", "0", *options)
    with redis_server(folder / "primary", *options) as primary:
        leader = ("--replicaof", f"{HOST} {primary.port}")
        with redis_server(folder / "replica", *leader, *options) as replica:
            wait_until(lambda: replica.client.info("replication")["master_link_status"] == "up")
            yield primary, replica


def role(proc):
    """
    What a server is just now.
    """
    return proc.client.info("replication")["role"]


def catch_up(primary, replica):
    """
    Wait until the replica has all that the primary has just now.
    """
    offset = primary.client.info("replication")["master_repl_offset"]
    wait_until(lambda: replica.client.info("replication")["slave_repl_offset"] >= offset)


# F45: the server is demoted.


async def test_f45_a_demoted_server_is_waited_for_and_then_said(tmp_path):
    """
    F45: what a replica refuses is tried until time is up, and taken once it is none.
    """
    with redis_server(tmp_path) as proc:
        async with opened(proc.url) as store:
            proc.client.replicaof(HOST, free_port())
            waits = [
                await how_long(store.create(a_batch(store), limit=10)),
                await how_long(store.cancel(store.new_id())),
            ]
            refusals = proc.client.info("errorstats")["errorstat_READONLY"]["count"]
            proc.client.replicaof("NO", "ONE")
            answer = await store.create(a_batch(store), limit=10)

            assert_pool_is_whole(store)
    assert max(waits) <= SOON
    # Tried again, and not without a pause.
    assert 2 < refusals < 200
    assert answer.is_new


async def test_f45_a_server_that_steps_in_at_its_address_goes_on(tmp_path):
    """
    F45: where the address leads to the new server, the holder goes on with what it holds.
    """
    with pair(tmp_path) as (primary, replica):
        async with (
            FaultProxy(primary.port).running() as proxy,
            opened(f"redis://{HOST}:{proxy.port}") as store,
        ):
            claim = await claimed(store)
            await store.save(claim.hold, saving([0]))
            catch_up(primary, replica)
            replica.client.replicaof("NO", "ONE")
            primary.client.replicaof(HOST, replica.port)
            # The connections that there are still lead to the old one.
            proxy.target_port = replica.port
            standing = await store.save(claim.hold, saving([1]))
            snapshot = await store.snapshot(claim.hold.batch_id)

    assert standing == "held"
    assert counts(snapshot) == (2, 0, 0)


@pytest.fixture
def watched(tmp_path):
    """
    A primary, its replica, and three Sentinels that watch them.
    """
    with (
        pair(tmp_path) as (primary, replica),
        sentinels(tmp_path / "sentinels", primary) as watchers,
    ):
        yield primary, replica, watchers


async def test_f45_sentinels_name_the_server_that_took_over(watched):
    """
    F45: the primary dies; each call ends in time until another has taken over, and then the
    holder goes on with all that it has saved.
    """
    primary, replica, watchers = watched
    async with opened(sentinel_url(watchers)) as store:
        claim = await claimed(store, name="name")
        await store.save(claim.hold, saving([0]))
        catch_up(primary, replica)
        primary.kill()
        standing, waits = await insist(lambda: store.save(claim.hold, saving([1])))
        again = await store.create(a_batch(store, "name"), limit=10)
        snapshot = await store.snapshot(claim.hold.batch_id)

        assert_pool_is_whole(store)
    assert standing == "held"
    assert max(waits, default=0) <= SOON
    assert again.snapshot.batch_id == claim.hold.batch_id
    assert counts(snapshot) == (2, 0, 0)
    assert role(replica) == "master"


async def test_f45_a_planned_switch_is_followed(watched):
    """
    F45: connections to a server that lives on as a replica are given up, and no write goes there.
    """
    primary, replica, watchers = watched
    async with opened(sentinel_url(watchers)) as store:
        claim = await claimed(store)
        watchers[0].client.execute_command("SENTINEL", "FAILOVER", SERVICE)
        wait_until(lambda: role(primary) == "slave")
        start = anyio.current_time()
        standing, waits = await insist(lambda: store.save(claim.hold, saving([0])))
        recovery = anyio.current_time() - start

    assert standing == "held"
    assert max(waits, default=0) <= SOON
    assert recovery <= 2 * SOON
    assert replica.client.hlen(store._keys.of(claim.hold.batch_id)[2]) == 1


async def test_f45_a_frozen_primary_is_replaced(watched):
    """
    F45: a server that stands still is no longer waited for once another has taken over, and
    nothing is written to it when it wakes.
    """
    primary, replica, watchers = watched
    async with opened(sentinel_url(watchers)) as store:
        claim = await claimed(store)
        catch_up(primary, replica)
        with primary.frozen():
            standing, waits = await insist(lambda: store.save(claim.hold, saving([0])))
        wait_until(lambda: role(primary) == "slave")
        later = [await store.save(claim.hold, saving([index])) for index in range(1, 5)]

    assert [standing, *later] == ["held"] * 5
    assert max(waits, default=0) <= SOON
    assert replica.client.hlen(store._keys.of(claim.hold.batch_id)[2]) == 5


async def test_f45_one_sentinel_of_three_is_enough_to_ask(watched):
    """
    F45: those that are gone and those that stand still are passed over.
    """
    _, _, watchers = watched
    watchers[0].kill()
    with watchers[1].frozen():
        async with opened(sentinel_url(watchers)) as store:
            answer = await store.create(a_batch(store), limit=10)

    assert answer.is_new


async def test_f45_sentinels_that_know_no_such_server_are_named(watched):
    """
    F45: a name that no Sentinel knows fails the start, and says what is unknown, in time.
    """
    _, _, watchers = watched
    store = RedisStore(sentinel_url(watchers).replace(SERVICE, "another"))
    start = anyio.current_time()
    with pytest.raises(StoreUnavailable, match="No Sentinel knows"):
        await store.open(TTL)

    assert anyio.current_time() - start <= SOON


async def test_f45_sentinels_that_are_gone_are_said_in_time():
    """
    F45: where no Sentinel answers, the start fails as it does without a server.
    """
    url = f"redis+sentinel://{HOST}:{free_port()},{HOST}:{free_port()}/mymaster"

    assert await how_long(RedisStore(url).open(TTL)) <= SOON


async def test_f45_passwords_of_sentinels_and_server_differ(tmp_path):
    """
    F45: each is told its own, and nobody the other's.
    """
    server = ("--requirepass", "for-redis", "--masterauth", "for-redis")
    with (
        redis_server(tmp_path / "redis", *server) as primary,
        redis_server(tmp_path / "replica", *server, "--replicaof", f"{HOST} {primary.port}"),
        sentinels(tmp_path / "sentinels", primary, 1, password="for-redis") as [watcher],
    ):
        watcher.client.execute_command("ACL SETUSER", "default", "resetpass", ">for-sentinel")
        where = f"{HOST}:{watcher.port}/{SERVICE}/2"
        url = f"redis+sentinel://:for-redis@{where}?sentinel_password=for-sentinel"
        async with opened(url) as store:
            await created(store)
            (databases,) = await store._link.read(("INFO", "keyspace"))
        wrong = await how_long(RedisStore(f"redis+sentinel://:for-redis@{where}").open(TTL))

    assert set(databases) == {"db2"}
    assert wrong <= SOON


@pytest.mark.parametrize(
    ("url", "sentinels_of_it", "service"),
    [
        ("redis+sentinel://one/name", (("one", 26379),), "name"),
        ("redis+sentinel://one:1,two/a%20b/3", (("one", 1), ("two", 26379)), "a b"),
        ("rediss+sentinel://user:pa%40ss@[::1]:5/name", (("::1", 5),), "name"),
    ],
)
def test_f45_a_url_names_sentinels_and_service(url, sentinels_of_it, service):
    """
    F45: hosts are separated by commas, and the port may be left out.
    """
    address = address_of(url)

    assert (address.sentinels, address.service) == (sentinels_of_it, service)
    assert isinstance(open_store(url), RedisStore)


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://",
        "redis+sentinel://host",
        "redis+sentinel:///name",
        "redis+sentinel://host,,other/name",
        "redis+sentinel://host:port/name",
        "redis+sentinel://host/name/zero",
        "redis+sentinel://user:s3cret@host",
    ],
)
def test_f45_a_url_without_sentinels_or_service_is_refused(url):
    """
    F45: before anything is tried, and without what may be secret.
    """
    with pytest.raises(ConfigurationError, match="store: ") as caught:
        open_store(url)

    assert "s3cret" not in str(caught.value)


# F46: the new server has not got the last writes.


class Counting(App):
    """
    Notes each start, and takes a moment.
    """

    async def __call__(self, scope, receive, send):
        self.starts.append((scope["method"], scope["path"]))
        await anyio.sleep(0.01)
        await respond(send, b"")


@contextmanager
def losing(primary, replica, proxy):
    """
    Within it, the replica no longer hears of what is written; at its end it is the only server.
    """
    replica.client.replicaof("NO", "ONE")
    yield
    proxy.target_port = replica.port
    primary.kill()
    proxy.reset()


async def test_f46_a_failover_that_loses_results_repeats_no_post(tmp_path):
    """
    F46: its holder, whose lease has not ended, goes on, the batch ends, no POST has run twice, and
    the record counts the results that there are.
    """
    app = Counting()
    written = [f"{'POST' if number % 2 else 'GET'} /{number}" for number in range(120)]
    with pair(tmp_path) as (primary, replica):
        async with FaultProxy(primary.port).running() as proxy:
            store = RedisStore(f"redis://{HOST}:{proxy.port}")
            async with running(app, store, lease=30.0, concurrency=4) as background:
                batch_id = await submit(background, *written)
                await until(lambda: len(app.starts) > 30)
                catch_up(primary, replica)
                with losing(primary, replica, proxy):
                    await until(lambda: len(app.starts) > 60)
                # As long as the new server does not answer yet, asking fails.
                await insist(lambda: store.snapshot(batch_id))
                snapshot = await finished(store, batch_id)
                kept = replica.client.hgetall(store._keys.of(batch_id)[2])

    assert snapshot.status == "completed"
    starts = Counter(app.starts)
    assert len(starts) == len(written)
    assert {count for (method, _), count in starts.items() if method == "POST"} == {1}
    assert sum(counts(snapshot)) == len(kept)


async def test_f46_a_batch_that_the_new_server_does_not_know_is_gone(tmp_path):
    """
    F46: its holder stops, and none of its keys is made anew.
    """
    app = Counting()
    with pair(tmp_path) as (primary, replica):
        async with FaultProxy(primary.port).running() as proxy:
            store = RedisStore(f"redis://{HOST}:{proxy.port}")
            async with running(app, store, lease=1.0, concurrency=4) as background:
                with losing(primary, replica, proxy):
                    batch_id = await submit(background, *["POST /"] * 400)
                    await until(lambda: len(app.starts) > 20)
                snapshot, _ = await insist(lambda: store.snapshot(batch_id))
                await until(lambda: not background._holding.carriers)
                started = len(app.starts)
                size = replica.client.dbsize()

    assert snapshot is None
    assert started < 400
    assert size == 0


async def test_f46_a_claim_that_is_lost_is_given_once_more(tmp_path):
    """
    F46: two may then hold one epoch; the one who saved last is known by it, and results count once.
    """
    with pair(tmp_path) as (primary, replica):
        async with (
            FaultProxy(primary.port).running() as proxy,
            opened(f"redis://{HOST}:{proxy.port}") as store,
        ):
            batch_id = await created(store)
            catch_up(primary, replica)
            with losing(primary, replica, proxy):
                first = await store.claim(LEASE, batch_id)
            second, _ = await insist(lambda: store.claim(LEASE, batch_id))
            standings = [
                await store.save(each.hold, saving(range(10), ends=each is second))
                for each in (first, second)
            ]
            snapshot = await store.snapshot(batch_id)

    assert first.hold == second.hold
    assert standings == ["held", "held"]
    assert counts(snapshot) == (10, 0, 0)


# F36: the server is back before the lease ends.


async def test_f36_results_are_kept_back_while_the_server_is_gone(tmp_path):
    """
    F36: what comes up meanwhile is saved later, by the same holder; nothing is lost or run again.
    """
    app = Counting()
    with redis_server(tmp_path, appendonly=True) as proc:
        store = RedisStore(proc.url)
        async with running(app, store, lease=30.0, concurrency=4) as background:
            batch_id = await submit(background, *["POST /"] * 120)
            await until(lambda: len(app.starts) > 30)
            proc.kill()
            # The holder has been told by then that the server is gone.
            await how_long(store.snapshot(batch_id))
            await anyio.sleep(0.5)
            with proc.revived() as again:
                snapshot = await finished_some_time(store, batch_id)
                epoch = again.client.hget(store._keys.of(batch_id)[0], "epoch")

    assert counts(snapshot) == (120, 0, 0)
    assert len(app.starts) == 120
    assert epoch == b"1"


async def finished_some_time(store, batch_id):
    """
    How a batch is after its end, on a server that may not answer at first.
    """
    await insist(lambda: store.snapshot(batch_id))
    return await finished(store, batch_id)
