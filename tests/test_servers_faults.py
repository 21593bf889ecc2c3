"""
Servers whose Redis goes, stands still, forgets or is full, and servers whose clock is wrong.
"""

import sys
import time
from pathlib import Path

import httpx
import pytest

from redis_server import redis_server, wait_until
from servers import HOST, command_for, free_port, kill, start
from service import (
    APP,
    KIND,
    PATIENCE,
    Service,
    assert_nothing_unsafe_ran_twice,
    mixed,
    post_later,
    results_of,
    status_of,
    submit,
    wait_for,
)

# Twice what an answer may take, as the machine may be busy.
SOON = 5.0
# Seconds for which the app holds its batches.
LEASE = 1.0
_WORK = [{"method": "POST", "path": "/work"}]


@pytest.fixture
def redis(tmp_path):
    """
    A Redis server that a test may hurt for good.
    """
    with redis_server(tmp_path / "redis") as proc:
        yield proc


@pytest.fixture
def service(redis, tmp_path):
    """
    A service over that Redis.
    """
    return Service(redis.url, tmp_path)


# The start.


def end_of(service, folder):
    """
    How a server that cannot start has ended, and what it has said.
    """
    command = [sys.executable, *command_for(KIND, free_port()), APP]
    process, log_file = start(command, folder, service.env)
    try:
        return process.wait(PATIENCE), log_file.read_text()
    finally:
        kill(process)


def test_f17_a_server_does_not_come_up_without_its_redis(tmp_path):
    """
    F17: it ends with an error and says why.
    """
    service = Service(f"redis://{HOST}:{free_port()}/0", tmp_path)
    status, log = end_of(service, tmp_path / "server")

    assert status not in (0, None)
    assert "asgi_batch: The store does not answer" in log
    assert service.starts() == {}


def test_f53_a_server_does_not_come_up_with_a_wrong_password(redis, tmp_path):
    """
    F53: it ends with an error, says why without the password, and does not try on and on.
    """
    redis.client.acl_setuser("someone", enabled=True, passwords=["+right"], categories=["+@all"])
    service = Service(f"redis://someone:s3cret@{HOST}:{redis.port}/0", tmp_path)
    status, log = end_of(service, tmp_path / "server")

    assert status not in (0, None)
    assert "asgi_batch: Redis refuses the user or password" in log
    assert "s3cret" not in log
    assert redis.client.info("errorstats")["errorstat_WRONGPASS"]["count"] <= 3


# Redis is gone for a while.


def test_f35_a_batch_is_refused_while_redis_is_gone(service, redis, tmp_path):
    """
    F35: 503 in time, with the time after which to try again, and nothing of it is ever done.
    """
    with service.server() as server:
        redis.kill()
        started = time.monotonic()
        answer = post_later(server.url, _WORK)
        wait = time.monotonic() - started
        with redis.restarted(tmp_path / "again") as proc:
            later = wait_for(server.url, submit_when_possible(server.url, mixed(2)))
            size = len(list(proc.client.scan_iter("*:rec")))

    assert answer.status_code == 503
    assert answer.json()["code"] == "store_unavailable"
    assert int(answer.headers["retry-after"]) > 0
    assert wait <= SOON
    assert later["succeeded"] == 2
    assert service.starts() == {("GET", "0"): 1, ("POST", "1"): 1}
    assert size == 1


def submit_when_possible(url, operations):
    """
    Send a batch until it is accepted.
    """
    answers = []

    def is_accepted():
        answers.append(post_later(url, operations))
        return answers[-1].status_code == 202

    wait_until(is_accepted)
    return answers[-1].json()


def test_f35_what_needs_no_store_is_answered_while_redis_is_gone(service, redis):
    """
    F35: batches that are answered at once go on.
    """
    with service.server() as server:
        redis.kill()
        answer = httpx.post(f"{server.url}/batch", json={"operations": mixed(4)})

    assert [each["status"] for each in answer.json()["results"]] == [200] * 4


def epoch_of(redis):
    """
    How often the only batch that there is has been claimed.
    """
    (record,) = redis.client.scan_iter("*:rec")
    return int(redis.client.hget(record, "epoch"))


def test_f36_a_short_silence_of_redis_is_sat_out(service, redis):
    """
    F36: shorter than the lease: the same holder goes on, and each operation runs once.
    """
    with service.server() as server:
        batch = submit(server.url, mixed(200))
        wait_for(server.url, batch, lambda status: status["progress"] > 0.2)
        with redis.frozen():
            time.sleep(0.3)
        status = wait_for(server.url, batch)
        results = results_of(server.url, batch)

    assert (status["status"], status["succeeded"]) == ("completed", 200)
    assert len(results) == 200
    assert set(service.starts().values()) == {1}
    assert epoch_of(redis) == 1


def test_f37_a_long_silence_of_redis_stops_the_holder(service, redis):
    """
    F37: once its lease may have ended it starts nothing more; afterwards the batch comes to its
    end, in whatever process, and no POST runs twice.
    """
    with service.server() as first, service.server() as second:
        batch = submit(first.url, mixed(200))
        wait_for(first.url, batch, lambda status: status["progress"] > 0.2)
        with redis.frozen():
            time.sleep(1.5 * LEASE)
            fenced = service.starts()
            time.sleep(1.5 * LEASE)
            still_fenced = service.starts()
        status = wait_for(second.url, batch)
        results = results_of(second.url, batch)

    assert still_fenced == fenced
    assert len(fenced) < 200
    assert (status["status"], status["completed"]) == ("completed", 200)
    assert_nothing_unsafe_ran_twice(service, results)


def test_f41_an_acknowledged_batch_survives_a_crash_of_redis(tmp_path):
    """
    F41: kill -9 of a Redis that keeps an append-only file, in the middle of a batch: after its
    restart the batch goes on without help, and so does another that waited for its turn.
    """
    with redis_server(tmp_path / "redis", appendonly=True) as redis:
        service = Service(redis.url, tmp_path)
        with service.server() as server:
            batch = submit(server.url, mixed(200))
            wait_for(server.url, batch, lambda status: status["progress"] > 0.2)
            redis.kill()
            time.sleep(0.5)
            with redis.revived():
                status = wait_for(server.url, batch)
                results = results_of(server.url, batch)
                later = wait_for(server.url, submit_when_possible(server.url, _WORK))

    assert (status["status"], status["completed"]) == ("completed", 200)
    assert len(results) == 200
    assert later["succeeded"] == 1
    starts = service.starts()
    starts["POST", "0"] -= 1
    assert starts["POST", "0"] == 0
    assert_nothing_unsafe_ran_twice(service, results)


def test_f42_a_batch_that_redis_has_forgotten_stops(service, redis):
    """
    F42: FLUSHALL in the middle of a batch: nothing more starts, its status is 404, and no key of
    it comes back.
    """
    with service.server() as server:
        batch = submit(server.url, mixed(400))
        wait_for(server.url, batch, lambda status: status["progress"] > 0.1)
        redis.client.flushall()
        answer = status_of(server.url, batch)
        wait_until(lambda: is_settled(service))
        stopped = service.starts()
        time.sleep(LEASE)
        sizes = {redis.client.dbsize() for _ in range(20)}
        results = httpx.get(server.url + batch["resultsUrl"])
        later = wait_for(server.url, submit(server.url, _WORK))

    assert answer.status_code == results.status_code == 404
    assert sum(stopped.values()) < 400
    assert sizes == {0}
    assert later["succeeded"] == 1
    assert sum(service.starts().values()) == sum(stopped.values()) + 1


def is_settled(service):
    """
    Whether no operation starts for a while.
    """
    before = service.starts()
    time.sleep(LEASE / 2)
    return service.starts() == before


def test_f43_a_full_redis_refuses_new_batches_and_ends_those_it_has(service, redis):
    """
    F43: 503 ``store_full`` for what is new, while a batch that is there goes on to its end, under
    the same holder, long after its first lease.
    """
    with service.server() as server:
        slow = [{"method": "POST", "path": "/work?seconds=0.3"}] * 80
        batch = submit(server.url, slow)
        wait_for(server.url, batch, lambda status: status["progress"] > 0)
        redis.config(maxmemory="1mb")
        started = time.monotonic()
        answer = post_later(server.url, _WORK)
        status = wait_for(server.url, batch)
        took = time.monotonic() - started
        redis.config(maxmemory=0)
        later = wait_for(server.url, submit(server.url, mixed(1)))

    assert answer.status_code == 503
    assert answer.json()["code"] == "store_full"
    assert int(answer.headers["retry-after"]) > 0
    assert took > LEASE
    assert (status["status"], status["succeeded"]) == ("completed", 80)
    assert later["succeeded"] == 1
    assert {count for (method, _), count in service.starts().items() if method == "POST"} == {1}


# F51: the time of day.


def other_time(offset):
    """
    An environment in which the time of day is another; how long things take is the same.
    """
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return {"LD_PRELOAD": str(library), "DONT_FAKE_MONOTONIC": "1", "FAKETIME": offset}


def test_f51_processes_with_other_times_share_their_batches(service):
    """
    F51: one is an hour ahead and one behind: both carry batches out, and take none from the other.
    """
    with (
        service.server(**other_time("+1h")) as ahead,
        service.server(**other_time("-1h")) as behind,
    ):
        slow = [{"method": "POST", "path": "/work?seconds=0.2"}] * 40
        batches = [submit(each.url, slow) for each in (ahead, behind) for _ in range(4)]
        statuses = [wait_for(behind.url, batch) for batch in batches]

    assert [status["succeeded"] for status in statuses] == [40] * 8
    assert set(service.starts().values()) == {8}
    assert len(service.pids()) == 2
