"""
The whole contract of a store once more, on a node of a Redis Cluster (F48).
"""

import pytest

from asgi_batch.errors import ConfigurationError
from asgi_batch.stores.redis import RedisStore
from redis_server import redis_cluster
from redis_support import TTL, opened
from store_support import claimed, created, saving
from stores.conftest import assert_keys_are_whole
from stores.test_contract import *  # noqa: F403

# The event loop makes no difference to slots.
KINDS = ["redis-asyncio"]


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """
    A node that has all slots.
    """
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as [proc]:
        yield proc


@pytest.fixture
def server(node):
    """
    The node, empty; in the end no step must have tried to touch two slots.
    """
    node.client.flushall()
    node.client.config_resetstat()
    yield node

    assert_keys_are_whole(node)
    assert "errorstat_CROSSSLOT" not in node.client.info("errorstats")


async def test_f48_a_batch_and_its_name_share_a_slot_in_every_shard(store, server):
    """
    F48: whatever its shard, a named batch is accepted, found again, carried out and ended.
    """
    shards = set()
    for number in range(100):
        name = f"name {number}"
        claim = await claimed(store, name=name)
        shards.add(store._keys.of(claim.hold.batch_id)[4])
        again = await created(store, name)
        standing = await store.save(claim.hold, saving(range(10), ends=True))

        assert again == claim.hold.batch_id
        assert standing == "held"
    assert len(shards) == 16


async def test_f48_one_of_several_nodes_is_refused(tmp_path):
    """
    F48: a store that is given one node of several does not start, and says how to name them all.
    """
    with redis_cluster(tmp_path, 3) as nodes:
        for node in nodes:
            with pytest.raises(
                ConfigurationError, match=r"several nodes of a cluster.*redis\+cluster://"
            ):
                await RedisStore(node.url).open(TTL)


async def test_f48_one_node_is_as_good_as_a_server(server):
    """
    F48: nothing has to be set for it.
    """
    async with opened(server.url) as store:
        assert await store.claim(1.0) is None
