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
from asgi_batch.stores._shards import shard_of
from asgi_batch.stores.redis import RedisStore
from redis_server import cluster_url, free_port, node_id, redis_cluster, redis_server, wait_until
from redis_support import SOON, TTL, every_verb, how_long, key_of, opened
from servers import HOST
from store_support import LEASE, a_batch, claimed, counts, created, saving
from stores.conftest import assert_keys_are_whole
from stores.test_contract import *  # noqa: F403
from stores.test_contract_chunks import *  # noqa: F403

# A node that is silent for a second is replaced, and the others go on with what they have.
_OPTIONS = ("--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no")


@pytest.fixture(scope="session", params=["redis-asyncio"])
def kind(request):
    """
    The event loop makes no difference to slots.
    """
    return request.param


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
