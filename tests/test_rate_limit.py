"""
`rate_limit`: a batch of so many operations counts as so many, and so does each direct request.
"""

import re

import anyio
import pytest

from asgi_batch import BatchMiddleware, ConfigurationError, RateLimit, _rate_memory
from asgi_batch._rate import Count, _wait, _weight
from asgi_batch.limits import Quota, client_address
from asgi_batch.stores.redis import RedisStore
from later_support import ask, ended, post, prefer, serving
from redis_server import cluster_url, redis_cluster, redis_server
from redis_support import BOUND, SOON, held_up
from support import Exchange, batch_body, batch_scope, call, http_scope, respond

ASYNCIO = [("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})]


class Counting:
    """
    An app that counts its calls.
    """

    def __init__(self):
        self.calls = 0

    async def __call__(self, scope, receive, send):
        self.calls += 1
        await respond(send, b"{}", content_type=b"application/json")


async def batch(app, count, client=("192.0.2.1", 1)):
    return await call(app, Exchange(batch_scope(client=client), batch_body(["GET /x"] * count)))


async def direct(app, client=("192.0.2.1", 1), **members):
    return await call(app, Exchange(http_scope("GET", "/x", client=client, **members)))


def remaining(answer):
    return int(re.search(r";r=(\d+)", answer.headers["ratelimit"])[1])


class Time:
    """
    A clock for counts, which stands still, at the beginning of a window.
    """

    def __init__(self, monkeypatch):
        self.now = 6_000_000.0
        monkeypatch.setattr(_rate_memory.time, "time", self)
        monkeypatch.setattr("limits.storage.memory.time.time", self)

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    return Time(monkeypatch)


class TestCost:
    async def test_t1_an_operation_costs_the_same_in_a_batch_and_alone(self, clock):
        """
        T1: one bucket for both, so that batching buys nothing.
        """
        counted = Counting()
        app = BatchMiddleware(counted, rate_limit="10/minute")
        answers = [await batch(app, 4), await direct(app), await batch(app, 4), await direct(app)]
        refused = [await direct(app), await batch(app, 1)]

        assert [each.status for each in answers] == [200] * 4
        assert [remaining(each) for each in answers] == [6, 5, 1, 0]
        assert [each.status for each in refused] == [429, 429]
        assert counted.calls == 10

    async def test_t1_what_is_refused_is_not_counted(self, clock):
        """
        T1: all or nothing, and a batch that is too large leaves the rest to others.
        """
        counted = Counting()
        app = BatchMiddleware(counted, rate_limit="10/minute")
        await batch(app, 6)
        refused = [await batch(app, 5) for _ in range(20)]
        last = await batch(app, 4)

        assert {each.status for each in refused} == {429}
        assert refused[0].json()["code"] == "rate_limited"
        assert last.status == 200
        assert counted.calls == 10

    async def test_several_rates_are_kept_all_or_none(self, clock):
        """
        What one of them refuses is counted by none.
        """
        app = BatchMiddleware(Counting(), rate_limit=RateLimit("100/minute", "5/second"))
        first, second = await batch(app, 5), await batch(app, 5)
        clock.now += 2.0
        third = await batch(app, 5)

        assert first.headers["ratelimit-policy"] == '"minute";q=100;w=60, "second";q=5;w=1'
        assert second.status == 429
        assert [remaining(each) for each in (first, second, third)] == [95, 95, 90]

    async def test_an_invalid_batch_costs_nothing(self, clock):
        """
        It is charged after the checks and before anything runs.
        """
        app = BatchMiddleware(Counting(), rate_limit="10/minute")
        invalid = await call(app, Exchange(batch_scope(), b'{"operations": []}'))
        answer = await batch(app, 10)

        assert "ratelimit" not in invalid.headers
        assert answer.status == 200

    async def test_callers_do_not_share(self, clock):
        """
        By default they are told apart by their addresses.
        """
        app = BatchMiddleware(Counting(), rate_limit="2/minute")
        answers = [
            await batch(app, 2, client=("192.0.2.1", 1)),
            await direct(app, client=("192.0.2.1", 9)),
            await batch(app, 2, client=("192.0.2.2", 1)),
            await batch(app, 2, client=None),
            await direct(app, client=None),
        ]

        assert [each.status for each in answers] == [200, 429, 200, 200, 429]

    async def test_a_key_may_hold_any_characters(self, clock):
        """
        Also such as decoding with ``surrogateescape`` makes of bytes that a client has chosen.
        """
        app = BatchMiddleware(
            Counting(), rate_limit=RateLimit("1/minute", key=lambda scope: "\udc80")
        )

        assert [(await direct(app)).status for _ in range(2)] == [200, 429]

    async def test_a_key_of_ones_own(self, clock):
        """
        It may be any function of the scope.
        """
        limit = RateLimit("1/minute", key=lambda scope: str(dict(scope["headers"]).get(b"x-key")))
        app = BatchMiddleware(Counting(), rate_limit=limit)
        a, b = [(b"x-key", b"a")], [(b"x-key", b"b")]
        answers = [await direct(app, headers=each) for each in (a, b, a)]

        assert [each.status for each in answers] == [200, 200, 429]

    async def test_direct_requests_need_not_count(self, clock):
        """
        Where something else limits them.
        """
        app = BatchMiddleware(Counting(), rate_limit=RateLimit("1/minute", direct=False))
        answers = [await direct(app), await batch(app, 1), await direct(app), await batch(app, 1)]

        assert [each.status for each in answers] == [200, 200, 200, 429]
        assert "ratelimit" not in answers[0].headers

    async def test_questions_about_batches_cost_nothing_and_a_retry_does(self, clock):
        """
        Status and results have been paid for; operations that run again have not.
        """

        async def failing(scope, receive, send):
            await respond(send, b"", status=500)

        async with serving(failing, rate_limit="8/minute") as app:
            accepted = await post(app, *["GET /x"] * 3, headers=[prefer(b"respond-async")])
            url = f"/batch/{accepted.json()['batchId']}"
            await ended(app, f"{url}/status")
            results = await ask(app, f"{url}/results")
            first, second = [await ask(app, f"{url}/retry", "POST") for _ in range(2)]

        assert remaining(accepted) == 5
        assert "ratelimit" not in results.headers
        assert (first.status, remaining(first)) == (202, 2)
        assert (second.status, second.json()["code"]) == (429, "rate_limited")
        assert second.headers["batch-operations"] == "3"

    async def test_other_kinds_of_connections_are_left_alone(self):
        """
        A websocket is no operation.
        """
        seen = []

        async def app(scope, receive, send):
            seen.append(scope["type"])

        await BatchMiddleware(app, rate_limit="1/minute")({"type": "websocket"}, None, None)

        assert seen == ["websocket"]


class TestAnswers:
    async def test_a_batch_that_can_never_pass_is_told_so(self, clock):
        """
        Waiting would not help.
        """
        app = BatchMiddleware(Counting(), rate_limit=RateLimit("100/minute", "10/second"))
        answer = await batch(app, 11)

        assert answer.status == 429
        assert "retry-after" not in answer.headers
        assert answer.json()["detail"] == (
            "A batch of 11 operations can never pass; send at most 10 in one batch."
        )

    @pytest.mark.parametrize("later", [0, 20, 50])
    @pytest.mark.parametrize("count", [1, 4, 10])
    async def test_retry_after_is_when_the_same_batch_passes(self, clock, later, count):
        """
        Not a second before it, and then it does.
        """
        app = BatchMiddleware(Counting(), rate_limit="10/minute")
        clock.now += later
        await batch(app, 10)
        refused = await batch(app, count)
        wait = int(refused.headers["retry-after"])
        more = int(re.search(r";t=(\d+)", refused.headers["ratelimit"])[1])
        clock.now += wait - 2
        early = await batch(app, count)
        clock.now += 2
        answer = await batch(app, count)

        assert (refused.status, early.status, answer.status) == (429, 429, 200)
        # The draft has clients wait for the longer of the two.
        assert more <= wait

    async def test_fields_of_the_app_are_left_alone(self, clock):
        """
        Its own limits may be other ones.
        """

        async def app(scope, receive, send):
            headers = [(b"RateLimit", b"its own")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body"})

        answer = await direct(BatchMiddleware(app, rate_limit="10/minute"))

        assert answer.headers["RateLimit"] == "its own"
        assert "ratelimit-policy" not in answer.headers

    async def test_a_direct_request_that_is_refused_gets_a_problem_document(self, clock):
        """
        As a batch does, and the app is not called.
        """
        counted = Counting()
        app = BatchMiddleware(counted, rate_limit="1/minute")
        await direct(app)
        answer = await direct(app)

        assert (answer.status, answer.json()["code"]) == (429, "rate_limited")
        assert answer.headers["content-type"] == "application/problem+json"
        assert int(answer.headers["retry-after"]) <= 120
        assert counted.calls == 1


class TestAppsOwnLimit:
    async def test_t1_a_limiter_inside_sees_each_operation(self):
        """
        T1: five logins a minute are five, in however few requests they come.
        """
        logins = 0

        async def app(scope, receive, send):
            nonlocal logins
            logins += 1
            await respond(send, b"", status=200 if logins <= 5 else 429)

        answer = await call(
            BatchMiddleware(app), Exchange(batch_scope(), batch_body(["POST /login"] * 100))
        )
        statuses = [each["status"] for each in answer.json()["results"]]

        assert sorted(statuses) == [200] * 5 + [429] * 95


class TestMemory:
    async def test_callers_that_are_gone_are_forgotten(self, clock):
        """
        Ten thousand of them do not stay, although some have a count for a day.
        """
        limit = RateLimit("5/second", "100/day")
        app = BatchMiddleware(Counting(), rate_limit=limit)
        storage = app._limiter._counter._storage
        for number in range(2_000):
            await direct(app, client=(f"192.0.2.{number}", 1))
            clock.now += 0.01
        clock.now += 3 * 86_400
        for number in range(1_000):
            await direct(app, client=(f"198.51.100.{number}", 1))

        assert len(storage.storage) == len(storage.expirations) <= 2 * 1_000
        assert not storage.timer.is_alive()


@pytest.mark.parametrize("anyio_backend", ASYNCIO, indirect=True)
class TestRedis:
    @pytest.mark.parametrize("make", [str, lambda url: RedisStore(url, allow_clear_text=True)])
    async def test_t1_processes_count_together(self, tmp_path, make):
        """
        T1: where the store is in Redis, so are the counts; many batches at once, and no more than
        the limit.
        """
        counted = Counting()
        with redis_server(tmp_path) as server:
            async with (
                serving(counted, store=make(server.url), rate_limit="2500/minute") as one,
                serving(counted, store=make(server.url), rate_limit="2500/minute") as two,
            ):
                answers = []

                async def send(app):
                    answers.append(await batch(app, 100))

                async with anyio.create_task_group() as tasks:
                    for app in (one, two) * 20:
                        tasks.start_soon(send, app)
                last = await direct(one)
            keys = [(key, server.client.pttl(key)) for key in server.client.keys("ab-rate*")]

        assert sorted(each.status for each in answers) == [200] * 25 + [429] * 15
        assert last.status == 429
        assert counted.calls == 2500
        assert keys
        assert all(ttl > 0 for _, ttl in keys)

    async def test_t1_processes_count_together_in_a_cluster(self, tmp_path, caplog):
        """
        T1: on the node that has the account, whichever it is; what cannot be counted does not pass.
        """
        counted = Counting()
        with redis_cluster(tmp_path, 3) as nodes:
            url = cluster_url(nodes[:1])
            async with (
                serving(counted, store=url, rate_limit="10/minute") as one,
                serving(counted, store=url, rate_limit="10/minute") as two,
            ):
                answers = [await batch(app, 5) for app in (one, two, one)]
                keys = [key for node in nodes for key in node.client.keys("ab-rate*")]
                for node in nodes:
                    node.kill()
                away = await batch(one, 5)

        assert [each.status for each in answers] == [200, 200, 429]
        assert counted.calls == 10
        assert keys
        assert away.json()["code"] == "rate_limit_unavailable"

    async def test_t1_what_one_rate_refuses_is_never_counted_by_the_others(self, tmp_path):
        """
        T1: not even for a moment, in which the window could turn or the client go.
        """
        limit = RateLimit("100/minute", "5/hour")
        with redis_server(tmp_path) as server:
            async with serving(Counting(), store=server.url, rate_limit=limit) as app:
                await batch(app, 1)
                await batch(app, 4)
                before = server.client.info("commandstats")["cmdstat_incrby"]["calls"]
                refused = [await batch(app, 5) for _ in range(2)]
                after = server.client.info("commandstats")["cmdstat_incrby"]["calls"]

        assert [each.status for each in refused] == [429, 429]
        assert [remaining(each) for each in refused] == [95, 95]
        assert before == after

    async def test_t1_each_rate_holds_for_batches_that_come_at_once(self, tmp_path):
        """
        T1: where all of them have seen that there is room, and not all can have it.
        """
        counted = Counting()
        limit = RateLimit("10000/hour", "25/minute")
        with redis_server(tmp_path) as server:
            async with (
                serving(counted, store=server.url, rate_limit=limit) as one,
                serving(counted, store=server.url, rate_limit=limit) as two,
                anyio.create_task_group() as tasks,
            ):
                for app in (one, two) * 10:
                    tasks.start_soon(batch, app, 5)

        assert counted.calls == 25

    @pytest.mark.parametrize(
        ("on_error", "codes"), [("deny", ["rate_limit_unavailable"] * 2), ("allow", [None, None])]
    )
    async def test_a_counter_without_memory_is_one_that_is_away(self, tmp_path, on_error, codes):
        """
        A server that is full answers, but it counts nothing.
        """
        with redis_server(tmp_path) as server:
            limit = RateLimit("5/minute", on_error=on_error, storage=server.url)
            async with serving(Counting(), rate_limit=limit) as app:
                server.config(maxmemory=1)
                answers = [await batch(app, 1), await direct(app)]

        assert [each.json().get("code") for each in answers] == codes

    @pytest.mark.parametrize(
        ("on_error", "statuses"), [("deny", [503, 503]), ("allow", [200, 200])]
    )
    async def test_a_counter_that_is_away(self, tmp_path, caplog, on_error, statuses):
        """
        Nothing passes uncounted, or everything; it is said once.
        """
        counted = Counting()
        with redis_server(tmp_path) as server:
            limit = RateLimit("5/minute", on_error=on_error, storage=server.url)
            async with serving(counted, rate_limit=limit) as app:
                before = await batch(app, 1)
                server.kill()
                answers = [await batch(app, 1), await direct(app)]
        warnings = [each for each in caplog.records if "cannot be counted" in each.message]

        assert before.status == 200
        assert [each.status for each in answers] == statuses
        assert all("ratelimit" not in each.headers for each in answers)
        assert len(warnings) == 1
        assert counted.calls == 1 + 2 * (on_error == "allow")

    async def test_a_counter_that_is_frozen_is_given_up_in_time(self, tmp_path):
        """
        No request waits for ever, be it for its turn to be counted or for the answer.
        """
        answers = []

        async def send(app):
            answers.append(await direct(app))

        with redis_server(tmp_path) as server:
            limit = RateLimit("5/minute", storage=server.url)
            async with serving(Counting(), rate_limit=limit) as app:
                with server.frozen(), anyio.fail_after(12):
                    async with anyio.create_task_group() as tasks:
                        # One after the other, on ten connections, it would be twenty seconds.
                        for _ in range(200):
                            tasks.start_soon(send, app)

        assert {each.json()["code"] for each in answers} == {"rate_limit_unavailable"}
        assert {each.headers["retry-after"] for each in answers} == {"2"}

    async def test_a_counter_is_given_up_in_time_by_a_process_that_stood_still(self, tmp_path):
        """
        Also where it stood still as it sent, and the end of the call came meanwhile.
        """
        with redis_server(tmp_path) as server:
            limit = RateLimit("5/minute", storage=server.url)
            async with serving(Counting(), rate_limit=limit) as app:
                await direct(app)
                start = anyio.current_time()
                with server.frozen(), held_up(BOUND):
                    answer = await direct(app)
                wait = anyio.current_time() - start

        assert answer.json()["code"] == "rate_limit_unavailable"
        assert wait <= SOON


@pytest.mark.parametrize("anyio_backend", [("trio", {})], indirect=True)
class TestTrio:
    async def test_redis_is_refused_at_the_start(self):
        """
        With what to do instead.
        """
        app = BatchMiddleware(Counting(), rate_limit=RateLimit("1/minute", storage="redis://x"))
        with pytest.raises(ConfigurationError, match="needs asyncio"):
            async with app.running():
                pass

    async def test_without_a_start_nothing_passes(self, caplog):
        """
        Where no lifespan was run, it is said when something is to be counted.
        """
        app = BatchMiddleware(Counting(), rate_limit=RateLimit("1/minute", storage="redis://x"))
        answer = await direct(app)

        assert answer.status == 503
        assert "not asyncio's" in caplog.text


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (RateLimit, "write a rate, such as"),
        (lambda: RateLimit("many"), "'many'): write a rate such as"),
        (lambda: RateLimit("10/fortnight"), "write a rate such as"),
        (lambda: RateLimit("0/minute"), "write a rate such as"),
        (lambda: RateLimit("5/0 minute"), "write a rate such as"),
        (lambda: RateLimit(100), "RateLimit(100): write a rate"),
        (
            lambda: RateLimit("10/minute", "20/60 seconds"),
            "RateLimit('10/minute', '20/60 seconds'): write one rate for each time",
        ),
        (lambda: RateLimit("1/minute", key="ip"), "key='ip'): pass a function"),
        (lambda: RateLimit("1/minute", on_error="ignore"), "write 'deny' or 'allow'"),
        (lambda: BatchMiddleware(Counting(), rate_limit=100), "rate_limit=100: write a rate"),
        (
            lambda: BatchMiddleware(
                Counting(), rate_limit=RateLimit("1/minute", storage="mysql://x")
            ),
            "store='mysql://x': write",
        ),
    ],
)
def test_wrong_settings(make, part):
    """
    They are refused at once, with what to write.
    """
    with pytest.raises(ConfigurationError, match=re.escape(part)):
        make()


@pytest.mark.parametrize(
    ("rate", "quota"),
    [
        ("1000/minute", Quota("minute", 1000, 60)),
        ("5/seconds", Quota("second", 5, 1)),
        ("50/10 seconds", Quota("10second", 50, 10)),
        ("7/day", Quota("day", 7, 86_400)),
    ],
)
def test_rates(rate, quota):
    """
    They have a name for the header, a number and a time.
    """
    assert RateLimit(rate).quotas == (quota,)


@pytest.mark.parametrize(
    "count", [Count(0, 0.0, 0, 0.0), Count(7, 30.0, 4, 90.0), Count(9, 1, 1, 61)]
)
@pytest.mark.parametrize("cost", [1, 5, 10])
def test_the_wait_ends_when_there_is_room(count, cost):
    """
    And not before.
    """
    quota = Quota("minute", 10, 60)
    wait = _wait(quota, count, cost)

    room = quota.operations - cost
    before, after = [_weight(quota, count, max(wait + each, 0)) for each in (-0.001, 0.001)]

    assert after < room + 1
    assert wait == 0 or before >= room + 1


def test_a_missing_library_is_named(monkeypatch):
    """
    With what to install.
    """
    monkeypatch.setitem(__import__("sys").modules, "asgi_batch._rate_memory", None)

    with pytest.raises(ConfigurationError, match=r"pip install asgi-batch\[rate-limit\]"):
        BatchMiddleware(Counting(), rate_limit="1/minute")


def test_an_address_is_what_the_server_says():
    """
    And nothing that the client has written.
    """
    assert client_address({"client": ("192.0.2.1", 5)}) == "192.0.2.1"
    assert client_address({"client": None}) == client_address({}) == ""
