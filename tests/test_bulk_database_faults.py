"""
Bulk calls whose database is at odds with itself, or goes away: what operations are told is true,
and nothing is done twice.
"""

import anyio
import asyncpg
import pytest
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_batch import BatchMiddleware, bulk
from bulk_support import LONG, assert_answers_are_true, shop_at, users
from fault_proxy import FaultProxy
from sqlalchemy_support import place_for
from support import submit


@pytest.fixture
def anyio_backend():
    """
    One of the two that SQLAlchemy knows.
    """
    return "asyncio"


@pytest.fixture(params=["asyncpg", "psycopg"])
def place(request, postgres, tmp_path):
    return place_for(request.param, lambda: postgres, tmp_path)


@pytest.fixture
def place_without_keys(place):
    """
    A table in which everything can be twice.
    """
    place.execute("DROP TABLE users")
    place.execute("CREATE TABLE users (id INTEGER, name VARCHAR)")
    return place


class Counters:
    """
    An app whose bulk function marks rows, one after the other, in one transaction.

    Args:
        database: Where they are.
        looks: Whether it looks at all rows first.
    """

    def __init__(self, database, *, looks=False):
        self.database = database
        self.calls = 0
        self._first = set()
        self._have_begun = anyio.Event()
        self._looks = looks
        self.mark = bulk(max_delay=LONG)(self._mark)
        routes = [
            Route("/{number:int}", self._answer, methods=["POST"]),
            Route("/alone/{number:int}", self._answer_alone, methods=["POST"]),
        ]
        self.app = BatchMiddleware(Starlette(routes=routes))

    async def _mark(self, numbers):
        self.calls += 1
        async with self.database.session() as session:
            if self._looks:
                await session.execute(text("SELECT * FROM users"))
                await self._meet()
            for number in numbers:
                marking = text("UPDATE users SET name = name || '+' WHERE id = :number")
                await session.execute(marking, {"number": number})
                await self._meet()
            await session.commit()
        return numbers

    async def _meet(self):
        """
        The first two calls go on together.
        """
        self._first.add(anyio.get_current_task().id)
        if len(self._first) == 2:
            self._have_begun.set()
        await self._have_begun.wait()

    async def _answer(self, request):
        return JSONResponse(await self.mark(request.path_params["number"]), 201)

    async def _answer_alone(self, request):
        (number,) = await self._mark([request.path_params["number"]])
        return JSONResponse(number, 201)


async def run_both(place, counters, *batches):
    """
    Send batches at the same time; their answers, and how often each row was marked.
    """
    exchanges = []

    async def send(numbers):
        exchanges.append(await submit(counters.app, *(f"POST /{number}" for number in numbers)))

    async with anyio.create_task_group() as tasks:
        for numbers in batches:
            tasks.start_soon(send, numbers)
    told = [
        result["result"] for each in exchanges for result in each.results if result["status"] == 201
    ]
    marks = [number for number, name in enumerate(place.names) for _ in range(name.count("+"))]
    assert marks == sorted(told)
    return sorted(status for each in exchanges for status in each.statuses)


@pytest.fixture
def rows(place):
    """
    Six of them.
    """
    place.execute("INSERT INTO users SELECT n, 'row ' || n FROM generate_series(0, 5) AS n")


@pytest.mark.usefixtures("rows")
async def test_two_calls_that_lock_each_other_out(place):
    """
    PostgreSQL ends one of them, which is made again in halves, as often as it takes: each row is
    marked twice.
    """
    async with place.opened(pool_size=2) as database:
        counters = Counters(database)
        statuses = await run_both(place, counters, range(6), range(5, -1, -1))

    assert statuses == [201] * 12
    assert counters.calls >= 4


@pytest.mark.usefixtures("rows")
async def test_two_calls_that_cannot_be_serialized(place):
    """
    The same of two that look at what the other changes.
    """
    async with place.opened(pool_size=2, isolation_level="SERIALIZABLE") as database:
        counters = Counters(database, looks=True)
        statuses = await run_both(place, counters, [0, 1, 2], [3, 4, 5])

    assert statuses == [201] * 6
    assert counters.calls >= 4


@pytest.mark.usefixtures("rows")
async def test_a_call_of_one_item_is_not_made_again(place):
    """
    There is nothing to be halved: its operation is told that it has failed, and so it has.
    """
    async with place.opened(pool_size=2, isolation_level="SERIALIZABLE") as database:
        counters = Counters(database, looks=True)
        statuses = await run_both(place, counters, [0], [1])

    assert statuses == [201, 500]
    assert counters.calls == 2


@pytest.mark.usefixtures("rows")
async def test_two_atomic_batches_that_lock_each_other_out(place):
    """
    PostgreSQL refuses one operation of one of them, which is undone; the other is carried out.
    """
    async with place.opened(pool_size=2) as database:
        counters = Counters(database)
        app = BatchMiddleware(counters.app.app, transaction=database)
        exchanges = []

        async def send(*paths):
            exchanges.append(await submit(app, *paths, atomic=True))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, "POST /alone/0", "POST /alone/1", "POST /alone/2")
            tasks.start_soon(send, "POST /alone/1", "POST /alone/0", "POST /alone/3")

    done, undone = sorted(exchanges, key=lambda each: each.statuses)
    assert done.statuses == [201] * 3
    assert undone.statuses == [424, 500, 424]
    marked = sorted(result["result"] for result in done.results)
    assert [number for number, name in enumerate(place.names) if name.endswith("+")] == marked


async def test_a_connection_lost_in_the_middle_of_a_call(place_without_keys, postgres):
    """
    Its operations are told so. The call is not made again: nobody knows what has become of it.
    """
    place = place_without_keys
    calls = []

    async def lose(rows):
        calls.append(len(rows))
        if len(calls) == 2:
            await anyio.to_thread.run_sync(postgres.kill_connections)

    # With one connection, no other call is at its commit when this one's is lost.
    async with shop_at(place, {"pool_size": 1}, before_commit=lose, max_size=10) as shop:
        exchange = await submit(shop.app, *users(30))
        again = await submit(shop.app, *users(10))

    assert sorted(exchange.statuses) == [201] * 20 + [500] * 10
    assert again.statuses == [201] * 10
    assert_answers_are_true(place, exchange, [f"user {number}" for number in range(10)])


@pytest.mark.parametrize("is_committed", [True, False])
async def test_a_connection_lost_while_a_call_commits(place_without_keys, postgres, is_committed):
    """
    What may have been done is not done again: nothing is there twice.
    """
    place = place_without_keys
    async with FaultProxy(postgres.port).running() as proxy:
        url = place.url.replace(str(postgres.port), str(proxy.port))
        async with shop_at(place, {"url": url}) as shop:
            await submit(shop.app, "POST /users/99")
            (proxy.drop_reply_to if is_committed else proxy.drop_request_with)(b"COMMIT")
            exchange = await submit(shop.app, *users(10))

    assert proxy.dropped == 1
    assert exchange.statuses == [500] * 10
    names = [f"user {number}" for number in (*(range(10) if is_committed else ()), 99)]
    assert sorted(place.names) == sorted(names)


async def test_a_connection_of_asyncpg_lost_while_a_call_commits(postgres, tmp_path):
    """
    The same without SQLAlchemy, where each statement commits.
    """
    place = place_for("asyncpg", lambda: postgres, tmp_path)
    place.execute("DROP TABLE users")
    place.execute("CREATE TABLE users (id INTEGER, name VARCHAR)")
    async with FaultProxy(postgres.port).running() as proxy:
        dsn = postgres.dsn.replace(str(postgres.port), str(proxy.port))
        async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:

            @bulk(max_delay=LONG)
            async def insert_names(names):
                sql = "INSERT INTO users SELECT 1, name FROM unnest($1::varchar[]) AS name"
                await pool.execute(sql, names)
                return names

            async def create(request):
                return JSONResponse(await insert_names(request.path_params["name"]), 201)

            app = BatchMiddleware(Starlette(routes=[Route("/{name}", create, methods=["POST"])]))
            await submit(app, "POST /first", "POST /second")
            proxy.drop_reply_to(b"second")
            exchange = await submit(app, "POST /first", "POST /second")

    assert proxy.dropped == 1
    assert exchange.statuses == [500] * 2
    assert sorted(place.names) == ["first"] * 2 + ["second"] * 2


async def test_a_database_that_is_away(place, postgres):
    """
    All that ask it hear so, and the next batch finds it again.
    """
    async with shop_at(place, {"pool_pre_ping": True}) as shop:
        await submit(shop.app, "POST /users/99")
        postgres.stop()
        try:
            exchange = await submit(shop.app, *users(10))
        finally:
            postgres.start()
        again = await submit(shop.app, *users(10))

    assert exchange.statuses == [500] * 10
    assert again.statuses == [201] * 10
    assert_answers_are_true(place, again, ["user 99"])


async def test_a_call_that_all_its_operations_are_too_late_for(place):
    """
    It is cancelled, and nothing of it is there.
    """

    async def hang(_):
        await anyio.sleep(LONG)

    limits = {"operation_timeout": 0.3}
    async with shop_at(place, before_commit=hang, limits=limits) as shop:
        exchange = await submit(shop.app, *users(10))

    assert exchange.bodies == ["operation_timeout"] * 10
    assert place.names == []


@pytest.mark.parametrize("query", ["", "?at_once"])
async def test_sessions_that_hold_all_connections_while_they_ask(place, query):
    """
    Then there is none for the call: it fails when the pool says so, and what is told is true.
    """
    engine = {"pool_timeout": 0.5}
    async with shop_at(place, engine, limits={"concurrency": 10}, max_delay=0.1) as shop:
        exchange = await submit(shop.app, *(f"{each}{query}" for each in users(10, "/holding")))
        again = await submit(shop.app, *users(10))

    assert 500 in exchange.statuses
    assert again.statuses.count(201) == 10 - exchange.statuses.count(201)
    assert_answers_are_true(
        place, exchange, [each["result"]["name"] for each in again.results if "result" in each]
    )
