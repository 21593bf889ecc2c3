"""
The workers of a batch, and what they are handed: counted without running anything.
"""

import math
import re
from contextvars import copy_context

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asgi_batch._core.models import Operation
from asgi_batch._core.scope import ScopeTemplate
from asgi_batch._crew import Crew
from asgi_batch._gate import Gate
from asgi_batch._pending import Pending
from asgi_batch._subrequest import ABORTED, COMPLETE, STARTED, AnswerBounds
from asgi_batch._worker import Pace, Turns, Worker
from support import batch_scope, http_scope

BOUNDS = AnswerBounds(1, 1, 1)


def operations(count):
    """
    *count* operations that ask for nothing.
    """
    return [
        Operation(index, f"op{index}", "GET", "/", b"/", b"", (), frozenset(), b"", None)
        for index in range(count)
    ]


def pending(count, **settings):
    """
    *count* operations that have not started.
    """
    return Pending(
        operations(count),
        batch_id="batch",
        total=count,
        template=ScopeTemplate(batch_scope()),
        context=copy_context(),
        **settings,
    )


def take(calls, most=math.inf):
    """
    The indexes of up to *most* operations, in the order in which they are handed out.
    """
    taken = []
    while len(taken) < most and (calls.ready or calls.refill(id, id, BOUNDS)):
        subrequest, scope, _ = calls.ready.pop()
        assert scope["asgi_batch"].index == subrequest.operation.index
        taken.append(subrequest.operation.index)
    return taken


class _Answer:
    """
    As much of a subrequest as is looked at here.
    """

    def __init__(self, phase):
        self.phase = phase


def busy(deadline=0.0, phase=STARTED):
    """
    A worker that is at an operation.
    """
    worker = Worker(anyio.CancelScope())
    worker.subrequest, worker.deadline = _Answer(phase), deadline
    return worker


class TestPending:
    @pytest.mark.parametrize("count", [1, 63, 64, 65, 130])
    async def test_all_are_handed_out_in_order(self, count):
        """
        Whatever the size of the groups in which they are made ready.
        """
        calls = pending(count)

        assert bool(calls)
        assert take(calls) == list(range(count))
        assert not calls
        assert calls.started == count
        assert calls.drop() == []

    async def test_each_knows_its_place_and_attempt(self):
        """
        What an app learns of an operation.
        """
        calls = pending(2, attempt=3)
        calls.refill(id, id, BOUNDS)
        _, scope, _ = calls.ready.pop()
        current = scope["asgi_batch"]

        assert (current.batch_id, current.operation_id, current.index) == ("batch", "op0", 0)
        assert (current.total, current.attempt) == (2, 3)

    async def test_what_is_ready_has_not_started(self):
        """
        Only what has been taken counts as started.
        """
        calls = pending(100)
        before = calls.started
        take(calls, 3)

        assert (before, calls.started) == (0, 3)
        assert len(calls.ready) == 61

    async def test_a_first_attempt_is_number_one(self):
        """
        Where nothing else is said.
        """
        calls = pending(1)
        calls.refill(id, id, BOUNDS)
        _, scope, _ = calls.ready.pop()

        assert scope["asgi_batch"].attempt == 1

    async def test_no_more_start_than_may(self):
        """
        The rest waits until it is allowed.
        """
        calls = pending(100, may_start=3)
        first = take(calls)
        is_dry = not calls
        calls.allow(5)
        second = take(calls)
        calls.allow(1000)

        assert (first, is_dry, second) == ([0, 1, 2], True, [3, 4])
        assert calls.may_start == 100
        assert take(calls) == list(range(5, 100))

    async def test_what_is_held_back_comes_back_in_order(self):
        """
        Also where a part had been made ready.
        """
        calls = pending(100)
        first = take(calls, 10)
        calls.hold_back()
        calls.hold_back()
        during = (take(calls), bool(calls), calls.started)
        calls.go_on()

        assert first == list(range(10))
        assert during == ([], False, 10)
        assert take(calls) == list(range(10, 100))

    @pytest.mark.parametrize("is_held_back", [False, True])
    async def test_what_is_dropped_never_starts(self, is_held_back):
        """
        It is told in order, whether it had been made ready or not.
        """
        calls = pending(100, may_start=80)
        take(calls, 10)
        if is_held_back:
            calls.hold_back()
        dropped = [operation.index for operation in calls.drop()]

        assert dropped == list(range(10, 100))
        assert (take(calls), bool(calls)) == ([], False)


class TestCrew:
    async def test_there_is_room_for_so_many(self):
        """
        A worker counts before it has started.
        """
        crew = Crew(2, Gate(9))
        room = [crew.has_room]
        for _ in range(2):
            crew.expect()
            room.append(crew.has_room)

        assert room == [True, True, False]

    async def test_who_has_answered_makes_room_once(self):
        """
        Background tasks do not take the place of operations.
        """
        crew = Crew(1, Gate(9))
        worker = busy(phase=COMPLETE)
        crew.workers.add(worker)
        crew.expect()
        crew.step_back(worker)
        crew.step_back(worker)

        assert worker.is_tail
        assert crew.has_room
        crew.expect()
        assert not crew.has_room

    @pytest.mark.parametrize("phase", [STARTED, ABORTED])
    async def test_who_has_not_answered_keeps_its_place(self, phase):
        """
        An operation that was given up counts until it stops.
        """
        crew = Crew(1, Gate(9))
        worker = busy(phase=phase)
        crew.expect()
        crew.step_back(worker)

        assert not worker.is_tail
        assert not crew.has_room

    @pytest.mark.parametrize("has_room", [True, False])
    async def test_who_is_done_comes_back_if_there_is_room(self, has_room):
        """
        Otherwise somebody else has its place, and it has to go.
        """
        crew = Crew(1, Gate(9))
        worker = busy(phase=COMPLETE)
        crew.expect()
        crew.step_back(worker)
        if not has_room:
            crew.expect()
        crew.step_forward(worker)

        assert (worker.is_tail, worker.is_spent) == (not has_room, not has_room)
        assert not crew.has_room

    async def test_who_is_spent_stays_so(self):
        """
        A place alone makes no worker fit again.
        """
        crew = Crew(1, Gate(9))
        worker = Worker(anyio.CancelScope())
        worker.is_spent = True
        crew.step_forward(worker)

        assert worker.is_spent

    async def test_a_tail_that_goes_gives_no_place_back(self):
        """
        It has given it back before.
        """
        crew = Crew(1, Gate(9))
        tail, front = busy(phase=COMPLETE), Worker(anyio.CancelScope())
        crew.workers |= {tail, front}
        crew.expect()
        crew.step_back(tail)
        crew.expect()
        crew.dismiss(tail)
        after_tail = crew.has_room
        crew.dismiss(front)

        assert (after_tail, crew.has_room) == (False, True)

    async def test_the_end_is_when_the_last_one_has_left(self):
        """
        Not before it is known that no other comes.
        """
        crew = Crew(2, Gate(9))
        first, second = Worker(anyio.CancelScope()), Worker(anyio.CancelScope())
        crew.workers |= {first, second}
        crew.dismiss(first)
        crew.end()
        before = crew.left.is_set()
        crew.dismiss(second)

        assert (before, crew.left.is_set(), crew.is_over) == (False, True, True)

    async def test_an_empty_crew_has_left_at_its_end(self):
        """
        There is nobody to wait for.
        """
        crew = Crew(2, Gate(9))
        worker = Worker(anyio.CancelScope())
        crew.workers.add(worker)
        crew.dismiss(worker)
        before = crew.left.is_set()
        crew.end()

        assert (before, crew.left.is_set()) == (False, True)

    async def test_who_is_due_next(self):
        """
        Only who is at an operation that nobody has given up yet.
        """
        crew = Crew(5, Gate(9))
        given_up = busy(1.0)
        given_up.is_abandoned = True
        crew.workers |= {
            busy(5.0),
            busy(4.0),
            given_up,
            busy(2.0, COMPLETE),
            Worker(anyio.CancelScope()),
        }

        assert crew.due(9.0) == 4.0
        assert crew.due(3.0) == 3.0


class TestPace:
    async def test_a_fence_comes_before_the_end_of_a_time_slice(self):
        """
        Nothing starts behind it.
        """
        pace = Pace()
        pace.start()
        is_free = await pace.breathe()
        pace.fence = 0.0
        pace.start()

        assert is_free
        assert pace.due == 0.0
        assert not await pace.breathe()

    async def test_batches_of_the_background_take_turns(self):
        """
        While one of them runs, another that has given way does not, and neither waits for ever.
        """
        turns, seen = Turns(), []

        async def run(name):
            pace = Pace(turns)
            for _ in range(5):
                await pace.breathe()
                seen.append(name)

        async def other():
            for _ in range(5):
                await checkpoint()
                seen.append("other")

        async with anyio.create_task_group() as tasks:
            for name in "abc":
                tasks.start_soon(run, name)
            tasks.start_soon(other)
        rounds = "".join(each for each in seen if each != "other")

        assert sorted(rounds) == sorted("abc" * 5)
        assert seen.index("other") <= 1
        assert not re.search("aa|bb|cc", rounds[:-2])

    async def test_a_slice_of_the_background_is_short(self, monkeypatch):
        """
        Nobody waits there, and requests wait less; still less beside several batches, of which
        each runs another time before it.
        """
        monkeypatch.setattr("asgi_batch._worker.monotonic", lambda: 1000.0)
        turns = Turns()
        own, background, shared = Pace(), Pace(turns), Pace(turns)
        own.start()
        with turns:
            background.start()
            with turns:
                shared.start()
                shared_slice = turns.slice
            assert turns.slice > shared_slice

        assert shared.due < background.due < own.due


def test_http_scopes_are_no_batches():
    """
    The template takes what it needs from any scope.
    """
    template = ScopeTemplate(http_scope())
    (operation,) = operations(1)

    assert template.scope_for(operation, None)["path"] == "/"
