"""
What the transport makes of servers, and of things in between, that answer otherwise than hoped for.

A gateway in front of the app answers in their place.
"""

import asyncio
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest

from apps import called
from asgi_batch import BatchMiddleware, Limits
from asgi_batch.client import BatchTransport
from client_support import Gateway, problem

LIMITS = (200, b'{"limits": {"syncOperations": 10}}', {})


@asynccontextmanager
async def behind(limits=None, options=None, **answers):
    """
    A client with the transport behind a gateway, and the gateway.
    """
    gateway = Gateway(BatchMiddleware(called.api, limits=Limits(**(limits or {}))), **answers)
    transport = BatchTransport(httpx.ASGITransport(gateway), **(options or {}))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client, gateway


async def together(client, method="GET", count=3, path="/items/{}", **arguments):
    """
    The responses, or errors, of requests that are made at the same moment.
    """
    outcomes = [None] * count

    async def make(number):
        try:
            outcomes[number] = await client.request(method, path.format(number), **arguments)
        except httpx.HTTPError as error:
            outcomes[number] = error

    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(make, number)
    return outcomes


def travelled(responses):
    return [each.extensions.get("asgi_batch", {}).get("operations", 0) for each in responses]


def asked(gateway):
    return [method for method, path, _ in gateway.requests if path == "/batch"]


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_server_that_has_no_endpoint_any_more_is_left_alone(status):
    """
    Also where ``OPTIONS`` says otherwise, as a framework answers it for all paths.
    """
    async with behind(OPTIONS=[LIMITS], POST=[(status, b"", {})]) as (client, gateway):
        first, second = await together(client), await together(client)

    assert travelled(first + second) == [0] * 6
    assert asked(gateway) == ["OPTIONS", "POST"]


@pytest.mark.parametrize(
    "answer", [(200, b"<html>", {}), (302, b"", {"location": "/"}), (404, b"", {})]
)
async def test_a_server_that_tells_no_limits_has_no_endpoint(answer):
    """
    It is not asked again.
    """
    async with behind(OPTIONS=[answer]) as (client, gateway):
        first, second = await together(client), await together(client)

    assert travelled(first + second) == [0] * 6
    assert asked(gateway) == ["OPTIONS"]


async def test_a_gateway_that_forbids_what_it_does_not_know_is_asked_once():
    """
    Unlike a server that has told its limits, and forbids batches to somebody.
    """
    forbidden = (403, b"", {})
    async with behind(OPTIONS=[forbidden], POST=[forbidden]) as (client, gateway):
        first, second = await together(client), await together(client)
    async with behind(OPTIONS=[LIMITS], POST=[forbidden]) as (client, _):
        third, fourth = await together(client), await together(client)

    assert travelled(first + second) == [0] * 6
    assert asked(gateway) == ["OPTIONS", "POST"]
    assert travelled(third + fourth) == [0] * 3 + [3] * 3


async def test_limits_that_nobody_tells_are_the_usual_ones():
    """
    Where ``OPTIONS`` is refused or lost, a batch is tried all the same, and the server asked again.
    """
    lost = httpx.ReadError("lost")
    async with behind(OPTIONS=[(401, b"", {}), lost]) as (client, gateway):
        responses = [await together(client) for _ in range(3)]

    assert [travelled(each) for each in responses] == [[3] * 3] * 3
    assert asked(gateway) == ["OPTIONS", "POST"] * 3


@pytest.mark.parametrize("code", ["rate_limited", "overloaded"])
async def test_a_server_that_asks_for_patience_asks_each(code):
    """
    They get what they would have got alone: the refusal, and when to come back.
    """
    status, body, _ = problem(429 if code == "rate_limited" else 503, code)
    refusal = (status, body, {"retry-after": "7", "content-type": "application/problem+json"})
    async with behind(POST=[refusal]) as (client, gateway):
        responses = await together(client)

    assert [each.status_code for each in responses] == [status] * 3
    assert [each.headers["retry-after"] for each in responses] == ["7"] * 3
    assert [each.json()["code"] for each in responses] == [code] * 3
    assert len(gateway.requests) == 2


async def test_what_is_too_much_together_goes_by_itself():
    """
    429 without ``Retry-After``, a refusal that waiting does not cure, and a gateway's 502.
    """
    for answer in (
        problem(429, "rate_limited"),
        problem(403, "cross_site_request"),
        (502, b"", {}),
    ):
        async with behind(POST=[answer]) as (client, _):
            responses = await together(client)
        assert [each.status_code for each in responses] == [200] * 3
        assert travelled(responses) == [0] * 3


async def test_what_may_have_run_is_not_sent_again():
    """
    Where a gateway fails that may have let a batch of POSTs through, they get its answer.
    """
    options = {"methods": ["POST"]}
    for answer in ((502, b"bad", {}), (202, b'{"batchId": "x"}', {})):
        async with behind(options=options, POST=[answer]) as (client, gateway):
            responses = await together(client, "POST", path="/items")
        assert [each.status_code for each in responses] == [answer[0]] * 3
        assert asked(gateway) == ["OPTIONS", "POST"]

    async with behind(options=options, POST=[(502, b"bad", {})]) as (client, gateway):
        headers = {"idempotency-key": "k"}
        responses = await together(client, "POST", path="/items", headers=headers)
    assert [each.status_code for each in responses] == [201] * 3


async def test_limits_that_have_changed_are_asked_for_again():
    """
    A batch that is answered 202 was too large to be answered at once.
    """
    async with behind(limits={"sync_operations": 2}, OPTIONS=[LIMITS], POST=[(202, b"{}", {})]) as (
        client,
        gateway,
    ):
        first = await together(client)
        second = await together(client)

    assert travelled(first) == [0] * 3
    assert sorted(travelled(second)) == [0, 2, 2]
    assert asked(gateway) == ["OPTIONS", "POST", "OPTIONS", "POST"]


async def test_a_smaller_limit_is_learnt():
    """
    413 tells it, and the next batches are smaller.
    """
    refusal = problem(413, "too_many_operations", maxOperations=2)
    async with behind(POST=[refusal]) as (client, _):
        first = await together(client, count=4)
        second = await together(client, count=4)

    assert travelled(first) == [0] * 4
    assert travelled(second) == [2] * 4


async def test_requests_that_are_too_large_together_are_cut():
    """
    The size of a batch is bounded as well as their number.
    """
    options = {"methods": ["PUT"]}
    async with behind(limits={"max_body_bytes": 40_000}, options=options) as (client, gateway):
        await together(client, "PUT", path="/items", content="{}")
        responses = await together(client, "PUT", path="/items", content="x" * 3000)

    assert [each.status_code for each in responses] == [201] * 3
    assert sorted(travelled(responses)) == [0, 2, 2]
    assert gateway.sent() == [3, 2]


async def test_a_refusal_that_names_nobody_sends_all_by_themselves():
    """
    So does one that comes again and again.
    """
    named = [problem(422, "invalid_batch", errors=[{"index": 0}])] * 3
    for answers in ([problem(422, "invalid_batch", errors=[{"code": "x"}])], named):
        async with behind(POST=answers) as (client, _):
            responses = await together(client, count=6)
        assert [each.status_code for each in responses] == [200] * 6
        assert travelled(responses) == [0] * 6


async def test_an_operation_that_must_not_run_twice_gets_the_answer_of_the_batch():
    """
    The app has failed in a way that only the batch has seen.
    """
    options = {"methods": ["GET", "PATCH"]}

    async with behind(limits={"max_result_bytes": 5}, options=options) as (client, _):
        patched = await together(client, "PATCH", path="/items", content="123456")
        got = await together(client)

    assert [each.status_code for each in patched] == [502] * 3
    assert [each.json()["code"] for each in patched] == ["response_too_large"] * 3
    assert travelled(patched + got) == [3] * 3 + [0] * 3
    assert [each.status_code for each in got] == [200] * 3


async def test_what_is_known_of_a_server_is_known_of_that_one():
    """
    Another one may have an endpoint, and requests to both share no batch.
    """
    async with behind(OPTIONS=[(404, b"", {})]) as (client, _):
        headers = {"host": "test"}
        first = await together(client, path="http://a/items/{}", headers=headers)
        second = await together(client, path="http://b/items/{}", headers=headers)

    assert travelled(first + second) == [0] * 3 + [3] * 3


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"<html>", {}),
        (200, b'{"results": []}', {}),
        (
            200,
            b'{"results": [{"id": "0", "status": 200, "result": "?", "encoding": "base64"}]}',
            {},
        ),
        (204, b"", {}),
    ],
    ids=["page", "too few", "no base64", "nothing"],
)
async def test_an_answer_that_is_none_is_asked_for_once(answer):
    """
    Nobody knows what a gateway that says 200 has done: only what may run twice goes out again.
    """
    async with behind(OPTIONS=[LIMITS], POST=[answer]) as (client, gateway):
        responses = await together(client)
    assert [each.status_code for each in responses] == [200] * 3
    assert gateway.sent() == [3]

    options = {"methods": ["POST"]}
    async with behind(options=options, OPTIONS=[LIMITS], POST=[answer]) as (client, gateway):
        errors = await together(client, "POST", path="/items", json={})
    assert [type(each) for each in errors] == [httpx.RemoteProtocolError] * 3
    assert asked(gateway) == ["OPTIONS", "POST"]
    assert len(gateway.requests) == 2


class Broken(Exception):
    """
    Made from something else than what it says.
    """

    def __init__(self, line, reason):
        super().__init__(f"{line}: {reason}")


async def test_errors_of_whatever_kind_are_those_of_each():
    """
    Also one that cannot be copied; and no request runs twice for it.
    """
    options = {"methods": ["POST"]}
    broken = Broken(7, "cut")
    async with behind(options=options, OPTIONS=[LIMITS], POST=[broken]) as (client, gateway):
        with pytest.raises(ExceptionGroup) as raised:
            await together(client, "POST", path="/items", json={})

    assert raised.group_contains(Broken, match="7: cut")
    assert not raised.group_contains(TypeError)
    assert gateway.sent() == [3]


class Watched(httpx.ASGITransport):
    """
    Knows its responses, and whether it is in use.
    """

    def __init__(self, app):
        super().__init__(app)
        self.responses = []
        self.events = []

    async def __aenter__(self):
        self.events.append("entered")
        return self

    async def __aexit__(self, *error):
        self.events.append("left")

    async def aclose(self):
        self.events.append("closed")

    async def handle_async_request(self, request):
        response = await super().handle_async_request(request)
        self.responses.append(response)
        return response


# httpx leaves its generators lie then, which trio warns of.
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_response_that_cannot_be_read_gives_its_connection_back():
    """
    The batch was answered with what is not what it is said to be.
    """
    packed = (200, b"no gzip", {"content-encoding": "gzip"})
    inner = Watched(Gateway(called.api, OPTIONS=[LIMITS], POST=[packed]))
    transport = BatchTransport(inner)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        errors = await together(client)

    assert [type(each) for each in errors] == [httpx.DecodingError] * 3
    assert [each.is_closed for each in inner.responses] == [True, True]


async def test_the_transport_inside_is_entered_and_left():
    """
    As it would be without the one around it.
    """
    inner = Watched(called.api)
    async with httpx.AsyncClient(transport=BatchTransport(inner)):
        assert inner.events == ["entered"]
    await httpx.AsyncClient(transport=BatchTransport(inner)).aclose()

    assert inner.events == ["entered", "left", "closed"]


def test_nobody_waits_for_a_loop_that_has_ended():
    """
    A request that waits in one event loop is not joined by those of another.
    """
    app = BatchMiddleware(called.api)
    transport = BatchTransport(httpx.ASGITransport(app), max_operations=2, max_delay=0.2)
    client = httpx.AsyncClient(transport=transport, base_url="http://test")
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    stopped = first.create_task(client.get("/items/1"))
    first.run_until_complete(asyncio.sleep(0))

    answered = second.run_until_complete(client.get("/items/2"))

    assert travelled([answered]) == [0]
    stopped.cancel()
    with pytest.raises(asyncio.CancelledError):
        first.run_until_complete(stopped)
    first.close()
    second.close()
