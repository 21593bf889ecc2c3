"""
``GET /batch/{id}/events``: each change while it happens, the end, and then silence.
"""

import json
from contextlib import aclosing, asynccontextmanager

import anyio
import httpx
import pytest

from asgi_batch import Limits
from asgi_batch._endpoints import events
from asgi_batch.errors import StoreUnavailable
from asgi_batch.stores.memory import MemoryStore
from background import DOWN, App
from later_support import UNKNOWN, ask, finished, post, prefer, serving
from servers import serving as served
from support import PATIENCE, Exchange, call, http_scope, releasing, respond, until

LATER = prefer(b"respond-async")
# Seconds between two looks that no test lives to see.
NEVER = 10_000.0


class Gated:
    """
    Lets ``/n`` end once *n* operations have been told to.
    """

    def __init__(self):
        self.gates = [anyio.Event() for _ in range(10)]
        self.starts = 0

    async def __call__(self, scope, receive, send):
        self.starts += 1
        await self.gates[int(scope["path"][1:])].wait()
        await respond(send)

    def let(self, number):
        self.gates[number].set()


@asynccontextmanager
async def gated(**settings):
    """
    A `Gated` app in its middleware; all gates open before it stops.
    """
    app = Gated()
    async with serving(app, **settings) as middleware:
        with releasing(*app.gates):
            yield middleware


class Watched(MemoryStore):
    """
    A store that counts how often it is asked how far a batch is, and answers as it is told to.
    """

    def __init__(self):
        super().__init__()
        self.looks, self.error, self.is_empty = 0, None, False

    async def snapshot(self, batch_id):
        self.looks += 1
        if self.error is not None:
            raise self.error
        return None if self.is_empty else await super().snapshot(batch_id)


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    """
    Look at the store more often than is good for it.
    """
    monkeypatch.setattr(events, "_SHORTEST", 0.005)
    monkeypatch.setattr(events, "_LONGEST", 0.01)


@asynccontextmanager
async def streaming(app, url, *headers, is_strict=False):
    """
    A client that follows the events at *url*, for as long as the context lasts.
    """
    exchange = Exchange(http_scope("GET", url, headers=list(headers)), is_strict=is_strict)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, app, exchange)
        try:
            yield exchange
        finally:
            exchange.disconnect()


def told(exchange):
    """
    The events that have come so far, each as its name, its id and its data.
    """
    found = []
    for block in exchange.body.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        if "event" in fields:
            assert list(fields) == ["id", "event", "data"]
            found.append((fields["event"], int(fields["id"]), json.loads(fields["data"])))
    return found


def names(exchange):
    return [name for name, _, _ in told(exchange)]


def versions(exchange):
    return [version for _, version, _ in told(exchange)]


def completed(exchange):
    return [document["completed"] for _, _, document in told(exchange)]


def events_url(accepted):
    return accepted.json()["eventsUrl"]


def last_id(value):
    return (b"last-event-id", value if isinstance(value, bytes) else b"%d" % value)


async def submitted(app, count=2):
    """
    A batch of *count* operations that has been accepted.
    """
    return await post(app, *(f"GET /{number}" for number in range(count)), headers=[LATER])


class TestStream:
    async def test_each_change_and_the_end(self):
        """
        One event a change with the status as its data; after the end the answer is over.
        """
        async with gated() as middleware:
            accepted = await submitted(middleware, 4)
            async with streaming(middleware, events_url(accepted)) as exchange:
                for number in range(4):
                    await until(lambda: told(exchange))
                    await until(lambda number=number: completed(exchange)[-1] == number)
                    middleware.app.let(number)
                await until(exchange.returned.is_set)
            status = await finished(middleware, accepted)
        progress = [document["progress"] for _, _, document in told(exchange)]

        assert names(exchange)[-1] == "end"
        assert set(names(exchange)[:-1]) == {"progress"}
        assert versions(exchange) == sorted(set(versions(exchange)))
        assert sorted(set(completed(exchange))) == [0, 1, 2, 3, 4]
        assert progress == sorted(progress)
        assert 0.75 in progress
        assert told(exchange)[-1][2] == status.json()
        assert f'"{versions(exchange)[-1]}"' == status.headers["etag"]

    async def test_what_browsers_and_proxies_need(self):
        """
        The type, no caching, no gathering, and when to come back, before anything has happened.
        """
        async with gated() as middleware:
            accepted = await submitted(middleware)
            async with streaming(middleware, events_url(accepted)) as exchange:
                await until(lambda: told(exchange))
                first = exchange.body

        assert exchange.status == 200
        assert exchange.headers == {
            "content-type": "text/event-stream; charset=utf-8",
            "x-accel-buffering": "no",
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
        }
        assert first.startswith(b"retry: 1000\n\nid: 1\nevent: progress\ndata: {")

    async def test_nothing_is_told_twice(self):
        """
        Looks that find nothing new are the store's affair.
        """
        store = Watched()
        async with gated(store=store) as middleware:
            accepted = await submitted(middleware)
            async with streaming(middleware, events_url(accepted)) as exchange:
                await until(lambda: told(exchange))
                looks = store.looks
                await until(lambda: store.looks > looks + 5)
                count = len(told(exchange))

        assert count == 1

    async def test_a_batch_that_has_ended(self):
        """
        Its end is all there is to tell.
        """
        async with serving(App()) as middleware:
            accepted = await submitted(middleware)
            status = await finished(middleware, accepted)
            answer = await ask(middleware, events_url(accepted))

        assert [(name, data) for name, _, data in told(answer)] == [("end", status.json())]
        assert answer.answered.is_set()

    async def test_a_batch_that_is_cancelled(self):
        """
        The cancellation is a change; the end comes when what ran has ended.
        """
        async with gated(limits=Limits(concurrency=1)) as middleware:
            accepted = await submitted(middleware)
            async with streaming(middleware, events_url(accepted)) as exchange:
                await until(lambda: told(exchange) and middleware.app.starts)
                await ask(middleware, f"/batch/{accepted.json()['batchId']}", "DELETE")
                await until(lambda: told(exchange)[-1][2]["status"] == "cancelled")
                before = names(exchange)
                middleware.app.let(0)
                await until(exchange.returned.is_set)

        assert "end" not in before
        assert names(exchange)[-1] == "end"
        assert told(exchange)[-1][2]["skipped"] == 1

    async def test_where_the_app_is_mounted(self):
        """
        The addresses in the data are those that the client sees.
        """
        async with serving(App()) as middleware:
            accepted = await submitted(middleware)
            await finished(middleware, accepted)
            path = "/api" + events_url(accepted)
            answer = await ask(middleware, path, root_path="/api")

        assert told(answer)[0][2]["eventsUrl"] == path


class TestComingBack:
    async def test_only_what_is_new(self):
        """
        `Last-Event-ID` is the version of which the client has heard last.
        """
        async with gated() as middleware:
            accepted = await submitted(middleware, 3)
            url = events_url(accepted)
            async with streaming(middleware, url) as first:
                await until(lambda: told(first))
                middleware.app.let(0)
                await until(lambda: completed(first)[-1] == 1)
            known = versions(first)[-1]
            async with streaming(middleware, url, last_id(known)) as second:
                await until(lambda: second.body)
                middleware.app.let(1)
                middleware.app.let(2)
                await until(second.returned.is_set)

        assert min(versions(second)) > known
        assert completed(second)[0] > 1
        assert names(second)[-1] == "end"

    async def test_a_change_meanwhile_is_told_at_once(self):
        """
        A client that was away misses nothing: it gets how things are now.
        """
        async with gated() as middleware:
            accepted = await submitted(middleware)
            async with streaming(middleware, events_url(accepted)) as first:
                await until(lambda: told(first))
            middleware.app.let(0)
            middleware.app.let(1)
            await finished(middleware, accepted)
            second = await ask(
                middleware, events_url(accepted), headers=[last_id(versions(first)[-1])]
            )

        assert [(name, data["completed"]) for name, _, data in told(second)] == [("end", 2)]

    @pytest.mark.parametrize("more", [0, 1, 1000])
    async def test_whoever_has_heard_of_the_end(self, more):
        """
        204 is the one answer after which a browser does not come back.
        """
        async with serving(App()) as middleware:
            accepted = await submitted(middleware)
            await finished(middleware, accepted)
            first = await ask(middleware, events_url(accepted))
            headers = [last_id(versions(first)[-1] + more)]
            second = await ask(middleware, events_url(accepted), headers=headers)

        assert (second.status, second.body) == (204, b"")

    @pytest.mark.parametrize(
        "value", [b"x", b"", b"-1", b"1.5", b"1 ", b"0x9", b"\xb2", b"9" * 16, b"9, 9"]
    )
    async def test_an_id_that_was_never_told(self, value):
        """
        What is no version is ignored, and all is told.
        """
        async with serving(App()) as middleware:
            accepted = await submitted(middleware)
            await finished(middleware, accepted)
            answer = await ask(middleware, events_url(accepted), headers=[last_id(value)])

        assert (answer.status, names(answer)) == (200, ["end"])


class TestNoStream:
    async def test_t36_a_batch_that_is_unknown(self):
        """
        T36: that is told before any stream starts, as everywhere.
        """
        async with serving(App()) as middleware:
            answer = await ask(middleware, f"/batch/{UNKNOWN}/events")

        assert (answer.status, answer.json()["code"]) == (404, "batch_not_found")
        assert answer.headers["content-type"] == "application/problem+json"

    async def test_f35_a_store_that_does_not_answer(self):
        """
        F35: the client is told when to come back.
        """
        store = Watched()
        async with serving(App(), store=store) as middleware:
            accepted = await submitted(middleware)
            store.error = DOWN
            answer = await ask(middleware, events_url(accepted))

        assert (answer.status, answer.json()["code"]) == (503, "store_unavailable")
        assert answer.headers["retry-after"] == "2"


class TestHowMany:
    async def test_as_many_as_may_be(self):
        """
        The next one is refused before its stream starts, and told when to come back.
        """
        async with gated(limits=Limits(max_event_streams=2)) as middleware:
            accepted = await submitted(middleware)
            url = events_url(accepted)
            async with streaming(middleware, url) as first, streaming(middleware, url) as other:
                await until(lambda: told(first) and told(other))
                refused = await ask(middleware, url)

        assert (refused.status, refused.json()["code"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "5"

    async def test_its_place_is_free_after_the_end(self):
        """
        A stream that is over counts no more.
        """
        async with serving(App(), limits=Limits(max_event_streams=1)) as middleware:
            accepted = await submitted(middleware)
            await finished(middleware, accepted)
            answers = [await ask(middleware, events_url(accepted)) for _ in range(3)]

        assert [names(answer) for answer in answers] == [["end"]] * 3

    @pytest.mark.parametrize("is_strict", [True, False])
    async def test_f19_its_place_is_free_after_a_disconnect(self, is_strict):
        """
        F19: clients come and go as they like.
        """
        async with gated(limits=Limits(max_event_streams=1)) as middleware:
            accepted = await submitted(middleware)
            url = events_url(accepted)
            for _ in range(3):
                async with streaming(middleware, url, is_strict=is_strict) as exchange:
                    await until(lambda exchange=exchange: exchange.sent)

                    assert exchange.status == 200

    @pytest.mark.parametrize("failing", [1, 2, 3])
    async def test_its_place_is_free_after_an_error(self, failing):
        """
        A server that fails is no reason to refuse the next client.
        """
        async with serving(App(), limits=Limits(max_event_streams=1)) as middleware:
            accepted = await submitted(middleware)
            await finished(middleware, accepted)
            exchange = Failing(events_url(accepted), failing, RuntimeError("server"))
            with pytest.raises((RuntimeError, ExceptionGroup)):
                await call(middleware, exchange)
            answer = await ask(middleware, events_url(accepted))

        assert names(answer) == ["end"]

    async def test_a_client_that_is_told_no_stream_takes_no_place(self):
        """
        204 and 404 are answers like any other.
        """
        async with gated(limits=Limits(max_event_streams=1)) as middleware:
            done, running = await submitted(middleware, 1), await submitted(middleware, 2)
            middleware.app.let(0)
            await finished(middleware, done)
            async with streaming(middleware, events_url(running)) as exchange:
                await until(lambda: told(exchange))
                over = await ask(middleware, events_url(done), headers=[last_id(999)])
                unknown = await ask(middleware, f"/batch/{UNKNOWN}/events")

        assert (over.status, unknown.status) == (204, 404)


class Failing(Exchange):
    """
    A client whose server raises *error* at the message of this *number*, and from there on.
    """

    def __init__(self, url, number, error):
        super().__init__(http_scope("GET", url))
        self._number, self._error = number, error

    async def send(self, message):
        if len(self.sent) + 1 >= self._number:
            raise self._error
        await super().send(message)


class TestGone:
    @pytest.mark.parametrize("is_strict", [True, False])
    async def test_f19_nobody_looks_for_a_client_that_has_gone(self, monkeypatch, is_strict):
        """
        F19: it ends between two looks, however far off the next one is.
        """
        monkeypatch.setattr(events, "_SHORTEST", NEVER)
        monkeypatch.setattr(events, "_LONGEST", NEVER)
        monkeypatch.setattr(events, "_LIFETIME", NEVER)
        store = Watched()
        async with gated(store=store) as middleware:
            accepted = await submitted(middleware)
            url = events_url(accepted)
            async with streaming(middleware, url, is_strict=is_strict) as exchange:
                await until(lambda: told(exchange))
                looks = store.looks
                exchange.disconnect()
                await until(exchange.returned.is_set)

        assert store.looks == looks

    @pytest.mark.parametrize("number", [1, 2, 3, 4])
    async def test_f19_a_server_that_says_so_by_an_error(self, number):
        """
        F19: ASGI 2.4 has `send` raise OSError; the server knows, and wants no second word.
        """
        async with gated() as middleware:
            accepted = await submitted(middleware)
            exchange = Failing(events_url(accepted), number, OSError("gone"))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call, middleware, exchange)
                await until(lambda: len(exchange.sent) == min(number - 1, 3))
                middleware.app.let(0)
                await until(exchange.returned.is_set)

        assert len(exchange.sent) == number - 1

    async def test_f19_nothing_is_left_to_the_garbage_collector(self, monkeypatch):
        """
        F19: whatever looks at the store has ended when the answer has, also where it was cut off.
        """
        endings, follow = [], events.follow

        async def noting(*args, **options):
            try:
                async with aclosing(follow(*args, **options)) as changes:
                    async for snapshot in changes:
                        yield snapshot
            finally:
                endings.append(len(exchange.sent))

        monkeypatch.setattr(events, "follow", noting)
        async with gated() as middleware:
            accepted = await submitted(middleware)
            exchange = Failing(events_url(accepted), 3, OSError("gone"))
            await call(middleware, exchange)
            before = list(endings)

        assert before == [2]

    async def test_a_batch_goes_on_without_those_who_watch(self):
        """
        Following changes nothing.
        """
        async with gated() as middleware:
            accepted = await submitted(middleware)
            async with streaming(middleware, events_url(accepted)) as exchange:
                await until(lambda: told(exchange))
            middleware.app.let(0)
            middleware.app.let(1)
            status = await finished(middleware, accepted)

        assert (status.json()["status"], status.json()["succeeded"]) == ("completed", 2)


class TestCutShort:
    @pytest.mark.parametrize("is_down", [True, False])
    async def test_f36_a_store_that_fails_meanwhile(self, is_down):
        """
        F36, F42: where the store goes, or the batch, the answer ends as any; the client comes back.
        """
        store = Watched()
        async with gated(store=store) as middleware:
            accepted = await submitted(middleware)
            async with streaming(middleware, events_url(accepted)) as exchange:
                await until(lambda: told(exchange))
                store.error = StoreUnavailable("It does not answer.") if is_down else None
                store.is_empty = not is_down
                await until(exchange.returned.is_set)

        assert names(exchange) == ["progress"]
        assert exchange.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}

    async def test_f6_no_stream_lasts_longer_than_servers_wait(self, monkeypatch):
        """
        F6: servers wait for answers when they stop; the client comes back, and hears of the end.
        """
        monkeypatch.setattr(events, "_LIFETIME", 0.1)
        async with gated() as middleware:
            accepted = await submitted(middleware)
            first = await ask(middleware, events_url(accepted))
            middleware.app.let(0)
            middleware.app.let(1)
            await finished(middleware, accepted)
            headers = [last_id(versions(first)[-1])]
            second = await ask(middleware, events_url(accepted), headers=headers)

        assert names(first) == ["progress"]
        assert first.answered.is_set()
        assert names(second) == ["end"]

    async def test_f6_a_background_that_stops_ends_its_streams(self, monkeypatch):
        """
        F6: a process that stops does not wait for clients, also where they have all the time.
        """
        monkeypatch.setattr(events, "_LIFETIME", NEVER)
        async with anyio.create_task_group() as tasks:
            async with gated() as middleware:
                accepted = await submitted(middleware)
                exchange = Exchange(http_scope("GET", events_url(accepted)))
                tasks.start_soon(call, middleware, exchange)
                await until(lambda: told(exchange))
            await until(exchange.returned.is_set)

        assert exchange.answered.is_set()

    def test_f6_how_long_a_stream_lasts(self):
        """
        F6: process managers commonly kill after 30 seconds, so that half of it is enough.
        """
        assert events._LIFETIME == 15


@pytest.mark.parametrize(
    "kind", ["uvicorn-httptools-uvloop", "hypercorn-asyncio", "hypercorn-trio"]
)
def test_events_come_while_the_batch_runs(kind, tmp_path):
    """
    A real client of a real server hears of progress long before the end, and then of the end.
    """
    env = {"REDIS": "memory://", "EFFECTS": str(tmp_path / "effects.log")}
    operations = [{"method": "GET", "path": "/work"}] * 3
    operations.append({"method": "GET", "path": "/work?seconds=3"})
    with (
        served(kind, "apps.recovering:app", tmp_path / "server", env=env) as server,
        httpx.Client(base_url=server.url, timeout=PATIENCE) as client,
    ):
        headers = {"prefer": "respond-async"}
        batch = client.post("/batch", json={"operations": operations}, headers=headers).json()
        meanwhile, documents = None, []
        with client.stream("GET", batch["eventsUrl"]) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    documents.append(json.loads(line.removeprefix("data: ")))
                    if documents[-1]["completed"] == 3 and meanwhile is None:
                        meanwhile = httpx.get(server.url + batch["statusUrl"]).json()
        version = client.get(batch["statusUrl"]).headers["etag"].strip('"')
        again = client.get(batch["eventsUrl"], headers={"last-event-id": version})

    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert meanwhile["finishedAt"] is None
    assert documents[-1]["status"] == "completed"
    assert documents[-1]["finishedAt"] is not None
    assert again.status_code == 204
