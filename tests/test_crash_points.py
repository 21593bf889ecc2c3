"""
Processes that die at each step that a store takes: F3, and F4 where they had just taken over.
"""

import asyncio
import signal
import time
from contextlib import contextmanager
from random import Random

import httpx
import pytest

from chaos.checkers import check
from chaos.client import Client, document_of
from chaos.effect_log import EffectLog
from chaos.faults import Link
from chaos.history import Disturbance, History, Planned, Submission
from chaos.worker_proc import RedisProc, WorkerProc, ending

LEASE, DRAIN = "0.6", "10"
PATIENCE = 60

KEYED = "POST with a key"
MIXED = ("GET", "POST", "PUT", KEYED, "POST", "GET", "POST", "PUT")


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """
    One Redis server for all processes.
    """
    proc = RedisProc(tmp_path_factory.mktemp("redis"))
    with ending(proc):
        asyncio.run(proc.up())
        yield proc


class Scene:
    """
    Processes that come one after the other, and a batch that outlives all but the last.
    """

    def __init__(self, redis, folder):
        redis.client.flushall()
        self._redis = redis
        self._folder = folder
        self._count = 0
        self._log = EffectLog(folder / "effects.log")
        self.history = History()
        self.runs = []
        self.finals = {}

    @contextmanager
    def process(self, crash="", port=None):
        """
        A server that dies at the point *crash*.
        """
        worker = self.worker(crash, port or self._redis.port)
        with ending(worker):
            asyncio.run(worker.up_once())
            yield worker

    def worker(self, crash, port):
        """
        The same, not yet started.
        """
        self._count += 1
        env = {"EFFECTS": str(self._log.file), "LEASE": LEASE, "DRAIN": DRAIN, "CRASH": crash}
        return WorkerProc("chaos.app:app", self._folder / str(self._count), env, port)

    def submission(self, *written, seconds=0.02):
        """
        A batch that can be sent several times.
        """
        operations = tuple(
            Planned(index, each.split(" ")[0], seconds, has_key=each == KEYED)
            for index, each in enumerate(written)
        )
        submission = Submission("s", operations, key="once")
        self.history.submissions["s"] = submission
        return submission

    def submit(self, worker, submission):
        """
        Send the batch; whether there was an answer.
        """
        headers = {"prefer": "respond-async", "idempotency-key": submission.key}
        answer = self._ask("POST", f"{worker.url}/batch", submission, headers)
        if answer is not None:
            submission.batch_ids.append(answer.json()["batchId"])
        return answer is not None

    def cancel(self, worker, submission):
        """
        Cancel the batch; whether there was an answer.
        """
        (batch_id,) = submission.batch_ids
        return self._ask("DELETE", f"{worker.url}/batch/{batch_id}") is not None

    def dies(self, worker):
        """
        Wait until the process is dead.
        """
        at = asyncio.run(worker.ended(PATIENCE))
        self.history.deaths[worker.pid] = at
        self.history.disturbances.append(Disturbance("kill", worker.pid, at, at))

    def started(self, count):
        """
        Wait until so many operations have been started.
        """
        deadline = time.monotonic() + PATIENCE
        while not self._log.file.exists() or self._log.file.read_text().count("start") < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def allowed(self, count):
        """
        Wait until so many operations may start, and the first of them have.
        """
        self.started(1)
        (record,) = self._redis.client.keys("*:rec")
        deadline = time.monotonic() + PATIENCE
        while int(self._redis.client.hget(record, "allowed")) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def told(self):
        """
        The indexes of the operations whose results the store has.
        """
        return sorted(
            int(index)
            for key in self._redis.client.keys("*:res")
            for index in self._redis.client.hkeys(key)
        )

    def finish(self, worker):
        """
        Wait for the end of all batches, and check everything; how each operation has ended.
        """
        for key in self._redis.client.keys("*:rec"):
            batch_id = key.split(":")[3]
            self.finals[batch_id] = [asyncio.run(self._final(worker, batch_id))]
        self.read()
        results = [each for told in self.finals.values() for each in told[0].results]

        assert check(self.history, self.runs, self.finals) == []
        return [
            each["error"]["code"] if each.get("source") == "batch" else each["status"]
            for each in results
        ]

    def read(self):
        """
        Read what operations have done since the last reading.
        """
        self.runs += self._log.read()[0]

    def starts(self):
        """
        How often each operation was started.
        """
        sent = self.history.submissions["s"].operations
        return [sum(run.index == each.index for run in self.runs) for each in sent]

    def _ask(self, method, url, submission=None, headers=None):
        document = None if submission is None else document_of(submission)
        try:
            answer = httpx.request(method, url, json=document, headers=headers, timeout=PATIENCE)
        except httpx.TransportError:
            return None
        assert answer.is_success
        return answer

    async def _final(self, worker, batch_id):
        async with httpx.AsyncClient() as http, asyncio.timeout(PATIENCE):
            client = Client(http, [worker.url], Random(0), self.history)
            await client.follow(batch_id)
            return await client.final(worker.url, batch_id)


@pytest.fixture
def scene(redis, tmp_path):
    """
    An empty store.
    """
    return Scene(redis, tmp_path)


def died_at(scene, point):
    """
    A batch of mixed operations after the process that had it died at *point*.
    """
    submission = scene.submission(*MIXED)
    with scene.process(point) as first:
        scene.submit(first, submission)
        scene.dies(first)
    return submission


def all_but_posts(ends):
    """
    How the operations have ended that are safe to repeat.
    """
    return [end for end, each in zip(ends, MIXED, strict=True) if each != "POST"]


def test_f3_before_a_batch_is_kept_there_is_none(scene):
    """
    F3: its client hears nothing, nothing has run, and sending it again is the first time.
    """
    submission = died_at(scene, "before create")
    with scene.process() as second:
        nothing = scene.finish(second)
        scene.submit(second, submission)
        ends = scene.finish(second)

    assert nothing == []
    assert ends == [200] * 8
    assert scene.starts() == [1] * 8


@pytest.mark.parametrize("point", ["after create", "before claim", "after claim", "before first"])
def test_f3_what_dies_before_it_starts_anything_costs_nothing(scene, point):
    """
    F3: another process runs each operation once, whether or not the client has heard; a client
    that repeats its request gets the same batch.
    """
    submission = died_at(scene, point)
    with scene.process() as second:
        ends = scene.finish(second)
        assert scene.submit(second, submission)
        assert scene.finish(second) == ends

    assert ends == [200] * 8
    assert scene.starts() == [1] * 8


def test_f3_what_may_have_started_is_not_told_to_be_sure(scene):
    """
    F3: the intent is kept and nothing has started: a POST is unknown, the rest runs.
    """
    died_at(scene, "after first")
    with scene.process() as second:
        ends = scene.finish(second)

    assert ends == [200, "outcome_unknown", *[200] * 6]
    assert scene.starts() == [1, 0, *[1] * 6]


def test_f3_results_that_nobody_has_heard_of_are_those_of_a_repeat(scene):
    """
    F3: what has run and was not told is run again where that is safe, and unknown where not.
    """
    died_at(scene, "before entries")
    with scene.process() as second:
        ends = scene.finish(second)

    assert all_but_posts(ends) == [200] * 5
    assert ends[1] == "outcome_unknown"
    assert scene.starts()[0] == 2
    assert max(scene.starts()) == 2


def test_f3_results_that_were_told_stay(scene):
    """
    F3: what was told before the death of the process is not run again.
    """
    died_at(scene, "after entries")
    told = scene.told()
    with scene.process() as second:
        ends = scene.finish(second)

    assert told
    assert {(ends[index], scene.starts()[index]) for index in told} == {(200, 1)}
    assert all_but_posts(ends) == [200] * 5


def test_f3_the_last_results_are_lost_and_the_others_stay(scene):
    """
    F3: a batch whose last save never happened goes on.
    """
    died_at(scene, "before ends")
    told = scene.told()
    with scene.process() as second:
        ends = scene.finish(second)
    lost = set(range(8)) - set(told)

    assert lost
    assert {(ends[index], scene.starts()[index]) for index in told} <= {(200, 1)}
    assert {(ends[index], scene.starts()[index]) for index in lost} <= {
        (200, 2),
        ("outcome_unknown", 1),
    }


def test_f3_a_batch_that_has_ended_stays_as_it_is(scene):
    """
    F3: nothing is left to do for anybody.
    """
    died_at(scene, "after ends")
    with scene.process() as second:
        ends = scene.finish(second)

    assert ends == [200] * 8
    assert scene.starts() == [1] * 8


@pytest.mark.parametrize("point", ["before release", "after release"])
def test_f3_f6_a_process_that_dies_while_it_stops(scene, point):
    """
    F3, F6: it has told its results; only what it had not given back is unknown.
    """
    submission = scene.submission(*MIXED * 4, seconds=0.3)
    with scene.process(point) as first:
        scene.submit(first, submission)
        scene.started(4)
        first.signal(signal.SIGTERM)
        scene.dies(first)
    told = scene.told()
    with scene.process() as second:
        ends = scene.finish(second)
    unknown = [index for index, end in enumerate(ends) if end == "outcome_unknown"]

    assert 4 <= len(told) < 32
    assert {ends[index] for index in told} == {200}
    assert scene.starts() == [0 if index in unknown else 1 for index in range(32)]
    assert not (unknown and point == "after release")


def test_f3_a_cancellation_that_never_arrived(scene):
    """
    F3: the client has heard nothing, and the batch goes on.
    """
    submission = scene.submission(*MIXED, seconds=0.3)
    with scene.process("before cancel") as first:
        scene.submit(first, submission)
        scene.started(4)
        assert not scene.cancel(first, submission)
        scene.dies(first)
    with scene.process() as second:
        ends = scene.finish(second)

    assert all_but_posts(ends) == [200] * 5
    assert ends[1] == "outcome_unknown"


def test_f3_a_cancellation_whose_answer_is_lost_holds(scene):
    """
    F3: nothing more starts, in whatever process; and what may have run is not told to be skipped.
    """
    submission = scene.submission(*MIXED * 4, seconds=0.3)
    with scene.process("after cancel") as first:
        scene.submit(first, submission)
        scene.started(4)
        assert not scene.cancel(first, submission)
        scene.dies(first)
    with scene.process() as second:
        ends = scene.finish(second)

    assert ends[:4] == ["outcome_unknown"] * 4
    assert set(ends[4:]) <= {"outcome_unknown", "cancelled"}
    assert ends[-1] == "cancelled"
    assert scene.starts() == [1] * 4 + [0] * 28


@pytest.mark.parametrize(
    "point",
    [
        "after claim",
        "before trial",
        "after trial",
        "before entries",
        "after entries",
        "before ends",
        "after ends",
    ],
)
def test_f4_the_process_that_takes_over_dies_in_its_turn(scene, point):
    """
    F4: a third one brings the batch to its end; what is safe to repeat succeeds, no POST is
    repeated, and nothing stays locked.
    """
    died_at(scene, "before entries")
    with scene.process(point) as second:
        scene.dies(second)
    with scene.process() as third:
        ends = scene.finish(third)

    assert all_but_posts(ends) == [200] * 5
    assert ends[1] == "outcome_unknown"


def test_f4_f38_an_attempt_whose_reply_is_lost_counts_once(scene, redis):
    """
    F4, F38: the store has noted a second attempt and its reply is lost: there is still a third.
    """
    submission = scene.submission("GET")
    with scene.process("before ends") as first:
        scene.submit(first, submission)
        scene.dies(first)
    # Lease, index that may have started, trial, whether it ends.
    marker = b"".join(b"$%d\r\n%b\r\n" % (len(each), each) for each in (b"600", b"1", b"0", b"0"))
    assert asyncio.run(recover_over(scene, redis, marker))
    with scene.process() as third:
        ends = scene.finish(third)

    assert ends == [200]
    assert sorted(run.attempt for run in scene.runs) == [1, 2, 3]


def test_f37_a_process_that_is_cut_off_starts_nothing_once_its_fence_is_reached(scene, redis):
    """
    F37: what had been allowed to start does not, until the store is heard of again.
    """
    submission = scene.submission(*["GET"] * 24, seconds=1.5)
    start, end = asyncio.run(cut_off(scene, redis, submission))
    scene.read()

    assert [run for run in scene.runs if start + 1 < run.start < end] == []
    assert len([run for run in scene.runs if start + 1 < (run.end or 0) < end]) >= 4


async def cut_off(scene, redis, submission):
    """
    Let a process start a batch, and hear nothing from its store for three seconds; when that was.
    """
    async with Link(redis.port).running() as link, httpx.AsyncClient() as http:
        worker = scene.worker("", link.port)
        with ending(worker):
            await worker.up_once()
            await Client(http, [worker.url], Random(0), scene.history).submit(submission)
            await asyncio.to_thread(scene.allowed, 5)
            link.darken()
            start = time.monotonic()
            await asyncio.sleep(3)
            return start, time.monotonic()


async def recover_over(scene, redis, marker):
    """
    Let a process take over that loses the reply to the call with *marker*, and dies at the end;
    whether the reply was lost.
    """
    async with Link(redis.port).running() as link:
        worker = scene.worker("before ends", link.port)
        with ending(worker):
            dropping = asyncio.create_task(link.drop_reply_to(marker, PATIENCE))
            await worker.up_once()
            at = await worker.ended(PATIENCE)
            scene.history.disturbances.append(Disturbance("kill", worker.pid, at, at))
            return await dropping
