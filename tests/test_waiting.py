"""
``Prefer: wait``: a batch that is kept first, waited for, and goes on where that takes too long.
"""

from collections import Counter

import anyio
import msgspec
import pytest

from asgi_batch import BatchMiddleware, Limits
from asgi_batch._core.records import Page
from asgi_batch._endpoints import accepting
from asgi_batch.stores.memory import MemoryStore
from background import DOWN, App
from later_support import ask, ended, numbers, post, prefer, request, results_of, serving
from support import call, releasing, respond, until

WISHES = [b"wait=20", b"respond-async, wait=20"]


def without(headers, name):
    return {key: value for key, value in headers.items() if key != name}


class Failing(MemoryStore):
    """
    A store of which one method fails, or answers with something else, once a batch is finished.
    """

    def __init__(self):
        super().__init__()
        self.method, self.answer = None, None

    async def snapshot(self, batch_id):
        snapshot = await super().snapshot(batch_id)
        return self._met("snapshot", snapshot)

    async def results(self, *args, **options):
        return self._met("results", await super().results(*args, **options))

    def _met(self, method, answer):
        if method != self.method:
            return answer
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class TestResultsInTime:
    @pytest.mark.parametrize("wish", WISHES)
    @pytest.mark.parametrize("envelope", [{}, {"onError": "stop"}])
    async def test_the_answer_is_that_of_a_batch_without_a_wish(self, wish, envelope):
        """
        To the byte, and so are the headers, but for the one that tells that the wish was heard.
        """
        paths = [f"GET /{number}" for number in (0, 2, 1, 4)]
        async with serving(limits=Limits(concurrency=1)) as app:
            plain = await post(app, *paths, **envelope)
            waited = await post(app, *paths, headers=[prefer(wish)], **envelope)

        assert (waited.status, waited.body) == (200, plain.body)
        assert waited.headers["preference-applied"] == wish.decode()
        assert without(waited.headers, "preference-applied") == plain.headers

    async def test_a_large_batch(self):
        """
        One of more than `sync_operations` gets its results at once too, where they are in time.
        """
        paths = [f"GET /{number}" for number in range(5)]
        async with serving() as app:
            plain = await post(app, *paths)
        async with serving(limits=Limits(sync_operations=2)) as app:
            waited = await post(app, *paths, headers=[prefer(b"wait=20")])

        assert (waited.status, waited.body) == (200, plain.body)

    @pytest.mark.parametrize("page", [1, 2, 5, 6])
    async def test_more_results_than_are_read_at_a_time(self, page, monkeypatch):
        """
        However many there are, each is told once and in order.
        """
        monkeypatch.setattr(accepting, "_PAGE", page)
        paths = [f"GET /{number}" for number in range(5)]
        async with serving() as app:
            plain = await post(app, *paths)
            waited = await post(app, *paths, headers=[prefer(b"wait=20")])

        assert (waited.status, waited.body) == (200, plain.body)

    async def test_the_batch_is_kept(self):
        """
        It can be asked for by whoever knows its id, though its results have been told.
        """
        ids = []

        async def app(scope, receive, send):
            ids.append(scope["asgi_batch"].batch_id)
            await respond(send)

        async with serving(app) as middleware:
            await post(middleware, "GET /0", headers=[prefer(b"wait=20")])
            status = await ask(middleware, f"/batch/{ids[0]}/status")

        assert (status.status, status.json()["status"]) == (200, "completed")

    async def test_an_invalid_batch_is_refused(self):
        """
        There is nothing to wait for.
        """
        async with serving() as app:
            answer = await post(app, "GET nonsense", headers=[prefer(b"wait=20")])

        assert (answer.status, answer.json()["code"]) == (422, "invalid_batch")

    async def test_a_batch_that_is_cancelled_meanwhile(self):
        """
        Whoever waits gets what there is, and learns of the rest that it was skipped.
        """
        app = App()
        ids = []

        async def noting(scope, receive, send):
            ids.append(scope["asgi_batch"].batch_id)
            await app(scope, receive, send)

        with releasing(app.gate):
            async with serving(noting, limits=Limits(concurrency=1)) as middleware:
                exchange = request("GET /wait", "GET /other", headers=[prefer(b"wait=20")])
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(call, middleware, exchange)
                    await until(lambda: ids)
                    await ask(middleware, f"/batch/{ids[0]}", "DELETE")
                    app.gate.set()

        assert (exchange.status, exchange.statuses) == (200, [200, 424])
        assert exchange.results[1]["error"]["code"] == "cancelled"
        assert app.starts == ["/wait"]

    async def test_f15_a_small_batch_without_a_background(self):
        """
        F15: where nothing runs after its request, it is answered at once, like any other.
        """
        app = BatchMiddleware(numbers)
        plain = await post(app, "GET /0", "GET /1")
        waited = await post(app, "GET /0", "GET /1", headers=[prefer(b"wait=20")])

        assert (waited.status, waited.body) == (200, plain.body)
        assert waited.headers == plain.headers

    async def test_f15_respond_async_without_a_background(self):
        """
        F15: whoever would rather not wait is told that this cannot be had, and nothing runs.
        """
        app = App()
        answer = await post(BatchMiddleware(app), "GET /", headers=[prefer(WISHES[1])])

        assert (answer.status, answer.json()["code"]) == (503, "background_unavailable")
        assert app.starts == []


class TestTooLate:
    @pytest.mark.parametrize(
        ("wish", "longest"),
        [
            (b"wait=1", 60.0),
            (b"wait=100", 0.05),
            (b"respond-async, wait=100", 0.05),
            (b"wait=0", 60.0),
        ],
    )
    async def test_the_same_batch_goes_on(self, wish, longest):
        """
        After the seconds of the wish, but no more than `batch_timeout`; no operation runs twice.
        """
        app = App()
        with releasing(app.gate):
            async with serving(app, limits=Limits(batch_timeout=longest)) as middleware:
                accepted = await post(
                    middleware, "POST /wait", "POST /a", "GET /fail", headers=[prefer(wish)]
                )
                status = await ask(middleware, accepted.json()["statusUrl"])
                app.gate.set()
                results = await results_of(middleware, accepted)

        assert accepted.status == 202
        assert accepted.headers["preference-applied"] == wish.decode()
        assert accepted.headers["location"] == accepted.json()["statusUrl"]
        assert accepted.headers["retry-after"] == "1"
        assert status.json()["finishedAt"] is None
        assert [result["status"] for result in results] == [200, 200, 500]
        assert Counter(app.starts) == {"/wait": 1, "/a": 1, "/fail": 1}

    @pytest.mark.parametrize("is_strict", [True, False])
    async def test_f19_a_client_that_goes_ends_the_waiting_and_not_the_batch(self, is_strict):
        """
        F19: the batch has been accepted, also where nobody heard of it.
        """
        app = App()
        ids = []

        async def noting(scope, receive, send):
            ids.append(scope["asgi_batch"].batch_id)
            await app(scope, receive, send)

        with releasing(app.gate):
            async with serving(noting) as middleware:
                exchange = request(
                    "GET /wait", "GET /a", headers=[prefer(b"wait=1000")], is_strict=is_strict
                )
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(call, middleware, exchange)
                    await until(lambda: len(ids) == 2)
                    exchange.disconnect()
                    await until(exchange.returned.is_set)
                    status = await ask(middleware, f"/batch/{ids[0]}/status")
                    app.gate.set()
                after = await ended(middleware, f"/batch/{ids[0]}/status")

        assert exchange.sent == []
        assert status.json()["finishedAt"] is None
        assert (after.json()["status"], after.json()["succeeded"]) == ("completed", 2)
        assert Counter(app.starts) == {"/wait": 1, "/a": 1}

    @pytest.mark.parametrize(
        ("method", "answer"),
        [
            ("snapshot", DOWN),
            ("snapshot", None),
            ("results", DOWN),
            ("results", None),
            ("results", Page([], -1)),
        ],
    )
    async def test_f36_a_store_that_fails_while_it_is_waited(self, method, answer):
        """
        F36: the batch has been accepted, and that is what the client is told; it is no error.
        """
        store = Failing()
        store.method, store.answer = method, answer
        app = App()
        async with serving(app, store=store) as middleware:
            accepted = await post(middleware, "POST /a", "GET /b", headers=[prefer(b"wait=20")])
            store.method = None
            results = await results_of(middleware, accepted)

        assert accepted.status == 202
        assert accepted.headers["preference-applied"] == "wait=20"
        assert [result["status"] for result in results] == [200, 200]
        assert Counter(app.starts) == {"/a": 1, "/b": 1}

    async def test_a_batch_that_fails_as_a_whole(self):
        """
        It has no results to be answered with: the answer says where to read what became of it.
        """

        class Corrupting(MemoryStore):
            async def claim(self, *args):
                claim = await super().claim(*args)
                return claim and msgspec.structs.replace(claim, chunks=[b"nonsense"])

        async with serving(store=Corrupting()) as app:
            accepted = await post(app, "GET /0", headers=[prefer(b"wait=20")])
            status = await ask(app, accepted.json()["statusUrl"])

        assert (accepted.status, accepted.json()["status"]) == (202, "failed")
        assert status.json()["error"] == {"code": "record_corrupt"}

    async def test_f6_a_process_that_stops_while_a_client_waits(self):
        """
        F6: the batch has been accepted; the client must not think that it has to send it again.
        """
        app = App()
        exchange = request("GET /wait", headers=[prefer(b"wait=20")])
        limits = Limits(drain_timeout=0.01)
        with releasing(app.gate):
            async with (
                anyio.create_task_group() as tasks,
                serving(app, limits=limits) as middleware,
            ):
                tasks.start_soon(call, middleware, exchange)
                await until(lambda: app.starts)

        assert (exchange.status, exchange.json()["durability"]) == (202, "process")
