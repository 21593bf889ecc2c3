"""
The whole contract of a store once more, on a Redis Cluster of several nodes (F48), and what becomes
of batches when nodes are away and slots are moved.
"""

from types import SimpleNamespace

import anyio
import pytest
import redis.cluster

from asgi_batch._core.records import Hold
from asgi_batch.errors import ConfigurationError, Overloaded, StoreUnavailable
from asgi_batch.stores._redis_address import address_of
from asgi_batch.stores._redis_nodes import slot_of
from asgi_batch.stores._shards import shard_of
from asgi_batch.stores.redis import RedisStore
from redis_server import cluster_url, node_id, redis_cluster, redis_server
from redis_support import BOUND, SOON, TTL, held_up, how_long, insist, key_of, opened
from servers import HOST, free_port
from store_support import LEASE, a_batch, claimed, counts, created, saving
from stores.conftest import assert_keys_are_whole
from stores.test_contract import *  # noqa: F403
from stores.test_contract_chunks import *  # noqa: F403

# A node that is silent for a second is replaced, and the others go on with what they have.
_OPTIONS = ("--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no")


# The event loop makes no difference to slots.
KINDS = ["redis-asyncio"]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """
    Three nodes.
    """
    with redis_cluster(tmp_path_factory.mktemp("cluster"), 3, 0, *_OPTIONS) as procs:
        yield procs


@pytest.fixture(scope="module")
def client(nodes):
    """
    A client of all nodes, to look behind the store's back.
    """
    with redis.cluster.RedisCluster(host=HOST, port=nodes[0].port) as one:
        yield one


@pytest.fixture
def server(nodes, client):
    """
    The cluster, empty; in the end no step must have tried to touch two slots.
    """
    for node in nodes:
        node.client.flushall()
        node.client.config_resetstat()
    yield SimpleNamespace(url=cluster_url(nodes[:2]), client=client)

    for node in nodes:
        assert_keys_are_whole(node)
        assert "errorstat_CROSSSLOT" not in node.client.info("errorstats")


async def one_on_each(store, nodes, make=claimed):
    """
    What *make* makes of a new batch on each of *nodes*, by its port.
    """
    found = {}
    while len(found) < len(nodes):
        made = await make(store)
        batch_id = made if isinstance(made, str) else made.hold.batch_id
        place = await store._link._nodes.owner(slot_of(key_of(store, batch_id, "rec")))
        found.setdefault(place[1], made)
    return [found[node.port] for node in nodes]


def assert_turns_are_whole(store):
    """
    No node has a call of ours, and each may have as many as ever.
    """
    for link in store._link._nodes._links.values():
        assert not link._pool._in_use_connections
        assert link._slots.value == store._max_connections


async def test_f48_batches_are_on_all_nodes(store, server, nodes):
    """
    F48: whatever its shard, a batch is accepted, found by a scan, carried out and ended.
    """
    made = {await created(store, f"name {number}") for number in range(100)}
    found = set()
    while claim := await store.claim(LEASE):
        assert await store.save(claim.hold, saving(range(10), ends=True)) == "held"
        found.add(claim.hold.batch_id)

    assert found == made
    assert {shard_of(batch_id) for batch_id in made} == set(range(16))
    assert all(node.client.dbsize() for node in nodes)


async def test_f48_the_limit_is_one_for_all_nodes(store, server):
    """
    F48: what lies on other nodes counts, and room that an end makes is there on each.
    """
    for _ in range(10):
        await store.create(a_batch(store), limit=10)
    with pytest.raises(Overloaded):
        await store.create(a_batch(store), limit=10)
    claim = await store.claim(LEASE)
    await store.save(claim.hold, saving(range(10), ends=True))
    after = await store.create(a_batch(store), limit=10)

    assert after.is_new


async def test_f48_a_node_that_is_frozen_holds_up_nobody_else(store, server, nodes, caplog):
    """
    F48: calls to it end in time, one after the other and all at once; meanwhile batches of the
    others are saved, scanned and claimed. It goes on when it is back.
    """
    away, *_ = claims = await one_on_each(store, nodes)
    waiting = await one_on_each(store, nodes, created)
    waits, rounds = [], 0

    async def ask():
        waits.append(await how_long(store.save(away.hold, saving([0]))))

    with nodes[0].frozen():
        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(ask)
            while len(waits) < 30:
                rounds += 1
                with anyio.fail_after(SOON):
                    for claim in claims[1:]:
                        assert await store.save(claim.hold, saving([0])) == "held"
                    scanned = await store.overdue(0)
                assert waiting[0] not in {share.batch_id for share in scanned}
    standing = await store.save(away.hold, saving([0]))
    scanned = {share.batch_id for share in await store.overdue(0)}

    assert max(waits) <= SOON
    assert rounds > 1
    assert standing == "held"
    assert waiting[0] in scanned
    assert caplog.text.count(f":{nodes[0].port} does not answer") == 1
    assert_turns_are_whole(store)


async def test_f48_an_end_that_comes_while_it_is_sent_is_heard(store, server, nodes):
    """
    F48: a process that stands still for longer than a call to a frozen node may take gives it up as
    it goes on.
    """
    away, *_ = await one_on_each(store, nodes)
    with nodes[0].frozen(), held_up(BOUND):
        wait = await how_long(store.save(away.hold, saving([0])))
    standing = await store.save(away.hold, saving([0]))

    assert wait <= SOON
    assert standing == "held"
    assert_turns_are_whole(store)


async def test_f48_a_slot_that_is_moved_is_followed(store, server, nodes):
    """
    F48: while its keys are under way, a batch is found where they are; calls that need keys of both
    nodes wait, and each goes on when all are there.
    """
    source, target, _ = nodes
    claim, *_ = await one_on_each(store, nodes)
    batch_id = claim.hold.batch_id
    slot = slot_of(key_of(store, batch_id, "rec"))
    await store.save(claim.hold, saving([0]))

    def command(node, *words):
        return node.client.execute_command("CLUSTER", *words)

    async def save():
        return await store.save(claim.hold, saving([1]))

    command(target, "SETSLOT", slot, "IMPORTING", node_id(source))
    command(source, "SETSLOT", slot, "MIGRATING", node_id(target))
    before = await store.snapshot(batch_id)
    keys = command(source, "GETKEYSINSLOT", slot, 100)
    source.client.execute_command("MIGRATE", HOST, target.port, "", 0, 5000, "KEYS", *keys)
    between = await store.snapshot(batch_id)
    page = await store.results(batch_id, after=-1, limit=5, outcome=None)
    scanned = await store.overdue(0)
    with pytest.raises(StoreUnavailable):
        await save()
    for node in (target, source, nodes[2]):
        command(node, "SETSLOT", slot, "NODE", node_id(target))
    standing = await save()
    sent_away = source.client.info("errorstats")["errorstat_MOVED"]["count"]
    after = await store.snapshot(batch_id)
    again = source.client.info("errorstats")["errorstat_MOVED"]["count"]
    async with opened(server.url) as another:
        seen = await another.snapshot(batch_id)

    assert counts(before) == counts(between) == (1, 0, 0)
    assert len(page.entries) == 1
    assert scanned == []
    assert standing == "held"
    assert sent_away == again
    assert counts(after) == counts(seen) == (2, 0, 0)


async def test_f48_a_slot_that_nobody_has_is_waited_for_and_then_said(store, server, nodes):
    """
    F48: and is asked for again as soon as it has a node.
    """
    batch_id, *_ = await one_on_each(store, nodes, created)
    slot = slot_of(key_of(store, batch_id, "rec"))
    # The one that has it comes first, as it would tell the others that it has.
    for node in nodes:
        node.client.execute_command("CLUSTER", "DELSLOTS", slot)
    async with opened(server.url) as another:
        wait = await how_long(another.snapshot(batch_id))
        nodes[0].client.execute_command("CLUSTER", "ADDSLOTS", slot)
        _, waits = await insist(lambda: another.save(Hold(batch_id, 1), saving([0])))

    assert max([wait, *waits]) <= SOON


async def test_f48_a_node_that_dies_is_replaced(tmp_path):
    """
    F48: until its replica has taken over, calls to it end in time and the others go on; then a
    holder goes on with all that it has saved.
    """
    with redis_cluster(tmp_path, 3, 1, *_OPTIONS) as nodes:
        *primaries, replica = nodes
        async with opened(cluster_url(primaries[1:])) as store:
            claims = await one_on_each(store, primaries)
            for claim in claims:
                await store.save(claim.hold, saving([0]))
            primaries[0].client.wait(1, 5000)
            primaries[0].kill()
            waits = [await how_long(store.snapshot(claims[0].hold.batch_id))]
            others = [await store.save(claim.hold, saving([1])) for claim in claims[1:]]
            standing, more = await insist(lambda: store.save(claims[0].hold, saving([1])))
            answers = [await store.snapshot(claim.hold.batch_id) for claim in claims]

            assert (HOST, primaries[0].port) not in store._link._nodes._links
            assert_turns_are_whole(store)
        role = replica.client.info("replication")["role"]

    assert max(waits + more) <= SOON
    assert [*others, standing] == ["held"] * 3
    assert [counts(each) for each in answers] == [(2, 0, 0)] * 3
    assert role == "master"


async def test_f48_each_node_is_looked_at(tmp_path):
    """
    F48: the start fails where one of them may throw batches away, or does not answer, or where
    the server that is named is of no cluster.
    """
    with (
        redis_cluster(tmp_path / "cluster", 2, 1, *_OPTIONS) as nodes,
        redis_server(tmp_path) as single,
    ):
        store = RedisStore(cluster_url(nodes[:1]))
        for node in nodes:
            node.config(maxmemory_policy="allkeys-lru")
            with pytest.raises(ConfigurationError, match="unsafe_eviction_policy"):
                await store.open(TTL)
            node.config(maxmemory_policy="noeviction")
        with pytest.raises(ConfigurationError, match="cluster support disabled"):
            await RedisStore(cluster_url([single])).open(TTL)
        await store.open(TTL)
        with nodes[0].frozen(), nodes[1].frozen(), nodes[2].frozen():
            waits = [await how_long(store.claim(LEASE)) for _ in range(2)]
        nodes[1].kill()
        waits.append(await how_long(store.open(TTL)))

    assert max(waits) <= SOON


async def test_f48_a_cluster_that_is_gone_is_said_in_time():
    """
    F48: the start fails, and says that the store does not answer.
    """
    url = f"redis+cluster://{HOST}:{free_port()},{HOST}:{free_port()}"

    assert await how_long(RedisStore(url).open(TTL)) <= SOON


@pytest.mark.parametrize(
    ("url", "nodes_of_it", "first"),
    [
        ("redis+cluster://one", (("one", 6379),), "redis://one:6379"),
        ("redis+cluster://one:1,two/0", (("one", 1), ("two", 6379)), "redis://one:1"),
        (
            "rediss+cluster://user:pa%40ss@[::1]:5?ssl_cert_reqs=none",
            (("::1", 5),),
            "rediss://user:pa%40ss@[::1]:5?ssl_cert_reqs=none",
        ),
    ],
)
def test_f48_a_url_names_nodes(url, nodes_of_it, first):
    """
    F48: those that are asked for all of them; each is reached as the URL says.
    """
    RedisStore(url)
    address = address_of(url)

    assert address.nodes == nodes_of_it
    assert address.at(*nodes_of_it[0]).url == first


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://",
        "redis+cluster:///0",
        "redis+cluster://host,,other",
        "redis+cluster://host:port",
        "redis+cluster://host/1",
        "redis+cluster://user:s3cret@host/name",
    ],
)
def test_f48_a_url_without_nodes_is_refused(url):
    """
    F48: and so is one that names a database, which a cluster does not have.
    """
    with pytest.raises(ConfigurationError) as caught:
        RedisStore(url)

    assert "s3cret" not in str(caught.value)
