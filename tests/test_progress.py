"""
`Progress`: how far a batch is, for code inside of the app and for programs elsewhere.
"""

import time
from contextlib import aclosing

import anyio
import httpx
import pytest

from asgi_batch import (
    BatchMiddleware,
    BatchNotFound,
    ConfigurationError,
    Limits,
    Progress,
    Snapshot,
    StoreUnavailable,
)
from asgi_batch.errors import BackgroundUnavailable
from asgi_batch.progress import follow
from asgi_batch.stores.memory import MemoryStore
from background import DOWN, App
from later_support import UNKNOWN, finished, post, prefer, serving
from redis_server import redis_server
from servers import HOST, free_port
from servers import serving as served
from store_support import claimed, created, saving
from support import PATIENCE, respond, until

LATER = prefer(b"respond-async")
# Seconds between two looks, for tests.
SOON = 0.005


class Noted(MemoryStore):
    """
    A store that writes down when it is opened and closed, and fails when it is told to.
    """

    def __init__(self):
        super().__init__()
        self.notes, self.error = [], None

    async def open(self, *args):
        self.notes.append("open")
        await super().open(*args)

    async def aclose(self):
        await anyio.lowlevel.checkpoint()
        self.notes.append("close")
        await super().aclose()

    async def snapshot(self, batch_id):
        if self.error is not None:
            raise self.error
        return await super().snapshot(batch_id)


async def seen_of(progress, batch_id):
    """
    All that there is to see of a batch.
    """
    with anyio.fail_after(PATIENCE):
        return [snapshot async for snapshot in progress.watch(batch_id, interval=SOON)]


async def stepwise(store, claim, number):
    """
    One more result of a batch of ten operations; the last one ends it.
    """
    await store.save(claim.hold, saving([number], ends=number == 9))


class TestLookUp:
    async def test_how_far_a_batch_is(self):
        """
        At three quarters it is 0.75, or 75 %.
        """
        store = MemoryStore()
        claim = await claimed(store, total=4)
        await store.save(claim.hold, saving([0, 1]))
        await store.save(claim.hold, saving([2], "failed"))
        snapshot = await Progress.of(store).look_up(claim.hold.batch_id)

        assert isinstance(snapshot, Snapshot)
        assert (snapshot.batch_id, snapshot.status) == (claim.hold.batch_id, "processing")
        assert (snapshot.completed, snapshot.total, snapshot.failed) == (3, 4, 1)
        assert (snapshot.progress, snapshot.percentage) == (0.75, 75.0)
        assert not snapshot.is_finished

    async def test_a_batch_that_is_unknown(self):
        """
        It never was, has expired, or is somebody else's: the same words.
        """
        with pytest.raises(BatchNotFound, match="no such batch"):
            await Progress.of(MemoryStore()).look_up(UNKNOWN)

    async def test_f35_a_store_that_does_not_answer(self):
        """
        F35: that is told as it is, and not taken for a batch that is gone.
        """
        store = Noted()
        store.error = DOWN
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await Progress.of(store).look_up(UNKNOWN)


class TestWatch:
    async def test_each_change_up_to_the_end(self):
        """
        First how it is now, then each time that it has got further, and last its end.
        """
        store = MemoryStore()
        claim = await claimed(store)
        seen = []
        with anyio.fail_after(PATIENCE):
            async for snapshot in Progress.of(store).watch(claim.hold.batch_id, interval=SOON):
                seen.append(snapshot)
                if not snapshot.is_finished:
                    await stepwise(store, claim, len(seen) - 1)

        assert [snapshot.completed for snapshot in seen] == list(range(11))
        assert [snapshot.percentage for snapshot in seen] == [10.0 * each for each in range(11)]
        assert [snapshot.is_finished for snapshot in seen] == [False] * 10 + [True]
        assert seen[-1].status == "completed"

    async def test_a_batch_that_has_ended(self):
        """
        Its end is all there is to see.
        """
        store = MemoryStore()
        claim = await claimed(store)
        await store.save(claim.hold, saving(range(10), ends=True))
        seen = await seen_of(Progress.of(store), claim.hold.batch_id)

        assert [snapshot.is_finished for snapshot in seen] == [True]

    async def test_nothing_is_seen_twice(self):
        """
        A look that finds nothing new is not told.
        """
        store = MemoryStore()
        claim = await claimed(store)
        looks = []

        class Counting:
            async def snapshot(self, batch_id):
                looks.append(batch_id)
                if len(looks) == 5:
                    await store.save(claim.hold, saving(range(10), ends=True))
                return await store.snapshot(batch_id)

        seen = await seen_of(Progress.of(Counting()), claim.hold.batch_id)

        assert (len(looks), len(seen)) == (5, 2)

    async def test_a_batch_that_is_unknown(self):
        """
        There is nothing to wait for.
        """
        with pytest.raises(BatchNotFound):
            await anext(Progress.of(MemoryStore()).watch(UNKNOWN))

    async def test_f54_a_batch_that_goes_meanwhile(self):
        """
        F54: it has not ended, but there is no more to see.
        """
        store = MemoryStore()
        batch_id = await created(store)
        async with aclosing(Progress.of(store).watch(batch_id, interval=SOON)) as watch:
            first = await anext(watch)
            await store.aclose()
            with pytest.raises(BatchNotFound):
                await anext(watch)

        assert first.status == "processing"

    async def test_f36_a_store_that_fails_meanwhile(self):
        """
        F36: whoever watches decides whether to go on.
        """
        store = Noted()
        batch_id = await created(store)
        async with aclosing(Progress.of(store).watch(batch_id, interval=SOON)) as watch:
            await anext(watch)
            store.error = DOWN
            with pytest.raises(StoreUnavailable):
                await anext(watch)

    async def test_whoever_has_seen_enough_may_go(self):
        """
        Watching leaves nothing behind, and changes nothing.
        """
        store = MemoryStore()
        claim = await claimed(store)
        async with aclosing(Progress.of(store).watch(claim.hold.batch_id)) as watch:
            first = await anext(watch)
        rest = [snapshot async for snapshot in watch]

        assert (first, rest) == (claim.snapshot, [])
        assert await store.snapshot(claim.hold.batch_id) == claim.snapshot


class TestFollow:
    async def test_what_is_known_is_not_told(self):
        """
        Nor what is older.
        """
        store = MemoryStore()
        claim = await claimed(store)
        await store.save(claim.hold, saving([0]))
        known = (await store.snapshot(claim.hold.batch_id)).version
        await store.save(claim.hold, saving(range(10), ends=True))
        options = {"shortest": SOON, "longest": SOON}
        changes = follow(store, claim.hold.batch_id, known=known, **options)
        none = follow(store, claim.hold.batch_id, known=known + 1, **options)

        with anyio.fail_after(PATIENCE):
            assert [change.version async for change in changes] == [known + 1]
            assert [change async for change in none] == []

    async def test_looks_get_rarer_while_nothing_changes(self, monkeypatch):
        """
        Up to the longest pause; a change brings them back.
        """
        store, pauses = MemoryStore(), []
        claim = await claimed(store)

        async def sleep(seconds):
            pauses.append(seconds)
            if len(pauses) == 5:
                await store.save(claim.hold, saving([0]))
            if len(pauses) == 8:
                await store.save(claim.hold, saving(range(1, 10), ends=True))
            if len(pauses) > 20:
                raise AssertionError("It goes on after the end.")

        monkeypatch.setattr(anyio, "sleep", sleep)
        changes = follow(store, claim.hold.batch_id, shortest=1.0, longest=3.0)
        seen = [change.completed async for change in changes]

        assert pauses == [1.0, 1.5, 2.25, 3.0, 3.0, 1.0, 1.5, 2.25]
        assert seen == [0, 1, 10]


class TestOpening:
    @pytest.mark.parametrize("store", ["memory://", "memory://name"])
    def test_memory_of_another_process(self, store):
        """
        It cannot be seen, so that nobody waits for it in vain.
        """
        with pytest.raises(ConfigurationError, match="the progress of the BatchMiddleware there"):
            Progress(store)

    @pytest.mark.parametrize("store", ["", "mysql://localhost", "redis"])
    def test_a_store_that_does_not_exist(self, store):
        """
        It is told as for the middleware.
        """
        with pytest.raises(ConfigurationError, match="store="):
            Progress(store)

    async def test_a_store_of_its_own_is_opened_and_closed(self):
        """
        For as long as the context lasts.
        """
        store = Noted()
        async with Progress(store) as progress:
            batch_id = await created(store)
            snapshot = await progress.look_up(batch_id)
            notes = list(store.notes)

        assert snapshot.batch_id == batch_id
        assert (notes, store.notes) == (["open"], ["open", "close"])

    async def test_it_is_closed_after_an_error(self):
        """
        The error passes through.
        """
        store = Noted()
        with pytest.raises(ValueError, match="mine"):
            async with Progress(store):
                raise ValueError("mine")

        assert store.notes == ["open", "close"]

    async def test_f50_it_is_closed_where_it_is_cancelled(self):
        """
        F50: connections go back, also where nobody waits any more.
        """
        store = Noted()
        with anyio.CancelScope() as scope:
            async with Progress(store):
                scope.cancel()
                await anyio.lowlevel.checkpoint()

        assert store.notes == ["open", "close"]


class TestInsideOfTheApp:
    async def test_it_is_ready(self):
        """
        The app's own code sees the batch that it is part of.
        """
        seen = []

        async def app(scope, receive, send):
            batch_id = scope["asgi_batch"].batch_id
            seen.append((await middleware.progress.look_up(batch_id)).total)
            await respond(send)

        async with serving(app) as middleware:
            accepted = await post(middleware, "GET /a", "GET /b", headers=[LATER])
            status = await finished(middleware, accepted)

        assert seen == [2, 2]
        assert status.json()["succeeded"] == 2

    async def test_f15_before_and_after_the_lifespan(self):
        """
        F15: there is no store to ask.
        """
        middleware = BatchMiddleware(App())
        with pytest.raises(BackgroundUnavailable):
            _ = middleware.progress
        async with middleware.running():
            during = middleware.progress
        with pytest.raises(BackgroundUnavailable):
            _ = middleware.progress

        assert isinstance(during, Progress)

    async def test_entering_it_leaves_the_store_alone(self):
        """
        The store belongs to the app: whoever watches neither opens nor closes it.
        """
        store = Noted()
        async with serving(App(), store=store) as middleware:
            async with middleware.progress as progress:
                accepted = await post(middleware, "GET /a", headers=[LATER])
                seen = await seen_of(progress, accepted.json()["batchId"])
            notes = list(store.notes)
            again = await post(middleware, "GET /a")

        assert seen[-1].succeeded == 1
        assert notes == ["open"]
        assert again.status == 200


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """
    One Redis server for all tests.
    """
    with redis_server(tmp_path_factory.mktemp("redis")) as proc:
        yield proc


class TestElsewhere:
    @pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
    def anyio_backend(self, request):
        """
        The event loops that redis-py runs on.
        """
        return "asyncio", {"use_uvloop": request.param}

    async def test_a_batch_of_a_server(self, redis, tmp_path):
        """
        This process sees how far the batch of another one is, while it runs and at its end.
        """
        redis.client.flushall()
        env = {"REDIS": redis.url, "EFFECTS": str(tmp_path / "effects.log")}
        operations = [{"method": "GET", "path": "/work"}] * 3
        operations.append({"method": "GET", "path": "/work?seconds=2"})
        with served(
            "uvicorn-h11-asyncio", "apps.recovering:app", tmp_path / "server", env=env
        ) as server:
            answer = await anyio.to_thread.run_sync(submit, server.url, operations)
            async with Progress(redis.url) as progress:
                seen = await seen_of(progress, answer["batchId"])
        numbers = [snapshot.progress for snapshot in seen]

        assert 0.75 in numbers
        assert numbers == sorted(numbers)
        assert (seen[-1].status, seen[-1].percentage) == ("completed", 100.0)
        assert [snapshot.is_finished for snapshot in seen] == [False] * (len(seen) - 1) + [True]

    async def test_looking_changes_nothing(self, redis):
        """
        Neither what is kept, nor for how long.
        """
        redis.client.flushall()
        limits = Limits(result_ttl=1000, retry_ttl=1000)
        async with serving(App(), store=redis.url, limits=limits) as middleware:
            accepted = await post(middleware, "GET /fail", headers=[LATER])
            await finished(middleware, accepted)
            before = {key: redis.client.dump(key) for key in redis.client.scan_iter()}
            async with Progress(redis.url) as progress:
                await seen_of(progress, accepted.json()["batchId"])
                with pytest.raises(BatchNotFound):
                    await progress.look_up(UNKNOWN)
            after = {key: redis.client.dump(key) for key in redis.client.scan_iter()}
            times = [redis.client.ttl(key) for key in after]

        assert before == after
        assert min(times) > 900

    async def test_it_gives_its_connections_back(self, redis):
        """
        After the context there is none left.
        """
        before = redis.client.info("clients")["connected_clients"]
        async with Progress(redis.url) as progress:
            with pytest.raises(BatchNotFound):
                await progress.look_up(UNKNOWN)
            during = redis.client.info("clients")["connected_clients"]
        await until(lambda: redis.client.info("clients")["connected_clients"] == before)
        with pytest.raises(StoreUnavailable, match="not open"):
            await progress.look_up(UNKNOWN)

        assert during > before

    async def test_f35_a_server_that_is_not_there(self):
        """
        F35: it is told on entering, in time.
        """
        start = time.monotonic()
        with pytest.raises(StoreUnavailable):
            async with Progress(f"redis://{HOST}:{free_port()}"):
                pass

        assert time.monotonic() - start < PATIENCE


def submit(url, operations):
    """
    Send a batch to a server, for later.
    """
    headers = {"prefer": "respond-async"}
    answer = httpx.post(f"{url}/batch", json={"operations": operations}, headers=headers)
    assert answer.status_code == 202
    return answer.json()
