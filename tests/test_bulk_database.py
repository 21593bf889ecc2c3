"""
Bulk calls on PostgreSQL and SQLite: how many statements reach the database, what becomes of rows
that it refuses, and that what is in it is what operations were told.
"""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from bulk_support import assert_answers_are_true, shop_at, users
from sqlalchemy_support import place_for
from support import submit


@pytest.fixture
def anyio_backend():
    """
    Of the two that SQLAlchemy knows, the slower one.
    """
    return "asyncio"


@pytest.fixture(params=["asyncpg", "psycopg", "aiosqlite"])
def place(request, tmp_path):
    return place_for(request.param, lambda: request.getfixturevalue("postgres"), tmp_path)


class Inserts:
    """
    Counts the INSERTs that the database itself has seen.
    """

    def __init__(self, place, database, request):
        self._seen = []
        self._server = None
        if not place.is_sqlite:
            self._server = request.getfixturevalue("postgres")
            self._server.clear_statements()
            return

        @event.listens_for(database._engine.sync_engine, "connect")
        def connect(connection, _):
            connection.run_async(lambda driver: driver.set_trace_callback(self._seen.append))

    @property
    def count(self):
        if self._server is not None:
            return len(self._server.statements("INSERT"))
        return len([each for each in self._seen if each.startswith("INSERT")])


@pytest.mark.parametrize("atomic", [False, True])
async def test_a_thousand_rows_are_two_statements(request, place, atomic):
    """
    As `max_size` is 500.
    """
    async with shop_at(place, max_size=500) as shop:
        inserts = Inserts(place, shop.database, request)
        exchange = await submit(shop.app, *users(1000), atomic=atomic)

        assert exchange.statuses == [201] * 1000
        assert [result["result"]["id"] for result in exchange.results] == list(range(1000))
        assert inserts.count == 2
    assert_answers_are_true(place, exchange)


@pytest.mark.parametrize("bad", [0, 499, 500, 703, 999])
async def test_one_bad_row_of_a_thousand(request, place, bad):
    """
    It is the error of one, and is found with few statements.
    """
    place.execute("INSERT INTO users VALUES (5000, 'taken')")
    async with shop_at(place, max_size=500) as shop:
        inserts = Inserts(place, shop.database, request)
        exchange = await submit(shop.app, *users(1000, **{f"_{bad}": "taken"}))

        assert [n for n, status in enumerate(exchange.statuses) if status != 201] == [bad]
        assert exchange.statuses[bad] == 409
        assert inserts.count <= 25
    assert_answers_are_true(place, exchange, ["taken"])


async def test_one_bad_row_undoes_an_atomic_batch(request, place):
    """
    It says so itself, all others that they were undone, and nothing is there.
    """
    place.execute("INSERT INTO users VALUES (5000, 'taken')")
    async with shop_at(place, max_size=500) as shop:
        inserts = Inserts(place, shop.database, request)
        exchange = await submit(shop.app, *users(1000, _703="taken"), atomic=True)
        again = await submit(shop.app, *users(1000), atomic=True)

        assert inserts.count <= 27
    assert exchange.statuses == [424] * 703 + [409] + [424] * 296
    assert all(body == "rolled_back" for n, body in enumerate(exchange.bodies) if n != 703)
    assert again.statuses == [201] * 1000
    assert_answers_are_true(place, again, ["taken"])


async def test_several_bad_rows(place):
    """
    Of both kinds: names that are there, and one that is twice among those to come.
    """
    place.execute("INSERT INTO users VALUES (5000, 'taken')")
    bad = {"_3": "taken", "_100": "", "_101": "taken", "_250": "twice", "_399": "twice"}
    async with shop_at(place, max_size=100) as shop:
        exchange = await submit(shop.app, *users(400, **bad))

    found = [n for n, status in enumerate(exchange.statuses) if status != 201]
    assert found in ([3, 100, 101, 399], [3, 100, 101, 250])
    assert_answers_are_true(place, exchange, ["taken"])


async def test_more_bad_rows_than_can_be_told_apart(place):
    """
    Then others fail with them and are not there either, but nobody says that it was their fault.
    """
    bad = {f"_{n}": "" for n in range(0, 500, 10)}
    async with shop_at(place, max_size=500, max_calls=30) as shop:
        exchange = await submit(shop.app, *users(500, **bad))

    assert len(shop.calls) <= 30
    assert all(exchange.statuses[n] in (409, 500) for n in range(0, 500, 10))
    assert all(exchange.statuses[n] in (201, 500) for n in range(500) if n % 10)
    assert_answers_are_true(place, exchange)


@pytest.mark.parametrize("path", ["/users", "/looking"])
async def test_a_pool_of_two_is_enough_for_ten_at_a_time(place, path):
    """
    Whoever waits for a call holds no connection.
    """
    async with shop_at(place, max_size=50) as shop:
        exchange = await submit(shop.app, *users(200, path))

        assert shop.database._engine.pool.size() == 2
    assert exchange.statuses == [201] * 200
    assert len(shop.calls) == 4
    assert_answers_are_true(place, exchange)


async def test_a_session_that_is_in_use_makes_its_calls_at_once(place):
    """
    Inside of an atomic batch, where all have one connection: savepoints within each other.
    """
    async with shop_at(place, max_size=50) as shop:
        mixed = [*users(3), *users(6, "/holding")[3:], *users(9)[6:]]
        exchange = await submit(shop.app, *mixed, atomic=True)
        calls = shop.calls.copy()
        bad = await submit(shop.app, "POST /holding/10", "POST /holding/11?name=", atomic=True)

    assert exchange.statuses == [201] * 9
    assert sorted(map(len, calls)) == [1, 1, 1, 6]
    assert [each for each in calls if len(each) == 1] == [[3], [4], [5]]
    assert bad.statuses == [424, 409]
    assert_answers_are_true(place, exchange)


@pytest.fixture(scope="module")
def file_place(tmp_path_factory):
    return place_for("aiosqlite", None, tmp_path_factory.mktemp("file"))


NAMES = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", "", "invalid"]), max_size=12)


@settings(max_examples=25)
@given(
    names=NAMES.filter(len),
    size=st.integers(1, 6),
    concurrency=st.integers(1, 4),
    atomic=st.booleans(),
)
def test_the_result_is_that_of_one_after_the_other(file_place, names, size, concurrency, atomic):
    """
    Without bulk. Where several calls are made at a time, only which of two equals was first may
    differ.
    """
    operations = [f"POST /users/{number}?name={name}" for number, name in enumerate(names)]

    async def run(**limits):
        file_place.execute("DELETE FROM users")
        async with shop_at(file_place, max_size=size, max_calls=1000, limits=limits) as shop:
            exchange = await submit(shop.app, *operations, atomic=atomic)
        if not atomic or exchange.statuses == [201] * len(names):
            assert_answers_are_true(file_place, exchange)
        return exchange.statuses, file_place.names

    async def run_alone():
        file_place.execute("DELETE FROM users")
        statuses = []
        async with shop_at(file_place) as shop:
            for operation in operations:
                statuses += (await submit(shop.app, operation)).statuses
        return statuses, file_place.names

    told, found = asyncio.run(run(concurrency=concurrency))
    told_alone, found_alone = asyncio.run(run_alone())

    if atomic and told_alone != [201] * len(names):
        assert found == []
        assert 201 not in told
        own = [n for n, status in enumerate(told) if status != 424]
        assert own
        assert [told[n] for n in own] == [told_alone[n] for n in own]
    elif concurrency == 1 or atomic:
        assert (told, found) == (told_alone, found_alone)
    else:
        assert sorted(told) == sorted(told_alone)
        assert sorted(found) == sorted(found_alone)
