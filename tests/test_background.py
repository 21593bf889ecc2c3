"""
Batches that outlive their request: accepted, carried out, cancelled and given back.
"""

import math
from contextvars import ContextVar
from dataclasses import replace

import anyio
import pytest

from asgi_batch import current_operation
from asgi_batch._core.packing import pack_caller, pack_operations
from asgi_batch._core.records import NewBatch
from asgi_batch.errors import BackgroundUnavailable, Overloaded
from asgi_batch.stores.memory import MemoryStore
from background import (
    DOWN,
    App,
    Store,
    a_process,
    counts,
    endings,
    finished,
    left_behind,
    operations,
    running,
    submit,
)
from support import Meter, batch_scope, releasing, respond, until

SECRET = ContextVar("SECRET", default="nothing")


class TestCarryingOut:
    async def test_batch_is_carried_out_to_its_end(self):
        """
        With all results in order, counted, and none left out.
        """
        app, store = App(), MemoryStore()
        written = [f"GET /{'fail' if index % 3 == 2 else 'ok'}{index}" for index in range(300)]
        async with running(app, store) as background:
            batch_id = await submit(background, *written)
            snapshot = await finished(store, batch_id)
            ends = await endings(store, batch_id)

        assert ends == [200, 200, 500] * 100
        assert counts(snapshot) == ("completed", 200, 100, 0)
        assert sorted(app.starts) == sorted(each[4:] for each in written)
        assert set(app.attempts.values()) == {1}

    async def test_operation_knows_its_place_and_nothing_of_the_request(self):
        """
        It sees the caller's headers and the lifespan's state, in a context of its own.
        """
        seen = []

        async def app(scope, receive, send):
            seen.append((scope, SECRET.get(), current_operation()))
            SECRET.set("of an operation")
            await respond(send)

        store, request = MemoryStore(), batch_scope(state={"of": "the request"}, user=object())
        request["headers"].append((b"authorization", b"Bearer me"))
        lifespan = {"type": "lifespan", "app": app, "state": {"pool": 1}}
        async with running(app, store, lifespan) as background:
            SECRET.set("of the request")
            batch_id = await submit(background, "GET /a", "POST /b", scope=request)
            await finished(store, batch_id)
        scopes, secrets, currents = zip(*seen, strict=True)

        assert secrets == ("nothing", "nothing")
        assert [each["asgi_batch"] for each in scopes] == list(currents)
        assert [(each.index, each.operation_id) for each in currents] == [(0, "op0"), (1, "op1")]
        assert {(each.batch_id, each.total, each.attempt) for each in currents} == {
            (batch_id, 2, 1)
        }
        assert all((b"authorization", b"Bearer me") in each["headers"] for each in scopes)
        assert [each["state"] for each in scopes] == [{"pool": 1}] * 2
        assert all(each["app"] is app and "user" not in each for each in scopes)

    async def test_nothing_starts_after_a_failure_where_the_client_wants_that(self):
        """
        What has not started is skipped.
        """
        app, store = App(), MemoryStore()
        async with running(app, store, concurrency=1) as background:
            batch_id = await submit(
                background, "GET /a", "GET /fail", "GET /b", "POST /c", stop_on_error=True
            )
            ends = await endings(store, batch_id)
            snapshot = await finished(store, batch_id)

        assert ends == [200, 500, "skipped", "skipped"]
        assert app.starts == ["/a", "/fail"]
        assert counts(snapshot) == ("completed", 1, 1, 2)

    async def test_so_many_batches_run_at_a_time(self):
        """
        The next one begins when one has come to its end.
        """
        meter, store, gate = Meter(), MemoryStore(), anyio.Event()

        async def app(scope, receive, send):
            with meter:
                await gate.wait()
                await respond(send)

        async with running(app, store, background_batches=2, scan_interval=60.0) as background:
            with releasing(gate):
                ids = [await submit(background, "GET /") for _ in range(5)]
                await until(lambda: meter.now == 2)
            ends = [await endings(store, each) for each in ids]

        assert ends == [[200]] * 5
        assert (meter.most, meter.total) == (2, 5)

    async def test_full_store_takes_no_batch(self):
        """
        Whoever comes after as many as may be unfinished is told so.
        """
        app = App()
        async with running(app, MemoryStore(), max_background_batches=1) as background:
            with releasing(app.gate):
                await submit(background, "GET /wait")
                with pytest.raises(Overloaded):
                    await submit(background, "GET /")
                await until(lambda: app.starts)

        assert app.starts == ["/wait"]

    async def test_nothing_is_accepted_that_nobody_would_carry_out(self):
        """
        Before the start and after the stop there is an error that says what to do.
        """
        background = a_process(App(), MemoryStore())
        with pytest.raises(BackgroundUnavailable, match="lifespan"):
            await submit(background, "GET /")
        async with background.opened():
            with pytest.raises(BackgroundUnavailable):
                await background.cancel("any")
            background.start({})
            await background.stop()
            with pytest.raises(BackgroundUnavailable):
                await submit(background, "GET /")

        assert not background._holding.carriers

    async def test_results_above_the_limit_of_a_batch_are_replaced(self):
        """
        And what has not started by then is skipped, because its result would not fit either.
        """

        async def app(scope, receive, send):
            await respond(send, b"x" * 1000)

        store = MemoryStore()
        async with running(app, store, concurrency=1, max_response_bytes=2500) as background:
            batch_id = await submit(background, *["GET /"] * 4)
            ends = await endings(store, batch_id)
            snapshot = await finished(store, batch_id)

        assert ends == [200, 200, "batch_response_too_large", "batch_response_too_large"]
        assert counts(snapshot) == ("completed", 2, 1, 1)

    @pytest.mark.parametrize("deadline", [math.inf, -math.inf])
    async def test_operation_that_leaves_a_cancel_scope_open_harms_nobody(self, deadline):
        """
        Neither the batch around it nor the process, cancelled or not.
        """
        leaked = []

        async def app(scope, receive, send):
            if scope["path"] == "/leak":
                await respond(send)
                leaked.append(anyio.CancelScope(deadline=deadline))
                leaked[-1].__enter__()
            else:
                await respond(send)

        store = MemoryStore()
        async with running(app, store, concurrency=1) as background:
            first = await submit(background, "GET /a", "GET /leak", "GET /b")
            ends = await endings(store, first)
            await until(lambda: not background._holding.carriers)
            second = await submit(background, "GET /c")
            ends += await endings(store, second)

        assert ends == [200] * 4
        assert len(leaked) == 1

    async def test_f18_error_of_the_library_is_not_taken_for_a_leak(self, caplog):
        """
        The batch is given up and said to be so, and the process goes on.
        """
        store = Store()
        background = a_process(App(), store)
        encode, errors = background._terms.encode, [RuntimeError("A bug.")]

        def fail_once(result):
            if errors:
                raise errors.pop()
            return encode(result)

        background._holding._terms = replace(background._terms, encode=fail_once)
        async with background.opened():
            background.start({})
            batch_id = await submit(background, "GET /")
            await until(lambda: not errors and not background._holding.carriers)
            store._clock.now += 100
            ends = await endings(store, batch_id)

        assert ends == [200]
        assert "given up by this process" in caplog.text

    async def test_batch_that_cannot_be_read_fails_as_a_whole(self, caplog):
        """
        T43: whether it is its operations or its caller; the process goes on with the next one.
        """
        app, store = App(), MemoryStore()
        async with running(app, store) as background:
            ids = []
            whole = pack_caller(batch_scope())
            (twice,) = pack_operations(operations("GET /twice", "GET /twice", index=0))
            (broken,) = pack_operations(operations("GET /path"))
            broken = broken.replace(b"path", b"p\xffth")
            for total, chunks, caller in [
                (1, [b"rubbish"], whole),
                (1, [], b"rubbish"),
                (2, [twice], whole),
                (1, [broken], whole),
            ]:
                new = NewBatch(batch_id=store.new_id(), total=total, chunks=chunks, caller=caller)
                await store.create(new, limit=10)
                ids.append(new.batch_id)
            snapshots = [await finished(store, each) for each in ids]
            ends = await endings(store, await submit(background, "GET /"))

        assert {(each.status, each.error) for each in snapshots} == {("failed", "record_corrupt")}
        assert app.starts == ["/"]
        assert ends == [200]
        assert caplog.text.count("cannot be read") == 4


class TestClaiming:
    @pytest.mark.parametrize("error", [DOWN, OSError("A bug of a store.")])
    async def test_f18_store_that_fails_is_asked_again(self, error, caplog):
        """
        Whatever it raises; what has been accepted is carried out afterwards.
        """
        store = Store()
        store.errors["claim"] = error
        async with running(App(), store) as background:
            batch_id = await submit(background, "GET /")
            await until(lambda: store.asked.get("claim", 0) > 2)
            store.errors.clear()
            ends = await endings(store, batch_id)

        assert ends == [200]
        assert ("Traceback" in caplog.text) is (error is not DOWN)
        assert str(error) in caplog.text

    async def test_batch_that_is_claimed_while_the_process_stops_is_given_back(self):
        """
        Nobody has to wait for the end of its lease.
        """
        app, store = App(), Store()
        store.holds["claim"] = hold = anyio.Event()
        async with running(app, store) as background:
            batch_id = await submit(background, "GET /")
            await until(lambda: store.asked.get("claim"))
            await background.stop()
            hold.set()
        store.holds.clear()
        claim = await store.claim(1.0, batch_id)

        assert claim is not None
        assert claim.hold.epoch == 2
        assert app.starts == []

    async def test_process_that_stops_does_not_claim(self):
        """
        Also where it is asked for a batch at the same moment.
        """
        app, store = App(), Store()
        store.holds["claim"] = hold = anyio.Event()
        async with running(app, store) as background:
            await until(lambda: store.asked.get("claim"))
            await background.stop()
            hold.set()
            await until(lambda: store.asked["claim"] == 1)

        assert store.asked == {"claim": 1}


class TestCancelling:
    async def test_nothing_starts_after_a_cancellation(self):
        """
        What is running comes to its end, and the rest never runs.
        """
        app, store = App(), MemoryStore()
        async with running(app, store, concurrency=2) as background:
            with releasing(app.gate):
                batch_id = await submit(background, "GET /wait0", "POST /wait1", "GET /a", "GET /b")
                await until(lambda: len(app.starts) == 2)
                cancelled = await background.cancel(batch_id)
                again = await background.cancel(batch_id)
            ends = await endings(store, batch_id)
            snapshot = await finished(store, batch_id)
            late = await background.cancel(batch_id)

        assert (cancelled.status, again.status) == ("cancelled", "cancelled")
        assert ends == [200, 200, "cancelled", "cancelled"]
        assert counts(snapshot) == counts(late) == ("cancelled", 2, 0, 2)
        assert app.starts == ["/wait0", "/wait1"]

    async def test_batch_that_waits_is_cancelled_without_running(self):
        """
        Its results say that nothing of it was executed.
        """
        app, store = App(), Store()
        background = a_process(app, store)
        async with background.opened():
            background.start({})
            background._limits = replace(background._limits, background_batches=1)
            with releasing(app.gate):
                await submit(background, "GET /wait")
                await until(lambda: app.starts)
                batch_id = await submit(background, "GET /a", "POST /b")
                cancelled = await background.cancel(batch_id)
            ends = await endings(store, batch_id)

        assert cancelled.status == "cancelled"
        assert ends == ["cancelled", "cancelled"]
        assert app.starts == ["/wait"]

    async def test_cancellation_waits_until_another_process_has_heard(self):
        """
        Once it is answered, nothing of the batch starts anywhere.
        """
        app, store = App(), Store()
        async with running(app, store, scan_interval=60.0, cancel_interval=5.0) as other:
            # From now on it does not look for a batch of its own accord.
            await until(lambda: store.asked.get("claim"))
            async with running(app, store, concurrency=1) as holder:
                with releasing(app.gate):
                    batch_id = await submit(holder, "GET /wait", "GET /a")
                    await until(lambda: app.starts)
                    cancelled = await other.cancel(batch_id)
                    _, is_unheard = await store.cancel(batch_id)
                    app.gate.set()
                    ends = await endings(store, batch_id)

        assert cancelled.status == "cancelled"
        assert not is_unheard
        assert ends == [200, "cancelled"]
        assert app.starts == ["/wait"]

    async def test_f23_a_holder_that_gets_no_replies_has_not_heard(self):
        """
        F23: what the store has written does not mean that the holder knows of it.
        """

        class Mute(Store):
            is_mute = False

            async def save(self, hold, saving):
                standing = await super().save(hold, saving)
                if self.is_mute:
                    raise DOWN
                return standing

        app, store = App(), Mute()
        async with running(app, store, scan_interval=60.0, cancel_interval=0.2) as other:
            await until(lambda: store.asked.get("claim"))
            async with running(app, store, concurrency=1) as holder:
                with releasing(app.gate):
                    batch_id = await submit(holder, "GET /wait", "GET /a")
                    await until(lambda: app.starts)
                    store.is_mute, asked = True, store.asked["save"]
                    await other.cancel(batch_id)
                    _, is_unheard = await store.cancel(batch_id)
                    has_written = store.asked["save"] > asked
                    store.is_mute = False
                    app.gate.set()
                    ends = await endings(store, batch_id)

        assert has_written
        assert is_unheard
        assert ends == [200, "cancelled"]

    async def test_cancellation_does_not_wait_for_ever(self):
        """
        Whoever holds the batch may be dead.
        """
        app, store = App(), Store()
        batch_id = await left_behind(store, "GET /a")
        await store.claim(1000.0, batch_id)
        async with running(app, store) as background:
            cancelled = await background.cancel(batch_id)
            _, is_unheard = await store.cancel(batch_id)

        assert cancelled.status == "cancelled"
        assert is_unheard
        assert app.starts == []

    async def test_unknown_batch_cannot_be_cancelled(self):
        """
        There is nothing to tell of it.
        """
        async with running(App(), MemoryStore()) as background:
            cancelled = await background.cancel("unknown")

        assert cancelled is None


class TestStopping:
    async def test_batches_in_memory_are_finished(self):
        """
        Nobody else could go on with them.
        """
        app, store = App(), MemoryStore()

        async def open_gate(background):
            await until(lambda: not background._is_on)
            app.gate.set()

        async with (
            anyio.create_task_group() as tasks,
            running(app, store, concurrency=1) as background,
        ):
            batch_id = await submit(background, "POST /wait", "POST /a", "GET /b")
            await until(lambda: app.starts)
            tasks.start_soon(open_gate, background)
            await background.stop()
            ends = await endings(store, batch_id)

        assert ends == [200, 200, 200]

    async def test_another_process_goes_on_at_once(self):
        """
        What is running comes to its end first, and nothing runs twice.
        """
        app, store = App(), Store()
        async with anyio.create_task_group() as tasks:
            async with running(app, store, concurrency=2) as first:
                written = ["POST /wait0", "GET /wait1", *(f"POST /{each}" for each in range(20))]
                batch_id = await submit(first, *written)
                await until(lambda: len(app.starts) == 2)
                tasks.start_soon(first.stop)
                await until(lambda: not first._is_on)
                app.gate.set()
                await until(lambda: not first._holding.carriers)
            before = list(app.starts)
            async with running(app, store):
                ends = await endings(store, batch_id)

        assert before == ["/wait0", "/wait1"]
        assert ends == [200] * 22
        assert sorted(app.starts) == sorted(each.split(" ")[1] for each in written)
        assert store._clock.now == 1000

    async def test_time_for_running_operations_has_an_end(self):
        """
        What cannot be repeated is then of unknown outcome; the next process repeats the others.
        """
        app, store = App(), Store()
        written = ["GET /wait0", "POST /wait1", "POST /wait2", "POST /a"]
        limits = {"concurrency": 3, "drain_timeout": 0.05}
        async with running(app, store, **limits) as first:
            batch_id = await submit(first, *written)
            await until(lambda: len(app.starts) == 3)
        given_back = await store.snapshot(batch_id)
        app.gate.set()
        async with running(app, store):
            ends = await endings(store, batch_id)

        assert counts(given_back) == ("processing", 0, 2, 0)
        assert ends == [200, "outcome_unknown", "outcome_unknown", 200]
        assert sorted(app.starts) == ["/a", "/wait0", "/wait0", "/wait1", "/wait2"]
        assert app.attempts == {"/wait0": 2, "/wait1": 1, "/wait2": 1, "/a": 1}

    async def test_batch_in_memory_ends_with_its_process(self):
        """
        Once the time that running operations get is over.
        """
        app, store = App(), MemoryStore()
        async with running(app, store, drain_timeout=0.05, concurrency=1) as background:
            await submit(background, "GET /wait", "GET /a")
            await until(lambda: app.starts)

        assert app.starts == ["/wait"]
        assert store._records == {}

    async def test_work_after_the_last_answer_gets_the_same_time(self):
        """
        What an app does after its answer is not cut off at once.
        """
        store, gate, done = MemoryStore(), anyio.Event(), []

        async def app(scope, receive, send):
            await respond(send)
            await gate.wait()
            done.append(scope["path"])

        async def open_gate(background):
            await until(lambda: not background._is_on)
            gate.set()

        async with anyio.create_task_group() as tasks, running(app, store) as background:
            await finished(store, await submit(background, "GET /a"))
            tasks.start_soon(open_gate, background)
            await background.stop()

        assert done == ["/a"]

    @pytest.mark.parametrize("method", ["save", "release"])
    @pytest.mark.parametrize("error", [DOWN, OSError("A bug of a store.")])
    async def test_store_that_fails_does_not_keep_a_process_from_stopping(
        self, method, error, caplog
    ):
        """
        The batch is taken over when its lease has ended.
        """
        app, store = App(), Store()
        async with running(app, store, concurrency=1, drain_timeout=0.05) as first:
            batch_id = await submit(first, "GET /wait", "GET /a")
            await until(lambda: app.starts)
            store.errors[method] = error
        store.errors.clear()
        app.gate.set()
        is_held = await store.claim(1.0, batch_id) is None
        store._clock.now += 100
        async with running(app, store):
            ends = await endings(store, batch_id)

        assert is_held
        assert ends == [200, 200]
        assert str(error) in caplog.text

    async def test_nothing_is_told_after_a_batch_has_been_given_back(self):
        """
        That would hold it for another lease.
        """
        app, store = App(), Store()
        async with (
            anyio.create_task_group() as tasks,
            running(app, store, concurrency=1) as first,
        ):
            batch_id = await submit(first, "GET /wait", "GET /a")
            await until(lambda: app.starts)
            store.holds["release"] = hold = anyio.Event()
            tasks.start_soon(first.stop)
            await until(lambda: not first._is_on)
            app.gate.set()
            with releasing(hold):
                await until(lambda: store.asked.get("release"))
                told = store.asked["save"]
                await until(lambda: not first._holding.carriers)

        assert store.asked["save"] == told
        assert await store.claim(1.0, batch_id) is not None
