"""
The wire of batches that outlive their request: 202, status, results, cancellation.
"""

import json
from datetime import datetime

import anyio
import pytest

from asgi_batch import BatchMiddleware, Limits
from asgi_batch._core.records import NewBatch
from asgi_batch.stores.memory import MemoryStore
from later_support import UNKNOWN, ask, finished, numbers, serving, submitted
from support import Exchange, batch_body, batch_scope, call, releasing, respond, until

FACES = [
    ("GET", "/status"),
    ("GET", "/results"),
    ("GET", "/events"),
    ("POST", "/retry"),
    ("DELETE", ""),
]


class TestAccepted:
    @pytest.mark.parametrize(("count", "status"), [(100, 200), (101, 202)])
    async def test_more_than_are_answered_at_once(self, count, status):
        """
        Up to `sync_operations` the results come at once, from there on later.
        """
        async with serving() as app:
            body = batch_body([f"GET /{number}" for number in range(count)])
            answer = await call(app, Exchange(batch_scope(), body))

        assert answer.status == status

    @pytest.mark.parametrize(
        "value",
        [b"respond-async", b"Respond-Async", b"a=b, respond-async", b"respond-async; x=1, a"],
    )
    async def test_what_the_client_prefers(self, value):
        """
        RFC 7240: one operation is enough, and the answer tells that the wish was granted.
        """
        async with serving() as app:
            scope = batch_scope()
            scope["headers"] = [*scope["headers"], (b"Prefer", value)]
            answer = await call(app, Exchange(scope, batch_body(["GET /0"])))

        assert answer.status == 202
        assert answer.headers["preference-applied"] == "respond-async"

    @pytest.mark.parametrize("value", [b"respond-asynchronous", b"wait=10", b"x=respond-async-not"])
    async def test_what_is_no_such_wish(self, value):
        """
        Other preferences change nothing.
        """
        async with serving() as app:
            scope = batch_scope()
            scope["headers"] = [*scope["headers"], (b"prefer", value)]
            answer = await call(app, Exchange(scope, batch_body(["GET /0"])))

        assert answer.status == 200

    @pytest.mark.parametrize("root", ["", "/api"])
    async def test_where_to_go_on(self, root):
        """
        The answer names the batch and its faces, as the client sees them.
        """
        async with serving() as app:
            scope = batch_scope(root_path=root, path=f"{root}/batch")
            scope["headers"] = [*scope["headers"], (b"prefer", b"respond-async")]
            answer = await call(app, Exchange(scope, batch_body(["GET /0", "GET /1"])))
        document = answer.json()
        own = f"{root}/batch/{document['batchId']}"

        assert document == {
            "batchId": document["batchId"],
            "status": "processing",
            "total": 2,
            "statusUrl": f"{own}/status",
            "resultsUrl": f"{own}/results",
            "eventsUrl": f"{own}/events",
            "durability": "process",
        }
        assert len(document["batchId"]) >= 22
        assert answer.headers["location"] == f"{own}/status"
        assert answer.headers["retry-after"] == "1"

    async def test_an_invalid_batch_is_refused_all_the_same(self):
        """
        Everything is checked before a batch is accepted.
        """
        async with serving() as app:
            scope = batch_scope()
            scope["headers"] = [*scope["headers"], (b"prefer", b"respond-async")]
            answer = await call(app, Exchange(scope, batch_body(["GET nonsense"])))

        assert answer.status == 422

    async def test_too_many_unfinished_batches_are_refused(self):
        """
        What is accepted will be carried out, so there is a bound; it is soon over.
        """
        never = anyio.Event()

        async def stuck(scope, receive, send):
            await never.wait()

        limits = Limits(max_background_batches=1, drain_timeout=0.01)
        with releasing(never):
            async with serving(stuck, limits=limits) as app:
                first = await submitted(app, 1)
                second = await submitted(app, 1)

        assert (first.status, second.status) == (202, 503)
        assert second.json()["code"] == "overloaded"
        assert second.headers["retry-after"] == "5"

    async def test_t34_memory_is_bounded_by_bytes_too(self):
        """
        T34: results that are kept count as well as requests, until they expire.
        """
        now = [0.0]
        store = MemoryStore(lambda: now[0], max_bytes=100)
        async with serving(store=store, limits=Limits(result_ttl=60)) as app:
            answers = []
            for _ in range(3):
                answers.append(await submitted(app, 4))
                if answers[-1].status == 202:
                    await finished(app, answers[-1])
            now[0] = 61.0
            later = await submitted(app, 4)

        assert [answer.status for answer in answers] == [202, 503, 503]
        assert answers[-1].json()["code"] == "store_full"
        assert answers[-1].headers["retry-after"] == "30"
        assert later.status == 202


class TestStatus:
    async def test_a_finished_batch(self):
        """
        Failed operations are completed ones; the batch itself has not failed.
        """
        async with serving() as app:
            accepted = await submitted(app, 4)
            answer = await finished(app, accepted)
        status = answer.json()
        times = [
            datetime.fromisoformat(status.pop(f"{name}At"))
            for name in ("created", "updated", "finished")
        ]
        accepted = accepted.json()

        assert status == {
            "batchId": accepted["batchId"],
            "status": "completed",
            "total": 4,
            "completed": 4,
            "succeeded": 2,
            "failed": 2,
            "skipped": 0,
            "progress": 1.0,
            "statusUrl": accepted["statusUrl"],
            "resultsUrl": accepted["resultsUrl"],
            "eventsUrl": accepted["eventsUrl"],
        }
        assert times == sorted(times)
        assert all(moment.tzinfo is not None for moment in times)
        assert "retry-after" not in answer.headers

    async def test_three_quarters_of_the_way(self):
        """
        `progress` is completed ÷ total, and never goes back.
        """
        last = anyio.Event()

        async def app(scope, receive, send):
            if scope["path"] == "/3":
                await last.wait()
            await respond(send)

        with releasing(last):
            async with serving(app) as middleware:
                accepted = await submitted(middleware, 4)
                url = accepted.json()["statusUrl"]
                seen = []
                with anyio.fail_after(20):
                    while not seen or seen[-1]["progress"] < 0.75:
                        answer = await ask(middleware, url)
                        seen.append(answer.json())
                        await anyio.lowlevel.checkpoint()
                last.set()
                await finished(middleware, accepted)
        progress = [each["progress"] for each in seen]

        assert progress == sorted(progress)
        assert (seen[-1]["completed"], seen[-1]["status"]) == (3, "processing")
        assert seen[-1]["finishedAt"] is None
        assert answer.headers["retry-after"] == "1"

    async def test_a_status_that_has_not_changed(self):
        """
        RFC 9110 13.1.2: the same ETag, then 304 without a body.
        """
        async with serving() as app:
            accepted = await submitted(app, 1)
            answer = await finished(app, accepted)
            url, tag = accepted.json()["statusUrl"], answer.headers["etag"].encode()
            same = await ask(app, url, headers=[(b"if-none-match", b'"0", W/' + tag)])
            other = await ask(app, url, headers=[(b"if-none-match", b'"0"')])

        assert (same.status, same.body) == (304, b"")
        assert same.headers["etag"].encode() == tag
        assert other.status == 200

    async def test_a_batch_that_cannot_be_carried_out(self):
        """
        It has failed as a whole, and the status says why; none of its operations has run.
        """
        store = MemoryStore()
        batch = NewBatch(batch_id=store.new_id(), total=2, chunks=[b"nonsense"], caller=b"")
        async with serving(store=store, limits=Limits(scan_interval=0.01)) as app:
            await store.create(batch, limit=1)
            url = f"/batch/{batch.batch_id}/status"
            answer = await ask(app, url)
            with anyio.fail_after(20):
                while answer.json()["finishedAt"] is None:
                    await anyio.lowlevel.checkpoint()
                    answer = await ask(app, url)
        status = answer.json()

        assert (status["status"], status["error"]) == ("failed", {"code": "record_corrupt"})
        assert (status["completed"], status["progress"]) == (0, 0.0)


class TestResults:
    async def test_all_of_them(self):
        """
        The results look as in an answer at once.
        """
        async with serving() as app:
            accepted = await submitted(app, 3)
            await finished(app, accepted)
            answer = await ask(app, accepted.json()["resultsUrl"])

        assert answer.json() == {
            "batchId": accepted.json()["batchId"],
            "status": "completed",
            "results": [
                {"id": "0", "status": 200, "result": {"number": 0}},
                {"id": "1", "status": 404, "error": {"number": 1}},
                {"id": "2", "status": 200, "result": {"number": 2}},
            ],
            "next": None,
        }

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 10, 11, 1000])
    @pytest.mark.parametrize("outcome", [None, "succeeded", "failed", "skipped"])
    async def test_pages(self, limit, outcome):
        """
        Following `next` to its end gives each result once, in order, whatever the page size.
        """
        async with serving() as app:
            accepted = await submitted(app, 10)
            await finished(app, accepted)
            results = []
            url = f"{accepted.json()['resultsUrl']}?limit={limit}"
            url += f"&status={outcome}" if outcome else ""
            while url is not None:
                answer = await ask(app, url)
                results += answer.json()["results"]
                link = answer.headers.get("link")
                url = answer.json()["next"]
                assert link == (None if url is None else f'<{url}>; rel="next"')
        expected = {
            None: list(range(10)),
            "succeeded": [0, 2, 4, 6, 8],
            "failed": [1, 3, 5, 7, 9],
            "skipped": [],
        }

        assert [int(result["id"]) for result in results] == expected[outcome]

    async def test_pages_while_it_runs(self):
        """
        A page ends before the first operation without a result, so that nothing is missed.
        """
        slow = anyio.Event()
        answered = []

        async def app(scope, receive, send):
            if scope["path"] == "/1":
                await slow.wait()
            answered.append(scope["path"])
            await respond(send, scope["path"].encode())

        with releasing(slow):
            async with serving(app) as middleware:
                accepted = await submitted(middleware, 3)
                url = accepted.json()["resultsUrl"]
                await until(lambda: len(answered) == 2)
                first = await ask(middleware, url)
                while not first.json()["results"]:
                    await anyio.lowlevel.checkpoint()
                    first = await ask(middleware, url)
                slow.set()
                await finished(middleware, accepted)
                rest = await ask(middleware, first.json()["next"])

        assert [result["result"] for result in first.json()["results"]] == ["/0"]
        assert first.json()["status"] == "processing"
        assert [result["result"] for result in rest.json()["results"]] == ["/1", "/2"]
        assert rest.json()["next"] is None

    async def test_lines(self):
        """
        One result a line, for programs that read as they go.
        """
        async with serving() as app:
            accepted = await submitted(app, 3)
            await finished(app, accepted)
            url = f"{accepted.json()['resultsUrl']}?limit=2"
            answer = await ask(app, url, headers=[(b"accept", b"application/x-ndjson")])
        lines = answer.body.decode().splitlines()

        assert answer.headers["content-type"] == "application/x-ndjson"
        assert [json.loads(line)["id"] for line in lines] == ["0", "1"]
        assert 'rel="next"' in answer.headers["link"]

    @pytest.mark.parametrize(("size", "pages"), [(10, 1), (50_000, 2)])
    async def test_a_page_that_has_become_large_ends_early(self, size, pages):
        """
        F20: a client cannot make the process hold all results at once; who follows sees each once.
        """

        async def large(scope, receive, send):
            await respond(send, bytes(size).replace(b"\0", b"x"))

        seen, asked = [], 0
        async with serving(large) as app:
            accepted = await submitted(app, 150)
            await finished(app, accepted)
            url = f"{accepted.json()['resultsUrl']}?limit=1000"
            while url:
                page = (await ask(app, url)).json()
                seen += [result["id"] for result in page["results"]]
                url, asked = page["next"], asked + 1

        assert seen == [str(number) for number in range(150)]
        assert asked == pages

    @pytest.mark.parametrize(("held", "status"), [(10_000, 503), (1_000_000, 200)])
    async def test_f20_pages_count_as_bytes_that_are_held(self, held, status):
        """
        F20: what does not fit beside the rest is refused for now, and nothing of it stays.
        """

        async def large(scope, receive, send):
            await respond(send, b"x" * 20_000)

        async with serving(large, limits=Limits(max_held_bytes=held)) as app:
            accepted = await submitted(app, 1)
            await finished(app, accepted)
            page = await ask(app, accepted.json()["resultsUrl"])

            assert page.status == status
            assert app.statistics().held_bytes == 0

    async def test_a_result_is_one_line_however_the_app_writes_it(self):
        """
        JSON that an app has written on several lines still means the same.
        """

        async def pretty(scope, receive, send):
            body = json.dumps({"text": "a\nb", "list": [1, 2]}, indent=2).encode()
            await respond(send, body, content_type=b"application/json")

        async with serving(pretty) as app:
            accepted = await submitted(app, 2)
            await finished(app, accepted)
            headers = [(b"accept", b"application/x-ndjson")]
            answer = await ask(app, accepted.json()["resultsUrl"], headers=headers)
        results = [json.loads(line)["result"] for line in answer.body.splitlines()]

        assert results == [{"text": "a\nb", "list": [1, 2]}] * 2

    @pytest.mark.parametrize(
        "query",
        ["limit=0", "limit=1001", "limit=x", "limit=-1", "after=-2", "after=1e3", "status=good"],
    )
    async def test_parameters_that_cannot_be_read(self, query):
        """
        A mistake is told, not guessed at.
        """
        async with serving() as app:
            answer = await ask(app, f"/batch/{UNKNOWN}/results?{query}")

        assert (answer.status, answer.json()["code"]) == (400, "invalid_parameter")


class TestCancel:
    async def test_nothing_starts_after_a_cancellation(self):
        """
        What runs comes to its end, and the rest is skipped.
        """
        gate = anyio.Event()
        started = []

        async def app(scope, receive, send):
            started.append(scope["path"])
            await gate.wait()
            await respond(send)

        with releasing(gate):
            async with serving(app, limits=Limits(concurrency=2)) as middleware:
                accepted = await submitted(middleware, 5)
                await until(lambda: len(started) == 2)
                url = f"/batch/{accepted.json()['batchId']}"
                cancelled = await ask(middleware, url, "DELETE")
                gate.set()
                status = await finished(middleware, accepted)
                again = await ask(middleware, url, "DELETE")
                results = await ask(middleware, accepted.json()["resultsUrl"])

        assert (cancelled.status, cancelled.json()["status"]) == (200, "cancelled")
        assert started == ["/0", "/1"]
        assert [again.json()[key] for key in ("status", "succeeded", "skipped")] == [
            "cancelled",
            2,
            3,
        ]
        assert status.json()["completed"] == 5
        assert [result["status"] for result in results.json()["results"]] == [
            200,
            200,
            424,
            424,
            424,
        ]
        assert results.json()["results"][4]["error"]["code"] == "cancelled"

    async def test_a_finished_batch_cannot_be_cancelled(self):
        """
        It stays what it is.
        """
        async with serving() as app:
            accepted = await submitted(app, 2)
            await finished(app, accepted)
            answer = await ask(app, f"/batch/{accepted.json()['batchId']}", "DELETE")

        assert (answer.status, answer.json()["status"]) == (200, "completed")


class TestUnknown:
    @pytest.mark.parametrize(("method", "face"), FACES)
    async def test_t36_no_such_batch(self, method, face):
        """
        T36: never there, expired or somebody else's: the same words.
        """
        async with serving() as app:
            answer = await ask(app, f"/batch/{UNKNOWN}{face}", method)

        assert answer.json() == {
            "type": "about:blank",
            "title": "Batch not found",
            "status": 404,
            "code": "batch_not_found",
            "detail": "There is no such batch, or it has expired.",
        }
        assert answer.headers["cache-control"] == "no-store"

    @pytest.mark.parametrize(("method", "face"), FACES)
    @pytest.mark.parametrize("name", ["short", "x" * 65, "{" * 32, "a*b" * 10, "x" * 31 + "\n"])
    async def test_t36_t50_what_is_no_id_reaches_no_store(self, method, face, name):
        """
        T36, T50: it gets the words of any unknown batch, also where the store is closed.
        """
        answer = await ask(BatchMiddleware(numbers), f"/batch/{name}{face}", method)

        assert (answer.status, answer.json()["code"]) == (404, "batch_not_found")

    @pytest.mark.parametrize(("method", "face"), FACES)
    async def test_f13_a_batch_of_another_process(self, method, face, monkeypatch):
        """
        F13: with memory in several processes, whoever asks again may find the right one.
        """
        monkeypatch.setenv("WEB_CONCURRENCY", "2")
        monkeypatch.setattr("sys.argv", ["server"])
        async with serving() as app:
            answer = await ask(app, f"/batch/{UNKNOWN}{face}", method)

        assert (answer.status, answer.json()["code"]) == (503, "wrong_process")

    async def test_f54_a_batch_may_expire_between_two_looks(self):
        """
        F54: it is there for the first, and gone for the second.
        """

        class Forgetful(MemoryStore):
            async def results(self, *_, **__):
                return None

        async with serving(store=Forgetful()) as app:
            accepted = await submitted(app, 1)
            answer = await ask(app, accepted.json()["resultsUrl"])

        assert (answer.status, answer.json()["code"]) == (404, "batch_not_found")

    async def test_f54_results_expire(self):
        """
        F54: after `result_ttl` a batch is as unknown as any.
        """
        async with serving(limits=Limits(result_ttl=0.001)) as app:
            accepted = await submitted(app, 1)
            answer = await ask(app, accepted.json()["statusUrl"])
            with anyio.fail_after(20):
                while answer.status == 200:
                    await anyio.lowlevel.checkpoint()
                    answer = await ask(app, accepted.json()["statusUrl"])

        assert answer.json()["code"] == "batch_not_found"

    @pytest.mark.parametrize(("method", "face"), FACES)
    async def test_f15_nobody_who_could_know(self, method, face):
        """
        F15: without lifespan there is no store to ask.
        """
        answer = await ask(BatchMiddleware(numbers), f"/batch/{UNKNOWN}{face}", method)

        assert (answer.status, answer.json()["code"]) == (503, "background_unavailable")

    @pytest.mark.parametrize(("face", "allowed"), [(face, method) for method, face in FACES])
    @pytest.mark.parametrize("method", ["PATCH", "PUT", "OPTIONS"])
    async def test_t38_other_methods(self, face, allowed, method):
        """
        T38: nothing but a DELETE cancels.
        """
        async with serving() as app:
            answer = await ask(app, f"/batch/{UNKNOWN}{face}", method)

        assert answer.status == (204 if method == "OPTIONS" else 405)
        assert answer.headers["allow"] == f"{allowed}, OPTIONS"

    @pytest.mark.parametrize(
        "path",
        [
            f"/batch/{UNKNOWN}/x.css",
            f"/batch/{UNKNOWN}/status/",
            f"/batch/{UNKNOWN}/",
            f"/batches/{UNKNOWN}/status",
        ],
    )
    async def test_t39_what_is_no_face_is_the_apps(self, path):
        """
        T39: only exact paths are ours.
        """

        async def app(scope, receive, send):
            await respond(send, b"the app's own", status=418)

        async with serving(app) as middleware:
            answer = await ask(middleware, path)

        assert answer.status == 418

    @pytest.mark.parametrize(("method", "face"), FACES)
    async def test_t7_no_operation_looks_at_batches(self, method, face):
        """
        T7: an operation cannot ask for a batch, neither by name nor by a path that is rewritten.
        """
        inside = {"asgi_batch": object()}
        async with serving() as app:
            answer = await ask(app, f"/batch/{UNKNOWN}{face}", method, **inside)

        assert (answer.status, answer.json()["code"]) == (400, "nested_batch")
