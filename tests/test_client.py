"""
The client against a real server with a real Redis: both clients, on both libraries.
"""

import base64
import gzip
import json

import httpx
import httpx2
import pytest

from apps.called import BODIES
from asgi_batch.client import Operation, OperationFailed, RequestRefused
from client_support import all_of, called, client_of, seen, unlock

GETS = [Operation("GET", f"/items/{n}") for n in range(25)]
POSTS = [Operation("POST", "/items", json={"n": n}) for n in range(25)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with called(tmp_path_factory.mktemp("called"), max_operations=10, sync_operations=4) as running:
        yield running


CASES = [
    pytest.param(("asyncio", httpx, "async"), id="asyncio-httpx"),
    pytest.param(("trio", httpx2, "async"), id="trio-httpx2"),
    pytest.param(("asyncio", httpx, "sync"), id="sync-httpx"),
    pytest.param(("asyncio", httpx2, "sync"), id="sync-httpx2"),
]


@pytest.fixture(params=CASES)
def case(request):
    return request.param


@pytest.fixture
def anyio_backend(case):
    return case[0]


@pytest.fixture
async def client(case, server):
    seen(server)
    async with client_of(server.url, *case[1:]) as made:
        yield made


async def test_results_are_in_order_however_many_operations_there_are(client, server):
    """
    What is more than one batch may have goes out in several, and comes back as one.
    """
    results = await client.send(GETS)

    assert [(each.index, each.id, each.json()["id"]) for each in results] == [
        (n, str(n), n) for n in range(25)
    ]
    assert {is_operation for _, _, is_operation in seen(server)} == {True}


async def test_each_operation_runs_once(client, server):
    """
    Batches of what is not safe to repeat are kept by the server, and run once.
    """
    results = await client.send(POSTS)

    assert [each.json() for each in results] == [{"n": n} for n in range(25)]
    assert [each.headers["location"] for each in results] == ["/items/1"] * 25
    assert len(seen(server)) == 25


async def test_operations_may_be_written_as_on_the_wire(client):
    """
    A member that `Operation` does not have is sent as it is, and ids are kept.
    """
    results = await client.send(
        [
            {"id": "one", "method": "POST", "path": "/items", "body": None},
            {"method": "GET", "path": "/items/2?a=b"},
            Operation("POST", "/items", id="three", content="[1 ]"),
            Operation("POST", "/items", content=b"\xff"),
        ]
    )

    assert [each.id for each in results] == ["one", "1", "three", "3"]
    assert [each.content for each in results] == [
        b"null",
        b'{"id":2,"query":"a=b"}',
        b"[1 ]",
        b"\xff",
    ]


@pytest.mark.parametrize("kind", BODIES)
async def test_a_body_comes_back_as_the_app_has_sent_it(client, kind):
    """
    Byte for byte, whatever it is, and in a batch that is kept as well.
    """
    now = await client.send([Operation("GET", f"/body/{kind}")])
    later = await client.send([Operation("GET", f"/body/{kind}"), Operation("POST", "/items")])

    assert now[0].content == later[0].content == BODIES[kind].body
    assert now[0].status == BODIES[kind].status_code


async def test_headers_and_paths_reach_the_app(client):
    """
    Headers are set by operation; what has to be encoded in a path and its query is.
    """
    headers = {"accept-language": "de", "Idempotency-Key": "k"}
    results = await client.send(
        [
            Operation("GET", "/headers", headers=headers),
            Operation("GET", "/items/1", params={"q": ["ä b", "c&d"]}),
            Operation("GET", "/items/1?x=%20y", params=[("z", 1)], timeout=5),
            Operation("GET", "/ite ms/ä"),
        ]
    )
    sent = dict(results[0].json()["headers"])

    assert (sent["accept-language"], sent["idempotency-key"]) == ("de", "k")
    assert sent["accept"] == "*/*"
    assert results[1].json()["query"] == "q=%C3%A4%20b&q=c%26d"
    assert results[2].json()["query"] == "x=%20y&z=1"
    assert results[3].status == 404


async def test_results_say_what_they_are(client):
    """
    A failure is a result, and an exception only if it is asked for.
    """
    good, bad, ours = await client.send(
        [
            Operation("GET", "/items/1"),
            Operation("GET", "/body/error"),
            Operation("GET", "/stream"),
        ]
    )

    assert good.raise_for_status() is good
    assert (good.is_success, good.code, good.is_skipped) == (True, "", False)
    assert (bad.is_success, bad.text, bad.code) == (False, "No.", "")
    assert (ours.status, ours.source, ours.code) == (502, "batch", "streaming_not_supported")
    with pytest.raises(OperationFailed, match="Operation 1: 500 No") as caught:
        bad.raise_for_status()
    assert caught.value.result is bad


async def test_what_the_server_marks_is_tried_again(client, server):
    """
    A result of 429 or 503 with Retry-After, in its place among the others, and not for ever.
    """
    name = f"{id(client)}"
    results = await client.send(
        [
            Operation("GET", "/items/1"),
            Operation("POST", f"/busy/{name}-a?times=1"),
            Operation("GET", f"/busy/{name}-b?times=2&status=429"),
            Operation("GET", f"/busy/{name}-c?times=99"),
            Operation("GET", f"/busy/{name}-d?times=99&status=500"),
            Operation("GET", "/items/2"),
        ]
    )

    assert [each.index for each in results] == list(range(6))
    assert [each.status for each in results] == [200, 200, 200, 503, 500, 200]
    assert [results[1].json(), results[2].json()] == [{"attempts": 2}, {"attempts": 3}]
    paths = [path for _, path, _ in seen(server)]
    assert [paths.count(f"/busy/{name}-{each}") for each in "abcd"] == [2, 3, 4, 1]
    assert paths.count("/items/1") == 1


async def test_an_invalid_operation_refuses_its_batch(client, server):
    """
    The problems tell which operation of all it is, and nothing of its batch has run.
    """
    operations = [*GETS[:10], Operation("GET", "/items/10"), Operation("GIT", "/items/11")]
    with pytest.raises(RequestRefused) as caught:
        await client.send(operations)

    assert (caught.value.status, caught.value.code) == (422, "invalid_batch")
    assert [each["index"] for each in caught.value.problems] == [11]
    assert len(seen(server)) == 10


async def test_an_invalid_operation_can_be_a_result(client):
    """
    Then all others run, and the results stay in order.
    """
    operations = [*GETS[:5], Operation("GIT", "/items/11"), Operation("GET", "//"), *GETS[5:12]]
    results = await client.send(operations, invalid="result")

    assert [each.index for each in results] == list(range(14))
    assert [each.status for each in results] == [200] * 5 + [422] * 2 + [200] * 7
    assert (results[5].source, results[5].code) == ("client", "method_not_allowed")


async def test_after_a_failure_nothing_starts_if_that_is_wanted(client, server):
    """
    Not in the same batch, and not in later ones.
    """
    operations = [Operation("GET", "/body/error"), *(Operation("GET", "/items/1"),) * 24]
    results = await client.send(operations, on_error="stop")

    assert results[0].status == 500
    assert [each.index for each in results] == list(range(25))
    assert all(each.is_skipped and each.code == "skipped" for each in results[10:])
    assert {each.source for each in results[10:]} == {"client"}
    assert len(seen(server)) <= 10


async def test_an_atomic_batch_is_never_cut(client):
    """
    It is refused instead, by the client or by the server.
    """
    with pytest.raises(RequestRefused, match="cannot be split"):
        await client.send(GETS, atomic=True)
    with pytest.raises(RequestRefused, match="atomic_not_supported"):
        await client.send(GETS[:3], atomic=True)


async def test_background_batches_can_be_looked_after(client):
    """
    Submitted, watched, waited for, fetched in part and tried again.
    """
    name = f"r{id(client)}"
    accepted = await client.submit(
        [*GETS[:6], *(Operation("GET", f"/busy/{name}{n}?times=1&status=500") for n in "ab")]
    )
    watched = await all_of(client, "watch", accepted.batch_id)
    status = await client.wait(accepted.batch_id, timeout=20)
    results = await all_of(client, "results", accepted.batch_id)
    failed = await all_of(client, "results", accepted.batch_id, status="failed")
    again = await client.retry(accepted.batch_id)
    after = await client.wait(again.batch_id)

    assert (accepted.total, accepted.durability) == (8, "store")
    assert watched[-1] == status == await client.status(accepted.batch_id)
    assert (status.status, status.succeeded, status.failed) == ("completed", 6, 2)
    assert [each.id for each in results] == [str(n) for n in range(8)]
    assert [each.id for each in failed] == ["6", "7"]
    assert (after.succeeded, after.total, after.parent) == (2, 2, accepted.batch_id)


async def test_the_same_key_is_the_same_batch(client, server):
    """
    Whoever lost the answer to a submission repeats it, and nothing runs twice.
    """
    key = f"key-{id(client)}"
    first = await client.submit(POSTS[:5], key=key)
    second = await client.submit(POSTS[:5], key=key)
    await client.wait(first.batch_id)

    assert first == second
    assert len(seen(server)) == 5


async def test_a_run_can_be_resumed(client, server):
    """
    With the same key, the same operations are the same batches; a later start fits in.
    """
    key, sent = f"run-{id(client)}", []
    first = await client.send(POSTS, key=key, on_batch=sent.append)
    count = len(seen(server))
    second = await client.send(POSTS, key=key)
    rest = await client.send(POSTS[20:], key=key, first=20)

    assert first == second
    assert rest == first[20:]
    assert (count, seen(server)) == (25, [])


async def test_a_batch_is_cancelled_by_its_id(client, server):
    """
    Nothing of it starts any more, and what has not run says so.
    """
    name = f"c{id(client)}"
    accepted = await client.submit([Operation("GET", f"/gate/{name}")] * 10)
    status = await client.cancel(accepted.batch_id)
    unlock(server, name)
    await client.wait(accepted.batch_id)

    assert status.status == "cancelled"
    with pytest.raises(RequestRefused, match="batch_not_found"):
        await client.status("a" * 32)


async def test_limits_are_those_of_the_server(client):
    """
    They are asked for once.
    """
    limits = await client.limits()

    assert (limits.max_operations, limits.sync_operations) == (10, 4)
    assert await client.limits() is limits


async def test_nothing_is_sent_for_nothing(client, server):
    """
    No operations have no results.
    """
    assert await client.send([]) == []
    assert seen(server) == []


async def test_time_that_is_over_ends_the_waiting(client, server):
    """
    It is a `TimeoutError`, and the batch in the background is cancelled.
    """
    name, sent = f"t{id(client)}", []
    operations = [Operation("GET", f"/gate/{name}")] * 6
    with pytest.raises(TimeoutError):
        await client.send(operations, timeout=1.4, on_batch=sent.append)
    status = await client.status(sent[0].batch_id)
    unlock(server, name)

    assert status.status == "cancelled"
    waiting = await client.submit([Operation("GET", f"/gate/{name}-2")])
    with pytest.raises(TimeoutError):
        await client.wait(waiting.batch_id, timeout=0.1)
    unlock(server, f"{name}-2")


def test_the_bodies_of_this_test_are_of_all_kinds():
    """
    JSON, text and bytes, so that the tests above test something.
    """
    assert json.loads(BODIES["json"].body)
    assert gzip.decompress(BODIES["gzip"].body) == b'{"a":1}'
    assert base64.b64encode(BODIES["binary"].body) == b"AP8B"
