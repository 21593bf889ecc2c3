"""
The endpoint itself: who it answers and in which words, and how a batch cannot contain a batch.
"""

import json

import anyio
import anyio.lowlevel
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import Mount, Route

from asgi_batch import BatchMiddleware, Limits
from support import Exchange, batch_body, batch_scope, call, http_scope, respond, submit


async def fine(scope, receive, send):
    """
    An app that answers everything.
    """
    await respond(send, b"fine")


def counting(app, counted):
    """
    *app*, with a note of every path that reaches it.
    """

    async def counting_app(scope, receive, send):
        counted.append(scope["path"])
        await app(scope, receive, send)

    return counting_app


async def ask(app, method="POST", body=b"", **members):
    """
    Call the endpoint with anything.
    """
    return await call(app, Exchange(batch_scope(method=method, **members), body))


# --- methods


async def test_options_says_what_is_possible():
    """
    OPTIONS tells the methods and the limits, and reaches no app.
    """
    counted = []
    limits = Limits(max_operations=7, sync_operations=3, operation_timeout=1.5)
    answer = await ask(BatchMiddleware(counting(fine, counted), limits=limits), "OPTIONS")
    told = answer.json()["limits"]

    assert answer.status == 200
    assert answer.headers["allow"] == "POST, OPTIONS"
    assert (told["maxOperations"], told["syncOperations"], told["operationTimeout"]) == (7, 3, 1.5)
    assert told["maxBodyBytes"] == limits.max_body_bytes
    assert counted == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE", "post"])
async def test_other_methods_are_405(method):
    """
    A batch is sent with POST.
    """
    counted = []
    answer = await ask(BatchMiddleware(counting(fine, counted)), method)

    assert answer.status == 405
    assert answer.headers["allow"] == "POST, OPTIONS"
    assert counted == []


# --- T39, T45: what every answer says


REQUESTS = {
    "answer": ("POST", batch_body(["GET /"]), 200),
    "options": ("OPTIONS", b"", 200),
    "wrong method": ("GET", b"", 405),
    "malformed": ("POST", b"nonsense", 400),
    "invalid": ("POST", b'{"operations": []}', 422),
    "too many": ("POST", batch_body(["GET /"] * 1001), 413),
    "too many for now": ("POST", batch_body(["GET /"] * 101), 503),
}


@pytest.mark.parametrize(("method", "body", "status"), REQUESTS.values(), ids=REQUESTS.keys())
async def test_t39_t45_no_answer_is_cached_or_guessed_at(method, body, status):
    """
    T39, T45: no-store and nosniff on everything, errors too.
    """
    answer = await ask(BatchMiddleware(fine), method, body)
    sized = {"content-length": str(len(answer.body))} if answer.body else {}
    if status == 405 or method == "OPTIONS":
        sized = {}  # the body was not read; see test_request_body.py
    kind = "application/json" if status == 200 else "application/problem+json"
    typed = {"content-type": kind} if answer.body else {}
    allowed = {"allow": "POST, OPTIONS"} if method != "POST" else {}
    if body in (batch_body(["GET /"]), batch_body(["GET /"] * 101)):
        allowed = {"batch-operations": str(len(json.loads(body)["operations"]))}
    headers = answer.headers
    headers.pop("connection", None)

    assert answer.status == status
    assert headers == {
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        **typed,
        **sized,
        **allowed,
    }


async def test_every_refusal_is_a_problem_document():
    """
    RFC 9457: what a refusal says is the same for people and for programs.
    """
    answer = await ask(BatchMiddleware(fine), "POST", b"nonsense")
    document = answer.json()

    assert set(document) == {"type", "title", "status", "code", "detail"}
    assert (document["type"], document["status"]) == ("about:blank", answer.status)
    assert document["code"] == "invalid_json"


# --- how large answers go out


async def test_a_large_answer_goes_out_in_pieces():
    """
    Neither one message per result nor one for all: a server can send while it is given more.
    """

    async def app(scope, receive, send):
        await respond(send, b"x" * 50_000)

    answer = await submit(BatchMiddleware(app), *["GET /"] * 20)
    sizes = [len(message["body"]) for message in answer.sent[1:]]

    assert answer.bodies == ["x" * 50_000] * 20
    assert int(answer.headers["content-length"]) == len(answer.body) == sum(sizes)
    assert 5 <= len(sizes) <= 20
    assert max(sizes) < 200_000


async def test_a_small_answer_is_one_message():
    """
    What fits is not torn apart.
    """
    answer = await submit(BatchMiddleware(fine), *["GET /"] * 20)

    assert [message.get("more_body", False) for message in answer.sent[1:]] == [False]


async def test_an_answer_just_as_large_as_a_piece():
    """
    The last message is the one that says so, whatever the sizes come to.
    """

    async def app(scope, receive, send):
        await respond(send, b"x" * int(scope["path"][1:]))

    for size in (65_000, 65_400, 65_436, 65_440, 65_500, 66_000, 131_072):
        answer = await submit(BatchMiddleware(app), f"GET /{size}")
        ends = [message.get("more_body", False) for message in answer.sent[1:]]

        assert answer.bodies == ["x" * size]
        assert ends == [True] * (len(ends) - 1) + [False]


# --- T28: too many operations


@pytest.mark.parametrize("count", [5, 6])
async def test_t28_sync_operations_is_the_most_that_is_answered_at_once(count):
    """
    T28: one more is for the background, which does not run here; nothing has run.
    """
    counted = []
    middleware = BatchMiddleware(counting(fine, counted), limits=Limits(sync_operations=5))
    answer = await submit(middleware, *["GET /"] * count)

    assert answer.status == (200 if count == 5 else 503)
    assert len(counted) == (count if count == 5 else 0)
    if count == 6:
        assert answer.json()["code"] == "background_unavailable"
        assert "lifespan" in answer.json()["detail"]


async def test_t28_max_operations_is_the_most_there_is():
    """
    T28: what no batch may have is refused with the number to stay below.
    """
    limits = Limits(sync_operations=5, max_operations=10)
    answer = await submit(BatchMiddleware(fine, limits=limits), *["GET /"] * 11)
    document = answer.json()

    assert (answer.status, document["code"]) == (413, "too_many_operations")
    assert document["maxOperations"] == 10


# --- T7: a batch in a batch


INNER = {
    "method": "POST",
    "path": "/batch",
    "body": {"operations": [{"method": "GET", "path": "/inner"}] * 10},
}


@pytest.mark.parametrize(
    "path", ["/batch", "/batch?x=1", "/batch/", "/batch/1/status", "/%62atch", "/batc%68"]
)
async def test_t7_an_operation_cannot_name_the_endpoint(path):
    """
    T7: refused by its path, however it is written, before anything has run.
    """
    counted = []
    middleware = BatchMiddleware(counting(fine, counted))
    answer = await submit(middleware, "GET /", {**INNER, "path": path})
    (error,) = answer.json()["errors"]

    assert answer.status == 422
    assert (error["index"], error["code"]) == (1, "nested_batch")
    assert counted == []


@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS"])
async def test_t7_a_marked_scope_is_never_a_batch(method):
    """
    T7: a scope that belongs to an operation is refused whatever its path was.
    """
    counted = []
    middleware = BatchMiddleware(counting(fine, counted))
    answer = await ask(middleware, method, batch_body(["GET /"]), asgi_batch=object())

    assert (answer.status, answer.json()["code"]) == (400, "nested_batch")
    assert counted == []


async def test_t7_a_mount_alias_leads_nowhere():
    """
    T7: an endpoint that is reached under another name through a mount.
    """
    counted = []
    inner = counting(fine, counted)
    app = Starlette(routes=[Mount("/alias", app=BatchMiddleware(inner)), Mount("/", app=inner)])
    middleware = BatchMiddleware(app)
    answer = await submit(middleware, "GET /a", {**INNER, "path": "/alias/batch"}, "GET /b")

    assert answer.statuses == [200, 400, 200]
    assert answer.bodies[1]["code"] == "nested_batch"
    assert counted == ["/a", "/b"]


async def test_t7_rewriting_middleware_leads_nowhere():
    """
    T7: middleware that turns another path into the endpoint's.
    """
    counted = []
    endpoint = BatchMiddleware(counting(fine, counted))

    async def rewriting(scope, receive, send):
        if scope["path"] == "/old-name":
            scope = {**scope, "path": "/batch"}
        await endpoint(scope, receive, send)

    outer = BatchMiddleware(rewriting)
    answer = await submit(outer, {**INNER, "path": "/old-name"}, "GET /a")

    assert answer.statuses == [400, 200]
    assert answer.bodies[0]["code"] == "nested_batch"
    assert counted == ["/a"]


async def test_t7_two_endpoints_do_not_multiply():
    """
    T7: an endpoint of another path inside of this one is a batch in a batch all the same.
    """
    counted = []
    inner = BatchMiddleware(counting(fine, counted), path="/bulk")
    answer = await submit(BatchMiddleware(inner), {**INNER, "path": "/bulk"}, "GET /a")

    assert answer.statuses == [400, 200]
    assert counted == ["/a"]


async def test_t7_a_nested_batch_cannot_take_the_tokens_it_waits_for():
    """
    T7, finding 2: a hundred batches in a batch end at once, with one token for all of them.
    """
    app = Starlette(routes=[Mount("/alias", app=BatchMiddleware(fine))])
    limits = Limits(concurrency=1, total_concurrency=1)
    operations = [{**INNER, "path": "/alias/batch"}] * 100
    answer = await submit(BatchMiddleware(app, limits=limits), *operations)

    assert answer.statuses == [400] * 100


# --- T8: redirects


async def test_t8_redirects_are_results():
    """
    T8: a redirect is returned as it is; neither another host nor another path is called.
    """
    counted = []

    async def away(request):
        return RedirectResponse("http://evil.example/")

    async def here(request):
        return RedirectResponse("/target", status_code=308)

    async def target(request):
        return PlainTextResponse("target")

    routes = [Route("/away", away), Route("/here", here), Route("/target", target)]
    middleware = BatchMiddleware(counting(Starlette(routes=routes), counted))
    answer = await submit(middleware, "GET /away", "GET /here")

    assert answer.statuses == [307, 308]
    assert [result["headers"]["location"] for result in answer.results] == [
        "http://evil.example/",
        "/target",
    ]
    assert counted == ["/away", "/here"]


# --- several endpoints, requests and loops


async def test_requests_do_not_share_anything():
    """
    One middleware answers many batches at a time, each with its own caller and its own results.
    """

    async def app(scope, receive, send):
        await anyio.lowlevel.checkpoint()
        caller = dict(scope["headers"])[b"authorization"]
        await respond(send, caller + scope["path"].encode())

    middleware = BatchMiddleware(app)
    answers = {}

    async def submit_as(name):
        headers = [(b"content-type", b"application/json"), (b"authorization", name.encode())]
        operations = [f"GET /{name}/{number}" for number in range(30)]
        answers[name] = await submit(middleware, *operations, scope=batch_scope(headers=headers))

    async with anyio.create_task_group() as tasks:
        for name in ("alice", "bob", "carol"):
            tasks.start_soon(submit_as, name)

    assert {name: answer.bodies for name, answer in answers.items()} == {
        name: [f"{name}/{name}/{number}" for number in range(30)] for name in answers
    }


async def test_each_batch_has_an_id_of_its_own():
    """
    The id is unguessable and never used twice.
    """
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["asgi_batch"].batch_id)
        await respond(send)

    middleware = BatchMiddleware(app)
    for _ in range(50):
        await submit(middleware, "GET /")

    assert len(set(seen)) == 50
    assert min(map(len, seen)) >= 32


async def test_the_endpoint_does_not_change_the_requests_scope():
    """
    Middleware further out finds its scope as it was.
    """
    scope = batch_scope(state={"a": 1}, user=object())
    before = {key: repr(value) for key, value in scope.items()}
    await submit(BatchMiddleware(fine), "GET /", scope=scope)

    assert {key: repr(value) for key, value in scope.items()} == before


async def test_an_answer_says_its_bytes_are_json():
    """
    Whatever apps answer, the answer to the batch parses.
    """

    async def app(scope, receive, send):
        await respond(send, b'{"a": 1', content_type=b"application/json")

    answer = await submit(BatchMiddleware(app), "GET /")

    assert json.loads(answer.body)["results"][0]["encoding"] == "text"


async def test_f15_batches_need_no_lifespan():
    """
    F15: a server that never sends lifespan events gets its batches answered, from the first one on.
    """
    kinds = []

    async def app(scope, receive, send):
        kinds.append(scope["type"])
        await respond(send, b"fine")

    scope = batch_scope()
    del scope["state"]
    answer = await submit(BatchMiddleware(app), "GET /a", "GET /b", scope=scope)

    assert answer.bodies == ["fine"] * 2
    assert kinds == ["http"] * 2


async def test_direct_requests_are_not_counted():
    """
    A request that is no batch costs no token and holds no bytes.
    """
    seen = []

    async def app(scope, receive, send):
        seen.append(middleware.statistics())
        await respond(send)

    middleware = BatchMiddleware(app)
    await call(middleware, Exchange(http_scope("POST", "/direct"), b"x" * 1000))

    assert (seen[0].running, seen[0].held_bytes) == (0, 0)
