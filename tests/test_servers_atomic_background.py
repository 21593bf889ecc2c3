"""
Atomic batches in the background, whose servers are killed and stopped: each is carried out as a
whole and once, or it is told that nobody knows.
"""

import signal
import time

import httpx
import pytest

from atomic_support import (
    PATIENCE,
    body_of,
    limits,
    shop_for,
    told_by,
    unavailable,
    wait_until,
)
from redis_server import redis_server
from servers import kill
from service import results_of, status_of, wait_for
from wide import widely

UNKNOWN = (502, "commit_unknown")
UNDONE = (424, "rolled_back")
DONE = (201, None)
THREE = ("/users/1", "/users/2?then=wait", "/users/3?bulk")


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as proc:
        yield proc


@pytest.fixture(scope="module", params=["asyncpg", *widely("aiosqlite")])
def shop_of_all(request, redis, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    get_postgres = lambda: request.getfixturevalue("postgres")  # noqa: E731
    with shop_for(request.param, get_postgres, folder, STORE=redis.url) as shop:
        yield shop


@pytest.fixture
def shop(shop_of_all, redis):
    """
    A shop without users, and without batches.
    """
    redis.client.flushall()
    shop_of_all.empty()
    return shop_of_all


def submit(server, *paths):
    """
    Send an atomic batch for later; what is said of it.
    """
    answer = httpx.post(
        f"{server.url}/batch",
        json=body_of(*paths),
        headers={"prefer": "respond-async"},
        timeout=PATIENCE,
    )
    assert answer.status_code == 202, answer.text
    return answer.json()


def retry(server, batch):
    """
    Try *batch* again; what is said of the new one.
    """
    answer = httpx.post(f"{server.url}/batch/{batch['batchId']}/retry", timeout=PATIENCE)
    assert answer.status_code == 202, answer.text
    return answer.json()


def ending(server, batch):
    """
    How *batch* ends, and what its operations are told.
    """
    status = wait_for(server.url, batch)
    results = results_of(server.url, batch)
    assert len(results) == status["total"] == status["completed"]
    error = status.get("error", {}).get("code")
    return status["status"], error, [told_by(result) for result in results]


def is_dead(server):
    """
    Wait until a server has ended itself, and let it be.
    """
    server.process.wait(PATIENCE)
    server.process.returncode = 0


def who_holds(shop, *servers):
    """
    The server that has begun, and the other.
    """
    shop.wait_for_starts(1)
    pid = shop.starts()[0][1]
    return sorted(servers, key=lambda server: server.process.pid != pid)


def test_a_process_that_is_killed_before_the_commit(shop):
    """
    The other one runs all of it again, and it is there once.
    """
    with shop.server() as first, shop.server() as second:
        batch = submit(first, *THREE)
        holder, other = who_holds(shop, first, second)
        shop.wait_for_starts(2)
        kill(holder.process)
        holder.process.returncode = 0
        shop.open_gate()
        end = ending(other, batch)

    (one, two) = holder.process.pid, other.process.pid
    assert end == ("completed", None, [DONE] * 3)
    assert shop.starts() == [(1, one, 1), (2, one, 1), (1, two, 2), (2, two, 2), (3, two, 2)]
    assert shop.place.names == ["user 1", "user 2", "user 3"]


def test_an_operation_that_ends_each_process(shop):
    """
    After three of them it is given up, and nothing has happened.
    """
    paths = ("/users/1", "/users/2?then=die", "/users/3")
    with shop.server() as server:
        batch = submit(server, *paths)
        is_dead(server)
    for count in (2, 3):
        with shop.server() as server:
            is_dead(server)
        assert len(shop.starts()) == 2 * count
    with shop.server() as server:
        end = ending(server, batch)

    assert end[0] == "failed"
    assert {code for _, code in end[2]} == {"worker_lost"}
    assert len(shop.starts()) == 6
    assert shop.place.names == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_dies_during_the_commit(shop, when):
    """
    Nobody knows how far it came: the other one does not run it again, and says so. Whoever has
    looked can try it again; what is there then is in the way of it.
    """
    with shop.server(DIE=when) as first:
        batch = submit(first, "/users/1", "/users/2?bulk")
        is_dead(first)
    names = ["user 1", "user 2"] if when == "after" else []
    with shop.server() as second, shop.server() as third:
        end = ending(second, batch)
        starts, found = shop.starts(), shop.place.names
        again = ending(third, retry(third, batch))

    assert end == ("failed", "commit_unknown", [UNKNOWN] * 2)
    assert [number for number, *_ in starts] == [1, 2]
    assert found == names
    assert shop.place.names == ["user 1", "user 2"]
    if when == "after":
        assert again == ("failed", "rolled_back", [(409, None), UNDONE])
    else:
        assert again == ("completed", None, [DONE] * 2)


def test_a_server_that_stops_in_the_middle(shop):
    """
    It rolls back when it has waited for long enough, and the other one begins anew.
    """
    with shop.server() as first, shop.server() as second:
        batch = submit(first, *THREE)
        holder, other = who_holds(shop, first, second)
        shop.wait_for_starts(2)
        holder.process.send_signal(signal.SIGTERM)
        shop.wait_for_starts(4)
        assert shop.place.names == []
        shop.open_gate()
        end = ending(other, batch)

    assert end == ("completed", None, [DONE] * 3)
    assert [number for number, *_ in shop.starts()] == [1, 2, 1, 2, 3]
    assert {pid for _, pid, _ in shop.starts()[2:]} == {other.process.pid}
    assert shop.place.names == ["user 1", "user 2", "user 3"]


def test_a_server_that_stops_and_comes_to_the_end_in_time(shop):
    """
    What it has begun it finishes.
    """
    patient = limits(drain_timeout=20)
    with shop.server(**patient) as first, shop.server(**patient) as second:
        batch = submit(first, *THREE)
        holder, other = who_holds(shop, first, second)
        shop.wait_for_starts(2)
        holder.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        shop.open_gate()
        end = ending(other, batch)

    assert end == ("completed", None, [DONE] * 3)
    assert [number for number, *_ in shop.starts()] == [1, 2, 3]
    assert shop.place.names == ["user 1", "user 2", "user 3"]


def test_a_server_that_is_stopped_during_the_commit(shop):
    """
    The commit comes to its end, and is told; the other one waits for it meanwhile.
    """
    with shop.server(DIE="politely") as first:
        batch = submit(first, "/users/1", "/users/2")
        wait_until(lambda: "Shutting down" in first.log())
        with shop.server() as second:
            time.sleep(2.5)
            assert shop.place.names == []
            shop.open_gate()
            is_dead(first)
            end = ending(second, batch)

    assert end == ("completed", None, [DONE] * 2)
    assert [number for number, *_ in shop.starts()] == [1, 2]
    assert shop.place.names == ["user 1", "user 2"]


def test_a_batch_that_is_cancelled_in_the_middle(shop):
    """
    By the process that does not hold it. It is rolled back, and can be tried again.
    """
    with shop.server() as first, shop.server() as second:
        batch = submit(first, *THREE)
        _, other = who_holds(shop, first, second)
        shop.wait_for_starts(2)
        answer = httpx.delete(f"{other.url}/batch/{batch['batchId']}", timeout=PATIENCE)
        end = ending(other, batch)
        found = shop.place.names
        starts = len(shop.starts())
        shop.open_gate()
        again = ending(first, retry(first, batch))

    assert answer.json()["status"] == "cancelled"
    assert end[:2] == ("cancelled", None)
    assert {status for status, _ in end[2]} == {424}
    assert (found, starts) == ([], 2)
    assert again == ("completed", None, [DONE] * 3)
    assert shop.place.names == ["user 1", "user 2", "user 3"]


def test_a_batch_that_fails_is_tried_again(shop):
    """
    As a whole, once its cause is gone; first an operation, then the commit.
    """
    paths = ("/users/1?name=taken", "/orders/2", "/users/3")
    shop.place.execute("INSERT INTO users VALUES (9, 'taken')")
    with shop.server() as server:
        batch = submit(server, *paths)
        first = ending(server, batch)
        shop.place.execute("DELETE FROM users")
        batch = retry(server, batch)
        second = ending(server, batch)
        found = shop.place.names
        shop.place.execute("INSERT INTO users VALUES (2, 'there now')")
        third = ending(server, retry(server, batch))

    assert first == ("failed", "rolled_back", [(409, None), UNDONE, UNDONE])
    assert second == ("failed", "commit_failed", [(424, "commit_failed")] * 3)
    assert found == []
    assert third == ("completed", None, [DONE] * 3)
    assert shop.place.names == ["taken", "there now", "user 3"]


def test_a_database_that_is_away_for_longer(shop, request):
    """
    The batch waits for it, as nothing of it has been tried.
    """
    with shop.server() as first, shop.server() as second:
        with unavailable(shop, request):
            batch = submit(first, "/users/1", "/users/2")
            time.sleep(6)
            waiting = status_of(second.url, batch).json()
        end = ending(second, batch)

    assert waiting["status"] == "processing"
    assert end == ("completed", None, [DONE] * 2)
    assert shop.place.names == ["user 1", "user 2"]


def test_a_batch_that_is_cancelled_during_its_commit(shop):
    """
    It is too late for that: what its operations are told is what is in the database.
    """
    with shop.server(DIE="later") as server:
        batch = submit(server, "/users/1", "/users/2")
        wait_until(shop.is_at_gate)
        answer = httpx.delete(f"{server.url}/batch/{batch['batchId']}", timeout=PATIENCE)
        time.sleep(2.5)
        shop.open_gate()
        end = ending(server, batch)

    assert answer.json()["status"] == "cancelled"
    assert end == ("cancelled", None, [DONE] * 2)
    assert shop.place.names == ["user 1", "user 2"]


@pytest.mark.parametrize("seconds", [0.5, 3])
def test_a_store_that_hangs_before_the_commit(shop, redis, seconds):
    """
    Without its word nothing is committed; the batch is there once, or it is told that nobody knows.
    """
    with shop.server() as first, shop.server() as second:
        batch = submit(first, *THREE)
        shop.wait_for_starts(2)
        with redis.frozen():
            shop.open_gate()
            shop.wait_for_starts(3)
            time.sleep(seconds)
            assert seconds < 1 or shop.place.names == []
        end = ending(second, batch)
        found = shop.place.names
        if end[0] == "failed":
            assert end[1:] == ("commit_unknown", [UNKNOWN] * 3)
            assert ending(first, retry(first, batch))[0] == "completed"
        else:
            assert end == ("completed", None, [DONE] * 3)
            assert len(found) == 3

    assert shop.place.names == ["user 1", "user 2", "user 3"]


def test_a_store_that_has_lost_the_batch(shop, redis):
    """
    Nobody could be told of it any more, and so it is rolled back.
    """
    with shop.server() as server:
        submit(server, *THREE)
        shop.wait_for_starts(2)
        redis.client.flushall()
        shop.open_gate()
        time.sleep(2)

    assert shop.place.names == []
    assert {pid for _, pid, _ in shop.starts()} == {server.process.pid}


def test_a_process_that_is_paused_for_too_long(shop):
    """
    The other one takes the batch over, and can go on when the first one has woken up, which finds
    that the batch is not its own, and rolls back what locks the other out.
    """
    with shop.server() as first, shop.server() as second:
        batch = submit(first, *THREE)
        holder, other = who_holds(shop, first, second)
        shop.wait_for_starts(2)
        holder.process.send_signal(signal.SIGSTOP)
        try:
            shop.open_gate()
            if shop.place.is_sqlite:
                wait_until(lambda: "No transaction could be begun" in other.log())
            else:
                shop.wait_for_starts(3)
        finally:
            holder.process.send_signal(signal.SIGCONT)
        end = ending(other, batch)

    assert end == ("completed", None, [DONE] * 3)
    assert shop.place.names == ["user 1", "user 2", "user 3"]
