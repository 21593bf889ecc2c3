"""
What lies in Redis where the store has a key, and what becomes of it when somebody changes it.
"""

import base64
import json
import logging
import secrets
import sys

import msgspec
import pytest

from asgi_batch._core.records import Entry, Saving
from asgi_batch.errors import ConfigurationError, RecordCorrupt, StoreUnavailable
from asgi_batch.stores.redis import RedisStore
from later_support import ask, ended, serving
from redis_support import key_of, opened
from store_support import LEASE, a_batch, claimed, created
from support import Exchange, batch_scope, call, respond

OLD, NEW = b"o" * 32, b"n" * 32
TTL = 60.0


# What is sealed is the same on every event loop.
KINDS = ["redis-asyncio"]


@pytest.fixture
async def sealed(server):
    """
    A store with a key.
    """
    async with opened(server.url, encryption_key=NEW) as store:
        yield store


def saving(*results, ends=False):
    entries = [Entry(index, "succeeded", each) for index, each in enumerate(results)]
    return Saving(entries=entries, allowed=len(entries), ends=ends, lease=LEASE)


async def page(store, batch_id):
    return await store.results(batch_id, after=-1, limit=10, outcome=None)


def changed(value):
    """
    *value* with each of its bytes changed in turn, and cut and extended at its end.
    """
    for place in range(len(value)):
        yield value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :]
    yield value[:-1]
    yield value + b"\x00"
    yield b""


def all_of(server):
    """
    Every value that Redis keeps, as it is.
    """
    client = server.client
    readers = {
        b"string": client.get,
        b"hash": lambda key: b"".join(client.hgetall(key).values()),
        b"list": lambda key: b"".join(client.lrange(key, 0, -1)),
        b"zset": lambda key: b"".join(client.zrange(key, 0, -1)),
    }
    return b"".join(key + readers[client.type(key)](key) for key in client.scan_iter())


def is_readable(claim):
    """
    Whether the background would find operations and a caller in it.
    """
    return bool(claim.chunks) or claim.caller != b""


async def test_t41_nothing_can_be_read_and_everything_comes_back(server, sealed):
    """
    T41: requests, callers and results, while the batch runs and afterwards.
    """
    batch = a_batch(sealed, chunks=[b"path-canary"], caller=b"token-canary")
    await sealed.create(batch, limit=10)
    claim = await sealed.claim(LEASE)
    await sealed.save(claim.hold, saving(b"result-canary"))
    dump = all_of(server)
    found = await page(sealed, batch.batch_id)

    assert list(claim.chunks) == [b"path-canary"]
    assert claim.caller == b"token-canary"
    assert [each.result for each in found.entries] == [b"result-canary"]
    assert b"canary" not in dump


async def test_t43_a_request_that_was_changed_is_not_carried_out(server, sealed):
    """
    T43: whatever byte of its operations or its caller it is.
    """
    batch_id = await created(sealed, chunks=[b"ab"], caller=b"c")
    record, operations = [key_of(sealed, batch_id, each) for each in ("rec", "ops")]
    kept, caller = server.client.lindex(operations, 0), server.client.hget(record, "caller")
    lease = key_of(sealed, batch_id, "lease")
    claims = []
    for each in changed(kept):
        server.client.lset(operations, 0, each)
        claims.append(await sealed.claim(LEASE, batch_id))
        server.client.delete(lease)
    server.client.lset(operations, 0, kept)
    for each in changed(caller):
        server.client.hset(record, "caller", each)
        claims.append(await sealed.claim(LEASE, batch_id))
        server.client.delete(lease)
    server.client.hset(record, "caller", caller)
    whole = await sealed.claim(LEASE, batch_id)

    # Where the operations look as if they had another key, the batch is left to others.
    assert not any(is_readable(each) for each in claims if each is not None)
    assert sum(each is None for each in claims) == 4
    assert is_readable(whole)


async def test_t43_a_result_that_was_changed_is_not_shown(server, sealed):
    """
    T43: neither its bytes, nor how its operation is said to have ended, nor its place.
    """
    claim = await claimed(sealed)
    batch_id = claim.hold.batch_id
    await sealed.save(claim.hold, saving(b"{}", b"[]"))
    results = key_of(sealed, batch_id, "res")
    first, second = server.client.hmget(results, 0, 1)
    bad = [first[:1] + each for each in changed(first[1:])]
    for each in [*bad, b"f" + first[1:], second]:
        server.client.hset(results, 0, each)
        with pytest.raises((RecordCorrupt, StoreUnavailable)):
            await page(sealed, batch_id)
    server.client.hset(results, 0, first)

    assert len((await page(sealed, batch_id)).entries) == 2


async def test_t43_a_result_that_was_changed_is_not_left_out_either(server, sealed):
    """
    T43: a page of what has failed is no page where a failure is said to have succeeded.
    """
    claim = await claimed(sealed)
    batch_id = claim.hold.batch_id
    await sealed.save(claim.hold, Saving(entries=[Entry(0, "failed", b"{}")], lease=LEASE))
    results = key_of(sealed, batch_id, "res")
    server.client.hset(results, 0, b"s" + server.client.hget(results, 0)[1:])

    with pytest.raises(RecordCorrupt):
        await sealed.results(batch_id, after=-1, limit=10, outcome="failed")


@pytest.mark.parametrize(("field", "value"), [("stops_on_error", 1), ("total", 9), ("total", 11)])
async def test_t43_what_the_record_says_of_operations_cannot_be_changed(
    server, sealed, field, value
):
    """
    T43: neither how many they are, nor whether the first failure stops them.
    """
    batch_id = await created(sealed)
    server.client.hset(key_of(sealed, batch_id, "rec"), field, value)
    claim = await sealed.claim(LEASE, batch_id)

    assert not is_readable(claim)


async def test_t43_a_value_of_another_batch_does_not_open(server, sealed):
    """
    T43: what was sealed for one is nothing to another.
    """
    mine, other = await created(sealed, chunks=[b"mine"]), await created(sealed, chunks=[b"other"])
    foreign = server.client.lindex(key_of(sealed, other, "ops"), 0)
    server.client.lset(key_of(sealed, mine, "ops"), 0, foreign)
    claim = await sealed.claim(LEASE, mine)

    assert not is_readable(claim)


async def test_t41_keys_can_be_changed(server):
    """
    T41: what the old one has sealed is read with both, and the new one seals from then on.
    """
    async with opened(server.url, encryption_key=OLD) as old:
        claim = await claimed(old, chunks=[b"abc"])
        await old.save(claim.hold, saving(b"{}"))
    batch_id = claim.hold.batch_id
    async with opened(server.url, encryption_key=[NEW, OLD]) as both:
        found = await page(both, batch_id)
        await both.save(claim.hold, saving(b"{}", b"[]"))
    async with opened(server.url, encryption_key=[OLD, NEW]) as turned:
        all_ = await page(turned, batch_id)
    async with opened(server.url, encryption_key=OLD) as old:
        with pytest.raises(StoreUnavailable, match="a key that is not here"):
            await page(old, batch_id)

    assert len(found.entries) == 1
    assert [each.result for each in all_.entries] == [b"{}", b"[]"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"encryption_key": OLD}, {"encryption_key": OLD}),
        ({"encryption_key": OLD}, {"encryption_key": [NEW, OLD]}),
        ({"encryption_key": [NEW, OLD]}, {"encryption_key": [OLD, NEW]}),
        ({}, {"encryption_key": NEW, "allow_clear_text": True}),
    ],
)
async def test_t41_t47_a_fingerprint_is_none_without_the_key(server, before, after):
    """
    T41, T47: a digest of credentials and a body would let others try what they were; a submission
    stays the same whichever key of several seals.
    """
    async with opened(server.url, **before) as first:
        batch_id = await created(first, "name", fingerprint="digest")
        kept = server.client.hget(key_of(first, batch_id, "rec"), "fingerprint")
    async with opened(server.url, **after) as second:
        same = await second.create(a_batch(second, "name", fingerprint="digest"), limit=10)
        other = await second.create(a_batch(second, "name", fingerprint="other"), limit=10)

    assert (kept == b"digest") is (before == {})
    assert [each.snapshot.batch_id for each in (same, other)] == [batch_id] * 2
    assert [each.is_same for each in (same, other)] == [True, False]


async def test_t41_t47_a_fingerprint_of_an_unknown_key_is_another(server, sealed):
    """
    T41, T47: nobody gets to see a batch because it cannot be told whose it is.
    """
    async with opened(server.url, encryption_key=OLD) as old:
        await created(old, "name", fingerprint="digest")
    again = await sealed.create(a_batch(sealed, "name", fingerprint="digest"), limit=10)

    assert not again.is_same


@pytest.mark.parametrize("settings", [{"encryption_key": OLD}, {"allow_clear_text": True}])
async def test_t41_a_process_without_the_key_leaves_a_batch_to_others(server, settings, caplog):
    """
    T41: it neither carries it out nor ends it.
    """
    async with opened(server.url, encryption_key=NEW) as right:
        batch_id = await created(right, chunks=[b"abc"])
        async with opened(server.url, **settings) as wrong:
            nothing = [await wrong.claim(LEASE), await wrong.claim(LEASE, batch_id)]
        claim = await right.claim(LEASE, batch_id)
        await right.save(claim.hold, saving(*[b"{}"] * 10, ends=True))

    assert nothing == [None, None]
    assert "is left to others" in caplog.text
    assert list(claim.chunks) == [b"abc"]


async def test_t41_what_is_kept_for_a_retry_is_sealed_as_well(server, sealed):
    """
    T41: without the key it cannot be told what it was.
    """
    claim = await claimed(sealed, chunks=[b"abc"])
    await sealed.open(TTL, TTL)
    bad = [Entry(index, "failed", b"{}") for index in range(10)]
    await sealed.save(claim.hold, Saving(entries=bad, ends=True, lease=LEASE))
    batch_id = claim.hold.batch_id
    remains = await sealed.remains(batch_id)
    async with opened(server.url, encryption_key=OLD) as other:
        with pytest.raises(StoreUnavailable):
            await other.remains(batch_id)
    operations = key_of(sealed, batch_id, "ops")
    server.client.lset(operations, 0, server.client.lindex(operations, 0) + b"x")
    with pytest.raises(msgspec.DecodeError):
        await sealed.remains(batch_id)

    assert remains.chunks == [b"abc"]


@pytest.mark.parametrize("is_allowed", [True, False])
async def test_t43_clear_text_is_believed_only_where_that_is_said(server, is_allowed):
    """
    T43: whoever can write into Redis could put it there; while a key is introduced it must be.
    """
    async with opened(server.url) as before:
        batch_id = await created(before, chunks=[b"abc"])
    async with opened(server.url, encryption_key=NEW, allow_clear_text=is_allowed) as after:
        claim = await after.claim(LEASE, batch_id)

    assert is_readable(claim) is is_allowed


@pytest.mark.parametrize("has_key", [True, False])
async def test_t41_a_batch_from_a_client_to_its_end(server, has_key, caplog):
    """
    T41, T40: with a key nothing secret is ever in Redis; without one, nothing of the caller is
    after the end; cookies of the app are in neither.
    """
    seen = []

    async def app(scope, receive, send):
        seen.append(all_of(server))
        headers = [(b"content-type", b"application/json"), (b"set-cookie", b"canary-cookie")]
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    scope = batch_scope()
    names = (b"authorization", b"cookie", b"x-api-key")
    scope["headers"] += [(b"prefer", b"respond-async")]
    scope["headers"] += [(name, b"canary-header") for name in names]
    operation = {"method": "POST", "path": "/canary-path?canary-query", "body": "canary-body"}
    body = json.dumps({"operations": [operation]}).encode()
    key = {"encryption_key": NEW} if has_key else {"allow_clear_text": True}
    async with serving(app, store=RedisStore(server.url, **key)) as middleware:
        accepted = await call(middleware, Exchange(scope, body))
        await ended(middleware, accepted.json()["statusUrl"])
        results = await ask(middleware, accepted.json()["resultsUrl"])
    after = all_of(server)

    assert results.json()["results"][0]["result"] == "canary-body"
    assert (b"canary" in seen[0]) is not has_key
    assert (b"canary-body" in after) is not has_key
    assert all(each not in after for each in (b"canary-header", b"canary-path", b"canary-query"))
    assert b"canary-cookie" not in seen[0] + after
    assert "canary" not in caplog.text


async def test_t43_a_batch_that_was_changed_fails_as_a_whole(server):
    """
    T43: nothing of it runs, and its status says why.
    """
    calls = []

    async def app(scope, receive, send):
        calls.append(scope["path"])
        await respond(send, b"")

    store = RedisStore(server.url, encryption_key=NEW)
    async with opened(server.url, encryption_key=NEW) as writer:
        batch_id = await created(writer)
        operations = key_of(writer, batch_id, "ops")
        server.client.lset(operations, 0, server.client.lindex(operations, 0)[:-1])
    async with serving(app, store=store) as middleware:
        status = await ended(middleware, f"/batch/{batch_id}/status")

    assert (status.json()["status"], status.json()["error"]["code"]) == ("failed", "record_corrupt")
    assert calls == []


async def test_t43_a_page_with_a_changed_result_is_no_page(server):
    """
    T43: the client is told that, and not the wrong result.
    """

    async def app(scope, receive, send):
        await respond(send, b"{}", content_type=b"application/json")

    async with serving(app, store=RedisStore(server.url, encryption_key=NEW)) as middleware:
        scope = batch_scope()
        scope["headers"] += [(b"prefer", b"respond-async")]
        body = json.dumps({"operations": [{"method": "GET", "path": "/"}]}).encode()
        accepted = (await call(middleware, Exchange(scope, body))).json()
        await ended(middleware, accepted["statusUrl"])
        store = middleware._background.store
        results = key_of(store, accepted["batchId"], "res")
        server.client.hset(results, 0, server.client.hget(results, 0) + b"x")
        answer = await ask(middleware, accepted["resultsUrl"])

    assert (answer.status, answer.json()["code"]) == (500, "record_corrupt")


@pytest.mark.parametrize(
    ("settings", "is_said"),
    [({}, True), ({"allow_clear_text": True}, False), ({"encryption_key": NEW}, False)],
)
async def test_t41_clear_text_is_said_at_the_start(server, caplog, settings, is_said):
    """
    T41: with what to do about it.
    """
    store = RedisStore(server.url, **settings)
    await store.open(TTL)
    await store.aclose()
    found = [each for each in caplog.records if each.levelno == logging.WARNING]

    assert ["clear text" in each.getMessage() for each in found] == [True] * is_said


@pytest.mark.parametrize(
    "key",
    [
        base64.b64encode(NEW).decode(),
        base64.urlsafe_b64encode(b"\xff" * 32).decode(),
        NEW,
        [NEW, base64.b64encode(OLD).decode()],
        (secrets.token_urlsafe(32), NEW),
    ],
)
def test_keys(key):
    """
    Bytes, or Base64 in either alphabet, padded or not; one or several.
    """
    RedisStore("redis://x", encryption_key=key)


@pytest.mark.parametrize(
    "key", ["", "secret", b"short", "ä", "====", [], [NEW, "secret"], 7 * [7], 7, False]
)
def test_wrong_keys(key):
    """
    They are refused at once, without being repeated.
    """
    with pytest.raises(ConfigurationError) as error:
        RedisStore("redis://x", encryption_key=key)

    assert "secret'" not in str(error.value)


def test_a_missing_library_is_named(monkeypatch):
    """
    With what to install.
    """
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)

    with pytest.raises(ConfigurationError, match=r"pip install asgi-batch\[crypto\]"):
        RedisStore("redis://x", encryption_key=NEW)
