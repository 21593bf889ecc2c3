"""
The chaos itself, short, and its checkers: each must find what violates it, and nothing else.
"""

import asyncio
from dataclasses import replace

import pytest

from chaos.checkers import c9_nothing_is_left, check, shared
from chaos.history import (
    Committed,
    Disturbance,
    Final,
    History,
    Leftovers,
    Observation,
    Planned,
    Run,
    Submission,
    Worker,
)
from chaos.run import run

BATCH = "b" * 32
SHORT = 10


def test_nothing_is_violated_in_ten_iterations(tmp_path):
    """
    F1, F2, F6, F8, F36 to F41: kills, pauses, stops and cuts at random, and each promise is kept.
    """
    told = []
    figures = asyncio.run(run(SHORT, 2026, tmp_path, tell=told.append))

    assert figures["violations"] == 0, "\n".join(told)
    assert figures["iterations"] == SHORT
    assert figures["operations"] > 10 * SHORT
    assert figures["kills"] * figures["pauses"] * figures["link_faults"] > 0
    assert figures["shared_batches"] * figures["commits"] > 0


def answer(run, status=200):
    """
    The result that *run* has given.
    """
    body = {"pid": run.pid, "attempt": run.attempt, "nonce": run.nonce}
    return {"id": str(run.index), "status": status, "result" if status < 400 else "error": body}


def failure(index, code, status=502):
    """
    A result of the library's own.
    """
    return {"id": str(index), "status": status, "error": {"code": code}, "source": "batch"}


def status(succeeded=2, failed=0, skipped=0, *, state="completed", total=2, finished="t9"):
    """
    What a server says of the batch.
    """
    completed = succeeded + failed + skipped
    return {
        "status": state,
        "total": total,
        "completed": completed,
        "succeeded": succeeded,
        "failed": failed,
        "skipped": skipped,
        "progress": completed / total,
        "updatedAt": "t9",
        "finishedAt": finished,
    }


class Case:
    """
    A batch of a ``GET`` and a ``POST`` that went well at 10, to be spoilt.
    """

    def __init__(self):
        operations = (Planned(0, "GET", 0.1), Planned(1, "POST", 0.1))
        self.submission = Submission("s", operations, batch_ids=[BATCH])
        self.history = History(
            submissions={"s": self.submission}, places={1: "0", 2: "1"}, chunk_sizes={BATCH: 0}
        )
        common = {"batch_id": BATCH, "attempt": 1, "tag": "s", "start": 10.0, "end": 10.1}
        self.get = Run(pid=1, index=0, method="GET", nonce="n0", **common)
        self.post = Run(pid=1, index=1, method="POST", nonce="n1", **common)
        self.runs = [self.get, self.post]
        self.results = [answer(self.get), answer(self.post)]
        self.document = status()
        self.others = []
        self.is_known = True
        self.see(9.9, succeeded=0, state="processing", finished=None)
        self.see(12.0)

    def see(self, at, *, version=1, **changes):
        """
        A poll, asked and answered within a hundredth of a second.
        """
        seen = Observation(BATCH, at, at + 0.01, status(**changes), version)
        self.history.observations.append(seen)

    def cancelled(self, at):
        """
        An answer to a cancellation.
        """
        document = status(succeeded=0, state="cancelled", finished=None)
        self.history.cancellations.append(Observation(BATCH, at - 0.1, at, document, 1))
        self.history.observations.clear()
        self.document = status(state="cancelled")

    def disturb(self, kind, who, start, end):
        """
        Something that is done to a server.
        """
        self.history.disturbances.append(Disturbance(kind, who, start, end))

    def again(self, run=None, **changes):
        """
        The ``GET`` runs a second time, by default later and elsewhere.
        """
        changes = {"pid": 2, "attempt": 2, "nonce": "n2", "start": 11.5, "end": 11.6, **changes}
        self.runs.append(replace(run or self.get, **changes))
        return self.runs[-1]

    def violated(self):
        """
        The names of the checkers that complain.
        """
        told = [Final(BATCH, self.document, self.results), *self.others]
        finals = {BATCH: told} if self.is_known else {}
        return {each.partition(":")[0] for each in check(self.history, self.runs, finals)}


@pytest.fixture
def case():
    """
    A batch that went well.
    """
    return Case()


def test_what_went_well_violates_nothing(case):
    """
    No checker complains of a batch that simply ran.
    """
    assert case.violated() == set()


def test_c1_a_batch_that_was_acknowledged_and_is_not_there(case):
    """
    It is a violation although nothing else is known.
    """
    case.is_known = False

    assert "C1" in case.violated()


def test_c1_one_key_for_two_batches(case):
    """
    A submission with a key that was repeated must not become two batches.
    """
    case.submission.key = "k"
    case.submission.batch_ids.append("c" * 32)

    assert "C1" in case.violated()


def test_c1_a_batch_that_runs_and_cannot_be_seen(case):
    """
    What operations ran for must be known to the store.
    """
    case.submission.batch_ids.clear()
    case.is_known = False

    assert case.violated() == {"C1"}


def test_c2_a_post_that_ran_twice(case):
    """
    Whatever has happened to the first process.
    """
    case.disturb("kill", 1, 10.05, 10.05)
    case.results[1] = answer(case.again(case.post))

    assert case.violated() == {"C2"}


def test_c2_a_post_with_a_key_of_its_own_may_run_twice(case):
    """
    The app sees to it that the second run does nothing.
    """
    case.submission.operations = (Planned(0, "GET"), Planned(1, "POST", has_key=True))
    case.disturb("kill", 1, 10.05, 10.05)
    case.results[1] = answer(case.again(case.post))

    assert case.violated() == set()


def test_c3_a_fourth_attempt(case):
    """
    There are three at most.
    """
    for attempt in (2, 3, 4):
        case.disturb("kill", attempt - 1, 10.1 + attempt, 10.1 + attempt)
        at = {"start": 11.0 + attempt, "end": 11.1 + attempt}
        last = case.again(attempt=attempt, nonce=f"n{attempt}", **at)
    case.results[0] = answer(last)
    case.history.observations.pop()

    assert "C3" in case.violated()


def test_c3_one_attempt_made_twice(case):
    """
    Each start has a number of its own.
    """
    case.disturb("kill", 1, 10.1, 10.1)
    case.again(attempt=1)

    assert "C3" in case.violated()


def test_c3_a_repeat_without_a_cause(case):
    """
    Nothing is run again where no process was lost.
    """
    case.results[0] = answer(case.again())

    assert "C3" in case.violated()


@pytest.mark.parametrize(("code", "index"), [("outcome_unknown", 1), ("worker_lost", 0)])
def test_c3_an_unknown_outcome_without_a_cause(case, code, index):
    """
    Nothing is told to be unknown where no process was lost.
    """
    case.results[index] = failure(index, code)
    case.document = status(1, 1)
    case.runs[index] = replace(case.runs[index], end=None)
    case.history.observations.clear()

    assert case.violated() == {"C3"}


def test_c4_an_answer_that_nobody_gave(case):
    """
    A result must be that of a run.
    """
    case.runs.pop()

    assert case.violated() == {"C4"}


def test_c4_an_answer_of_a_run_that_has_not_ended(case):
    """
    An operation is not answered before it was carried out.
    """
    case.runs[0] = replace(case.get, end=None)

    assert case.violated() == {"C4"}


def test_c4_an_answer_of_a_process_that_had_lost_the_batch(case):
    """
    Once an operation has been started again, the first process has no say.
    """
    case.disturb("pause", 1, 10.05, 11.7)
    case.again()

    assert case.violated() == {"C4"}


def test_c4_an_operation_that_is_told_not_to_have_run(case):
    """
    424 means: never executed.
    """
    case.submission.stops_on_error = True
    case.results[1] = failure(1, "skipped", 424)
    case.document = status(1, 0, 1)
    case.history.observations.clear()

    assert case.violated() == {"C4"}


def test_c4_an_operation_that_is_cancelled_by_nobody(case):
    """
    A reason that is given must be there.
    """
    case.runs.pop()
    case.results[1] = failure(1, "cancelled", 424)
    case.document = status(1, 0, 1)
    case.history.observations.clear()

    assert case.violated() == {"C4"}


def test_c4_another_status_than_the_apps(case):
    """
    The app has answered 200.
    """
    case.results[0] = answer(case.get, 500)
    case.document = status(1, 1)
    case.history.observations.clear()

    assert case.violated() == {"C4"}


def test_c4_an_answer_that_is_lost_by_a_process_that_stopped_as_told(case):
    """
    A process that is told to stop tells first what it knows.
    """
    case.disturb("term", 1, 10.0, 10.9)
    case.results[0] = answer(case.again())

    assert case.violated() == {"C4"}


def test_c4_an_answer_that_is_lost_with_its_process_is_no_violation(case):
    """
    It died before it could tell.
    """
    case.disturb("kill", 1, 10.2, 10.2)
    case.results[0] = answer(case.again())

    assert case.violated() == set()


@pytest.mark.parametrize(
    "before",
    [
        {"succeeded": 2, "state": "processing", "total": 3},
        {"succeeded": 1, "failed": 1, "state": "processing", "total": 3},
        {"succeeded": 1, "skipped": 1, "state": "processing", "total": 3},
    ],
)
def test_c5_counters_that_go_back(case, before):
    """
    A later poll must not see less.
    """
    case.history.observations.pop()
    case.see(10.2, finished=None, **before)
    case.see(10.3, finished=None, succeeded=1, state="processing", total=3)

    assert case.violated() == {"C5"}


def test_c5_a_version_that_goes_back(case):
    """
    The ETag counts changes.
    """
    case.see(10.2, succeeded=1, state="processing", finished=None, version=2)

    assert case.violated() == {"C5"}


def test_c5_an_end_that_is_not_the_end(case):
    """
    A batch that was finished does not change.
    """
    case.see(13.0, version=2)

    assert case.violated() == {"C5"}


def test_c5_a_batch_that_is_cancelled_and_then_completed(case):
    """
    A cancellation is final.
    """
    case.history.observations.pop()
    case.see(10.2, succeeded=1, state="cancelled", finished=None)
    case.see(12.0)

    assert case.violated() == {"C5"}


def test_c5_a_batch_that_is_forgotten(case):
    """
    404 for what was acknowledged is a violation.
    """
    case.history.observations.append(Observation(BATCH, 13.0, 13.1, None))

    assert case.violated() == {"C5"}


def test_c5_processes_that_differ(case):
    """
    All of them tell the same.
    """
    case.others.append(Final(BATCH, {**case.document, "updatedAt": "t8"}, case.results))

    assert case.violated() == {"C5"}


def test_c5_polls_at_the_same_time_may_be_answered_in_any_order(case):
    """
    Nobody can tell which of them was asked first.
    """
    case.history.observations.pop()
    document = status(1, state="processing", finished=None)
    case.history.observations.append(Observation(BATCH, 10.0, 10.5, document, 2))
    case.see(10.4, succeeded=0, state="processing", finished=None)

    assert case.violated() == set()


def test_c6_counters_that_are_not_the_sum(case):
    """
    ``completed`` is what the others add up to.
    """
    case.history.observations[-1].document["completed"] = 1

    assert "C6" in case.violated()


def test_c6_counters_that_differ_from_the_results(case):
    """
    A result that is counted twice, or not at all.
    """
    case.results[0] = failure(0, "operation_timeout", 504)

    assert "C6" in case.violated()


def test_c6_a_result_that_is_missing(case):
    """
    Every operation has one.
    """
    case.results.pop()

    assert "C6" in case.violated()


def test_c7_a_start_after_the_answer_to_a_cancellation(case):
    """
    Nothing starts any more.
    """
    case.cancelled(9.9)

    assert case.violated() == {"C7"}


def test_c7_a_start_after_the_end(case):
    """
    A batch that has ended does not go on.
    """
    case.see(9.95)

    assert "C7" in case.violated()


@pytest.mark.parametrize(
    ("kind", "who", "start", "end"),
    [("dark", "0", 9.5, 10.5), ("drop", "0", 9.6, 9.6), ("freeze", "all", 9.5, 9.8)],
)
def test_c7_a_process_that_could_not_hear_of_it(case, kind, who, start, end):
    """
    It goes on until its fence, and that is no violation.
    """
    case.cancelled(9.9)
    case.disturb(kind, who, start, end)

    assert case.violated() == set()


def test_c7_a_process_that_goes_on_beyond_its_fence(case):
    """
    Whoever hears nothing for two thirds of a lease starts nothing.
    """
    case.cancelled(9.9)
    case.disturb("drop", "0", 9.0, 9.0)

    assert case.violated() == {"C7"}


def test_c7_c8_a_process_that_wakes_on_its_way_into_an_operation(case):
    """
    It can only go on with this one; a second one is a violation.
    """
    case.cancelled(9.0)
    case.disturb("pause", 1, 8.0, 9.95)
    alone = case.violated() == {"C7"}
    case.runs.pop()
    case.results[1] = failure(1, "cancelled", 424)
    case.document = status(1, 0, 1, state="cancelled")

    assert alone
    assert case.violated() == set()


def test_c8_two_runs_at_a_time(case):
    """
    Nobody takes a batch from a process that is well.
    """
    case.disturb("kill", 2, 8.0, 8.0)
    case.results[0] = answer(case.again(start=10.05))

    assert "C8" in case.violated()


def test_c8_two_runs_at_a_time_where_the_first_process_was_silent(case):
    """
    It may still be running what it had started.
    """
    case.disturb("dark", "0", 9.0, 11.0)
    case.runs[0] = replace(case.get, start=9.1, end=10.9)
    case.runs[1] = replace(case.post, start=9.1, end=9.2)
    case.history.observations.pop(0)
    case.results[0] = answer(case.again(start=10.2))

    assert case.violated() == set()


def test_c8_a_start_in_the_dark(case):
    """
    A process that hears nothing from its store starts nothing once its fence is reached.
    """
    case.disturb("dark", "0", 9.1, 10.3)

    assert case.violated() == {"C8"}


@pytest.fixture
def apart(case):
    """
    The ``POST`` runs in another process, while the ``GET`` runs.
    """
    case.runs[1] = replace(case.post, pid=2, start=10.05)
    return case


def test_c10_a_batch_that_two_processes_have(apart):
    """
    A batch that is claimed as a whole is in one process, and so is a chunk.
    """
    whole = apart.violated()
    apart.history.chunk_sizes[BATCH] = 2

    assert whole == {"C10"}
    assert apart.violated() == {"C10"}
    assert shared(apart.history, apart.runs) == set()


def test_c10_two_processes_that_have_a_chunk_each(apart):
    """
    That is what chunks are for.
    """
    apart.history.chunk_sizes[BATCH] = 1

    assert apart.violated() == set()
    assert shared(apart.history, apart.runs) == {BATCH}
    assert shared(apart.history, [apart.get, apart.post]) == set()


def test_c10_a_batch_that_is_taken_from_a_silent_process(apart):
    """
    It may still be running what it had started.
    """
    apart.disturb("dark", "0", 9.5, 10.1)

    assert apart.violated() == set()


@pytest.fixture
def atomic(case):
    """
    The batch is atomic: it ran in order, and was committed.
    """
    case.submission.commit = "done"
    case.runs[1] = case.post = replace(case.post, start=10.2, end=10.3)
    case.history.commits.append(Committed(1, 10.4, "s", ("n0", "n1")))
    return case


def undone(case, code="rolled_back", number=424):
    """
    All of it is told not to have happened, or that nobody knows.
    """
    case.results = [failure(index, code, number) for index in (0, 1)]
    counts = {"failed": 2} if number == 502 else {"skipped": 2}
    case.document = status(0, **counts, state="failed")
    case.history.observations.clear()


def ran_again(case, at):
    """
    Both operations run again in another process, from *at* on, and that is committed.
    """
    case.disturb("kill", 1, 10.35, 10.35)
    again = [
        case.again(run, nonce=f"m{run.index}", start=at + run.index, end=at + run.index + 0.1)
        for run in (case.get, case.post)
    ]
    case.results = [answer(run) for run in again]
    case.history.commits[:] = [Committed(2, at + 2, "s", ("m0", "m1"))]
    case.history.observations.clear()
    return again


def test_c11_a_batch_that_is_whole(atomic):
    """
    It may run again as long as nothing is committed, ``POST`` and all.
    """
    at_once = atomic.violated()
    ran_again(atomic, 11.5)

    assert at_once == set()
    assert atomic.violated() == set()


def test_c11_a_batch_that_runs_again_after_its_commit(atomic):
    """
    Although its process is dead and nobody has told the end.
    """
    ran_again(atomic, 11.5)
    atomic.history.commits.insert(0, Committed(1, 10.4, "s", ("n0", "n1")))

    assert atomic.violated() == {"C11"}

    atomic.history.commits.pop()
    undone(atomic, "commit_unknown", 502)

    assert atomic.violated() == {"C11"}


@pytest.mark.parametrize("nonces", [("n0",), ("n0", "n0"), ("n0", "n1", "n1"), ("n1", "n2")])
def test_c11_a_commit_of_something_else(atomic, nonces):
    """
    A commit is of each operation, once, and of nothing else.
    """
    atomic.history.commits[:] = [Committed(1, 10.4, "s", nonces)]

    assert atomic.violated() == {"C11"}


def test_c11_a_commit_of_several_attempts(atomic):
    """
    What a dead process had done is not a part of what comes after it.
    """
    ran_again(atomic, 11.5)
    atomic.history.commits[:] = [Committed(2, 13.5, "s", ("n0", "m1"))]
    atomic.results[0] = answer(atomic.get)

    assert "C11" in atomic.violated()


@pytest.mark.parametrize(
    ("index", "changes"),
    [(1, {"start": 10.05}), (1, {"end": 10.5}), (1, {"start": 9.95, "end": 9.98})],
)
def test_c11_operations_that_are_not_one_after_the_other(atomic, index, changes):
    """
    Each comes to its end before the next one starts, and before the commit.
    """
    atomic.history.observations.pop(0)
    atomic.runs[index] = replace(atomic.runs[index], **changes)

    assert atomic.violated() == {"C11"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda case: case.history.commits.append(case.history.commits[0]),
        lambda case: case.runs.__setitem__(1, replace(case.post, end=None)),
        lambda case: setattr(
            case.submission, "operations", (Planned(0, "GET"), Planned(1, "POST", status=500))
        ),
        lambda case: case.results.__setitem__(0, failure(0, "worker_lost")),
    ],
    ids=["twice", "before the end", "a failure", "two answers"],
)
def test_c11_what_nobody_knows_is_whole_as_well(atomic, spoil):
    """
    That its answer is lost does not mean that everything may happen.
    """
    undone(atomic, "commit_unknown", 502)
    for at in (9.0, 9.1, 10.35):
        atomic.disturb("kill", 1, at, at)
    before = atomic.violated()
    spoil(atomic)

    assert before == set()
    assert atomic.violated() == {"C11"}


def test_c11_a_batch_that_has_happened_and_failed(atomic):
    """
    The status of the batch is that of its operations.
    """
    atomic.document = status(state="failed")
    atomic.history.observations.clear()

    assert atomic.violated() == {"C11"}


def test_c11_an_answer_of_what_was_not_committed(atomic):
    """
    A response that has been computed is no commit.
    """
    atomic.history.commits.clear()

    assert atomic.violated() == {"C11"}


def test_c11_an_answer_that_is_half_of_it(atomic):
    """
    Either all of it is told to have happened, or nothing.
    """
    atomic.results[1] = failure(1, "rolled_back", 424)
    atomic.document = status(1, 0, 1)
    atomic.history.observations.clear()

    assert atomic.violated() == {"C11"}


@pytest.mark.parametrize("code", ["rolled_back", "commit_failed", "cancelled"])
def test_c11_a_commit_that_is_denied(atomic, code):
    """
    What has happened is not told to be undone.
    """
    atomic.submission.commit = "refused"
    undone(atomic, code)

    assert atomic.violated() == {"C11"}


@pytest.mark.parametrize(
    ("code", "state"),
    [("rolled_back", 424), ("commit_failed", 424), ("cancelled", 424), ("commit_unknown", 502)],
)
def test_c11_an_end_without_a_cause(atomic, code, state):
    """
    Nothing had gone wrong, nobody had cancelled it.
    """
    undone(atomic, code, state)
    atomic.history.commits.clear()

    assert atomic.violated() == {"C11"}


@pytest.mark.parametrize("is_committed", [True, False])
def test_c11_a_commit_that_nobody_knows_of(atomic, is_committed):
    """
    Its process has died: it may have happened, or not.
    """
    undone(atomic, "commit_unknown", 502)
    atomic.disturb("kill", 1, 10.35, 10.45)
    atomic.history.commits[is_committed:] = []

    assert atomic.violated() == set()


def test_c11_what_was_rolled_back_as_it_should(atomic):
    """
    One operation has failed, and the others are undone.
    """
    atomic.submission.operations = (Planned(0, "GET"), Planned(1, "POST", status=500))
    undone(atomic)
    atomic.results[1] = answer(atomic.post, 500)
    atomic.document = status(0, 1, 1, state="failed")
    atomic.history.commits.clear()

    assert atomic.violated() == set()


FILES = ("anon_inode:[eventpoll]", "pipe:[8]")
LEFT = Leftovers(
    keys={"k": 10},
    expected=frozenset({"k"}),
    workers=(Worker(pid=1, connections=3, others=FILES, others_at_first=FILES),),
    clients=4,
    clients_expected=4,
)


@pytest.mark.parametrize(
    "changes",
    [
        {"keys": {"k": 10, "another": 10}},
        {"keys": {"k": -1}},
        {"workers": (Worker(pid=1, connections=11, others=FILES, others_at_first=FILES),)},
        {
            "workers": (
                Worker(pid=1, connections=3, others=(*FILES, "pipe:[9]"), others_at_first=FILES),
            )
        },
        {"clients": 5},
    ],
)
def test_c9_something_is_left(changes):
    """
    A key too many, a key for ever, connections and files that nobody closes.
    """
    assert list(c9_nothing_is_left(LEFT)) == []
    assert len(list(c9_nothing_is_left(replace(LEFT, **changes)))) == 1
