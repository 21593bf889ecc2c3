"""
Transactions whose database refuses them, goes away or hangs, and transactions that are cancelled.
"""

import asyncio
import time
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from asgi_batch import OutcomeUnknown
from fault_proxy import FaultProxy
from sqlalchemy_support import User, add, on_commit, place_for
from support import until
from wide import widely

# Seconds that the end of a transaction may take in tests that let it hang, and those it takes then
# on a machine that is busy, with all that drivers do to say good-bye.
BRIEF = 0.3
SOON = 15.0


@pytest.fixture(params=["asyncio", *widely("uvloop")])
def anyio_backend(request):
    """
    SQLAlchemy knows these two only.
    """
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture(params=["asyncpg", *widely("psycopg")])
def place(request, postgres, tmp_path):
    return place_for(request.param, lambda: postgres, tmp_path)


@pytest.fixture(params=["asyncpg", *widely("psycopg"), "aiosqlite"])
def any_place(request, tmp_path):
    return place_for(request.param, lambda: request.getfixturevalue("postgres"), tmp_path)


@asynccontextmanager
async def proxied(place, **options):
    """
    A database behind a proxy.
    """
    port = int(place.url.rpartition("/")[0].rpartition(":")[2])
    async with FaultProxy(port).running() as proxy:
        url = place.url.replace(str(port), str(proxy.port))
        async with place.opened(url=url, **options) as database:
            yield database, proxy


async def outcome(database, *names, first=1, before_end=None):
    """
    What came of adding users in a transaction: the exception, None if there was none.
    """
    try:
        async with database():
            await add(database, *names, first=first)
            if before_end is not None:
                await before_end()
    except (SQLAlchemyError, OutcomeUnknown, TimeoutError, ValueError) as error:
        return error
    return None


async def test_a_connection_lost_before_the_end_is_surely_not_committed(place, postgres):
    """
    Which is told as it is, and nothing is in doubt.
    """

    async def lose():
        await anyio.to_thread.run_sync(postgres.kill_connections)

    async with place.opened() as database:
        error = await outcome(database, "Ada", before_end=lose)
        after = await outcome(database, "Bob", first=2)

    assert isinstance(error, DBAPIError)
    assert after is None
    assert place.names == ["Bob"]


async def test_a_connection_lost_inside_fails_whatever_comes_next(place, postgres):
    """
    Even where an app goes on as if nothing was.
    """

    async def lose():
        await anyio.to_thread.run_sync(postgres.kill_connections)
        for number in (2, 3):
            with suppress(SQLAlchemyError):
                await add(database, "Bob", first=number)

    async with place.opened() as database:
        error = await outcome(database, "Ada", before_end=lose)
        after = await outcome(database, "Cleo", first=4)

    assert isinstance(error, SQLAlchemyError)
    assert after is None
    assert place.names == ["Cleo"]


@pytest.mark.parametrize("is_committed", [True, False])
async def test_a_connection_lost_during_commit_leaves_it_unknown(place, is_committed):
    """
    The request may be lost, or the reply; nobody can tell which from here.
    """
    async with proxied(place) as (database, proxy):
        lose = proxy.drop_reply_to if is_committed else proxy.drop_request_with
        lose(b"COMMIT")
        error = await outcome(database, "Ada")
        after = await outcome(database, "Bob", first=2)

    assert isinstance(error, OutcomeUnknown)
    assert after is None
    assert place.names == (["Ada"] if is_committed else []) + ["Bob"]


async def test_a_server_that_goes_away_during_commit_leaves_it_unknown(place, postgres):
    """
    It was told to end this connection before it has read the COMMIT.
    """
    async with place.opened() as database:
        on_commit(database._engine, postgres.kill_connections)
        error = await outcome(database, "Ada")

    assert isinstance(error, OutcomeUnknown)
    assert place.names == []


async def test_an_error_of_the_network_during_commit_leaves_it_unknown(place):
    """
    Some drivers let it out as it is.
    """

    def fail():
        raise ConnectionResetError

    async with place.opened() as database:
        on_commit(database._engine, fail)
        error = await outcome(database, "Ada")

    assert isinstance(error, OutcomeUnknown)


async def test_a_commit_that_is_not_answered_is_given_up(place):
    """
    After so many seconds it is as unknown as any other, and its connection is not used again.
    """
    async with proxied(place, patience=BRIEF) as (database, proxy):

        def hang():
            proxy.is_silent = True

        on_commit(database._engine, hang)
        start = time.monotonic()
        error = await outcome(database, "Ada")
        seconds = time.monotonic() - start
        proxy.is_silent = False
        async with database.session() as session:
            await session.execute(select(1))

    assert isinstance(error, OutcomeUnknown)
    assert seconds < SOON
    assert place.names == []


async def test_a_database_that_hangs_before_the_end_has_surely_not_committed(place):
    """
    It is asked whether it is there before it is told to commit.
    """
    async with proxied(place, patience=BRIEF) as (database, proxy):

        async def hang():
            proxy.is_silent = True

        start = time.monotonic()
        error = await outcome(database, "Ada", before_end=hang)
        seconds = time.monotonic() - start

    assert isinstance(error, SQLAlchemyError)
    assert seconds < SOON
    assert place.names == []


async def test_a_rollback_that_is_not_answered_is_given_up(place):
    """
    The server rolls back when it notices that nobody is there.
    """
    async with proxied(place, patience=BRIEF) as (database, proxy):

        async def fail():
            proxy.is_silent = True
            raise ValueError

        start = time.monotonic()
        error = await outcome(database, "Ada", before_end=fail)
        seconds = time.monotonic() - start
        proxy.is_silent = False
        proxy.reset()
        after = await outcome(database, "Bob")

    assert isinstance(error, ValueError)
    assert seconds < SOON
    assert after is None
    assert place.names == ["Bob"]


async def test_a_connection_lost_during_rollback_is_no_error(place, postgres):
    """
    What comes out is why it was rolled back.
    """

    async def fail():
        await anyio.to_thread.run_sync(postgres.kill_connections)
        raise ValueError

    async with place.opened() as database:
        error = await outcome(database, "Ada", before_end=fail)
        after = await outcome(database, "Bob")

    assert isinstance(error, ValueError)
    assert after is None
    assert place.names == ["Bob"]


async def test_a_connection_that_is_in_use_is_left_rather_than_rolled_back(place, postgres):
    """
    As by a task that an operation has left behind.
    """
    leftovers = []

    async def use():
        async with database.session() as session:
            await session.execute(text("SELECT pg_sleep(60)"))

    async def leave():
        leftovers.append(asyncio.create_task(use()))
        await until(lambda: postgres.clients("active"))
        raise ValueError

    async with place.opened(patience=BRIEF, **place.watchful) as database:
        start = time.monotonic()
        error = await outcome(database, "Ada", before_end=leave)
        seconds = time.monotonic() - start
        leftovers[0].cancel()
        await asyncio.gather(*leftovers, return_exceptions=True)
        after = await outcome(database, "Bob")

    assert isinstance(error, ValueError)
    assert seconds < SOON
    assert after is None
    assert place.names == ["Bob"]


async def test_a_serialization_failure_at_the_end_passes_as_it_is(place):
    """
    It is certain, and whoever sees it may try again.
    """
    async with place.opened(pool_size=2, isolation_level="SERIALIZABLE") as database:

        async def look_and_add(name, number):
            async with database.session() as session:
                await session.scalars(select(User.name))
                session.add(User(id=number, name=name))
                await session.commit()

        async def overtake():
            async with database():
                await look_and_add("Bob", 2)

        async with database():
            await look_and_add("Cleo", 3)

        error = None
        try:
            async with database():
                await look_and_add("Ada", 1)
                # In a context of its own, as another request is.
                await asyncio.create_task(other_request(overtake))
        except DBAPIError as caught:
            error = caught
        after = await outcome(database, "Dora", first=4)

    assert error is not None
    assert error.orig.sqlstate == "40001"
    assert after is None
    assert place.names == ["Bob", "Cleo", "Dora"]


async def other_request(function):
    await function()


async def test_a_constraint_that_is_checked_at_the_end_passes_as_it_is(any_place):
    """
    The transaction is rolled back then, also where the database leaves it open.
    """
    any_place.execute("DROP TABLE users")
    any_place.execute(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name VARCHAR NOT NULL UNIQUE,"
        " friend INTEGER REFERENCES users (id) DEFERRABLE INITIALLY DEFERRED)"
    )
    async with any_place.opened() as database:
        if any_place.is_sqlite:

            @event.listens_for(database._engine.sync_engine, "connect")
            def connect(driver, _):
                cursor = driver.cursor()
                cursor.execute("PRAGMA foreign_keys = ON")
                cursor.close()

        async def refer():
            async with database.session() as session:
                await session.execute(text("UPDATE users SET friend = 9"))
                await session.commit()

        error = await outcome(database, "Ada", before_end=refer)
        after = await outcome(database, "Bob", first=2)

    assert isinstance(error, IntegrityError)
    assert after is None
    assert any_place.names == ["Bob"]


async def test_a_statement_that_times_out_inside_leaves_nothing_of_its_batch(place):
    """
    Drivers give up a connection whose statement was cancelled, and with it the transaction; the
    server does so when it looks for its client.
    """

    async def time_out():
        with anyio.move_on_after(0.1):
            async with database.session() as session:
                await session.execute(text("SELECT pg_sleep(60)"))

    async with place.opened(**place.watchful) as database:
        error = await outcome(database, "Ada", before_end=time_out)
        after = await outcome(database, "Bob")

    assert isinstance(error, SQLAlchemyError)
    assert after is None
    assert place.names == ["Bob"]


async def cancelled_after(steps, function):
    """
    Call *function*, and cancel it when the loop has gone round *steps* times.
    """
    async with anyio.create_task_group() as tasks:

        async def cancel():
            for _ in range(steps):
                await asyncio.sleep(0)
            tasks.cancel_scope.cancel()

        tasks.start_soon(cancel)
        await function()


async def killed_after(steps, function):
    """
    The same in the way of a server that stops, from which nothing is shielded.
    """
    task = asyncio.create_task(function())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


def ignore_lost_connections(loop, context):
    """
    What asyncpg says of a connection that was given up while it was being made.
    """
    if not isinstance(context.get("exception"), ConnectionError):
        loop.default_exception_handler(context)


@pytest.mark.parametrize("is_fresh", [True, False])
@pytest.mark.parametrize("cancelled", [cancelled_after, killed_after])
async def test_a_transaction_may_be_cancelled_at_any_moment(any_place, cancelled, is_fresh):
    """
    It is there as a whole or not at all, and the one connection is free for the next one at once.
    """
    asyncio.get_running_loop().set_exception_handler(ignore_lost_connections)
    outcomes = []
    async with any_place.opened() as database:

        async def batch():
            async with database():
                await add(database, "Ada", "Bob")
                async with database.session() as session:
                    await session.scalars(select(User.name))

        for steps in range(60):
            if is_fresh:
                await database._engine.dispose()
            any_place.execute("DELETE FROM users")
            await cancelled(steps, batch)
            outcomes.append(tuple(any_place.names))
            async with database(), database.session() as session:
                assert await session.scalar(select(1)) == 1

    assert set(outcomes) - {()} <= {("Ada", "Bob")}
    assert () in outcomes
