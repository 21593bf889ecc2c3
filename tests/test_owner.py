"""
`owner`: whose a batch is, and who else gets to see it, which is nobody.
"""

from functools import partial
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_batch import BatchMiddleware, ConfigurationError, Limits
from asgi_batch.stores.memory import MemoryStore
from background import App
from later_support import UNKNOWN, ask, prefer, serving
from redis_server import redis_server
from support import Exchange, batch_body, batch_scope, call, releasing, respond, until

FACES = [
    ("GET", "/status"),
    ("GET", "/results"),
    ("GET", "/events"),
    ("DELETE", ""),
    ("POST", "/retry"),
]
# Names that are much alike, among others.
NAMES = st.none() | st.sampled_from(["", "a", "A", "a ", "a\0", "\0a", "\u00e4"]) | st.text()
KEY = (b"idempotency-key", b"once")


def owner_of(scope):
    """
    Whoever names itself; a real app would have checked it.
    """
    name = dict(scope["headers"]).get(b"x-user")
    return None if name is None else name.decode()


def user(name):
    return [] if name is None else [(b"x-user", name.encode())]


async def send(app, name, *headers, paths=("GET /a",)):
    """
    A batch for later.
    """
    scope = batch_scope()
    scope["headers"] = [*scope["headers"], prefer(b"respond-async"), *user(name), *headers]
    return await call(app, Exchange(scope, batch_body(list(paths))))


async def failing(scope, receive, send):
    await respond(send, b"", status=500)


def said(answer):
    """
    All that a client sees of an answer.
    """
    return answer.status, answer.body, sorted(answer.headers.items())


@pytest.mark.parametrize(("method", "face"), FACES)
@pytest.mark.parametrize("stranger", ["eve", None, "", "ad"])
async def test_t36_a_stranger_sees_what_anybody_sees_who_guesses(method, face, stranger):
    """
    T36: the same answer as to an id that is no batch's, to the byte, whatever is asked.
    """
    async with serving(failing, owner=owner_of) as app:
        accepted = await send(app, "ada")
        url = f"/batch/{accepted.json()['batchId']}"
        foreign = await ask(app, url + face, method, user(stranger))
        unknown = await ask(app, f"/batch/{UNKNOWN}{face}", method, user(stranger))
        bad = await ask(app, f"/batch/{'~' * 32}{face}", method, user(stranger))

    assert said(foreign) == said(unknown) == said(bad)
    assert (foreign.status, foreign.json()["code"]) == (404, "batch_not_found")


@pytest.mark.parametrize(("method", "face"), FACES)
@pytest.mark.parametrize("name", ["ada", None])
async def test_t36_whose_it_is_sees_it(method, face, name):
    """
    T36: and what is nobody's, anybody who is nobody and knows its id.
    """
    async with serving(failing, owner=owner_of) as app:
        accepted = await send(app, name)
        url = f"/batch/{accepted.json()['batchId']}"
        scope_headers = user(name)
        while (await ask(app, f"{url}/status", headers=scope_headers)).json()["finishedAt"] is None:
            pass
        answer = await ask(app, url + face, method, scope_headers)

    assert answer.status in (200, 202)


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False})], indirect=True)
@given(owner=NAMES, other=NAMES, face=st.sampled_from(FACES))
async def test_t36_what_is_somebody_elses_is_unknown(owner, other, face):
    """
    T36: whatever two callers are called, one sees the other's batches only if they are the same.
    """
    method, below = face
    async with serving(failing, owner=lambda scope: scope.get("name")) as app:
        scope = batch_scope(name=owner)
        scope["headers"] = [*scope["headers"], prefer(b"respond-async")]
        accepted = await call(app, Exchange(scope, batch_body(["GET /a"])))
        url = f"/batch/{accepted.json()['batchId']}"
        answer = await ask(app, url + below, method, name=other)
        unknown = await ask(app, f"/batch/{UNKNOWN}{below}", method, name=other)

    assert (said(answer) == said(unknown)) == (owner != other)


async def test_t36_a_stranger_cancels_nothing():
    """
    T36: not even without seeing it.
    """
    app = App()
    async with serving(app, owner=owner_of) as middleware:
        accepted = await send(middleware, "ada", paths=["GET /wait", "GET /b"])
        await until(lambda: app.starts)
        url = f"/batch/{accepted.json()['batchId']}"
        with releasing(app.gate):
            foreign = await ask(middleware, url, "DELETE", user("eve"))
            status = await ask(middleware, f"{url}/status", headers=user("ada"))

    assert foreign.status == 404
    assert status.json()["status"] == "processing"


@pytest.mark.parametrize(("method", "face"), FACES)
async def test_t36_a_function_that_fails_tells_no_ids_apart(method, face, caplog):
    """
    T36: not even which of them are there.
    """

    def owner(scope):
        return str(int(owner_of(scope)))

    async with serving(failing, owner=owner) as app:
        accepted = await send(app, "7")
        ids = [accepted.json()["batchId"], UNKNOWN, "~" * 32]
        answers = [await ask(app, f"/batch/{each}{face}", method, user("eve")) for each in ids]

    assert said(answers[0]) == said(answers[1]) == said(answers[2])
    assert (answers[0].status, answers[0].json()["code"]) == (503, "owner_unknown")


@pytest.mark.parametrize(("method", "face"), FACES)
async def test_t36_what_has_an_owner_keeps_it(method, face):
    """
    T36: also at a middleware that asks for none, and shares the store.
    """
    store = MemoryStore()
    async with serving(failing, store=store, owner=owner_of) as app:
        accepted = await send(app, "ada")
        url = f"/batch/{accepted.json()['batchId']}"
        # It has no background of its own; the store is open.
        other = BatchMiddleware(failing, store=store)
        other._background._is_on = True
        answer = await ask(other, url + face, method)
        status = (await ask(app, url + "/status", headers=user("ada"))).json()["status"]

    assert (answer.status, answer.json()["code"]) == (404, "batch_not_found")
    assert status != "cancelled"


async def test_f54_a_batch_may_expire_before_it_is_cancelled():
    """
    F54: it is there when its owner is asked for, and gone for the step itself.
    """

    class Forgetful(MemoryStore):
        async def cancel(self, batch_id):
            return None

    async with serving(failing, store=Forgetful()) as app:
        accepted = await send(app, None)
        answer = await ask(app, f"/batch/{accepted.json()['batchId']}", "DELETE")

    assert (answer.status, answer.json()["code"]) == (404, "batch_not_found")


async def test_t37_without_owners_the_id_is_the_key():
    """
    T37: 192 random bits that no answer lets a browser hand on.
    """
    async with serving(failing) as app:
        accepted = await send(app, "ada")
        answer = await ask(app, accepted.json()["statusUrl"], headers=user("eve"))

    assert answer.status == 200
    assert len(accepted.json()["batchId"]) >= 32
    assert accepted.headers["referrer-policy"] == answer.headers["referrer-policy"] == "no-referrer"


async def test_t34_an_owner_that_has_too_many_is_refused():
    """
    T34: with its own code, and without harm to others.
    """
    app = App()
    async with serving(app, owner=owner_of, limits=Limits(owner_batches=2)) as middleware:
        with releasing(app.gate):
            mine = [await send(middleware, "ada", paths=["GET /wait"]) for _ in range(3)]
            others = [await send(middleware, each) for each in ("bob", None, None, None)]

    assert [each.status for each in mine] == [202, 202, 429]
    assert mine[2].json()["code"] == "too_many_batches"
    assert mine[2].headers["retry-after"] == "5"
    assert {each.status for each in others} == {202}


async def test_t47_a_key_is_its_owners():
    """
    T47: with other credentials than before, if need be, but with the same content.
    """
    async with serving(failing, owner=owner_of) as app:
        first = await send(app, "ada", KEY, (b"authorization", b"Bearer one"))
        again = await send(app, "ada", KEY, (b"authorization", b"Bearer two"))
        other = await send(app, "bob", KEY, (b"authorization", b"Bearer one"))
        changed = await send(app, "ada", KEY, paths=["GET /b"])
    ids = [each.json().get("batchId") for each in (first, again, other)]

    assert ids[0] == ids[1] != ids[2]
    assert changed.json()["code"] == "idempotency_key_reused"


@pytest.mark.parametrize("wrong", [lambda scope: 1 / 0, lambda scope: 7, lambda scope: b"ada"])
async def test_t36_a_function_that_fails_opens_nothing(wrong, caplog):
    """
    T36: nobody sees or sends anything, and the log says why.
    """
    async with serving(failing, owner=wrong) as app:
        answers = [await send(app, "ada"), await ask(app, f"/batch/{UNKNOWN}/status")]

    assert [(each.status, each.json()["code"]) for each in answers] == [(503, "owner_unknown")] * 2
    assert "owner has failed" in caplog.text


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False})], indirect=True)
async def test_t36_in_redis_there_is_no_name_of_an_owner(tmp_path):
    """
    T36: only a digest, and everything holds as in memory.
    """
    with redis_server(tmp_path) as server:
        async with serving(failing, owner=owner_of, store=server.url) as app:
            accepted = await send(app, "ada-canary")
            url = accepted.json()["statusUrl"]
            foreign = await ask(app, url, headers=user("eve"))
            mine = await ask(app, url, headers=user("ada-canary"))
            names = repr(server.client.keys())

    assert (foreign.status, mine.status) == (404, 200)
    assert ":owner:" in names
    assert "ada-canary" not in names


class Waits:
    async def __call__(self, scope):
        """
        An object whose call has to be waited for.
        """


async def waits(scope):
    """
    So has this.
    """


@pytest.mark.parametrize("wrong", ["ada", waits, partial(waits), Waits()])
def test_wrong_owner(wrong):
    """
    It is refused at once, not with the first batch that is kept.
    """
    with pytest.raises(ConfigurationError, match=r"^owner=.*: pass a plain function"):
        BatchMiddleware(failing, owner=wrong)


async def test_answers_at_once_ask_for_no_owner():
    """
    There is nothing to be owned.
    """
    answer = await call(
        BatchMiddleware(failing, owner=lambda scope: 1 / 0),
        Exchange(batch_scope(), batch_body(["GET /a"])),
    )

    assert answer.status == 200


async def test_t36_no_digest_is_ever_told():
    """
    T36: what the store keeps of an owner stays there.
    """
    digest = sha256(b"ada").hexdigest()[:16].encode()
    async with serving(failing, owner=owner_of) as app:
        accepted = await send(app, "ada")
        url = f"/batch/{accepted.json()['batchId']}"
        answers = [accepted]
        answers += [await ask(app, url + face, method, user("ada")) for method, face in FACES]

    assert not any(digest in each.body + repr(each.headers).encode() for each in answers)
