"""
What the client makes of servers, and of things in between, that do not answer as one would like.

A gateway in front of the app answers in their place.
"""

import json
import pickle
from contextlib import asynccontextmanager, suppress

import httpx
import httpx2
import pytest

from apps import called
from asgi_batch import BatchMiddleware, ConfigurationError, Limits
from asgi_batch.client import (
    AnswerUnreadable,
    AsyncBatchClient,
    BatchClient,
    BatchFailed,
    Operation,
    OperationFailed,
    RequestRefused,
    Result,
    ResultNotReady,
    _run,
)
from asgi_batch.client._flavours import installed
from asgi_batch.client._refusals import delay_before, retry_after_of
from client_support import Gateway, problem

GETS = [Operation("GET", f"/items/{n}") for n in range(10)]
POSTS = [Operation("POST", "/items", json={"n": n}) for n in range(10)]


@asynccontextmanager
async def behind(options=None, retries=2, limits=None, lifespan=True, **answers):
    """
    A client behind a gateway, and the gateway.
    """
    app = BatchMiddleware(called.api, limits=Limits(**(limits or {})), **(options or {}))
    gateway = Gateway(app, **answers)
    transport = httpx.ASGITransport(gateway)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        client = AsyncBatchClient(http, retries=retries)
        if lifespan:
            async with app.running():
                yield client, gateway
        else:
            yield client, gateway


async def test_a_server_without_background_gets_smaller_batches():
    """
    Nothing is kept there, so that keys and large batches are refused; all is answered at once.
    """
    async with behind(limits={"sync_operations": 4}, lifespan=False) as (client, gateway):
        results = await client.send(POSTS)

    assert [each.json()["n"] for each in results] == list(range(10))
    assert gateway.sent() == [10, 4, 4, 2]


async def test_a_server_that_keeps_no_credentials_gets_smaller_batches():
    """
    The same, where it keeps batches of others.
    """
    options = {"credentials": "refuse"}
    async with behind(options, limits={"sync_operations": 4}) as (client, gateway):
        client._line.http.headers["authorization"] = "Bearer x"
        results = await client.send(GETS)

    assert [each.json()["id"] for each in results] == list(range(10))
    assert gateway.sent() == [10, 4, 4, 2]


async def test_limits_are_learnt_from_refusals():
    """
    Where ``OPTIONS`` tells nothing, 413 does, in number and in bytes.
    """
    options = {"limits": {"max_operations": 6, "sync_operations": 6}, "OPTIONS": [(403, b"", {})]}
    async with behind(**options) as (client, gateway):
        results = await client.send(GETS)
    assert [each.index for each in results] == list(range(10))
    assert gateway.sent() == [10, 6, 4]

    options = {"limits": {"max_body_bytes": 400}, "OPTIONS": [(200, b"{}", {})]}
    async with behind(**options) as (client, gateway):
        results = await client.send(GETS)
    assert [each.index for each in results] == list(range(10))


async def test_a_gateway_with_a_limit_of_its_own_is_learnt_by_halves():
    """
    Something in between says 413 and nothing else.
    """

    def narrow(body):
        return (413, b"<html>", {}) if len(body) > 300 else None

    async with behind(POST=[narrow]) as (client, gateway):
        results = await client.send(GETS)

    assert [each.index for each in results] == list(range(10))
    assert max(len(body) for _, _, body in gateway.requests if body) > 300


async def test_one_operation_that_is_too_large_is_told():
    """
    It cannot be cut; all others are carried out if that is wanted.
    """
    operations = [GETS[0], Operation("POST", "/items", content="x" * 3000), GETS[2]]
    async with behind(limits={"max_body_bytes": 2000}) as (client, _):
        with pytest.raises(RequestRefused, match="413 payload_too_large"):
            await client.send(operations)
        results = await client.send(operations, invalid="result")

    assert [each.status for each in results] == [200, 413, 200]
    assert results[1].code == "payload_too_large"


async def test_too_many_operations_at_a_time_become_fewer():
    """
    429 without Retry-After says that so many would never pass.
    """

    def strict(body):
        return problem(429, "rate_limited") if body.count(b"method") > 3 else None

    async with behind(POST=[strict]) as (client, gateway):
        results = await client.send(GETS)

    assert [each.index for each in results] == list(range(10))
    assert gateway.sent()[:3] == [10, 5, 2]


async def test_a_server_that_asks_for_patience_gets_it():
    """
    Nothing has run, so that the batch is sent again after ``Retry-After``; not for ever.
    """
    full = (503, b'{"code": "overloaded"}', {"retry-after": "0"})
    async with behind(POST=[full, full]) as (client, gateway):
        results = await client.send(POSTS)
    assert [each.status for each in results] == [201] * 10
    assert gateway.sent() == [10, 10, 10]

    async with behind(POST=[full] * 3) as (client, gateway):
        with pytest.raises(RequestRefused, match="503 overloaded") as caught:
            await client.send(GETS)
    assert caught.value.retry_after == 0


async def test_a_gateway_that_fails_is_asked_again_where_that_is_safe(monkeypatch):
    """
    Nobody knows whether the batch has run; without a key, what is not safe is not sent again.
    """
    bad = (502, b"<html>", {})
    async with behind(POST=[bad], retries=1) as (client, gateway):
        assert len(await client.send(GETS[:2])) == 2
    assert gateway.sent() == [2, 2]

    async with behind(POST=[bad], limits={"sync_operations": 100}, lifespan=False) as both:
        client, gateway = both
        client._talk.keeps = False
        with pytest.raises(RequestRefused, match="502: <html>"):
            await client.send(POSTS[:2])
    assert gateway.sent() == [2]


async def test_a_lost_request_is_sent_again_where_that_is_safe():
    """
    With a key it always is; without one only if all operations may run twice.
    """
    lost = httpx.ReadError("lost")
    async with behind(POST=[lost], retries=1) as (client, gateway):
        assert len(await client.send(POSTS)) == 10
    assert gateway.sent() == [10, 10]

    async with behind(POST=[lost] * 4, lifespan=False) as (client, gateway):
        client._talk.keeps = False
        with pytest.raises(httpx.ReadError):
            await client.send(POSTS)
        assert gateway.sent() == [10]
        with pytest.raises(httpx.ReadError):
            await client.send(GETS[:1], timeout=20)
    assert gateway.sent() == [10, 1, 1, 1]


async def test_a_request_that_never_left_is_sent_again():
    """
    The server cannot have seen it.
    """
    refused = httpx.ConnectError("refused")
    async with behind(POST=[refused], retries=1, lifespan=False) as (client, gateway):
        is_taken_to_keep = client.keeps_batches
        client._talk.keeps = False
        assert len(await client.send(POSTS)) == 10

    assert gateway.sent() == [10, 10]
    assert (is_taken_to_keep, client.keeps_batches) == (True, False)


async def test_what_did_not_fit_is_sent_again():
    """
    An answer that was too large for its batch fits into a smaller one; what is not safe to repeat
    stays as it is.
    """
    large = [Operation("GET", "/large/900")] * 4
    async with behind(limits={"max_response_bytes": 2000}) as (client, gateway):
        results = await client.send(large)
    assert [len(each.content) for each in results] == [900] * 4
    assert len(gateway.sent()) > 1


async def test_a_batch_that_takes_its_time_is_followed(monkeypatch):
    """
    Results come in pages, and whoever wants to know is told how far the batch is.
    """
    monkeypatch.setattr(_run, "WAIT", 0)
    sent, statuses = [], []
    async with behind() as (client, _):
        first = await client.send(POSTS)
        second = await client.send(POSTS, on_batch=sent.append, on_status=statuses.append)

    assert [each.json()["n"] for each in first + second] == [*range(10), *range(10)]
    assert [(each.first, each.count) for each in sent] == [(0, 10)]
    assert sent[0].key.endswith(".0")
    assert {each.batch_id for each in statuses} == {sent[0].batch_id}


async def test_an_atomic_batch_is_one():
    """
    The server has a transaction for it.
    """

    @asynccontextmanager
    async def transaction():
        yield

    async with behind({"transaction": transaction}) as (client, gateway):
        async with client.batch(atomic=True) as batch:
            handles = [batch.post("/items", json=n) for n in range(3)]
        await client.submit(POSTS[:2], atomic=True)

    assert [each.result.json() for each in handles] == [0, 1, 2]
    assert gateway.sent() == [3, 2]
    assert all(b'"atomic":true' in body for _, _, body in gateway.requests if body)


@pytest.mark.parametrize("answer", [None, (500, b"", {}), httpx.ReadError("lost")])
async def test_who_leaves_before_the_batch_has_an_id_asks_for_it(answer):
    """
    The same request again tells it, and the batch is cancelled; if not, nothing can be done.
    """
    answers = ["hang"] if answer is None else ["hang", answer]
    async with behind(POST=answers) as (client, gateway):
        with pytest.raises(TimeoutError):
            await client.send(POSTS, timeout=0.1)

    methods = [method for method, _, _ in gateway.requests]
    assert methods == ["OPTIONS", "POST", "POST", *(["DELETE"] if answer is None else [])]


async def test_a_batch_that_gets_no_further_is_not_told_of_twice():
    """
    Each look at it that shows something new is handed out.
    """

    def told(completed, finished=None):
        return 200, json.dumps(status_of(completed, finished)).encode(), {"retry-after": "0"}

    looks = [told(0), told(0), told(1), told(2, "2026-01-01T00:00:00Z")]
    async with behind(GET=looks) as (client, _):
        watched = [each.completed async for each in client.watch("b")]

    assert watched == [0, 1, 2]


def status_of(completed, finished):
    return {
        "batchId": "b",
        "status": "failed" if finished else "processing",
        "total": 2,
        "completed": completed,
        "succeeded": completed,
        "failed": 0,
        "skipped": 0,
        "progress": completed / 2,
        "createdAt": "2026-01-01T00:00:00Z",
        "updatedAt": f"2026-01-01T00:00:0{completed}Z",
        "finishedAt": finished,
        "error": {"code": "unreadable"} if finished else None,
    }


async def test_a_batch_that_ends_without_its_results_is_an_error():
    """
    The reason is the server's.
    """
    status = status_of(0, "2026-01-01T00:00:00Z")
    page = {"results": [], "next": "/batch/b/results?after=-1&limit=1000"}
    answers = [(200, json.dumps(each).encode(), {}) for each in (status, page)]
    async with behind(GET=answers) as (client, _):
        with pytest.raises(
            BatchFailed, match="Batch b has ended without all of its results: unreadable"
        ) as caught:
            async for _ in client.results("b"):
                pass

    assert (caught.value.batch_id, caught.value.code) == ("b", "unreadable")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, b"<!doctype html><title>Shop", {}), "<!doctype html><title>Shop"),
        ((200, b'{"results": []}', {}), "0 results for 1 operations"),
        ((202, b"{}", {}), "{}"),
        ((204, b"", {}), ""),
    ],
)
async def test_what_is_no_batch_endpoint_is_told(answer, said):
    """
    A wrong URL is often answered with the start page of an app in the browser.
    """
    pages = [answer] * 3
    async with behind(POST=pages, GET=pages, DELETE=[answer]) as (client, _):
        with pytest.raises(AnswerUnreadable, match=f"no answer of a batch endpoint: {said}"):
            await client.send(GETS[:1])
        for calling in (client.submit(GETS[:1]), client.status("b")):
            with pytest.raises(AnswerUnreadable):
                await calling


@pytest.mark.parametrize("options", [{"on_error": "fail"}, {"invalid": "skip"}])
async def test_terms_that_cannot_be_are_refused(options):
    """
    What is misspelt would mean the opposite of what was wanted.
    """
    async with behind() as (client, gateway):
        with pytest.raises(ConfigurationError, match=r"write '.*' or '.*'"):
            await client.send(GETS, **options)

    assert gateway.requests == []


@pytest.mark.parametrize(
    "error",
    [
        RequestRefused(422, "invalid_batch", "No.", problems=[{"index": 1}], retry_after=2.0),
        OperationFailed("No.", Result(id="a", index=0, status=404, content=b"null")),
        BatchFailed("b", "unreadable"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_come_back_from_another_process(error):
    """
    As they were: pools of processes and queues of tasks hand them on.
    """
    again = pickle.loads(pickle.dumps(error))

    assert (type(again), str(again)) == (type(error), str(error))
    assert vars(again) == vars(error)


async def test_a_batch_is_put_together_call_by_call():
    """
    Each method has a call, and each call a handle; an exception in the context sends nothing.
    """
    async with behind() as (client, gateway):
        async with client.batch() as batch:
            handles = [
                batch.get("/items/1", params={"a": 1}),
                batch.head("/items/1"),
                batch.options("/items"),
                batch.post("/items", json=[1]),
                batch.put("/items", content="{}"),
                batch.patch("/items", json={"b": 2}, headers={"accept-language": "de"}),
                batch.delete("/items/3"),
                batch.request("get", "/items/2", id="last", timeout=5),
            ]
        count = len(gateway.requests)
        with suppress(ZeroDivisionError):
            async with client.batch() as batch:
                batch.get("/items/1")
                raise ZeroDivisionError

    assert [each.result.status for each in handles] == [200, 200, 201, 201, 201, 201, 200, 200]
    assert [each.result.id for each in handles[-2:]] == ["6", "last"]
    assert handles[5].result.json() == {"b": 2}
    assert len(gateway.requests) == count


async def test_operations_may_come_one_by_one():
    """
    An asynchronous iterable is asked for no more than is needed.
    """
    taken = []

    async def operations():
        for operation in GETS:
            taken.append(operation)
            yield operation

    limits = {"max_operations": 2, "sync_operations": 2}
    async with behind(limits=limits) as (client, _), client.stream(operations()) as results:
        first = await anext(results)
        count = len(taken)
        rest = [each async for each in results]

    assert (first.index, count) == (0, 3)
    assert [each.index for each in rest] == list(range(1, 10))


async def test_an_operation_that_cannot_be_written_ends_everything():
    """
    The error is that of Python, and the stream is over.
    """
    async with behind() as (client, _):
        stream = client.stream([Operation("POST", "/items", json=float("nan"))])
        with pytest.raises(ValueError, match="not JSON compliant"):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


def test_a_result_is_asked_for_in_time():
    """
    A handle without a result says what to do.
    """
    with httpx.Client() as http:
        handle = BatchClient(http).batch().get("/items/1")

    with pytest.raises(ResultNotReady, match="GET /items/1: its batch has not been sent yet"):
        _ = handle.result


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_a_client_of_the_wrong_kind_is_refused(library):
    """
    The sentence says which one is meant.
    """
    with library.Client() as http, pytest.raises(ConfigurationError, match="an AsyncBatchClient"):
        AsyncBatchClient(http)
    with pytest.raises(ConfigurationError, match="dict: give a client"):
        BatchClient({})


@pytest.mark.parametrize("path", ["/batch?key=1", "/batch#there"])
def test_an_endpoint_with_a_query_is_refused(path):
    """
    Its batches would be looked for below the query.
    """
    with httpx.Client() as http, pytest.raises(ConfigurationError, match="has no query"):
        BatchClient(http, path)


def test_the_libraries_are_found():
    """
    Each that there is, once; without any there is a sentence that says what to install.
    """
    assert installed() == [httpx, httpx2]
    assert installed(("nowhere", "httpx2", "httpx2")) == [httpx2]
    with pytest.raises(ModuleNotFoundError, match=r"pip install asgi-batch\[client\]"):
        installed(("nowhere",))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("", None), ("soon", None), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0)],
)
def test_retry_after_is_a_number_or_a_date(value, seconds):
    """
    What cannot be read is not there.
    """
    assert retry_after_of({"retry-after": value}) == seconds


def test_each_delay_is_longer_and_none_is_endless():
    """
    They double, between half and all of it, up to ten seconds.
    """
    assert 0.1 <= delay_before(0) <= 0.2
    assert 5 <= delay_before(50) <= 10
    assert delay_before(3, 1.5) == 1.5
