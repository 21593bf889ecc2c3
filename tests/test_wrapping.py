"""
The ways to wrap an app that docs/frameworks.md tells of, and what it says happens.
"""

import gzip
import json

import pytest
from fastapi import FastAPI
from litestar import Litestar, get
from quart import Quart
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from asgi_batch import BatchMiddleware
from support import Exchange, batch_body, batch_scope, call, http_scope, submit

ASYNCIO_ONLY = pytest.mark.parametrize(
    "anyio_backend",
    [("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})],
    ids=["asyncio", "uvloop"],
)
OPERATIONS = ["GET /hello", "GET /crash", "GET /nowhere"]


class Witness:
    """
    Middleware that notes the paths it sees.
    """

    def __init__(self, app, paths):
        self.app = app
        self.paths = paths

    async def __call__(self, scope, receive, send):
        self.paths.append(scope["path"])
        await self.app(scope, receive, send)


async def hello(request):
    return PlainTextResponse("Hello!")


async def crash(request):
    raise RuntimeError("This endpoint always crashes.")


def starlette_app():
    return Starlette(routes=[Route("/hello", hello), Route("/crash", crash)])


def fastapi_app():
    app = FastAPI()
    app.add_route("/hello", hello)
    app.add_route("/crash", crash)
    return app


STARLETTES = pytest.mark.parametrize("make", [starlette_app, fastapi_app])


@STARLETTES
async def test_starlette_outside_has_the_app_answer_a_crash(make):
    """
    Wrapped from the outside, an operation passes ServerErrorMiddleware, as a request does.
    """
    batch = await submit(BatchMiddleware(make()), *OPERATIONS)

    assert batch.statuses == [200, 500, 404]
    assert batch.results[1]["error"] == "Internal Server Error"
    assert "source" not in batch.results[1]


@STARLETTES
async def test_starlette_add_middleware_has_the_library_answer_a_crash(make):
    """
    add_middleware puts ServerErrorMiddleware around the batch, so that no operation passes it.
    """
    app = make()
    app.add_middleware(BatchMiddleware)
    batch = await submit(app, *OPERATIONS)

    assert batch.statuses == [200, 500, 404]
    assert batch.results[1]["error"]["code"] == "app_exception"
    assert batch.results[1]["source"] == "batch"


@STARLETTES
async def test_starlette_middleware_added_later_sees_the_batch_only(make):
    """
    What is added before the batch endpoint sees each operation, what is added after it does not.
    """
    app = make()
    before, after = [], []
    app.add_middleware(Witness, paths=before)
    app.add_middleware(BatchMiddleware)
    app.add_middleware(Witness, paths=after)
    await submit(app, "GET /hello", "GET /nowhere")

    assert before == ["/hello", "/nowhere"]
    assert after == ["/batch"]


@STARLETTES
async def test_mounted_app_has_its_own_batch_endpoint(make):
    """
    Under a mount the endpoint is below the mount, and operations are named from there.
    """
    app = Starlette(routes=[Mount("/v1", BatchMiddleware(make()))])
    mounted = await submit(app, "GET /hello", scope=batch_scope(path="/v1/batch"))
    above = await submit(app, "GET /v1/hello")

    assert mounted.bodies == ["Hello!"]
    assert above.status == 404


@STARLETTES
async def test_batch_endpoint_around_mounts_reaches_what_is_mounted(make):
    """
    Wrapped around the outer app, operations name whole paths, and the mount has no endpoint.
    """
    app = BatchMiddleware(Starlette(routes=[Mount("/v1", make())]))
    batch = await submit(app, "GET /v1/hello", "GET /hello")
    below = await submit(app, "GET /hello", scope=batch_scope(path="/v1/batch"))

    assert batch.statuses == [200, 404]
    assert below.status == 404


async def test_t7_endpoint_within_an_endpoint_is_refused():
    """
    T7: an operation that reaches the batch endpoint of a mounted app is not carried out.
    """
    app = BatchMiddleware(Starlette(routes=[Mount("/v1", BatchMiddleware(starlette_app()))]))
    inner = {
        "method": "POST",
        "path": "/v1/batch",
        "body": {"operations": [{"method": "GET", "path": "/hello"}]},
    }
    batch = await submit(app, inner)

    assert batch.statuses == [400]
    assert batch.results[0]["error"]["code"] == "nested_batch"


def quart_app():
    app = Quart(__name__)

    @app.get("/hello")
    async def hello():
        return "Hello!"

    @app.get("/crash")
    async def crash():
        raise RuntimeError("This endpoint always crashes.")

    return app


@ASYNCIO_ONLY
async def test_quart_asgi_app_keeps_the_app_a_quart(anyio_backend):
    """
    With ``asgi_app`` wrapped, the app itself still is a Quart and answers batches.
    """
    app = quart_app()
    app.asgi_app = BatchMiddleware(app.asgi_app)
    batch = await submit(app, *OPERATIONS)
    direct = await app.test_client().get("/hello")

    assert batch.statuses == [200, 500, 404]
    assert all("source" not in result for result in batch.results)
    assert await direct.get_data(as_text=True) == "Hello!"


@ASYNCIO_ONLY
async def test_quart_wants_the_root_path_in_the_path(anyio_backend):
    """
    A server that tells a root path without putting it in front gets 404 for every request.
    """
    app = BatchMiddleware(quart_app())
    absent = await submit(app, "GET /hello", scope=batch_scope(root_path="/api"))
    present = await submit(
        app, "GET /hello", scope=batch_scope(root_path="/api", path="/api/batch")
    )
    direct = await call(app, Exchange(http_scope("GET", "/hello", root_path="/api")))

    assert absent.statuses == [404]
    assert present.statuses == [200]
    assert direct.status == 404


def litestar_app(**settings):
    @get("/hello", sync_to_thread=False)
    def hello() -> str:
        return "Hello!"

    @get("/crash", sync_to_thread=False)
    def crash() -> str:
        raise RuntimeError("This endpoint always crashes.")

    return Litestar([hello, crash], **settings)


def litestar_outside(**settings):
    return BatchMiddleware(litestar_app(**settings))


def litestar_handler(**settings):
    app = litestar_app(**settings)
    app.asgi_handler = BatchMiddleware(app.asgi_handler)
    return app


@pytest.mark.parametrize("make", [litestar_outside, litestar_handler])
async def test_litestar_answers_every_operation_itself(make):
    """
    Outside or at ``asgi_handler``, errors are Litestar's own, crashes too.
    """
    batch = await submit(make(), *OPERATIONS)

    assert batch.statuses == [200, 500, 404]
    assert all("source" not in result for result in batch.results)
    assert batch.results[2]["error"] == {"status_code": 404, "detail": "Not Found"}


@pytest.mark.parametrize(("make", "count"), [(litestar_outside, 2), (litestar_handler, 1)])
async def test_litestar_before_send_sees_operations_only_from_the_outside(make, count):
    """
    At ``asgi_handler`` the hooks of ``before_send`` see the answer to the batch, once.
    """
    started = []

    async def hook(message, scope):
        if message["type"] == "http.response.start":
            started.append(scope["path"])

    await submit(make(before_send=[hook]), "GET /hello", "GET /hello")

    assert len(started) == count


async def test_litestar_handler_runs_batches_in_the_background_with_a_hand():
    """
    No lifespan reaches a handler; ``running()`` does what one would, and names the app.
    """
    app = litestar_app()
    app.asgi_handler = batch = BatchMiddleware(app.asgi_handler)
    async with batch.running({"litestar_app": app}):
        accepted = await submit(app, *["GET /hello"] * 101)
        changes = [each async for each in batch.progress.watch(accepted.json()["batchId"])]

    assert accepted.status == 202
    assert (changes[-1].status, changes[-1].succeeded) == ("completed", 101)


async def test_litestar_middleware_cannot_work():
    """
    Litestar looks for a route first, so that the endpoint in ``middleware=[…]`` is never asked.
    """
    app = litestar_app(middleware=[BatchMiddleware])
    batch = await submit(app, "GET /hello")
    posted = await call(app, Exchange(batch_scope(path="/hello"), batch_body(["GET /hello"])))

    assert batch.status == 404
    assert posted.status == 405


ORIGIN = (b"origin", b"https://app.example")


def around(middleware, **settings):
    return middleware(BatchMiddleware(starlette_app()), **settings)


async def test_cors_outside_covers_the_endpoint():
    """
    With the CORS middleware around it, a browser may send a batch from another origin.
    """
    app = around(CORSMiddleware, allow_origins=["https://app.example"], allow_methods=["*"])
    asks = [ORIGIN, (b"access-control-request-method", b"POST")]
    preflight = await call(app, Exchange(http_scope("OPTIONS", "/batch", headers=asks)))
    scope = batch_scope()
    scope["headers"].append(ORIGIN)
    batch = await submit(app, "GET /hello", scope=scope)

    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    assert batch.headers["access-control-allow-origin"] == "https://app.example"
    assert batch.bodies == ["Hello!"]


async def test_compression_outside_compresses_the_answer():
    """
    GZipMiddleware around the endpoint compresses the answer, and no result within it.
    """
    app = around(GZipMiddleware, minimum_size=1)
    scope = batch_scope()
    scope["headers"].append((b"accept-encoding", b"gzip"))
    batch = await submit(app, "GET /hello", scope=scope)
    answer = json.loads(gzip.decompress(batch.body))

    assert batch.headers["content-encoding"] == "gzip"
    assert answer["results"][0]["result"] == "Hello!"


async def test_session_outside_is_handed_on_when_named():
    """
    What middleware outside puts into the scope reaches operations if it is named, and only then.
    """

    async def whose(request):
        return PlainTextResponse(str("session" in request.scope))

    app = Starlette(routes=[Route("/whose", whose)])
    silent = SessionMiddleware(BatchMiddleware(app), secret_key="secret")
    named = SessionMiddleware(
        BatchMiddleware(app, forward_scope_keys=["session"]), secret_key="secret"
    )

    assert (await submit(silent, "GET /whose")).bodies == ["False"]
    assert (await submit(named, "GET /whose")).bodies == ["True"]
