"""
One batch in the hands of one process, and what becomes of it when a process dies or goes astray.
"""

from time import monotonic

import anyio
import pytest

from asgi_batch._core.records import Entry, Saving
from background import (
    DOWN,
    KEY,
    App,
    Clock,
    Store,
    a_process,
    carrier_of,
    counts,
    endings,
    finished,
    left_behind,
    running,
    submit,
)
from support import releasing, settled, until

FAILED = Entry(0, "failed", b'{"id":"op0","status":500}')
SUCCEEDED = Entry(0, "succeeded", b'{"id":"op0","status":200}')


class TestAfterDeath:
    async def test_only_what_is_safe_to_repeat_runs_again(self):
        """
        What had a result keeps it, and what had not been allowed to start runs as if for the
        first time.
        """
        app, store = App(), Store()
        written = ["GET /0", "GET /1", "POST /2", "PUT /3", "PATCH /4", "GET /5", "POST /6"]
        batch_id = await left_behind(store, *written, allowed=5, entries=[SUCCEEDED])
        async with running(app, store):
            ends = await endings(store, batch_id)
            snapshot = await finished(store, batch_id)

        assert ends == [200, 200, "outcome_unknown", 200, "outcome_unknown", 200, 200]
        assert app.attempts == {"/1": 2, "/3": 2, "/5": 1, "/6": 1}
        assert len(app.starts) == 4
        assert counts(snapshot) == ("completed", 5, 2, 0)

    async def test_idempotency_key_lets_an_operation_run_again(self):
        """
        The app sees to it that it takes effect once.
        """
        app, store = App(), Store()
        batch_id = await left_behind(store, "POST /a", "POST /b", allowed=1, headers=(KEY,))
        async with running(app, store):
            ends = await endings(store, batch_id)

        assert ends == [200, 200]
        assert app.attempts == {"/a": 2, "/b": 1}

    async def test_operation_that_takes_its_process_with_it_is_given_up(self):
        """
        After so many attempts; its neighbours are not blamed for it.
        """
        app, store = App(), Store()
        batch_id = await left_behind(
            store, "GET /a", "GET /b", "GET /c", allowed=3, trials=[0, 1, 1]
        )
        async with running(app, store, max_attempts=3):
            ends = await endings(store, batch_id)

        assert ends == [200, "worker_lost", 200]
        assert app.attempts == {"/a": 3, "/c": 2}

    async def test_suspects_run_alone(self):
        """
        And are counted before they start, so that the next process knows whom to suspect.
        """
        app, store = App(), Store()
        batch_id = await left_behind(store, "GET /wait0", "GET /wait1", "GET /wait2", allowed=2)
        async with running(app, store):
            with releasing(app.gate):
                await until(lambda: app.starts)
                await settled()
                alone, trials = list(app.starts), dict(store._records[batch_id].parts[None].trials)
            ends = await endings(store, batch_id)

        assert (alone, trials) == (["/wait0"], {0: 1})
        assert store._records[batch_id].parts[None].trials == {0: 1, 1: 1}
        assert app.starts == ["/wait0", "/wait1", "/wait2"]
        assert ends == [200, 200, 200]

    async def test_nothing_starts_after_a_failure_before_the_death(self):
        """
        What may have been running then is of unknown outcome; the rest is skipped.
        """
        app, store = App(), Store()
        batch_id = await left_behind(
            store,
            *["GET /fail", "GET /a", "GET /b"],
            allowed=2,
            entries=[FAILED],
            stop_on_error=True,
        )
        async with running(app, store):
            ends = await endings(store, batch_id)

        assert ends == [500, "outcome_unknown", "skipped"]
        assert app.starts == []

    @pytest.mark.parametrize(
        ("first", "end", "started"),
        [("POST /a", "outcome_unknown", []), ("GET /fail", 500, ["/fail"])],
    )
    async def test_nothing_starts_after_a_suspect_has_failed(self, first, end, started):
        """
        Where the client wants that; an outcome that is unknown is a failure.
        """
        app, store = App(), Store()
        batch_id = await left_behind(
            store, first, "GET /b", "GET /c", allowed=2, stop_on_error=True
        )
        async with running(app, store):
            ends = await endings(store, batch_id)

        assert ends == [end, "outcome_unknown", "skipped"]
        assert app.starts == started

    async def test_batch_goes_on_after_a_suspect_has_failed(self):
        """
        Where the client has not said otherwise.
        """
        app, store = App(), Store()
        batch_id = await left_behind(store, "GET /fail", "GET /b", "GET /c", allowed=2)
        async with running(app, store):
            ends = await endings(store, batch_id)

        assert ends == [500, 200, 200]

    async def test_batch_that_was_cancelled_meanwhile_is_not_run(self):
        """
        Only of what had not been allowed to start it is said that it was not executed.
        """
        app, store = App(), Store()
        written = ["GET /a", "POST /b", "GET /c"]
        untouched = await left_behind(store, *written)
        touched = await left_behind(store, *written, allowed=2)
        for each in (untouched, touched):
            await store.cancel(each)
        async with running(app, store):
            ends = [await endings(store, each) for each in (untouched, touched)]
            snapshot = await finished(store, touched)

        assert ends == [["cancelled"] * 3, ["outcome_unknown", "outcome_unknown", "cancelled"]]
        assert counts(snapshot) == ("cancelled", 0, 2, 1)
        assert app.starts == []

    async def test_batch_of_suspects_only(self):
        """
        There need not be anything else.
        """
        app, store = App(), Store()
        batch_id = await left_behind(store, "GET /a", "POST /b", allowed=2)
        async with running(app, store):
            ends = await endings(store, batch_id)

        assert ends == [200, "outcome_unknown"]

    async def test_process_that_is_cancelled_gives_its_batches_back(self):
        """
        What was running and is not safe to repeat is of unknown outcome.
        """
        app, store = App(), Store()
        with anyio.CancelScope() as scope:
            async with running(app, store, concurrency=2) as background:
                batch_id = await submit(background, "GET /wait0", "POST /wait1", "GET /a")
                await until(lambda: len(app.starts) == 2)
                scope.cancel()
                await anyio.sleep_forever()
        app.gate.set()
        async with running(app, store):
            ends = await endings(store, batch_id)

        assert ends == [200, "outcome_unknown", 200]
        assert app.starts == ["/wait0", "/wait1", "/wait0", "/a"]


class TestAlone:
    """
    While an operation that is under suspicion runs alone.
    """

    async def test_cancellation_lets_it_end_and_nothing_follow(self):
        """
        Other suspects may have run before, and are not said to be not executed.
        """
        app, store = App(), Store()
        batch_id = await left_behind(store, "GET /wait0", "GET /a", "GET /b", allowed=2)
        async with running(app, store) as background:
            with releasing(app.gate):
                await until(lambda: app.starts)
                await background.cancel(batch_id)
            ends = await endings(store, batch_id)

        assert ends == [200, "outcome_unknown", "cancelled"]
        assert app.starts == ["/wait0"]

    async def test_cancellation_before_its_start_keeps_it_from_starting(self):
        """
        The store had been asked, but had not answered yet.
        """
        app, store = App(), Store()
        store.holds["trial"] = hold = anyio.Event()
        batch_id = await left_behind(store, "GET /a", "GET /b", allowed=1)
        async with running(app, store) as background:
            await until(lambda: store.asked.get("trial"))
            await background.cancel(batch_id)
            hold.set()
            ends = await endings(store, batch_id)

        assert ends == ["outcome_unknown", "cancelled"]
        assert app.starts == []

    async def test_cancellation_that_the_store_tells_keeps_it_from_starting(self):
        """
        In answer to the question whether it may.
        """
        app, store = App(), Store()
        store.holds["trial"] = hold = anyio.Event()
        batch_id = await left_behind(store, "GET /a", "GET /b", allowed=1)
        async with running(app, store):
            await until(lambda: store.asked.get("trial"))
            await store.cancel(batch_id)
            hold.set()
            ends = await endings(store, batch_id)

        assert ends == ["outcome_unknown", "cancelled"]
        assert app.starts == []

    async def test_process_that_stops_waits_for_it(self):
        """
        The next one goes on behind it.
        """
        app, store = App(), Store()
        batch_id = await left_behind(store, "GET /wait0", "GET /a", "POST /b", allowed=2)
        async with anyio.create_task_group() as tasks:
            async with running(app, store) as first:
                await until(lambda: app.starts)
                tasks.start_soon(first.stop)
                await until(lambda: not first._is_on)
                app.gate.set()
                await until(lambda: not first._holding.carriers)
            before = list(app.starts)
            async with running(app, store):
                ends = await endings(store, batch_id)

        assert before == ["/wait0"]
        assert ends == [200, 200, 200]
        assert app.attempts == {"/wait0": 2, "/a": 2, "/b": 1}
        assert len(app.starts) == 3

    async def test_process_that_stops_does_not_wait_for_ever(self):
        """
        The next one tries it once more.
        """
        app, store = App(), Store()
        batch_id = await left_behind(store, "GET /wait0", "POST /b", allowed=1)
        async with running(app, store, drain_timeout=0.05):
            await until(lambda: app.starts)
        app.gate.set()
        async with running(app, store):
            ends = await endings(store, batch_id)

        assert ends == [200, 200]
        assert app.starts == ["/wait0", "/wait0", "/b"]
        assert app.attempts == {"/wait0": 3, "/b": 1}

    async def test_process_that_stops_before_its_start_does_not_start_it(self):
        """
        The store had been asked, but had not answered yet.
        """
        app, store = App(), Store()
        store.holds["trial"] = hold = anyio.Event()
        batch_id = await left_behind(store, "GET /a", "GET /b", allowed=1)
        async with anyio.create_task_group() as tasks:
            async with running(app, store) as first:
                await until(lambda: store.asked.get("trial"))
                tasks.start_soon(first.stop)
                await until(lambda: not first._is_on)
                await settled()
                hold.set()
                await until(lambda: not first._holding.carriers)
            before = list(app.starts)
            async with running(app, store):
                ends = await endings(store, batch_id)

        assert before == []
        assert ends == [200, 200]
        assert app.starts == ["/a", "/b"]

    async def test_store_that_is_away_is_asked_again_before_its_start(self):
        """
        An attempt that is not counted could be made for ever.
        """
        app, store = App(), Store()
        store.errors["trial"] = DOWN
        batch_id = await left_behind(store, "GET /a", allowed=1)
        async with running(app, store):
            await until(lambda: store.asked.get("trial", 0) > 1)
            before = list(app.starts)
            store.errors.clear()
            ends = await endings(store, batch_id)

        assert before == []
        assert ends == [200]

    async def test_lost_batch_is_left_alone(self):
        """
        Also where that comes out just before it starts.
        """
        app, store = App(), Store()
        store.holds["trial"] = hold = anyio.Event()
        batch_id = await left_behind(store, "GET /a", allowed=1)
        async with running(app, store, scan_interval=60.0) as background:
            await until(lambda: store.asked.get("trial"))
            store._clock.now += 100
            await store.claim(1000.0, batch_id)
            hold.set()
            await until(lambda: not background._holding.carriers)

        assert app.starts == []
        assert (await store.snapshot(batch_id)).completed == 0

    @pytest.mark.parametrize("is_cancelled", [False, True])
    async def test_nothing_starts_behind_the_fence(self, is_cancelled):
        """
        It had to wait for its turn until the lease was in doubt; then the store came back.
        """
        app, store = App(), Store()
        limits = {"concurrency": 1, "total_concurrency": 1, "lease": 0.3}
        async with running(app, store, **limits) as background:
            with releasing(app.gate):
                busy = await submit(background, "GET /wait")
                await until(lambda: app.starts)
                store.holds["trial"] = hold = anyio.Event()
                batch_id = await left_behind(store, "GET /a", "GET /b", allowed=1)
                await until(lambda: store.asked.get("trial"))
                store.errors["save"] = DOWN
                hold.set()
                await until(lambda: background._terms.engine.gate.waiting)
                carrier = carrier_of(background, batch_id)
                fence = carrier._fence
                await until(lambda: monotonic() > fence)
                app.gate.set()
                await until(lambda: carrier._calls._held_back)
            before = list(app.starts)
            if is_cancelled:
                await store.cancel(batch_id)
            store.errors.clear()
            ends = [await endings(store, each) for each in (busy, batch_id)]

        assert before == ["/wait"]
        assert ends == [[200], ["outcome_unknown", "cancelled"] if is_cancelled else [200, 200]]
        assert app.starts == (["/wait"] if is_cancelled else ["/wait", "/a", "/b"])

    async def test_nothing_follows_it_behind_the_fence(self):
        """
        Although the store had allowed that while it still answered.
        """
        app, store = App(), Store()
        batch_id = await left_behind(store, "GET /wait", "GET /a", allowed=1)
        async with running(app, store, lease=0.3) as background:
            with releasing(app.gate):
                await until(lambda: app.starts)
                carrier = carrier_of(background, batch_id)
                await until(lambda: carrier._pending.may_start)
                store.errors["save"] = DOWN
                fence = carrier._fence
                await until(lambda: monotonic() > fence)
            await until(lambda: carrier._pending._held_back is not None)
            before = list(app.starts)
            store.errors.clear()
            ends = await endings(store, batch_id)

        assert before == ["/wait"]
        assert ends == [200, 200]
        assert app.starts == ["/wait", "/a"]


class TestStoreAway:
    async def test_results_are_kept_back_and_saved_later(self, caplog):
        """
        None is lost, and none is counted twice.
        """
        app, store = App(), Store()
        async with running(app, store, concurrency=2) as background:
            batch_id = await submit(background, "GET /wait0", "POST /wait1", "POST /a", "GET /b")
            await until(lambda: len(app.starts) == 2)
            store.errors["save"] = DOWN
            asked = store.asked["save"]
            app.gate.set()
            await until(lambda: store.asked["save"] > asked + 1)
            kept = (await store.snapshot(batch_id)).completed
            store.errors.clear()
            ends = await endings(store, batch_id)
            snapshot = await finished(store, batch_id)

        assert kept == 0
        assert ends == [200] * 4
        assert counts(snapshot) == ("completed", 4, 0, 0)
        assert sorted(app.starts) == ["/a", "/b", "/wait0", "/wait1"]
        assert "kept back" in caplog.text

    async def test_nothing_starts_behind_the_fence(self):
        """
        Another process may hold the batch by then; when the store is back, it goes on.
        """
        app, store = App(), Store()
        written = ["POST /wait0", "POST /wait1", *(f"POST /{index}" for index in range(9))]
        async with running(app, store, concurrency=2, lease=0.3) as background:
            with releasing(app.gate):
                batch_id = await submit(background, *written)
                await until(lambda: len(app.starts) == 2)
                carrier = carrier_of(background, batch_id)
                await until(lambda: carrier._pending.may_start > 2)
                store.errors["save"] = DOWN
                fence = carrier._fence
                await until(lambda: monotonic() > fence)
            await until(lambda: carrier._pending._held_back is not None)
            before = list(app.starts)
            store.errors.clear()
            ends = await endings(store, batch_id)

        assert before == ["/wait0", "/wait1"]
        assert ends == [200] * 11
        assert sorted(app.starts) == sorted(each[5:] for each in written)

    async def test_f18_error_that_no_store_should_raise_ends_the_hold(self, caplog):
        """
        The batch is taken up again when its lease has ended.
        """
        app, store = App(), Store()
        async with running(app, store, concurrency=1) as background:
            batch_id = await submit(background, "GET /wait", "GET /a")
            await until(lambda: app.starts)
            store.errors["save"] = OSError("A bug of a store.")
            await until(lambda: not background._holding.carriers)
            store.errors.clear()
            app.gate.set()
            store._clock.now += 100
            ends = await endings(store, batch_id)

        assert ends == [200, 200]
        assert app.starts == ["/wait", "/wait", "/a"]
        assert app.attempts["/wait"] == 2
        assert "given up by this process" in caplog.text


class TestLost:
    async def test_holder_that_was_silent_for_too_long_stops(self):
        """
        It starts nothing more and writes nothing down; the other one does.
        """
        app, store = App(), Store()
        limits = {"concurrency": 1, "scan_interval": 60.0}
        async with running(app, store, **limits) as first:
            batch_id = await submit(first, "POST /wait", "GET /a", "GET /b")
            await until(lambda: app.starts)
            store._clock.now += 100
            claim = await store.claim(30.0, batch_id)
            await until(lambda: not first._holding.carriers)
            snapshot = await store.snapshot(batch_id)
            await store.release(claim.hold, 1)
            async with running(app, store):
                ends = await endings(store, batch_id)

        assert claim.hold.epoch == 2
        assert snapshot.completed == 0
        assert ends == ["outcome_unknown", 200, 200]
        assert app.starts == ["/wait", "/a", "/b"]

    async def test_holder_that_was_silent_for_too_long_ends_what_runs_alone(self):
        """
        Its answer would not be taken.
        """
        app, store = App(), Store()
        batch_id = await left_behind(store, "GET /wait", "GET /a", allowed=1)
        async with running(app, store, scan_interval=60.0) as first:
            await until(lambda: app.starts)
            store._clock.now += 100
            await store.claim(30.0, batch_id)
            await until(lambda: not first._holding.carriers)

        assert app.starts == ["/wait"]
        assert (await store.snapshot(batch_id)).completed == 0


def test_terms_are_parts_of_the_lease():
    """
    It is renewed well before nothing may start, and nothing starts well before it ends.
    """
    terms = a_process(App(), Store(), lease=30.0, cancel_interval=1.0)._terms
    slow = a_process(App(), Store(), lease=30.0, cancel_interval=60.0)._terms

    assert (terms.lease, terms.grace, terms.beat) == (30.0, 20.0, 1.0)
    assert slow.beat == 10.0


class TestExpiry:
    async def test_t42_a_batch_that_has_waited_for_too_long_does_not_run(self):
        """
        T42: what its caller may do may have changed; what may have run before is told as such.
        """
        app, clock = App(), Clock()
        store = Store(clock)
        batch_id = await left_behind(store, "GET /0", "POST /1", "GET /2", "GET /3", allowed=2)
        clock.now += 3601.0
        async with running(app, store):
            ends = await endings(store, batch_id)
            snapshot = await finished(store, batch_id)

        assert ends == ["outcome_unknown", "outcome_unknown", "expired", "expired"]
        assert (snapshot.status, snapshot.skipped) == ("completed", 2)
        assert app.starts == []

    async def test_t42_a_batch_that_has_just_got_further_goes_on(self):
        """
        T42: however long ago it was accepted, as what is running already was expected.
        """
        app, clock = App(), Clock()
        store = Store(clock)
        batch_id = await left_behind(store, "GET /0", "GET /1")
        clock.now += 3500.0
        claim = await store.claim(1.0, batch_id)
        await store.save(claim.hold, Saving(entries=[SUCCEEDED], allowed=1, lease=0.0))
        clock.now += 3500.0
        async with running(app, store):
            ends = await endings(store, batch_id)

        assert ends == [200, 200]
        assert app.starts == ["/1"]
