"""
The transport against a real server: requests of one moment are one batch, and nobody can tell.
"""

from contextlib import asynccontextmanager

import anyio
import httpx
import httpx2
import pytest

from apps.called import BODIES
from asgi_batch import ConfigurationError
from asgi_batch.client import BatchTransport
from client_support import called, seen, unlock


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("called")
    with called(folder, max_result_bytes=2000, max_operation_bytes=4000) as running:
        yield running


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def library(request):
    return request.param


@asynccontextmanager
async def open_client(server, library, **options):
    """
    A client with the transport, of which the server has not heard yet.
    """
    seen(server)
    transport = BatchTransport(library.AsyncHTTPTransport(), **options)
    async with library.AsyncClient(base_url=server.url, transport=transport, timeout=20) as client:
        yield client


async def together(*requests):
    """
    The responses, or errors, of requests that are made at the same moment.
    """
    outcomes = [None] * len(requests)

    async def make(number):
        try:
            outcomes[number] = await requests[number]
        except (httpx.HTTPError, httpx2.HTTPError) as error:
            outcomes[number] = error

    async with anyio.create_task_group() as tasks:
        for number in range(len(requests)):
            tasks.start_soon(make, number)
    return outcomes


async def started(server, count):
    """
    Wait until the app has been called *count* times.
    """
    calls = []
    with anyio.fail_after(20):
        while len(calls) < count:
            await anyio.sleep(0.02)
            calls += seen(server)


def travelled(responses):
    """
    How many requests each response has shared its batch with; 0 where it went out as it was.
    """
    return [each.extensions.get("asgi_batch", {}).get("operations", 0) for each in responses]


async def test_requests_of_one_moment_are_batches(server, library):
    """
    As many as the server answers at once, each; the responses are those of the requests.
    """
    async with open_client(server, library) as client:
        responses = await together(*(client.get(f"/items/{n}?a={n}") for n in range(250)))

    assert [each.json() for each in responses] == [{"id": n, "query": f"a={n}"} for n in range(250)]
    assert sorted(travelled(responses)) == [50] * 50 + [100] * 200
    assert {is_operation for _, _, is_operation in seen(server)} == {True}
    assert responses[7].request.url.path == "/items/7"
    assert responses[7].http_version == "HTTP/1.1"
    assert responses[7].elapsed.total_seconds() > 0


async def test_a_response_is_what_it_would_be_alone(server, library):
    """
    Status and body, whatever it is, and the headers that a batch shows.
    """
    async with open_client(server, library) as client:
        alone = [await client.get(f"/body/{kind}") for kind in BODIES]
        batch = await together(*(client.get(f"/body/{kind}") for kind in BODIES))

    assert travelled(batch) == [len(BODIES)] * len(BODIES)
    assert [(each.status_code, each.content) for each in batch] == [
        (each.status_code, each.content) for each in alone
    ]
    hidden = {"date", "server", "x-hidden"}
    assert [dict(each.headers) for each in batch] == [
        {name: value for name, value in each.headers.items() if name not in hidden}
        for each in alone
    ]


async def test_a_request_that_is_alone_goes_out_as_it_is(server, library):
    """
    So do those that come one after the other, and the server is asked nothing.
    """
    async with open_client(server, library) as client:
        responses = [await client.get("/items/1") for _ in range(3)]

    assert travelled(responses) == [0, 0, 0]
    assert seen(server) == [("GET", "/items/1", False)] * 3


async def test_what_changes_something_goes_out_as_it_is(server, library):
    """
    Only GET and HEAD travel, unless others are allowed to.
    """
    async with open_client(server, library) as client:
        responses = await together(
            client.post("/items", json={"a": 1}),
            client.put("/items", json={"a": 2}),
            client.get("/items/1"),
            client.head("/items/1"),
        )
    assert travelled(responses) == [0, 0, 2, 2]
    assert responses[3].content == b""
    assert "content-length" not in responses[3].headers

    methods = ("GET", "POST", "PUT", "PATCH")
    async with open_client(server, library, methods=methods) as client:
        responses = await together(
            client.post("/items", json={"a": "ä"}),
            client.put("/items", content=b"\xff\x00"),
            client.patch("/items", content=b" [1 ] "),
            client.get("/items/1"),
        )
    assert travelled(responses) == [4] * 4
    assert [each.content for each in responses[:3]] == [
        '{"a":"ä"}'.encode(),
        b"\xff\x00",
        b"[1 ]",
    ]


async def test_headers_are_those_of_each_request(server, library):
    """
    What all have alike is sent once; what one has by itself reaches its operation alone.
    """
    async with open_client(server, library) as client:
        plain, german, asking = await together(
            client.get("/headers"),
            client.get("/headers", headers={"Accept-Language": "de"}),
            client.get("/headers", headers={"accept": "text/plain", "if-match": '"1"'}),
        )
        alone = dict((await client.get("/headers")).json()["headers"])
    sent = [dict(each.json()["headers"]) for each in (plain, german, asking)]

    assert travelled([plain, german, asking]) == [3] * 3
    made = {"connection", "accept-encoding"}
    assert sent[0] == {name: value for name, value in alone.items() if name not in made}
    assert sent[1] == {**sent[0], "accept-language": "de"}
    assert sent[2] == {**sent[0], "accept": "text/plain", "if-match": '"1"'}


async def test_who_asks_is_never_mixed(server, library):
    """
    Requests with other credentials, or other headers that only the batch can have, share no batch.
    """
    async with open_client(server, library) as client:
        sets = [
            {"authorization": "A"},
            {"authorization": "B"},
            {"cookie": "c=1"},
            {"x-tenant": "1"},
        ]
        responses = await together(
            *(client.get("/headers", headers=each) for each in [*sets, *sets, {}])
        )
    got = [dict(each.json()["headers"]) for each in responses]

    assert travelled(responses) == [2] * 8 + [0]
    names = {"authorization", "cookie", "x-tenant"}
    assert [{name: each[name] for name in names & each.keys()} for each in got] == [
        *sets,
        *sets,
        {},
    ]


async def test_headers_that_the_server_lets_operations_set_need_not_be_alike(server, library):
    """
    If it does not, they are not sent in a batch after all, and reach the app all the same.
    """
    async with open_client(server, library, operation_headers=["X-Tenant"]) as client:
        responses = await together(
            client.get("/headers", headers={"x-tenant": "1"}),
            client.get("/headers", headers={"x-tenant": "2"}),
            client.get("/items/1"),
            client.get("/items/2"),
        )

    assert travelled(responses) == [0, 0, 2, 2]
    assert [dict(each.json()["headers"])["x-tenant"] for each in responses[:2]] == ["1", "2"]


UNFIT = {
    "range": {"headers": {"range": "bytes=0-1"}},
    "upgrade": {"headers": {"connection": "upgrade", "upgrade": "websocket"}},
    "events": {"headers": {"accept": "text/event-stream"}},
    "twice": {"headers": [("accept", "a/b"), ("accept", "c/d")]},
    "foreign": {"headers": {"accept-language": "ä".encode()}},
    "extension": {"extensions": {"sni_hostname": "test"}},
}


@pytest.mark.parametrize("kind", UNFIT)
async def test_what_cannot_be_an_operation_goes_out_as_it_is(server, library, kind):
    """
    The others of its moment travel without it.
    """
    async with open_client(server, library) as client:
        responses = await together(
            client.get("/items/1", **UNFIT[kind]), client.get("/items/2"), client.get("/items/3")
        )

    assert [each.json()["id"] for each in responses[1:]] == [2, 3]
    assert travelled(responses) == [0, 2, 2]


async def test_a_websocket_goes_out_as_it_is(server, library):
    """
    Its scheme says what it is.
    """
    url = server.url.replace("http:", "ws:")
    async with open_client(server, library) as client:
        responses = await together(
            client.get(f"{url}/items/1"), client.get("/items/2"), client.get("/items/3")
        )

    assert travelled(responses) == [0, 2, 2]


async def test_bodies_that_are_streamed_or_large_go_out_as_they_are(server, library):
    """
    Nobody knows how long they are, or the server takes no operation of their size.
    """

    async def stream():
        yield b'{"a"'
        yield b": 1}"

    async with open_client(server, library, methods=["GET", "PUT"]) as client:
        await together(client.get("/items/1"), client.get("/items/2"))
        responses = await together(
            client.put("/items", content=stream()),
            client.put("/items", content=b"[" + b" " * 5000 + b"]"),
            client.put("/items", content=b"{}"),
            client.get("/items/2"),
        )

    assert [len(each.content) for each in responses[:3]] == [8, 5002, 2]
    assert travelled(responses) == [0, 0, 2, 2]


async def test_paths_can_be_excluded(server, library):
    """
    By name or by pattern; the batch endpoint itself always is.
    """
    async with open_client(server, library, exclude=["/cookie", "/body/*"]) as client:
        responses = await together(
            client.get("/cookie"),
            client.get("/body/json"),
            client.get("/batch"),
            client.get("/batch/x/status"),
            client.get("/items/1"),
            client.get("/items/2"),
        )

    assert travelled(responses) == [0, 0, 0, 0, 2, 2]
    assert responses[0].cookies["a"] == "b"
    assert [each.status_code for each in responses[2:4]] == [405, 404]


async def test_what_the_server_refuses_goes_out_as_it_is(server, library):
    """
    A path that a batch may not have takes none of the others with it.
    """
    async with open_client(server, library) as client:
        responses = await together(
            client.get("/items//1"), *(client.get(f"/items/{n}") for n in range(3))
        )
        two = await together(client.get("/items//1"), client.get("/items/1"))
        none = await together(client.get("/items//1"), client.get("/items//2"))

    assert [each.status_code for each in responses] == [404, 200, 200, 200]
    assert travelled(responses) == [0, 3, 3, 3]
    assert travelled([*two, *none]) == [0] * 4


async def test_answers_of_the_app_are_never_those_of_the_batch(server, library):
    """
    What only the batch could not carry is asked for again, alone.
    """
    async with open_client(server, library) as client:
        responses = await together(
            client.get("/large/3000"), client.get("/stream"), client.get("/large/10")
        )

    assert [len(each.content) for each in responses] == [3000, 9, 10]
    assert travelled(responses) == [0, 0, 3]


async def test_redirects_are_followed(server, library):
    """
    By the client, as ever.
    """
    async with open_client(server, library, max_operations=3, max_delay=5) as client:
        responses = await together(
            *(client.get("/redirect", follow_redirects=True) for _ in range(3))
        )

    assert [each.json()["id"] for each in responses] == [7, 7, 7]
    assert [travelled([*each.history, each]) for each in responses] == [[3, 3]] * 3


async def test_a_server_without_the_endpoint_is_left_alone(server, library):
    """
    It is asked once.
    """
    async with open_client(server, library, path="/nowhere") as client:
        for _ in range(2):
            responses = await together(client.get("/items/1"), client.get("/items/2"))
            assert travelled(responses) == [0, 0]

    asked = [each for each in seen(server) if each[0] == "OPTIONS"]
    assert len(asked) == 1


async def test_requests_to_different_servers_share_no_batch(server, library, tmp_path):
    """
    Each server has its own.
    """
    with called(tmp_path) as other:
        async with open_client(server, library) as client:
            responses = await together(
                client.get("/items/1"),
                client.get(f"{other.url}/items/2"),
                client.get("/items/3"),
                client.get(f"{other.url}/items/4"),
            )
        assert len(seen(other)) == 2

    assert [each.json()["id"] for each in responses] == [1, 2, 3, 4]
    assert travelled(responses) == [2] * 4


async def test_a_server_that_is_not_there_is_told_to_each(library, tmp_path):
    """
    Each request has an error of its own, of its own library.
    """
    transport = BatchTransport(library.AsyncHTTPTransport())
    async with library.AsyncClient(base_url="http://127.0.0.1:9", transport=transport) as client:
        errors = await together(client.get("/a"), client.get("/b"))

    assert [type(each) for each in errors] == [library.ConnectError] * 2
    assert errors[0] is not errors[1]
    assert [each.request.url.path for each in errors] == ["/a", "/b"]


@pytest.mark.parametrize("goes", [0, 1], ids=["the-first", "another"])
@pytest.mark.parametrize("late", [False, True], ids=["at-once", "under-way"])
async def test_a_request_that_is_cancelled_disturbs_no_other(server, library, goes, late):
    """
    Neither the one that has sent the batch nor one that waits for it.
    """
    name = f"{library.__name__}-{goes}-{late}-{id(server)}-{anyio.get_current_task().id}"
    outcomes = {}
    scope = anyio.CancelScope()

    async def ask(client, number, cancelled):
        with cancelled:
            outcomes[number] = await client.get(f"/gate/{name}" if late else "/items/1")

    async with open_client(server, library) as client, anyio.create_task_group() as tasks:
        for number in range(3):
            mine = scope if number == goes else anyio.CancelScope()
            tasks.start_soon(ask, client, number, mine)
        if late:
            await started(server, 3)
            scope.cancel()
            unlock(server, name)
        else:
            await anyio.lowlevel.checkpoint()
            scope.cancel()

    assert set(outcomes) == {0, 1, 2} - {goes}
    assert [each.status_code for each in outcomes.values()] == [200, 200]


async def test_what_may_not_run_twice_is_not_sent_twice(server, library):
    """
    Where the one that has sent it is cancelled, it waits for the answer, and so do the others.
    """
    name = f"{library.__name__}-{anyio.get_current_task().id}-twice"
    outcomes = []
    scope = anyio.CancelScope()

    async def ask(client, cancelled):
        with cancelled:
            outcomes.append(await client.patch(f"/gate/{name}"))

    patching = open_client(server, library, methods=["PATCH"])
    async with patching as client, anyio.create_task_group() as tasks:
        for each in (scope, anyio.CancelScope(), anyio.CancelScope()):
            tasks.start_soon(ask, client, each)
        await started(server, 3)
        scope.cancel()
        unlock(server, name)

    assert [each.status_code for each in outcomes[:2]] == [200, 200]
    assert seen(server) == [("POST", f"/gate/{name}", False)]


async def test_all_that_are_cancelled_leave_nothing_behind(server, library):
    """
    The transport goes on as if nothing had been.
    """
    async with open_client(server, library) as client:
        async with anyio.create_task_group() as tasks:
            for n in range(5):
                tasks.start_soon(client.get, f"/items/{n}")
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        responses = await together(client.get("/items/1"), client.get("/items/2"))

    assert travelled(responses) == [2, 2]


async def test_all_that_are_cancelled_under_way_leave_nothing_behind(server, library):
    """
    The batch goes with the last of them.
    """
    name = f"{library.__name__}-{anyio.get_current_task().id}-all"
    async with open_client(server, library) as client:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(client.get, f"/gate/{name}")
            await started(server, 3)
            tasks.cancel_scope.cancel()
        responses = await together(client.get("/items/1"), client.get("/items/2"))

    assert travelled(responses) == [2, 2]


async def test_batches_can_be_smaller_and_wait_longer(server, library):
    """
    A full one does not wait, and one that is not full waits for those that come late.
    """

    async def late(client):
        await anyio.sleep(0.05)
        return await client.get("/items/2")

    async with open_client(server, library, max_operations=2, max_delay=5) as client:
        responses = await together(
            client.get("/items/1"), late(client), client.get("/items/3"), late(client)
        )

    assert travelled(responses) == [2] * 4


async def test_an_app_may_be_mounted(server, library):
    """
    Requests beside it go out as they are.
    """
    async with open_client(server, library, path="/api/batch", root_path="/api") as client:
        responses = await together(client.get("/items/1"), client.get("/items/2"))

    assert [each.json()["id"] for each in responses] == [1, 2]
    assert travelled(responses) == [0, 0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"transport": httpx.AsyncClient()}, "give a transport"),
        ({"path": "batch"}, "write a path"),
        ({"path": None}, "write a path"),
        ({"methods": ["get"]}, "write some of"),
        ({"methods": "GET"}, "write a list"),
        ({"exclude": "/login"}, "write a list"),
        ({"exclude": [1]}, "write a list"),
        ({"operation_headers": "X-Tenant"}, "write a list"),
        ({"max_operations": 0}, "write a whole number"),
        ({"max_delay": -1}, "write seconds"),
        ({"max_delay": "1"}, "write seconds"),
    ],
)
def test_arguments_that_cannot_be_are_refused(options, sentence):
    """
    At once, with a sentence.
    """
    with pytest.raises(ConfigurationError, match=sentence):
        BatchTransport(**{"transport": httpx.AsyncHTTPTransport(), **options})


def test_it_is_a_transport_of_both_libraries():
    """
    Of the kind that awaits and the kind that blocks.
    """
    assert issubclass(BatchTransport, (httpx.AsyncBaseTransport, httpx.BaseTransport))
    for library in (httpx, httpx2):
        assert issubclass(BatchTransport, library.AsyncBaseTransport)
        assert issubclass(BatchTransport, library.BaseTransport)
