"""
The table of docs/transactions.md, over HTTP, on PostgreSQL and SQLite: each way to fail leaves the
database as it was, and the answer says what has happened.

Batches in the background are in test_servers_atomic_background.py.
"""

import asyncio
import contextlib
import signal
import threading

import httpx
import psycopg
import pytest

from atomic_support import (
    PATIENCE,
    body_of,
    gone_after,
    limits,
    post,
    shop_for,
    told,
    unavailable,
    wait_until,
)
from fault_proxy import FaultProxy
from servers import kill
from support import until
from wide import widely, widely_each

POSTGRES = ["asyncpg", *widely("psycopg")]
DRIVERS = [*POSTGRES, "aiosqlite"]
# SQLite has no connections that could be lost.
on_postgres = pytest.mark.parametrize("shop_of_all", POSTGRES, indirect=True)
# Whether an operation waits for the database or for something else.
busy_ways = pytest.mark.parametrize(
    ("shop_of_all", "how"),
    [
        ("asyncpg", "wait"),
        ("asyncpg", "sleep"),
        ("aiosqlite", "wait"),
        *widely_each(("psycopg", "wait"), ("psycopg", "sleep")),
    ],
    indirect=["shop_of_all"],
)
UNDONE = (424, "rolled_back")
DONE = (201, None)


@pytest.fixture
def anyio_backend():
    """
    Only the proxy runs in this process.
    """
    return "asyncio"


@pytest.fixture(scope="module", params=DRIVERS)
def shop_of_all(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    with shop_for(request.param, lambda: request.getfixturevalue("postgres"), folder) as shop:
        yield shop


@pytest.fixture
def shop(shop_of_all):
    """
    A shop without users.
    """
    shop_of_all.empty()
    return shop_of_all


@pytest.fixture(scope="module")
def server_of_all(shop_of_all):
    shop_of_all.empty()
    with shop_of_all.server(**limits(operation_timeout=0.7)) as server:
        yield server


@pytest.fixture
def server(shop, server_of_all):
    """
    A server of that shop that every test leaves in order: the next batch is carried out.
    """
    shop.empty()
    yield server_of_all
    before = shop.place.names
    assert told(post(server_of_all, "/users/1001", "/users/1002")) == [DONE] * 2
    assert shop.place.names == [*before, "user 1001", "user 1002"]


def test_all_succeed(shop, server):
    """
    They are there as a whole, also where some came through a bulk call.
    """
    answer = post(server, "/users/1", "/users/2?bulk", "/users/3?bulk", "/users/4")

    assert told(answer) == [DONE] * 4
    assert shop.place.names == ["user 1", "user 2", "user 3", "user 4"]
    assert answer.json()["summary"] == {"total": 4, "succeeded": 4, "failed": 0, "skipped": 0}


@pytest.mark.parametrize("number", [400, 404, 422, 499, 500, 503, 599])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_operation_answers_with_an_error(shop, server, number, place):
    """
    It had committed by then, as had those before it.
    """
    paths = ["/users/1", "/users/2"]
    paths.insert(place, f"/users/3?then={number}")
    answer = post(server, *paths)

    expected = [UNDONE, UNDONE]
    expected.insert(place, (number, None))
    assert told(answer) == expected
    assert answer.json()["results"][place]["error"] == {"id": 3, "name": "user 3"}
    assert answer.json()["summary"] == {"total": 3, "succeeded": 0, "failed": 1, "skipped": 2}
    assert shop.place.names == []


@pytest.mark.parametrize("how", ["crash", "late crash"])
def test_an_operation_raises_an_exception(shop, server, how):
    """
    Also after it has answered.
    """
    answer = post(server, "/users/1", f"/users/2?then={how.replace(' ', '%20')}", "/users/3")

    assert told(answer) == [UNDONE, (500, "app_exception"), UNDONE]
    assert shop.place.names == []


def test_a_violation_of_the_database(shop, server):
    """
    It is the answer of one, whether the app asked by itself or for several at a time.
    """
    paths = ["/users/1", "/users/2?name=twice", "/users/3?name=twice"]
    alone = post(server, *paths)
    together = post(server, *(f"{path}{'&' if '?' in path else '?'}bulk" for path in paths))

    assert told(alone) == told(together) == [UNDONE, UNDONE, (409, None)]
    assert shop.place.names == []


@busy_ways
def test_an_operation_is_late(shop, server, how):
    """
    Also where it is the database that it waits for.
    """
    answer = post(server, "/users/1", f"/users/2?then={how}", "/users/3")

    assert told(answer) == [UNDONE, (504, "operation_timeout"), UNDONE]
    assert shop.place.names == []


@busy_ways
def test_the_time_of_the_batch_is_over(shop, how):
    """
    What ran says so, and what came before and after it that it was undone.
    """
    with shop.server(**limits(batch_timeout=0.7)) as server:
        answer = post(server, "/users/1", f"/users/2?then={how}", "/users/3")
        again = post(server, "/users/4")

    assert told(answer) == [UNDONE, (504, "batch_timeout"), UNDONE]
    assert told(again) == [DONE]
    assert shop.place.names == ["user 4"]


@busy_ways
def test_the_client_goes_away(shop, how):
    """
    In the middle of the second operation; the third never starts.
    """
    with shop.server() as server:
        with gone_after(server, "/users/1", f"/users/2?then={how}", "/users/3"):
            shop.wait_for_starts(2)
        # In SQLite it waits for the lock until the transaction has been rolled back.
        wait_until(lambda: post(server, "/users/4").status_code == 200)

    assert [number for number, *_ in shop.starts()] == [1, 2, 4]
    assert shop.place.names == ["user 4"]


def test_the_transaction_cannot_be_begun(shop, request):
    """
    PostgreSQL is down, or somebody else writes to the file for too long.
    """
    with shop.server() as server:
        assert told(post(server, "/users/1")) == [DONE]
        with unavailable(shop, request):
            refused = post(server, "/users/2")
        again = post(server, "/users/3")

    assert (refused.status_code, refused.json()["code"]) == (503, "transaction_unavailable")
    assert refused.headers["retry-after"] == "1"
    assert told(again) == [DONE]
    assert [number for number, *_ in shop.starts()] == [1, 3]
    assert shop.place.names == ["user 1", "user 3"]


def test_the_database_refuses_the_commit(shop, server):
    """
    There is no such user when it is looked at in the end.
    """
    answer = post(server, "/users/1", "/orders/2", "/users/3")

    assert told(answer) == [(424, "commit_failed")] * 3
    assert answer.json()["summary"] == {"total": 3, "succeeded": 0, "failed": 0, "skipped": 3}
    assert shop.place.names == []
    assert told(post(server, "/orders/2", "/users/2")) == [DONE] * 2


@on_postgres
def test_the_database_cannot_serialize_the_commit(shop, postgres):
    """
    Somebody else has counted and added meanwhile, and was quicker.
    """
    with shop.server(ISOLATION="SERIALIZABLE") as server:
        answers = []
        paths = ("/users", "/users/1", "/users/2?then=wait")
        batch = threading.Thread(target=lambda: answers.append(post(server, *paths)))
        batch.start()
        wait_until(shop.is_at_gate)
        with psycopg.connect(postgres.dsn) as connection:
            connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
            connection.execute("SELECT count(*) FROM users")
            connection.execute("INSERT INTO users VALUES (9, 'Eve')")
        shop.open_gate()
        batch.join()

    assert told(answers[0]) == [(424, "commit_failed")] * 3
    assert shop.place.names == ["Eve"]


@on_postgres
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("sleep", [UNDONE, (500, "app_exception"), UNDONE]),
        ("wait", [UNDONE, UNDONE, (500, "app_exception")]),
    ],
)
def test_the_connection_is_lost_before_the_commit(shop, postgres, how, expected):
    """
    By an operation that waits for the database, or while another waits for something else.
    """
    with shop.server() as server:
        answers = []
        paths = ("/users/1", f"/users/2?then={how}", "/users/3")
        batch = threading.Thread(target=lambda: answers.append(post(server, *paths)))
        batch.start()
        shop.wait_for_starts(2)
        wait_until(lambda: postgres.clients("active") if how == "sleep" else shop.is_at_gate())
        postgres.kill_connections()
        shop.open_gate()
        batch.join()
        again = post(server, "/users/4")

    assert told(answers[0]) == expected
    assert told(again) == [DONE]
    assert shop.place.names == ["user 4"]


@on_postgres
def test_the_connection_is_lost_after_the_last_operation(shop, postgres):
    """
    No operation has failed, and surely nothing has been committed.
    """
    with shop.server() as server:
        answers = []
        paths = ("/users/1", "/users/2?then=wait")
        batch = threading.Thread(target=lambda: answers.append(post(server, *paths)))
        batch.start()
        wait_until(shop.is_at_gate)
        postgres.kill_connections()
        shop.open_gate()
        batch.join()

    assert told(answers[0]) == [(424, "commit_failed")] * 2
    assert shop.place.names == []


@on_postgres
async def test_the_database_hangs_before_the_transaction_begins(shop, postgres):
    """
    The batch is refused in good time, and the next one is carried out.
    """
    async with FaultProxy(postgres.port).running() as proxy:
        url = shop.place.url.replace(str(postgres.port), str(proxy.port))
        with shop.server(DATABASE=url, **limits(operation_timeout=1.0)) as server:
            async with httpx.AsyncClient(timeout=PATIENCE) as client:
                await send(client, server, "/users/1")
                proxy.is_silent = True
                refused = await send(client, server, "/users/2")
                proxy.is_silent = False
                proxy.reset()
                again = await send(client, server, "/users/3")

    assert (refused.status_code, refused.json()["code"]) == (503, "transaction_unavailable")
    assert told(again) == [DONE]
    assert shop.place.names == ["user 1", "user 3"]


@on_postgres
async def test_the_database_hangs_before_the_commit(shop, postgres):
    """
    It was never told to commit, and so it is known that it has not.
    """
    async with FaultProxy(postgres.port).running() as proxy:
        url = shop.place.url.replace(str(postgres.port), str(proxy.port))
        with shop.server(DATABASE=url, **limits(operation_timeout=20)) as server:
            async with httpx.AsyncClient(timeout=PATIENCE) as client:
                await send(client, server, "/users/9")
                shop.empty()
                batch = asyncio.create_task(send(client, server, "/users/1", "/users/2?then=wait"))
                await until(shop.is_at_gate)
                proxy.is_silent = True
                shop.open_gate()
                answer = await batch
                proxy.reset()

    assert told(answer) == [(424, "commit_failed")] * 2
    assert shop.place.names == []


@on_postgres
@pytest.mark.parametrize("is_committed", [True, False])
async def test_the_connection_is_lost_during_the_commit(shop, postgres, is_committed):
    """
    Nobody can tell from here whether the COMMIT or its reply was lost, and nobody does.
    """
    async with FaultProxy(postgres.port).running() as proxy:
        url = shop.place.url.replace(str(postgres.port), str(proxy.port))
        with shop.server(DATABASE=url) as server:
            async with httpx.AsyncClient(timeout=PATIENCE) as client:
                await send(client, server, "/users/8")
                (proxy.drop_reply_to if is_committed else proxy.drop_request_with)(b"COMMIT")
                answer = await send(client, server, "/users/1", "/users/2")
                again = await send(client, server, "/users/9")

    assert told(answer) == [(502, "commit_unknown")] * 2
    assert answer.json()["summary"] == {"total": 2, "succeeded": 0, "failed": 2, "skipped": 0}
    assert told(again) == [DONE]
    names = ["user 8", "user 9"]
    assert shop.place.names == (["user 1", "user 2", *names] if is_committed else names)


async def send(client, server, *paths):
    """
    The same as `post`, beside a proxy in this process.
    """
    return await client.post(f"{server.url}/batch", json=body_of(*paths))


def test_the_client_goes_away_during_the_commit(shop):
    """
    It is not cut short.
    """
    with shop.server(DIE="later") as server:
        with gone_after(server, "/users/1", "/users/2"):
            wait_until(shop.is_at_gate)
        assert shop.place.names == []
        shop.open_gate()
        wait_until(lambda: shop.place.names)

    assert shop.place.names == ["user 1", "user 2"]


@pytest.mark.parametrize("pool", [1, 2])
def test_more_batches_at_a_time_than_there_are_connections(shop, pool):
    """
    They wait for each other, in the pool or for SQLite's lock, and each is carried out as a whole.
    """
    with shop.server(POOL=str(pool), **limits(total_concurrency=40)) as server:

        def run(first):
            paths = [f"/users/{number}" for number in range(first, first + 5)]
            answers.append(post(server, *paths, paths[0] + "?bulk" if first % 10 else "/users"))

        answers = []
        threads = [threading.Thread(target=run, args=(first,)) for first in range(0, 50, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    succeeded = [each for each in answers if each.json()["summary"]["succeeded"]]
    assert len(answers) == 10
    assert all(told(each) == [DONE] * 5 + [(200, None)] for each in succeeded)
    assert len(succeeded) == 5
    assert len(shop.place.names) == 25


def test_the_server_stops_and_does_not_wait(shop):
    """
    It cancels what is in the middle, and that is rolled back.
    """
    with shop.server("--timeout-graceful-shutdown", "1") as server:
        answers = []

        def run():
            with contextlib.suppress(httpx.TransportError):
                answers.append(post(server, "/users/1", "/users/2?then=wait", "/users/3?bulk"))

        batch = threading.Thread(target=run)
        batch.start()
        shop.wait_for_starts(2)
        server.process.send_signal(signal.SIGTERM)
        batch.join()

    assert [each.status_code for each in answers] in ([], [500])
    assert shop.place.names == []


@busy_ways
def test_an_operation_is_late_and_others_wait_with_it_for_a_call(shop, server, how):
    """
    Theirs is not the fault, but they are as late; nothing of it is there.
    """
    answer = post(server, "/users/1?bulk", f"/users/2?then={how}", "/users/3?bulk")

    assert set(told(answer)) <= {UNDONE, (504, "operation_timeout")}
    assert (504, "operation_timeout") in told(answer)
    assert shop.place.names == []


def test_the_process_dies_in_the_middle(shop):
    """
    The connection breaks, and nothing of it is there.
    """
    with shop.server() as server:
        raised = []

        def run():
            with pytest.raises(httpx.TransportError) as caught:
                post(server, "/users/1", "/users/2?bulk", "/users/3?then=wait")
            raised.append(caught.value)

        batch = threading.Thread(target=run)
        batch.start()
        shop.wait_for_starts(3)
        kill(server.process)
        batch.join()
        server.process.returncode = 0
    with shop.server() as server:
        again = post(server, "/users/4")

    assert len(raised) == 1
    assert told(again) == [DONE]
    assert shop.place.names == ["user 4"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_process_dies_during_the_commit(shop, when):
    """
    The connection breaks in either case; the batch is there as a whole, or nothing of it is.
    """
    with shop.server(DIE=when) as server:
        with pytest.raises(httpx.TransportError):
            post(server, "/users/1", "/users/2")
        server.process.wait(30)
        server.process.returncode = 0

    assert shop.place.names == (["user 1", "user 2"] if when == "after" else [])
