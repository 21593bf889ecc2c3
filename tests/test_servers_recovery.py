"""
Batches in Redis whose servers are killed, stopped and multiplied: nothing lost, nothing run twice.
"""

import signal
import time

import httpx
import pytest

from redis_server import redis_server
from servers import kill
from service import PATIENCE, Service, mixed, results_of, submit, unknown, wait_for


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """
    One Redis server for all servers of an app.
    """
    with redis_server(tmp_path_factory.mktemp("redis")) as proc:
        yield proc


@pytest.fixture
def service(redis, tmp_path):
    """
    A service whose store is empty.
    """
    redis.client.flushall()
    return Service(redis.url, tmp_path)


def test_f1_f2_a_killed_process_loses_nothing_and_repeats_nothing_unsafe(service):
    """
    F1, F2: another process goes on; a POST that may have run is told to be unknown, and not run.
    """
    with service.server() as first:
        batch = submit(first.url, mixed(200))
        wait_for(first.url, batch, lambda status: status["progress"] > 0.3)
        kill(first.process)
        with service.server() as second:
            status = wait_for(second.url, batch, lambda status: status["finishedAt"])
            results = results_of(second.url, batch)
            first.process.returncode = 0
    doubtful = unknown(results)
    starts = service.starts()

    assert (status["status"], status["total"], status["completed"]) == ("completed", 200, 200)
    assert len(results) == 200
    assert all(result["status"] in (200, 502) for result in results)
    assert all(index % 2 for index in doubtful)
    assert all(starts[("POST", str(n))] == 1 for n in range(1, 200, 2) if n not in doubtful)
    assert all(starts[("POST", str(n))] <= 1 for n in doubtful)
    assert all(1 <= starts[("GET", str(n))] <= 3 for n in range(0, 200, 2))


def test_f6_a_server_that_stops_hands_its_batch_over(service):
    """
    F6: what runs comes to its end, and another process goes on with the rest: each runs once.
    """
    with service.server() as first, service.server() as second:
        batch = submit(first.url, mixed(200))
        wait_for(first.url, batch, lambda status: status["progress"] > 0.2)
        first.process.send_signal(signal.SIGTERM)
        status = wait_for(second.url, batch, lambda status: status["finishedAt"])
        results = results_of(second.url, batch)

    assert (status["status"], status["succeeded"]) == ("completed", 200)
    assert {result["status"] for result in results} == {200}
    assert set(service.starts().values()) == {1}
    assert len(service.pids()) == 2


def test_f5_an_operation_that_ends_its_process_takes_no_other_with_it(service):
    """
    F5: after three processes it is given up, and the rest of the batch completes.
    """
    operations = mixed(20)
    operations[7] = {"method": "GET", "path": "/poison"}
    batch, deaths, status = None, 0, {"finishedAt": None}
    while not status["finishedAt"]:
        assert deaths <= 3
        with service.server() as server:
            batch = batch or submit(server.url, operations)
            try:
                status = wait_for(server.url, batch, lambda status: status["finishedAt"])
                results = results_of(server.url, batch)
            except httpx.TransportError:
                deaths += 1
                server.process.wait(PATIENCE)
                server.process.returncode = 0

    assert deaths == 3
    assert status["completed"] == 20
    assert results[7]["error"]["code"] == "worker_lost"
    assert all(results[n]["status"] == 200 for n in range(0, 20, 2))
    assert max(count for (method, _), count in service.starts().items() if method == "POST") == 1


def test_f8_a_paused_process_changes_nothing_when_it_wakes(service):
    """
    F8: its batch is finished by another; it starts nothing more, and its results are refused.

    It may have been paused on the very way into an operation: that one it can only go on with.
    """
    with service.server() as first, service.server() as second:
        batch = submit(first.url, mixed(100))
        holder = first if wait_for_holder(service, first) else second
        other = second if holder is first else first
        holder.process.send_signal(signal.SIGSTOP)
        status = wait_for(other.url, batch, lambda status: status["finishedAt"])
        before = service.starts()
        holder.process.send_signal(signal.SIGCONT)
        later = wait_for(holder.url, batch, lambda status: status["finishedAt"])
        results = results_of(holder.url, batch)
    after = service.starts()
    doubtful = {("POST", str(n)) for n in unknown(results)}

    assert later == status
    assert status["completed"] == 100
    assert (after - before).total() <= 1
    assert all(count == 1 for key, count in after.items() if key[0] == "POST")
    assert {("POST", str(n)) for n in range(1, 100, 2)} - doubtful <= set(before)


def wait_for_holder(service, server):
    """
    Whether *server* is the one that runs operations.
    """
    while not service.pids():
        time.sleep(0)
    return str(server.process.pid) in service.pids()


def test_f12_four_workers_on_one_redis_tell_the_same(service):
    """
    F12: whichever of them is asked, status and results are the same, and each operation runs once.
    """
    with service.server("--workers", "4") as server:
        # One process carries out four at a time, and these take long enough for others to look.
        slow = [{"method": "PUT", "path": "/work?seconds=0.2"}] * 40
        batches = [submit(server.url, slow) for _ in range(8)]
        statuses, results = [], []
        for batch in batches:
            wait_for(server.url, batch, lambda status: status["finishedAt"])
            statuses.append({httpx.get(server.url + batch["statusUrl"]).text for _ in range(20)})
            results.append({httpx.get(server.url + batch["resultsUrl"]).text for _ in range(20)})

    assert [len(each) for each in statuses + results] == [1] * 16
    assert set(service.starts().values()) == {8}
    assert len(service.pids()) > 1


def test_f23_a_batch_in_redis_can_be_cancelled_from_any_process(service):
    """
    F23: nothing starts after the answer to the cancellation, whoever runs the batch.
    """
    with service.server() as first, service.server() as second:
        batch = submit(first.url, mixed(400))
        wait_for(first.url, batch, lambda status: status["progress"] > 0.1)
        answers = [
            httpx.delete(f"{server.url}/batch/{batch['batchId']}") for server in (first, second)
        ]
        before = service.starts()
        status = wait_for(first.url, batch, lambda status: status["finishedAt"])

    assert [answer.json()["status"] for answer in answers] == ["cancelled"] * 2
    assert service.starts() == before
    assert status["completed"] == 400
    assert status["skipped"] > 0
