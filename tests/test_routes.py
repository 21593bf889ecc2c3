"""
`allow` and `deny`: what operations reach of real apps, however their paths are written.
"""

import json
import re
from dataclasses import replace

import pytest
from fastapi import FastAPI
from hypothesis import given, note, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount

from apps.mirrors import MIRRORS
from asgi_batch import BatchMiddleware, ConfigurationError
from equivalence import CALLER, Place
from later_support import ask, ended, post, prefer, serving
from support import Exchange, batch_body, batch_scope, call, respond, submit

EXAMPLES = settings().max_examples
PREFIX = "/api/v1"
PLACES = {
    "alone": Place(),
    "root-path-in-path": Place(prefix=PREFIX, root_path=PREFIX),
    "root-path-not-in-path": Place(root_path=PREFIX),
    "mounted": Place(prefix="/m\u00fcnt", is_mounted=True),
}
ROUTERS = [name for name in MIRRORS if name != "bare"]
DENIED = ["/echo/**", "/only-get"]

slashes = st.sampled_from(
    ["//", "/./", "/x/../", "/;a=b/", "%2f", "%2F", "/%2e/", "\\", "%5c", "%252f", "///", "/%20/"]
)
tails = st.sampled_from(["", "/", "//", "/.", ";x", "%20", "%00", "%2f", "?a=b", "/..", "%3b", "."])
ways = st.sampled_from(["%{:02x}", "%{:02X}", "%25{:02x}", "%2525{:02x}", "{}"])


@st.composite
def targets(draw):
    """
    A spelling of a denied path, near to it or far.
    """
    path = draw(st.sampled_from(["/echo", "/echo/x", "/only-get", "/only-get/"]))
    path = draw(st.sampled_from(["", "", PREFIX, PREFIX * 2, "/m%C3%BCnt", "/reply"])) + path
    written = ""
    for character in path:
        if character == "/" and draw(st.integers(0, 4)) == 0:
            written += draw(slashes)
        elif character.isalpha() and draw(st.integers(0, 8)) == 0:
            way = draw(ways)
            written += way.format(ord(character) if way != "{}" else character.upper())
        else:
            written += character
    return written + draw(tails)


@pytest.mark.parametrize("policy", ["strict", "lenient"])
@pytest.mark.parametrize(
    ("framework", "anyio_backend"), [(each, ("asyncio", {"use_uvloop": False})) for each in ROUTERS]
)
@settings(max_examples=2 * EXAMPLES)
@given(
    place=st.sampled_from(list(PLACES.values())),
    target=targets(),
    method=st.sampled_from(["GET", "HEAD", "POST", "OPTIONS"]),
)
async def test_t2_t10_no_spelling_reaches_what_is_denied(
    policy, framework, anyio_backend, place, target, method
):
    """
    T2, T10: either the batch is refused, or the app does not find the route.
    """
    note(f"{place} {method} {target}")
    app = BatchMiddleware(MIRRORS[framework], deny=DENIED, path_policy=policy)
    outer = Starlette(routes=[Mount(place.prefix, app)]) if place.is_mounted else app
    scope = place.scope("POST", "/batch", CALLER | {"content-type": "application/json"})
    body = json.dumps({"operations": [{"method": method, "path": target}]}).encode()
    answer = await call(outer, Exchange(scope, body))
    # OPTIONS is answered by some frameworks themselves.
    is_hit = answer.status == 200 and answer.json()["results"][0]["status"] == 200

    assert answer.status in (200, 422)
    assert not is_hit or (method == "OPTIONS" and framework == "quart")


@pytest.mark.parametrize("policy", ["strict", "lenient"])
@pytest.mark.parametrize(
    ("framework", "anyio_backend"), [(each, ("asyncio", {"use_uvloop": False})) for each in ROUTERS]
)
@settings(max_examples=EXAMPLES)
@given(place=st.sampled_from(list(PLACES.values())), target=targets())
async def test_t2_t10_no_spelling_reaches_what_is_not_allowed(
    policy, framework, anyio_backend, place, target
):
    """
    T2, T10: where only what is below a route is allowed, nothing finds the route itself.
    """
    note(f"{place} {target}")
    app = BatchMiddleware(MIRRORS[framework], allow=["/echo/*"], path_policy=policy)
    outer = Starlette(routes=[Mount(place.prefix, app)]) if place.is_mounted else app
    scope = place.scope("POST", "/batch", CALLER | {"content-type": "application/json"})
    body = json.dumps({"operations": [{"method": "GET", "path": target}]}).encode()
    answer = await call(outer, Exchange(scope, body))

    assert answer.status in (200, 422)
    if answer.status == 200 and (result := answer.json()["results"][0])["status"] == 200:
        route = result["result"]["path"].rstrip("/").rpartition("/echo")[2]

        assert re.fullmatch("/.+", route)


async def test_t2_an_app_with_a_root_path_of_its_own():
    """
    T2: FastAPI takes it off though the scope does not name it.
    """
    app = FastAPI()
    app.root_path = "/api"
    app.get("/admin")(lambda: "reached")
    app.get("/open")(lambda: "reached")
    middleware = BatchMiddleware(app, deny=["/admin"])
    refused = await submit(middleware, "GET /api/admin")
    accepted = await submit(middleware, "GET /api/open", "GET /open")
    behind = batch_scope(root_path="/other")
    mounted = await call(middleware, Exchange(behind, batch_body(["GET /api/admin"])))

    assert refused.json()["errors"][0]["code"] == "path_not_allowed"
    assert mounted.json()["errors"][0]["code"] == "path_not_allowed"
    assert [each["status"] for each in accepted.results] == [200, 200]


async def test_t2_an_app_whose_root_path_is_a_directory():
    """
    T2: that of Quart is, and must not stand in for the one of the scope.
    """
    assert MIRRORS["quart"].root_path.startswith("/")
    middleware = BatchMiddleware(MIRRORS["quart"], deny=["/echo"])
    exchange = Exchange(batch_scope(root_path="/api"), batch_body(["GET /api/echo"]))
    answer = await call(middleware, exchange)

    assert answer.json()["errors"][0]["code"] == "path_not_allowed"


@pytest.mark.parametrize(
    ("framework", "anyio_backend"), [(each, ("asyncio", {"use_uvloop": False})) for each in ROUTERS]
)
async def test_the_denied_routes_are_there(framework):
    """
    Without which the test above would prove nothing.
    """
    answer = await submit(BatchMiddleware(MIRRORS[framework]), "GET /echo", "GET /echo/x")

    assert [each["status"] for each in answer.results] == [200, 200]


async def fine(scope, receive, send):
    await respond(send, scope["path"].encode())


async def test_t2_a_forbidden_operation_refuses_the_whole_batch():
    """
    T2: with all that is wrong at once, and nothing has run.
    """
    calls = []

    async def app(scope, receive, send):
        calls.append(scope["path"])

    middleware = BatchMiddleware(app, allow=["GET /open/**"], deny=["/open/secret"])
    answer = await submit(middleware, "GET /open/1", "POST /open/1", "GET /open/secret", "GET //x")
    codes = [(each["pointer"], each["code"]) for each in answer.json()["errors"]]

    assert answer.status == 422
    assert codes == [
        ("/operations/1/path", "path_not_allowed"),
        ("/operations/2/path", "path_not_allowed"),
        ("/operations/3/path", "invalid_path"),
    ]
    assert calls == []


async def test_t9_what_is_allowed_runs():
    """
    T9: and direct requests are nobody's business here.
    """
    middleware = BatchMiddleware(fine, allow=["GET /open/**"])
    batch = await submit(middleware, "GET /open/1", "HEAD /open/2")
    direct = await ask(middleware, "/closed")

    assert [each["status"] for each in batch.results] == [200, 200]
    assert direct.body == b"/closed"


async def test_a_wrong_method_is_not_judged_by_its_route():
    """
    One mistake is one problem.
    """
    answer = await submit(BatchMiddleware(fine, allow=["/open"]), "BREW /closed")

    assert [each["code"] for each in answer.json()["errors"]] == ["method_not_allowed"]


async def test_t2_a_retry_goes_by_the_rules_of_today():
    """
    T2: operations may have been accepted before the rules were.
    """

    async def failing(scope, receive, send):
        await respond(send, b"", status=500)

    async with serving(failing) as app:
        accepted = await post(app, "GET /a", "GET /b", headers=[prefer(b"respond-async")])
        url = f"/batch/{accepted.json()['batchId']}"
        await ended(app, f"{url}/status")
        # As if the process had been started again with other settings.
        rules = [BatchMiddleware(failing, deny=[each])._settings.rules for each in ("/b", "/c")]
        app._settings = replace(app._settings, rules=rules[0])
        answer = await ask(app, f"{url}/retry", "POST")
        app._settings = replace(app._settings, rules=rules[1])
        allowed = await ask(app, f"{url}/retry", "POST")

    assert allowed.status == 202
    assert answer.status == 422
    assert answer.json()["errors"] == [
        {
            "index": 1,
            "id": "1",
            "pointer": "/operations/1/path",
            "code": "path_not_allowed",
            "detail": "Batches may not send this method to this path; send the request by itself.",
        }
    ]


@pytest.mark.parametrize("setting", ["allow", "deny"])
def test_wrong_patterns(setting):
    """
    They are refused at once, with what to write.
    """
    with pytest.raises(ConfigurationError, match=re.escape(f"{setting}: 'admin': write a path")):
        BatchMiddleware(fine, **{setting: ["/fine", "admin"]})
    with pytest.raises(ConfigurationError, match=f"{setting}='/admin': write a list of names"):
        BatchMiddleware(fine, **{setting: "/admin"})
