"""
The stores that the contract is tested on, and a Redis server that is clean before each test.
"""

import re

import anyio
import pytest

from asgi_batch.stores import _redis_scripts as scripts
from asgi_batch.stores._shards import shard_of
from asgi_batch.stores.memory import MemoryStore
from asgi_batch.stores.redis import RedisStore
from fault_proxy import FaultProxy
from redis_server import RedisProc, redis_server
from redis_support import TTL, opened
from servers import HOST
from wide import widely

_LOOPS = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
# redis-py knows no trio.
_STORES = (
    "memory-asyncio",
    *widely("memory-uvloop"),
    "memory-trio",
    "redis-asyncio",
    *widely("redis-uvloop"),
    "sealed-asyncio",
)
_OF_BATCH = re.compile(r"\{ab:(\d+)\}:b:([^:]+):(?:rec|ops|res|lease|\d+:rec|\d+:lease)")
_OF_SHARD = re.compile(r"\{ab:\d+\}:(?:queue|chunks|name:[0-9a-f]{64}|owner:\w+)")


def pytest_generate_tests(metafunc):
    """
    Each test that has to do with a store is done with all kinds, or with those that its file names.

    A fixture that files override would leave the event loop of another file in place.
    """
    if "kind" in metafunc.fixturenames:
        kinds = getattr(metafunc.module, "KINDS", _STORES)
        metafunc.parametrize("kind", kinds, indirect=True, scope="session")


@pytest.fixture(scope="session")
def kind(request):
    """
    Which store on which event loop.
    """
    return request.param


@pytest.fixture(scope="session")
def anyio_backend(kind):
    """
    The event loops that a store runs on.
    """
    return _LOOPS[kind.partition("-")[2]]


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory):
    """
    One server for all tests that do not hurt it for good.
    """
    with redis_server(tmp_path_factory.mktemp("redis")) as proc:
        yield proc


@pytest.fixture
def server(redis_process):
    """
    The server, empty, with all scripts known; in the end every key must have a time to live.
    """
    redis_process.client.flushall()
    for script in vars(scripts).values():
        if isinstance(script, scripts.Script):
            redis_process.client.script_load(script.text)
    yield redis_process

    assert_keys_are_whole(redis_process)


@pytest.fixture
async def store(request, kind):
    """
    An open store.
    """
    if kind.startswith("memory"):
        opened = MemoryStore()
    else:
        key = b"k" * 32 if kind.startswith("sealed") else None
        url = request.getfixturevalue("server").url
        opened = RedisStore(url, encryption_key=key, allow_clear_text=key is None)
    with anyio.fail_after(30):
        await opened.open(TTL)
        yield opened
        await opened.aclose()


@pytest.fixture
async def proxy(server):
    """
    A proxy in front of the server.
    """
    async with FaultProxy(server.port).running() as running:
        yield running


@pytest.fixture
async def far_store(proxy):
    """
    A store behind the proxy.
    """
    async with opened(f"redis://{HOST}:{proxy.port}") as store:
        yield store


def assert_keys_are_whole(proc: RedisProc) -> None:
    """
    Every key is one that the store means to keep, has a time to live, and is in its shard.
    """
    for key in proc.client.scan_iter():
        name = key.decode()
        of_batch = _OF_BATCH.fullmatch(name)

        assert of_batch or _OF_SHARD.fullmatch(name), name
        assert proc.client.pttl(key) != -1, f"{name} lives for ever"
        assert of_batch is None or int(of_batch[1]) == shard_of(of_batch[2])
