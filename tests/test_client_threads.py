"""
The transport in threads, and both clients where connections are lost.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from threading import Barrier

import anyio
import anyio.to_thread
import httpx
import httpx2
import pytest

from asgi_batch.client import AsyncBatchClient, BatchClient, BatchTransport, Operation
from client_support import called, seen, unlock
from fault_proxy import FaultProxy
from servers import HOST

POSTS = [Operation("POST", "/items", json={"n": n}) for n in range(10)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with called(tmp_path_factory.mktemp("called")) as running:
        yield running


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def library(request):
    return request.param


def together(client, *calls):
    """
    The responses to requests that threads make at the same moment.
    """
    barrier = Barrier(len(calls))

    def make(method, path):
        barrier.wait()
        return client.request(method, path)

    with ThreadPoolExecutor(len(calls)) as threads:
        return [each.result() for each in [threads.submit(make, *call) for call in calls]]


def test_threads_share_batches(server, library):
    """
    Those of the same moment; one that comes by itself goes out as it is.
    """
    seen(server)
    transport = BatchTransport(library.HTTPTransport(), max_delay=0.2)
    with library.Client(base_url=server.url, transport=transport) as client:
        responses = together(client, *(("GET", f"/items/{n}") for n in range(20)))
        alone = client.get("/items/1")
        posted = together(client, *(("POST", "/items") for _ in range(2)))

    assert [each.json()["id"] for each in responses] == list(range(20))
    shared = [each.extensions["asgi_batch"]["operations"] for each in responses]
    assert shared == [20] * 20
    assert "asgi_batch" not in alone.extensions
    assert [each.status_code for each in posted] == [201, 201]


def test_threads_without_a_delay_of_their_own_wait_for_a_moment(server, library):
    """
    Whatever is together then, each gets its own.
    """
    transport = BatchTransport(library.HTTPTransport())
    with library.Client(base_url=server.url, transport=transport) as client:
        responses = together(client, *(("GET", f"/items/{n}") for n in range(20)))

    assert [each.json()["id"] for each in responses] == list(range(20))


def test_threads_learn_of_a_lost_connection(library):
    """
    Each has an error of its own.
    """
    transport = BatchTransport(library.HTTPTransport(), max_delay=0.2)
    client = library.Client(base_url=f"http://{HOST}:9", transport=transport)
    with client, pytest.raises(library.ConnectError):
        together(client, ("GET", "/a"), ("GET", "/b"))


def test_threads_use_the_transport_inside_as_it_is_meant(server, library):
    """
    It is entered and left, and what cannot be read gives its connection back.
    """

    class Watched(library.BaseTransport):
        def __init__(self):
            self.inner = library.HTTPTransport()
            self.responses = []

        def __enter__(self):
            self.inner.__enter__()
            return self

        def __exit__(self, *error):
            self.inner.__exit__(*error)
            self.inner = None

        def close(self):
            self.responses = None

        def handle_request(self, request):
            response = self.inner.handle_request(request)
            if request.url.path == "/batch" and request.method == "POST":
                response.headers["content-encoding"] = "gzip"
            self.responses.append(response)
            return response

    inner = Watched()
    transport = BatchTransport(inner, max_operations=2, max_delay=20)
    client = library.Client(base_url=server.url, transport=transport)
    with client, pytest.raises(library.DecodingError):
        together(client, ("GET", "/items/1"), ("GET", "/items/2"))

    assert inner.inner is None
    assert [each.is_closed for each in inner.responses] == [True, True]
    library.Client(transport=BatchTransport(inner)).close()
    assert inner.responses is None


def test_a_thread_that_is_interrupted_leaves_the_others_alone(server, library, monkeypatch):
    """
    Another one sends the batch in its place.
    """

    class Interrupted(library.BaseTransport):
        def __init__(self):
            self.inner = library.HTTPTransport()
            self.is_due = True

        def handle_request(self, request):
            if request.url.path == "/batch" and self.is_due:
                self.is_due = False
                raise KeyboardInterrupt
            return self.inner.handle_request(request)

        def close(self):
            self.inner.close()

    barrier = Barrier(3)

    def make(client, number):
        barrier.wait()
        try:
            return client.get(f"/items/{number}").json()["id"]
        except KeyboardInterrupt:
            return "interrupted"

    transport = BatchTransport(Interrupted(), max_delay=0.3)
    client = library.Client(base_url=server.url, transport=transport)
    with client, ThreadPoolExecutor(3) as threads:
        got = list(threads.map(partial(make, client), range(3)))

    assert got.count("interrupted") == 1
    assert [each for n, each in enumerate(got) if each != "interrupted"] == [
        n for n in range(3) if got[n] != "interrupted"
    ]


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_a_lost_answer_doubles_nothing(server, library):
    """
    A batch whose 202 or 200 was lost is sent again with its key, and is the same batch.
    """
    seen(server)
    proxy = FaultProxy(server.port)
    async with proxy.running():
        url = f"http://{HOST}:{proxy.port}"
        async with library.AsyncClient(base_url=url) as http:
            proxy.drop_reply_to(b"POST /batch ")
            results = await AsyncBatchClient(http).send(POSTS)

        def work():
            with library.Client(base_url=url) as http:
                return BatchClient(http).send(POSTS * 20)

        proxy.drop_reply_to(b"POST /batch ")
        more = await anyio.to_thread.run_sync(work)

    assert proxy.dropped == 2
    assert [each.json()["n"] for each in results + more] == list(range(10)) * 21
    assert len(seen(server)) == 210


async def test_a_lost_page_is_asked_for_again(server, library):
    """
    Looking at a batch changes nothing.
    """
    proxy = FaultProxy(server.port)
    async with proxy.running(), library.AsyncClient(base_url=f"http://{HOST}:{proxy.port}") as http:
        client = AsyncBatchClient(http)
        accepted = await client.submit(POSTS)
        await client.wait(accepted.batch_id)
        proxy.drop_reply_to(b"/results")
        results = [each async for each in client.results(accepted.batch_id)]

    assert [each.json()["n"] for each in results] == list(range(10))


async def wait_for_calls(server, count):
    calls = []
    with anyio.fail_after(20):
        while len(calls) < count:
            await anyio.sleep(0.02)
            calls += seen(server)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_who_leaves_cancels_what_nobody_waits_for(server, library, backend):
    """
    At once, even before the server has said that it has accepted the batch; unless it was told to
    let it go on.
    """
    name = f"{library.__name__}-{backend}"
    operations = [Operation("GET", f"/gate/{name}")] * 200

    async def leave(client, **options):
        seen(server)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(client.send, operations, **options))
            await wait_for_calls(server, 10)
            tasks.cancel_scope.cancel()

    async def work():
        async with library.AsyncClient(base_url=server.url, timeout=20) as http:
            client = AsyncBatchClient(http)
            await leave(client, key=f"{name}-1")
            await leave(client, key=f"{name}-2", detach=True)
            unlock(server, name)
            gone = await client.send(operations, key=f"{name}-1")
            kept = await client.send(operations, key=f"{name}-2")
        return gone, kept

    gone, kept = anyio.run(work, backend=backend)

    assert {each.code for each in gone if each.is_skipped} == {"cancelled"}
    assert sum(each.is_skipped for each in gone) == 190
    assert [each.status for each in kept] == [200] * 200


def test_a_batch_that_is_full_waits_no_longer(server, library):
    """
    The one that fills it sends it.
    """
    options = {"max_operations": 2, "max_delay": 60}
    transport = BatchTransport(library.HTTPTransport(), **options)
    with library.Client(base_url=server.url, transport=transport) as client:
        responses = together(client, *(("GET", f"/items/{n}") for n in range(4)))

    assert [each.json()["id"] for each in responses] == list(range(4))


def test_a_batch_is_put_together_by_code_that_blocks(server, library):
    """
    An exception in the context sends nothing.
    """
    with library.Client(base_url=server.url) as http:
        client = BatchClient(http)
        with client.batch(on_error="stop", timeout=20) as batch:
            handle = batch.post("/items", json={"a": 1})
        seen(server)
        with suppress(ZeroDivisionError), client.batch() as batch:
            batch.get("/items/1")
            raise ZeroDivisionError

    assert handle.result.json() == {"a": 1}
    assert seen(server) == []


def test_a_loop_that_is_left_cancels_its_batch(server, library):
    """
    The same for code that blocks.
    """
    sent = []
    operations = [
        Operation("GET", "/items/1"),
        *[Operation("GET", f"/gate/{library.__name__}-left")] * 200,
    ]
    with library.Client(base_url=server.url, timeout=20) as http:
        client = BatchClient(http)
        with client.stream(operations, on_batch=sent.append) as results:
            assert next(results).json()["id"] == 1
        status = client.status(sent[0].batch_id)

    assert status.status == "cancelled"
