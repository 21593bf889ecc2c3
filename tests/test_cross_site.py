"""
Pages of other sites that make browsers send something, and credentials that may not be kept.
"""

import pytest

from asgi_batch import BatchMiddleware
from later_support import UNKNOWN, ask, finished, serving, submitted
from redis_server import redis_server
from support import Exchange, batch_body, batch_scope, call, respond

FOREIGN = ((b"sec-fetch-site", b"cross-site"), (b"origin", b"https://evil.example"))
TRUSTED = ((b"sec-fetch-site", b"cross-site"), (b"origin", b"https://app.example"))
CREDENTIALS = ["authorization", "cookie", "proxy-authorization"]


def refusal_of(answer):
    return answer.status, answer.json()["code"]


async def send(app, *headers, count=1):
    """
    A batch of *count* operations to be answered at once.
    """
    scope = batch_scope()
    scope["headers"] = [*scope["headers"], *headers]
    return await call(app, Exchange(scope, batch_body(["GET /2"] * count)))


class Counting:
    """
    An app that counts its calls.
    """

    def __init__(self):
        self.calls = 0

    async def __call__(self, scope, receive, send):
        self.calls += 1
        await respond(send, b"{}", content_type=b"application/json")


async def test_t21_a_foreign_page_sends_no_batch():
    """
    T21: nothing runs, even if the browser could have sent JSON and cookies.
    """
    app = Counting()
    answer = await send(BatchMiddleware(app), *FOREIGN)

    assert refusal_of(answer) == (403, "cross_site_request")
    assert app.calls == 0


@pytest.mark.parametrize(
    ("allowed", "headers"),
    [
        (["https://app.example"], TRUSTED),
        (["*"], FOREIGN),
        ([], [(b"sec-fetch-site", b"same-origin")]),
        ([], [(b"sec-fetch-site", b"same-site")]),
        ([], [(b"origin", b"https://evil.example")]),
    ],
)
async def test_t21_whoever_is_trusted_sends_batches(allowed, headers):
    """
    T21: origins that are named, pages of the same site, and clients that are no browsers.
    """
    answer = await send(BatchMiddleware(Counting(), allowed_origins=allowed), *headers)

    assert answer.status == 200


@pytest.mark.parametrize(("method", "face"), [("DELETE", ""), ("POST", "/retry")])
async def test_t38_a_foreign_page_changes_no_batch(method, face):
    """
    T38: it neither cancels nor repeats one, and does not even learn whether it is there.
    """
    async with serving(allowed_origins=["https://app.example"]) as app:
        accepted = await submitted(app, 3)
        path = f"/batch/{accepted.json()['batchId']}{face}"
        foreign = await ask(app, path, method, FOREIGN)
        unknown = await ask(app, f"/batch/{UNKNOWN}{face}", method, FOREIGN)
        status = await finished(app, accepted)
        trusted = await ask(app, path, method, TRUSTED)

    assert refusal_of(foreign) == refusal_of(unknown) == (403, "cross_site_request")
    assert foreign.body == unknown.body
    assert status.json()["status"] == "completed"
    assert trusted.status in (200, 202)


async def test_t38_a_foreign_page_may_look():
    """
    T38: what changes nothing is for CORS to judge, which keeps the answer from the page.
    """
    async with serving() as app:
        accepted = await submitted(app, 1)
        answer = await ask(app, accepted.json()["statusUrl"], headers=FOREIGN)

    assert answer.status == 200


@pytest.mark.parametrize("name", CREDENTIALS)
async def test_t41_credentials_that_may_not_be_kept(name):
    """
    T41: with `credentials="refuse"` nothing that would be kept has any; the rest is as ever.
    """
    headers = [(name.title().encode(), b"secret-canary")]
    app = Counting()
    async with serving(app, credentials="refuse") as middleware:
        kept = await submitted(middleware, 1, headers)
        named = await send(middleware, (b"idempotency-key", b"once"), *headers)
        large = await send(middleware, *headers, count=101)
        calls = app.calls
        small = await send(middleware, *headers)
        bare = await submitted(middleware, 1)

    assert (
        refusal_of(kept) == refusal_of(named) == refusal_of(large) == (422, "credentials_refused")
    )
    assert calls == 0
    assert (small.status, bare.status) == (200, 202)


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False})], indirect=True)
async def test_t41_refused_credentials_never_reach_redis(tmp_path):
    """
    T41: not even for a moment, and not into its file either.
    """
    with redis_server(tmp_path) as server:
        async with serving(store=server.url, credentials="refuse") as app:
            answer = await submitted(app, 1, [(b"authorization", b"secret-canary")])
            size = server.client.dbsize()
        server.client.save()
        files = b"".join(each.read_bytes() for each in tmp_path.rglob("*") if each.is_file())

    assert answer.status == 422
    assert size == 0
    assert b"secret-canary" not in files


async def test_batch_operations_are_told_to_proxies():
    """
    T1: each answer to a batch that was sound says how many operations it has.
    """
    async with serving() as app:
        now = await send(app, count=3)
        later = await submitted(app, 101)
        refused = await call(app, Exchange(batch_scope(), b'{"operations": []}'))

    assert now.headers["batch-operations"] == "3"
    assert later.headers["batch-operations"] == "101"
    assert "batch-operations" not in refused.headers
