"""
``Idempotency-Key``: a submission that comes twice is one batch, whoever was cut off in between.
"""

import asyncio
from collections import Counter
from contextlib import contextmanager

import anyio
import httpx
import pytest

from asgi_batch import BatchMiddleware, Limits
from asgi_batch.stores.memory import MemoryStore
from asgi_batch.stores.redis import RedisStore
from background import App, Clock
from fault_proxy import FaultProxy
from later_support import ask, finished, post, prefer, results_of, serving
from redis_server import redis_server
from servers import HOST
from servers import serving as served
from support import releasing, respond

FIFTY = 50
LATER = prefer(b"respond-async")


def key(value=b"once"):
    """
    An ``Idempotency-Key`` header.
    """
    return (b"idempotency-key", value)


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """
    One Redis server for all stores.
    """
    with redis_server(tmp_path_factory.mktemp("redis")) as proc:
        yield proc


class TestTheSame:
    async def test_f21_a_small_batch_runs_once(self):
        """
        F21: the second answer is that of the first to the byte, and nothing runs again.
        """
        app = App()
        async with serving(app) as middleware:
            answers = [
                await post(middleware, "POST /a", "GET /fail", headers=[key()]) for _ in range(3)
            ]

        assert [answer.status for answer in answers] == [200, 200, 200]
        assert {answer.body for answer in answers} == {answers[0].body}
        assert answers[0].statuses == [200, 500]
        assert Counter(app.starts) == {"/a": 1, "/fail": 1}

    async def test_the_answer_is_that_of_a_batch_without_a_key(self):
        """
        A key changes nothing of what a client gets to see.
        """
        async with serving() as app:
            plain = await post(app, "GET /0", "GET /1")
            named = await post(app, "GET /0", "GET /1", headers=[key()])

        assert (named.status, named.body, named.headers) == (200, plain.body, plain.headers)

    async def test_f22_a_large_batch_is_accepted_once(self):
        """
        F22: the same id while it runs and after its end, and nothing runs again.
        """
        app = App()
        with releasing(app.gate):
            async with serving(app, limits=Limits(sync_operations=2)) as middleware:
                paths = ["POST /wait", "POST /a", "POST /b"]
                first = await post(middleware, *paths, headers=[key()])
                while_it_runs = await post(middleware, *paths, headers=[key()])
                app.gate.set()
                await finished(middleware, first)
                after_its_end = await post(middleware, *paths, headers=[key()])
        answers = [first, while_it_runs, after_its_end]

        assert [answer.status for answer in answers] == [202, 202, 202]
        assert {answer.json()["batchId"] for answer in answers} == {first.json()["batchId"]}
        assert after_its_end.json()["status"] == "completed"
        assert Counter(app.starts) == {"/wait": 1, "/a": 1, "/b": 1}

    async def test_quotes_may_be_left_out(self):
        """
        Two spellings of one key are one key.
        """
        app = App()
        async with serving(app) as middleware:
            for value in (b"once", b'"once"', b' "once"\t'):
                answer = await post(middleware, "POST /a", headers=[key(value)])

                assert answer.status == 200
        assert app.starts == ["/a"]

    async def test_other_keys_are_other_batches(self):
        """
        And so are submissions without one.
        """
        app = App()
        async with serving(app) as middleware:
            for headers in ([key(b"a")], [key(b"b")], [key(b"A")], [], []):
                await post(middleware, "POST /a", headers=headers)

        assert app.starts == ["/a"] * 5

    async def test_headers_that_say_nothing_of_the_caller(self):
        """
        A client that asks again may have been updated, or wish to wait for less long.
        """
        app = App()
        async with serving(app) as middleware:
            first = await post(middleware, "POST /a", headers=[key(), (b"user-agent", b"1")])
            again = await post(
                middleware, "POST /a", headers=[key(), (b"user-agent", b"2"), prefer(b"wait=9")]
            )

        assert (again.status, again.body) == (200, first.body)
        assert app.starts == ["/a"]

    async def test_a_key_is_forgotten_with_its_batch(self):
        """
        After `result_ttl` nobody knows any more what the answer was.
        """
        clock, app = Clock(), App()
        store = MemoryStore(clock)
        async with serving(app, store=store, limits=Limits(result_ttl=60)) as middleware:
            await post(middleware, "POST /a", headers=[key()])
            clock.now += 59
            await post(middleware, "POST /a", headers=[key()])
            before = len(app.starts)
            clock.now += 1
            await post(middleware, "POST /a", headers=[key()])

        assert (before, len(app.starts)) == (1, 2)

    async def test_operations_do_not_see_the_key(self):
        """
        It names the batch; each operation of it would be the same to an app that heeds it.
        """
        seen = []

        async def app(scope, receive, send):
            seen.append(dict(scope["headers"]).get(b"idempotency-key"))
            await respond(send)

        async with serving(app) as middleware:
            own = {"method": "POST", "path": "/b", "headers": {"idempotency-key": "own"}}
            await post(middleware, "POST /a", own, headers=[key()])

        assert sorted(seen, key=str) == [None, b"own"]


class TestHowLong:
    async def test_a_small_batch_is_waited_for_as_long_as_one_without_a_key(self):
        """
        After `batch_timeout` it is accepted, goes on, and answers the same request later.
        """
        app = App()
        with releasing(app.gate):
            async with serving(app, limits=Limits(batch_timeout=0.05)) as middleware:
                paths = ["POST /wait", "POST /a"]
                accepted = await post(middleware, *paths, headers=[key()])
                app.gate.set()
                await finished(middleware, accepted)
                again = await post(middleware, *paths, headers=[key()])

        assert (accepted.status, "preference-applied" in accepted.headers) == (202, False)
        assert (again.status, again.statuses) == (200, [200, 200])
        assert Counter(app.starts) == {"/wait": 1, "/a": 1}

    async def test_whoever_would_rather_not_wait(self):
        """
        The wish goes before the size.
        """
        async with serving() as app:
            answers = [await post(app, "GET /0", headers=[key(), LATER]) for _ in range(2)]
            results = await results_of(app, answers[0])

        assert [answer.status for answer in answers] == [202, 202]
        assert answers[0].json()["batchId"] == answers[1].json()["batchId"]
        assert [result["status"] for result in results] == [200]

    async def test_a_batch_that_was_cancelled(self):
        """
        A key brings back what became of the batch, whatever that is.
        """
        app = App()
        with releasing(app.gate):
            async with serving(app, limits=Limits(concurrency=1)) as middleware:
                paths = ["POST /wait", "POST /a"]
                accepted = await post(middleware, *paths, headers=[key(), LATER])
                await ask(middleware, f"/batch/{accepted.json()['batchId']}", "DELETE")
                app.gate.set()
                await finished(middleware, accepted)
                again = await post(middleware, *paths, headers=[key()])

        assert again.status == 200
        assert again.results[1]["error"]["code"] == "cancelled"
        assert "/a" not in app.starts


class TestRefused:
    @pytest.mark.parametrize(
        ("paths", "headers"),
        [
            (["POST /b"], []),
            (["POST /a", "POST /b"], []),
            (["POST /a"], [(b"authorization", b"Bearer other")]),
            (["POST /a"], [(b"cookie", b"session=other")]),
        ],
    )
    @pytest.mark.parametrize("wish", [[], [LATER], [prefer(b"wait=9")]])
    async def test_t47_a_key_that_comes_with_something_else(self, paths, headers, wish):
        """
        T47: neither does anything run, nor does the answer tell of the batch that is there.
        """
        app = App()
        async with serving(app) as middleware:
            first = await post(middleware, "POST /a", headers=[key(), LATER])
            await finished(middleware, first)
            other = await post(middleware, *paths, headers=[key(), *headers, *wish])

        assert (other.status, other.json()["code"]) == (422, "idempotency_key_reused")
        assert first.json()["batchId"] not in other.body.decode()
        assert app.starts == ["/a"]

    async def test_t47_credentials_that_are_missing(self):
        """
        T47: whoever has none does not see the batch of somebody who had.
        """
        app = App()
        async with serving(app) as middleware:
            mine = (b"authorization", b"Bearer mine")
            await post(middleware, "POST /a", headers=[key(), mine])
            other = await post(middleware, "POST /a", headers=[key()])
            again = await post(middleware, "POST /a", headers=[key(), mine])

        assert (other.status, other.json()["code"]) == (422, "idempotency_key_reused")
        assert (again.status, app.starts) == (200, ["/a"])

    @pytest.mark.parametrize(
        "headers",
        [[key(b"")], [key(b'"a')], [key(b"a b")], [key(b"k" * 256)], [key(b"a"), key(b"a")]],
    )
    @pytest.mark.parametrize("wish", [[], [LATER]])
    async def test_t47_a_key_that_cannot_be_read(self, headers, wish):
        """
        T47: a client that relies on it must not go unprotected.
        """
        app = App()
        async with serving(app) as middleware:
            answer = await post(middleware, "POST /a", headers=[*headers, *wish])

        assert (answer.status, answer.json()["code"]) == (400, "invalid_parameter")
        assert "Idempotency-Key" in answer.json()["detail"]
        assert app.starts == []

    async def test_f15_nobody_who_could_remember(self):
        """
        F15: without lifespan there is no store, so the promise cannot be kept, and nothing runs.
        """
        app = App()
        answer = await post(BatchMiddleware(app), "POST /a", headers=[key()])

        assert (answer.status, answer.json()["code"]) == (503, "background_unavailable")
        assert app.starts == []

    async def test_an_invalid_batch_leaves_its_key_free(self):
        """
        Nothing was accepted under it, so that the corrected batch may have it.
        """
        async with serving() as app:
            refused = await post(app, "GET nonsense", headers=[key()])
            corrected = await post(app, "GET /0", headers=[key()])

        assert (refused.status, corrected.status) == (422, 200)


async def fifty(middleware, answers, *headers):
    """
    Put down the *answers* to fifty submissions at a time.
    """

    async def one():
        answers.append(await post(middleware, "POST /a", "POST /b", headers=[key(), *headers]))

    async with anyio.create_task_group() as tasks:
        for _ in range(FIFTY):
            tasks.start_soon(one)


class TestParallel:
    async def test_f21_fifty_at_a_time_that_are_waited_for(self):
        """
        F21: all get the results of the one batch.
        """
        app, answers = App(), []
        async with serving(app) as middleware:
            await fifty(middleware, answers)

        assert {(answer.status, answer.body) for answer in answers} == {(200, answers[0].body)}
        assert Counter(app.starts) == {"/a": 1, "/b": 1}

    async def test_f21_fifty_at_a_time_that_are_accepted(self):
        """
        F21: all are told of the one batch.
        """
        app, answers = App(), []
        async with serving(app) as middleware:
            await fifty(middleware, answers, LATER)
            await finished(middleware, answers[0])

        assert {answer.status for answer in answers} == {202}
        assert len({answer.json()["batchId"] for answer in answers}) == 1
        assert Counter(app.starts) == {"/a": 1, "/b": 1}


class TestRedis:
    @pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
    def anyio_backend(self, request):
        """
        The event loops that redis-py runs on.
        """
        return "asyncio", {"use_uvloop": request.param}

    async def test_f21_fifty_at_a_time_in_two_processes(self, redis):
        """
        F21: two that share a store are as good as one.

        So many may wait longer for the store than it lets them: those are told to ask again.
        """
        redis.client.flushall()
        app, other, answers = App(), App(), []
        async with (
            serving(app, store=RedisStore(redis.url, max_connections=FIFTY)) as middleware,
            serving(other, store=RedisStore(redis.url, max_connections=FIFTY)) as sibling,
            anyio.create_task_group() as tasks,
        ):
            for each in (middleware, sibling):
                tasks.start_soon(fifty, each, answers)
        waited = {answer.body for answer in answers if answer.status == 200}
        accepted = [answer.json()["batchId"] for answer in answers if answer.status == 202]

        assert len(answers) == 2 * FIFTY
        assert {answer.status for answer in answers} <= {200, 202, 503}
        assert waited or accepted
        assert len(waited) <= 1
        assert len(set(accepted)) <= 1
        assert len(list(redis.client.scan_iter("*:rec"))) == 1
        assert Counter(app.starts + other.starts) == {"/a": 1, "/b": 1}

    async def test_t47_a_key_that_comes_with_something_else(self, redis):
        """
        T47: the store that is shared tells them apart as well.
        """
        redis.client.flushall()
        app = App()
        async with serving(app, store=RedisStore(redis.url)) as middleware:
            await post(middleware, "POST /a", headers=[key()])
            body = await post(middleware, "POST /b", headers=[key()])
            caller = await post(middleware, "POST /a", headers=[key(), (b"cookie", b"a=b")])

        assert (body.status, body.json()["code"]) == (422, "idempotency_key_reused")
        assert (caller.status, caller.json()["code"]) == (422, "idempotency_key_reused")
        assert app.starts == ["/a"]


@contextmanager
def server(redis, folder, effects):
    """
    A server whose app writes down what it does.
    """
    redis.client.flushall()
    env = {"REDIS": redis.url, "EFFECTS": str(effects)}
    with served("uvicorn-h11-asyncio", "apps.recovering:app", folder, env=env) as running:
        yield running


def writes(count):
    """
    Operations that must not run twice.
    """
    return {"operations": [{"method": "POST", "path": "/work?seconds=0"}] * count}


def starts(effects):
    """
    How often each operation was started.
    """
    lines = [line.split() for line in effects.read_text().splitlines()]
    return Counter(int(line[3]) for line in lines if line[0] == "start")


def test_f21_fifty_at_a_time_at_two_servers(redis, tmp_path):
    """
    F21: one batch, and each of its operations once, whichever server was asked.
    """
    effects = tmp_path / "effects.log"

    async def submit(urls):
        async with httpx.AsyncClient(timeout=60) as client:
            requests = [
                client.post(
                    f"{urls[number % 2]}/batch",
                    json=writes(5),
                    headers={"idempotency-key": "once", "prefer": "respond-async"},
                )
                for number in range(FIFTY)
            ]
            return await asyncio.gather(*requests)

    with (
        server(redis, tmp_path / "1", effects) as first,
        server(redis, tmp_path / "2", effects) as second,
    ):
        answers = asyncio.run(submit([first.url, second.url]))
        headers = {"idempotency-key": "once", "prefer": "wait=30"}
        last = httpx.post(f"{second.url}/batch", json=writes(5), headers=headers, timeout=60)

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["batchId"] for answer in answers}) == 1
    assert (last.status_code, last.json()["summary"]["succeeded"]) == (200, 5)
    assert starts(effects) == dict.fromkeys(range(5), 1)


@pytest.mark.parametrize(("wish", "status"), [("respond-async", 202), ("wait=30", 200)])
def test_f22_an_answer_that_is_lost(redis, tmp_path, wish, status):
    """
    F22: the client that sends it again gets the same batch, and each operation has run once.
    """
    effects = tmp_path / "effects.log"
    headers = {"idempotency-key": "once", "prefer": wish}

    async def submit(port):
        async with FaultProxy(port).running() as proxy, httpx.AsyncClient(timeout=60) as client:
            url = f"http://{HOST}:{proxy.port}/batch"
            proxy.drop_reply_to(b"POST /batch")
            with pytest.raises(httpx.TransportError):
                await client.post(url, json=writes(5), headers=headers)
            again = await client.post(url, json=writes(5), headers=headers)
            other = await client.post(url, json=writes(6), headers=headers)
            return proxy.dropped, again, other

    with server(redis, tmp_path / "server", effects) as running:
        dropped, again, other = asyncio.run(submit(running.port))
        with httpx.Client(base_url=running.url, timeout=60) as client:
            last = client.post("/batch", json=writes(5), headers={**headers, "prefer": "wait=30"})

    assert dropped == 1
    assert again.status_code == status
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert last.json()["summary"]["succeeded"] == 5
    assert starts(effects) == dict.fromkeys(range(5), 1)
