"""
``POST /batch/{id}/retry``: what has not succeeded, once more, as a batch of its own.
"""

import json
from collections import Counter

import anyio
import msgspec
import pytest

from asgi_batch import Limits
from asgi_batch._core.records import Page, Remains
from asgi_batch._endpoints import accepting
from asgi_batch.stores.memory import MemoryStore
from asgi_batch.stores.redis import RedisStore
from background import App, Clock, Store, left_behind
from later_support import ask, ended, finished, post, prefer, results_of, serving
from redis_server import redis_server
from support import Exchange, call, http_scope, releasing, respond, until

LATER = prefer(b"respond-async")
WAIT = prefer(b"wait=20")
FIRST = (b"authorization", b"Bearer first-canary")
SECOND = (b"authorization", b"Bearer second")
KEY = (b"idempotency-key", b"once")


class Flaky:
    """
    An app that fails at ``/fail…`` until it is mended, and notes what each operation gets to see.
    """

    def __init__(self):
        self.is_mended = False
        self.seen = []

    async def __call__(self, scope, receive, send):
        self.seen.append((scope, (await receive())["body"]))
        is_bad = scope["path"].startswith("/fail") and not self.is_mended
        await respond(send, scope["path"].encode(), status=500 if is_bad else 200)

    @property
    def paths(self):
        return [scope["path"] for scope, _ in self.seen]

    @property
    def operations(self):
        """
        The operations, as the library tells the app of them.
        """
        found = [scope["asgi_batch"] for scope, _ in self.seen]
        return [(each.operation_id, each.index, each.total) for each in found]

    def header(self, name):
        """
        What each operation had for a header.
        """
        return [dict(scope["headers"]).get(name) for scope, _ in self.seen]


def operation(path, **members):
    """
    An operation whose id is its path.
    """
    return {"id": path, "method": "POST", "path": path, **members}


def url_of(accepted):
    return f"/batch/{accepted.json()['batchId']}"


async def retried(middleware, accepted, *headers):
    """
    The answer to a retry of a batch.
    """
    return await ask(middleware, f"{url_of(accepted)}/retry", "POST", headers=headers)


async def accepted_and_ended(middleware, *operations, headers=(), **envelope):
    """
    The answer to a batch that has come to its end since.
    """
    accepted = await post(middleware, *operations, headers=[LATER, *headers], **envelope)
    await finished(middleware, accepted)
    return accepted


def refusal(answer):
    return answer.status, answer.json()["code"]


class TestWhatIsTriedAgain:
    async def test_failed_and_skipped_operations_and_no_others(self):
        """
        They keep their ids, and are counted from 0.
        """
        app = Flaky()
        async with serving(app, limits=Limits(concurrency=1)) as middleware:
            operations = [operation(path) for path in ("/a", "/fail", "/b")]
            first = await accepted_and_ended(middleware, *operations, onError="stop")
            app.is_mended, app.seen = True, []
            second = await retried(middleware, first)
            results = await results_of(middleware, second)

        assert second.status == 202
        assert second.json()["total"] == 2
        assert app.paths == ["/fail", "/b"]
        assert app.operations == [("/fail", 0, 2), ("/b", 1, 2)]
        assert [(result["id"], result["status"]) for result in results] == [
            ("/fail", 200),
            ("/b", 200),
        ]

    async def test_operations_are_as_they_were(self):
        """
        Method, path, query, own headers and body.
        """
        app = Flaky()
        written = operation(
            "/fail?a=%20b",
            method="PUT",
            headers={"accept-language": "de", "idempotency-key": "own"},
            body={"number": 1},
        )
        async with serving(app) as middleware:
            first = await accepted_and_ended(middleware, written)
            await finished(middleware, await retried(middleware, first))
        (before, body), (after, same_body) = app.seen
        same = ("method", "path", "raw_path", "query_string")

        assert [before[name] for name in same] == [after[name] for name in same]
        assert after["method"] == "PUT"
        assert set(before["headers"]) - set(after["headers"]) == {(b"host", b"testserver")}
        assert (b"accept-language", b"de") in after["headers"]
        assert (b"idempotency-key", b"own") in after["headers"]
        assert json.loads(body) == json.loads(same_body) == {"number": 1}

    @pytest.mark.parametrize("page", [1, 3, 1000])
    async def test_many_operations(self, page, monkeypatch):
        """
        However many there are, and however they are read, none is lost and none comes twice.
        """
        monkeypatch.setattr(accepting, "_PAGE", page)
        app = Flaky()
        paths = [
            f"POST /fail{number}" if number % 3 else f"POST /{number}" for number in range(200)
        ]
        async with serving(app) as middleware:
            first = await accepted_and_ended(middleware, *paths)
            app.is_mended, app.seen = True, []
            status = await finished(middleware, await retried(middleware, first))
        bad = [number for number in range(200) if number % 3]

        assert (status.json()["status"], status.json()["succeeded"]) == ("completed", len(bad))
        assert Counter(app.paths) == {f"/fail{number}": 1 for number in bad}
        assert sorted(app.operations, key=lambda each: each[1]) == [
            (str(number), index, len(bad)) for index, number in enumerate(bad)
        ]

    async def test_after_a_cancellation(self):
        """
        What was skipped because of it is carried out after all.
        """
        app = App()
        with releasing(app.gate):
            async with serving(app, limits=Limits(concurrency=1)) as middleware:
                first = await post(middleware, "GET /wait", "GET /a", "GET /b", headers=[LATER])
                await until(lambda: app.starts)
                await ask(middleware, url_of(first), "DELETE")
                app.gate.set()
                await finished(middleware, first)
                status = await finished(middleware, await retried(middleware, first))

        assert (status.json()["status"], status.json()["succeeded"]) == ("completed", 2)
        assert app.starts == ["/wait", "/a", "/b"]

    async def test_an_operation_whose_outcome_is_unknown(self):
        """
        The library does not run it again by itself; the client knows better, and decides.
        """
        app, store = App(), Store()
        async with serving(app, store=store, limits=Limits(scan_interval=0.02)) as middleware:
            batch_id = await left_behind(store, "POST /a", "GET /b", allowed=1)
            await ended(middleware, f"/batch/{batch_id}/status")
            before = list(app.starts)
            answer = await ask(middleware, f"/batch/{batch_id}/retry", "POST", headers=[WAIT])

        assert before == ["/b"]
        assert [(result["id"], result["status"]) for result in answer.results] == [("op0", 200)]
        assert app.starts == ["/b", "/a"]

    async def test_on_error_is_kept(self):
        """
        A batch that stops at the first failure does so again.
        """
        app = Flaky()
        async with serving(app, limits=Limits(concurrency=1)) as middleware:
            first = await accepted_and_ended(
                middleware, "POST /a", "POST /fail", "POST /b", onError="stop"
            )
            second = await retried(middleware, first, WAIT)
            other = await accepted_and_ended(middleware, "POST /fail", "POST /fail2")
            both = await retried(middleware, other, WAIT)

        assert second.statuses == [500, 424]
        assert both.statuses == [500, 500]
        assert "/b" not in app.paths

    async def test_a_retry_of_a_retry(self):
        """
        It is a batch like any other, and what is left gets less.
        """
        app = Flaky()
        async with serving(app) as middleware:
            first = await accepted_and_ended(middleware, "POST /a", "POST /fail", "POST /fail2")
            second = await retried(middleware, first)
            await finished(middleware, second)
            app.is_mended = True
            third = await retried(middleware, second)
            status = await finished(middleware, third)
            results = await results_of(middleware, third)

        assert (status.json()["total"], status.json()["succeeded"]) == (2, 2)
        assert status.json()["parent"] == second.json()["batchId"]
        assert [result["id"] for result in results] == ["1", "2"]


class TestTheNewBatch:
    async def test_it_names_its_parent(self):
        """
        Others have none, and the parent stays as it is.
        """
        app = Flaky()
        async with serving(app) as middleware:
            first = await accepted_and_ended(middleware, "POST /fail")
            before = await ask(middleware, f"{url_of(first)}/status")
            second = await retried(middleware, first)
            status = await finished(middleware, second)
            after = await ask(middleware, f"{url_of(first)}/status")

        assert status.json()["parent"] == first.json()["batchId"] != second.json()["batchId"]
        assert "parent" not in before.json()
        assert before.json() == after.json()

    async def test_it_is_accepted_like_any_other(self):
        """
        The answer says where to go on.
        """
        async with serving(Flaky()) as middleware:
            first = await accepted_and_ended(middleware, "POST /fail")
            second = await retried(middleware, first, LATER)
        document = second.json()

        assert second.status == 202
        assert document == {
            "batchId": document["batchId"],
            "status": "processing",
            "total": 1,
            "statusUrl": f"{url_of(second)}/status",
            "resultsUrl": f"{url_of(second)}/results",
            "eventsUrl": f"{url_of(second)}/events",
            "durability": "process",
        }
        assert second.headers["location"] == document["statusUrl"]
        assert second.headers["preference-applied"] == "respond-async"

    async def test_it_can_be_waited_for(self):
        """
        `Prefer: wait` gets its results, as of a batch that was sent.
        """
        app = Flaky()
        async with serving(app) as middleware:
            first = await accepted_and_ended(middleware, "POST /a", "POST /fail")
            app.is_mended = True
            answer = await retried(middleware, first, WAIT)
            plain = await post(middleware, operation("/fail", id="1"))

        assert (answer.status, answer.body) == (200, plain.body)
        assert answer.headers["preference-applied"] == "wait=20"

    async def test_the_waiting_has_a_bound(self):
        """
        `batch_timeout`, whatever the client would wait for; the batch goes on.
        """
        gate, starts = anyio.Event(), []

        async def app(scope, receive, send):
            starts.append(scope["path"])
            if len(starts) > 1:
                await gate.wait()
            await respond(send, status=500 if len(starts) == 1 else 200)

        with releasing(gate):
            async with serving(app, limits=Limits(batch_timeout=0.05)) as middleware:
                first = await accepted_and_ended(middleware, "POST /a")
                second = await retried(middleware, first, prefer(b"wait=1000"))
                gate.set()
                status = await finished(middleware, second)

        assert second.status == 202
        assert second.headers["preference-applied"] == "wait=1000"
        assert status.json()["succeeded"] == 1
        assert starts == ["/a", "/a"]

    async def test_f21_f22_a_retry_that_comes_twice(self):
        """
        F21, F22: an `Idempotency-Key` makes one batch of it, with and without waiting.
        """
        app = Flaky()
        async with serving(app) as middleware:
            first = await accepted_and_ended(middleware, "POST /fail")
            app.is_mended, app.seen = True, []
            one = await retried(middleware, first, KEY)
            two = await retried(middleware, first, KEY)
            await finished(middleware, one)
            three = await retried(middleware, first, KEY, WAIT)

        assert (one.status, two.status, three.status) == (202, 202, 200)
        assert one.json()["batchId"] == two.json()["batchId"]
        assert app.paths == ["/fail"]

    async def test_t47_a_key_of_another_retry(self):
        """
        T47: of another batch, by another caller, or of a batch that was sent: it is not the same.
        """
        app = Flaky()
        async with serving(app) as middleware:
            first = await accepted_and_ended(middleware, "POST /fail")
            other = await accepted_and_ended(middleware, "POST /fail")
            await finished(middleware, await retried(middleware, first, KEY))
            app.seen = []
            answers = [
                await retried(middleware, other, KEY),
                await retried(middleware, first, KEY, SECOND),
                await post(middleware, "POST /fail", headers=[KEY]),
            ]

        assert [refusal(answer) for answer in answers] == [(422, "idempotency_key_reused")] * 3
        assert app.seen == []

    async def test_t47_a_key_that_cannot_be_read(self):
        """
        T47: a client that relies on it must not go unprotected.
        """
        app = Flaky()
        async with serving(app) as middleware:
            first = await accepted_and_ended(middleware, "POST /fail")
            app.seen = []
            answer = await retried(middleware, first, (b"idempotency-key", b""))

        assert refusal(answer) == (400, "invalid_parameter")
        assert app.seen == []

    async def test_without_a_key_each_retry_is_a_batch(self):
        """
        Nothing is guessed.
        """
        async with serving(Flaky()) as middleware:
            first = await accepted_and_ended(middleware, "POST /fail")
            ids = {(await retried(middleware, first)).json()["batchId"] for _ in range(3)}

        assert len(ids) == 3


class TestWhoTriesAgain:
    @pytest.mark.parametrize("headers", [[SECOND], []])
    async def test_t42_operations_are_sent_for_who_asks_again(self, headers):
        """
        T42: nothing of the credentials that the first request came with is kept, or comes back.
        """
        app = Flaky()
        async with serving(app) as middleware:
            secrets = [FIRST, (b"cookie", b"session=first-canary"), (b"x-first", b"first-canary")]
            first = await accepted_and_ended(middleware, "POST /fail", headers=secrets)
            before, app.seen = app.header(b"authorization"), []
            await finished(middleware, await retried(middleware, first, *headers))

        assert before == [FIRST[1]]
        assert app.header(b"authorization") == [value for _, value in headers] or [None]
        assert "first-canary" not in repr(app.seen)

    async def test_they_come_from_where_the_retry_comes_from(self):
        """
        Address, scheme and root path are those of the request that asks again.
        """
        app = Flaky()
        members = {
            "client": ("198.51.100.9", 4711),
            "scheme": "https",
            "server": ("other.example", 443),
            "headers": [(b"host", b"other.example")],
        }
        async with serving(app) as middleware:
            first = await accepted_and_ended(middleware, "POST /fail")
            scope = http_scope("POST", f"{url_of(first)}/retry", **members)
            await finished(middleware, await call(middleware, Exchange(scope)))
        scope, _ = app.seen[1]

        assert [scope[name] for name in ("client", "scheme", "server")] == [
            ("198.51.100.9", 4711),
            "https",
            ("other.example", 443),
        ]
        assert dict(scope["headers"])[b"host"] == b"other.example"


class TestRefused:
    async def test_a_batch_that_runs(self):
        """
        Its operations may yet succeed; the client is told when to come back.
        """
        app = App()
        with releasing(app.gate):
            async with serving(app) as middleware:
                first = await post(middleware, "GET /wait", "GET /fail", headers=[LATER])
                await until(lambda: app.starts)
                early = await retried(middleware, first)
                await ask(middleware, url_of(first), "DELETE")
                cancelled = await retried(middleware, first)
                app.gate.set()
                await finished(middleware, first)

        assert refusal(early) == refusal(cancelled) == (409, "batch_not_finished")
        assert early.headers["retry-after"] == "1"

    async def test_a_batch_of_which_all_have_succeeded(self):
        """
        There is nothing to do, and waiting does not change that.
        """
        app = Flaky()
        async with serving(app) as middleware:
            first = await accepted_and_ended(middleware, "POST /a", "POST /b")
            answer = await retried(middleware, first)

        assert refusal(answer) == (409, "nothing_to_retry")
        assert "retry-after" not in answer.headers
        assert app.paths == ["/a", "/b"]

    async def test_operations_that_are_kept_no_longer(self):
        """
        They go `retry_ttl` after the end, and the results stay.
        """
        app, clock = Flaky(), Clock()
        limits = Limits(retry_ttl=60, result_ttl=100)
        async with serving(app, store=MemoryStore(clock), limits=limits) as middleware:
            first = await accepted_and_ended(middleware, "POST /fail")
            clock.now += 59
            in_time = await retried(middleware, first)
            await finished(middleware, in_time)
            app.seen = []
            clock.now += 1
            late = await retried(middleware, first)
            status = await ask(middleware, f"{url_of(first)}/status")

        assert in_time.status == 202
        assert refusal(late) == (410, "operations_erased")
        assert status.status == 200
        assert app.seen == []

    async def test_operations_that_are_never_kept(self):
        """
        With `retry_ttl=0` they go with the end.
        """
        async with serving(Flaky(), limits=Limits(retry_ttl=0)) as middleware:
            first = await accepted_and_ended(middleware, "POST /fail")
            answer = await retried(middleware, first)

        assert refusal(answer) == (410, "operations_erased")

    async def test_t34_memory_is_given_back_once(self):
        """
        T34: operations that are kept count, and no longer than the batch that they belong to.
        """
        clock = Clock()
        store = MemoryStore(clock, max_bytes=2000)
        limits = Limits(result_ttl=60, retry_ttl=3600)

        async def until_it_is_full():
            count = 0
            while (accepted := await post(middleware, "POST /fail", headers=[LATER])).status == 202:
                await finished(middleware, accepted)
                count += 1
            return count

        async with serving(Flaky(), store=store, limits=limits) as middleware:
            counts = []
            for seconds in (0, 60, 3600):
                clock.now += seconds
                counts.append(await until_it_is_full())

        assert counts == [counts[0]] * 3
        assert counts[0] > 0

    async def test_f54_a_batch_that_has_expired(self):
        """
        F54: nothing of it is left, though operations might have been kept for longer.
        """
        clock = Clock()
        limits = Limits(retry_ttl=3600, result_ttl=60)
        async with serving(Flaky(), store=MemoryStore(clock), limits=limits) as middleware:
            first = await accepted_and_ended(middleware, "POST /fail")
            clock.now += 60
            answer = await retried(middleware, first)

        assert refusal(answer) == (404, "batch_not_found")

    @pytest.mark.parametrize("body", [b"{}", b" ", [b"", b"x"], [b"a", b"b"]])
    async def test_a_body(self, body):
        """
        The operations are those of the batch: whoever sends some must not think that they run.
        """
        app = Flaky()
        async with serving(app) as middleware:
            first = await accepted_and_ended(middleware, "POST /fail")
            app.seen = []
            scope = http_scope("POST", f"{url_of(first)}/retry")
            answer = await call(middleware, Exchange(scope, body))

        assert refusal(answer) == (400, "invalid_parameter")
        assert app.seen == []

    async def test_f19_a_client_that_goes_before_it_has_asked(self):
        """
        F19: half a request is none.
        """
        app = Flaky()
        async with serving(app) as middleware:
            first = await accepted_and_ended(middleware, "POST /fail")
            app.seen = []
            exchange = Exchange(http_scope("POST", f"{url_of(first)}/retry"), [])
            exchange.disconnect()
            await call(middleware, exchange)

        assert (exchange.sent, app.seen) == ([], [])

    async def test_too_many_unfinished_batches(self):
        """
        A retry is a batch, and there is a bound.
        """
        app = App()
        with releasing(app.gate):
            async with serving(app, limits=Limits(max_background_batches=1)) as middleware:
                first = await accepted_and_ended(middleware, "GET /fail")
                await post(middleware, "GET /wait", headers=[LATER])
                answer = await retried(middleware, first)
                app.gate.set()

        assert refusal(answer) == (503, "overloaded")


class Odd(MemoryStore):
    """
    A store that answers one question in an odd way.
    """

    def __init__(self, method, answer):
        super().__init__()
        self._method, self._answer = method, answer

    async def remains(self, batch_id):
        return self._met("remains", await super().remains(batch_id))

    async def results(self, *args, **options):
        return self._met("results", await super().results(*args, **options))

    def _met(self, method, answer):
        if method != self._method:
            return answer
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class TestWhatCannotBeRead:
    @pytest.mark.parametrize(
        ("method", "answer"),
        [
            ("remains", Remains([b"nonsense"], stops_on_error=False)),
            ("remains", Remains([b"\x91\x91\x00"], stops_on_error=False)),
            ("remains", msgspec.DecodeError("nonsense")),
            ("results", None),
            ("results", Page([], -1)),
        ],
    )
    async def test_t43_operations_that_cannot_be_read(self, method, answer):
        """
        T43: the batch is there, its operations are not; that will not change.
        """
        app = Flaky()
        async with serving(app, store=Odd(method, answer)) as middleware:
            first = await accepted_and_ended(middleware, "POST /fail")
            app.seen = []
            answer = await retried(middleware, first)

        assert refusal(answer) == (410, "operations_erased")
        assert app.seen == []

    async def test_t43_a_batch_that_has_failed_as_a_whole(self):
        """
        T43: its operations could not be read the first time; not one of them has succeeded.
        """

        class Corrupting(MemoryStore):
            async def claim(self, *args):
                claim = await super().claim(*args)
                return claim and msgspec.structs.replace(claim, chunks=[b"nonsense"])

        async with serving(Flaky(), store=Corrupting()) as middleware:
            first = await accepted_and_ended(middleware, "POST /a")
            answer = await retried(middleware, first)

        assert refusal(answer) == (410, "operations_erased")


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """
    One Redis server for all tests.
    """
    with redis_server(tmp_path_factory.mktemp("redis")) as proc:
        yield proc


def everything(redis):
    """
    All that a Redis server holds, as one text of bytes.
    """
    return b"\n".join(
        part for key in redis.client.scan_iter() for part in (key, redis.client.dump(key) or b"")
    )


class TestRedis:
    @pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
    def anyio_backend(self, request):
        """
        The event loops that redis-py runs on.
        """
        return "asyncio", {"use_uvloop": request.param}

    async def test_t42_a_retry_from_redis(self, redis):
        """
        T42: it works from what is kept, in which there are no credentials.
        """
        redis.client.flushall()
        redis.config(hash_max_listpack_entries=0, rdbcompression="no")
        app = Flaky()
        async with serving(app, store=RedisStore(redis.url)) as middleware:
            first = await accepted_and_ended(middleware, "POST /a", "POST /fail", headers=[FIRST])
            kept = everything(redis)
            app.is_mended, app.seen = True, []
            second = await retried(middleware, first, SECOND, WAIT)

        assert b"/fail" in kept
        assert b"first-canary" not in kept
        assert (second.status, second.statuses) == (200, [200])
        assert app.header(b"authorization") == [SECOND[1]]

    async def test_operations_that_are_kept_no_longer(self, redis):
        """
        Redis forgets them by itself.
        """
        redis.client.flushall()
        limits = Limits(retry_ttl=0.05)
        async with serving(Flaky(), store=RedisStore(redis.url), limits=limits) as middleware:
            first = await accepted_and_ended(middleware, "POST /fail")
            await until(lambda: not list(redis.client.scan_iter("*:ops")))
            answer = await retried(middleware, first)

        assert refusal(answer) == (410, "operations_erased")

    async def test_t43_operations_that_were_tampered_with(self, redis):
        """
        T43: what is no operation does not run, and is no fault of the server.
        """
        redis.client.flushall()
        app = Flaky()
        async with serving(app, store=RedisStore(redis.url)) as middleware:
            first = await accepted_and_ended(middleware, "POST /fail")
            app.seen = []
            (key,) = redis.client.scan_iter("*:ops")
            redis.client.lset(key, 0, b"nonsense")
            answer = await retried(middleware, first)

        assert refusal(answer) == (410, "operations_erased")
        assert app.seen == []
