"""
Sessions in the transaction of an atomic batch and outside of one, on PostgreSQL and SQLite.
"""

import asyncio
from contextlib import asynccontextmanager, nullcontext
from typing import Annotated

import anyio
import pytest
from fastapi import Depends, FastAPI
from sqlalchemy import event, select, text
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from asgi_batch import ConfigurationError
from asgi_batch._core.gathering import calls_at_once
from asgi_batch.contrib.sqlalchemy import Database
from sqlalchemy_support import User, add, place_for
from support import Exchange, call, http_scope


class Failed(Exception):
    pass


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request):
    """
    SQLAlchemy knows these two only.
    """
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture(params=["asyncpg", "psycopg", "aiosqlite"])
def place(request, tmp_path):
    return place_for(request.param, lambda: request.getfixturevalue("postgres"), tmp_path)


@pytest.fixture
async def database(place):
    async with place.opened() as database:
        yield database


@asynccontextmanager
async def failing(database):
    """
    A transaction that ends with `Failed`.
    """
    try:
        async with database():
            yield
            raise Failed
    except Failed:
        return
    raise AssertionError("What was raised inside has not come out.")


async def test_a_batch_is_there_as_a_whole_and_not_before(place, database):
    """
    What its sessions have committed is seen by others once the transaction has.
    """
    async with database():
        await add(database, "Ada", "Bob")
        before = place.names

    assert (before, place.names) == ([], ["Ada", "Bob"])


async def test_an_exception_rolls_back_what_sessions_have_committed(place, database):
    """
    An endpoint's own commit stays inside.
    """
    async with failing(database):
        await add(database, "Ada", "Bob")

    assert place.names == []


async def test_the_next_batch_is_not_touched_by_one_that_was_rolled_back(place, database):
    """
    Although it has the same connection.
    """
    async with failing(database):
        await add(database, "Ada")
    async with database():
        await add(database, "Bob")

    assert place.names == ["Bob"]


async def test_a_session_sees_what_those_before_it_have_committed(database):
    """
    They are on one connection.
    """
    async with database():
        await add(database, "Ada")
        async with database.session() as session:
            found = await session.scalars(select(User.name))

            assert found.all() == ["Ada"]


async def test_a_rollback_undoes_what_its_own_session_did(place, database):
    """
    It goes back to the savepoint and not further.
    """
    async with database():
        await add(database, "Ada")
        async with database.session() as session:
            session.add(User(id=2, name="Bob"))
            await session.flush()
            await session.rollback()
            session.add(User(id=3, name="Cleo"))
            await session.commit()

    assert place.names == ["Ada", "Cleo"]


@pytest.mark.parametrize("is_atomic", [True, False])
async def test_a_session_does_not_commit_by_itself(place, database, is_atomic):
    """
    What it was not told to commit is gone when it is closed, inside of a batch and outside.
    """
    around = database() if is_atomic else nullcontext()
    async with around, database.session() as session:
        session.add(User(id=1, name="Ada"))
        await session.flush()

    assert place.names == []


async def test_a_violation_that_is_caught_leaves_the_batch_as_it_was(place, database):
    """
    PostgreSQL refuses all that follows an error, up to the savepoint.
    """
    async with database():
        await add(database, "Ada")
        with pytest.raises(IntegrityError):
            await add(database, "Ada", first=2)
        await add(database, "Bob", first=3)

    assert place.names == ["Ada", "Bob"]


async def test_sessions_inside_of_sessions(place, database):
    """
    As those of a bulk call that is made at once, by an operation that has one open.
    """
    async with database(), database.session() as outer:
        outer.add(User(id=1, name="Ada"))
        await outer.flush()
        await add(database, "Bob", first=2)
        await outer.commit()

    assert place.names == ["Ada", "Bob"]


async def test_a_session_outside_of_a_batch_is_as_ever(place, database):
    """
    It takes a connection when it needs one, commits for good and gives it back.
    """
    pool = database._engine.pool
    async with database.session() as session:
        unused = pool.checkedout()
        session.add(User(id=1, name="Ada"))
        await session.commit()
        session.add(User(id=2, name="Bob"))
        await session.flush()
        used = pool.checkedout()

    assert (unused, used, pool.checkedout()) == (0, 1, 0)
    assert place.names == ["Ada"]


async def test_objects_can_be_read_after_the_commit(database):
    """
    An endpoint answers with them; options are those of SQLAlchemy.
    """
    strict = Database(database._engine, expire_on_commit=True)
    async with database(), database.session() as session, strict.session() as other:
        session.add(user := User(id=1, name="Ada"))
        await session.commit()

        assert user.name == "Ada"
        assert other.sync_session.expire_on_commit


async def test_other_requests_are_not_in_the_transaction(place):
    """
    Neither one that has begun before, nor one that begins while it runs, nor one after it.
    """
    async with place.opened(pool_size=2) as database:
        found = []
        may_look, has_looked = anyio.Event(), anyio.Event()

        async def look():
            async with database.session() as session:
                found.append((await session.scalars(select(User.name))).all())

        async def look_later():
            await may_look.wait()
            await look()
            has_looked.set()

        async def batch():
            async with database():
                await add(database, "Ada")
                may_look.set()
                await has_looked.wait()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look_later)
            tasks.start_soon(batch)
        async with failing(database):
            await add(database, "Bob", first=2)
        await add(database, "Cleo", first=3)

    assert found == [[]]
    assert place.names == ["Ada", "Cleo"]


async def test_two_batches_at_once_do_not_see_each_other(place):
    """
    In SQLite the second waits for the first; it has one writer at a time.
    """
    added, seen = set(), {}
    are_added, have_looked = anyio.Event(), anyio.Event()

    async def batch(number, name):
        async with database():
            await add(database, name, first=number)
            added.add(name)
            if place.is_sqlite or len(added) == 2:
                are_added.set()
            await are_added.wait()
            async with database.session() as session:
                seen[name] = (await session.scalars(select(User.name))).all()
            # What is committed earlier may be seen.
            if place.is_sqlite or len(seen) == 2:
                have_looked.set()
            await have_looked.wait()

    async with place.opened(pool_size=2) as database, anyio.create_task_group() as tasks:
        tasks.start_soon(batch, 1, "Ada")
        tasks.start_soon(batch, 2, "Bob")

    assert sorted(place.names) == ["Ada", "Bob"]
    if place.is_sqlite:
        assert sorted(map(len, seen.values())) == [1, 2]
    else:
        assert seen == {"Ada": ["Ada"], "Bob": ["Bob"]}


async def test_a_batch_of_one_database_leaves_others_alone(postgres, tmp_path):
    """
    An app may have several, and each may have its transaction.
    """
    place = place_for("asyncpg", lambda: postgres, tmp_path)
    async with place.opened() as one, place.opened() as other, failing(one):
        await add(other, "Ada")
        async with other():
            await add(other, "Bob", first=2)
            await add(one, "Cleo", first=3)

    assert place.names == ["Ada", "Bob"]


async def test_a_task_that_outlives_the_batch_gets_a_session_of_its_own(place, database):
    """
    What was rolled back does not take with it what came later.
    """
    may_go_on = asyncio.Event()

    async def stay():
        await may_go_on.wait()
        await add(database, "Ada")

    async with failing(database):
        task = asyncio.create_task(stay())
    may_go_on.set()
    await task

    assert place.names == ["Ada"]


async def test_a_session_that_outlives_the_batch_is_of_no_use(place, database):
    """
    Its connection may be somebody else's by now.
    """
    sessions = database.session()
    async with database():
        session = await sessions.__aenter__()
        await session.execute(select(1))
    with pytest.raises(InvalidRequestError):
        await session.execute(select(1))
    with pytest.raises(InvalidRequestError):
        await session.execute(select(1))
    await sessions.__aexit__(None, None, None)


async def test_calls_are_made_at_once_while_a_savepoint_is_open(database):
    """
    An operation that stepped aside then would mix its savepoints with those of others.
    """
    told = []

    def note():
        told.append(bool(calls_at_once.get()))

    async with database():
        note()
        async with database.session() as session:
            note()
            # In a task of its own, whose context variables are not seen here.
            await asyncio.create_task(session.execute(select(1)))
            note()
            await session.commit()
            note()
            await session.execute(select(1))
        note()
        async with database.session() as session:
            await session.execute(select(1))
            note()
            await session.rollback()
            note()
    note()

    assert told == [False, False, True, False, False, True, False, False]


async def test_a_dependency_of_fastapi_is_in_the_batch(place, database):
    """
    As the app sees a request inside of the batch's context.
    """
    app = FastAPI()

    @app.post("/users/{number}")
    async def create(number: int, session: Annotated[AsyncSession, Depends(database.dependency)]):
        session.add(User(id=number, name=f"user {number}"))
        await session.commit()
        return {}

    async with failing(database):
        inside = await call(app, Exchange(http_scope("POST", "/users/1")))
    outside = await call(app, Exchange(http_scope("POST", "/users/2")))

    assert (inside.status, outside.status) == (200, 200)
    assert place.names == ["user 2"]


async def test_a_transaction_that_the_app_begins_itself_in_sqlite(tmp_path):
    """
    As SQLAlchemy's own pages tell users to do it.
    """
    place = place_for("aiosqlite", None, tmp_path)
    async with place.opened() as database:
        engine = database._engine.sync_engine

        @event.listens_for(engine, "connect")
        def connect(driver, _):
            driver.isolation_level = None

        @event.listens_for(engine, "begin")
        def begin(connection):
            connection.exec_driver_sql("BEGIN")

        async with failing(database):
            await add(database, "Ada")
        async with database():
            await add(database, "Bob")

    assert place.names == ["Bob"]


def test_sqlite_in_memory_is_refused():
    """
    It has one connection for everybody, whose transaction would be everybody's.
    """
    engine = create_async_engine("sqlite+aiosqlite://")

    with pytest.raises(ConfigurationError, match="use a file"):
        Database(engine)


@pytest.mark.parametrize("option", ["bind", "binds", "join_transaction_mode", "twophase"])
def test_options_that_would_leave_the_batch_are_refused(option):
    """
    With a sentence that says which.
    """
    engine = create_async_engine("sqlite+aiosqlite:///users.db")

    with pytest.raises(ConfigurationError, match=option):
        Database(engine, **{option: None})


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_an_engine_that_commits_each_statement_is_refused(postgres, tmp_path, driver):
    """
    There would be nothing to roll back.
    """
    place = place_for(driver, lambda: postgres, tmp_path)
    async with place.opened(isolation_level="AUTOCOMMIT") as database:
        with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
            async with database():
                pass

        async with database.session() as session:
            await session.execute(text("INSERT INTO users VALUES (1, 'Ada')"))

    assert place.names == ["Ada"]


async def test_a_dialect_that_cannot_tell_is_trusted(postgres, tmp_path, monkeypatch):
    """
    Some know nothing of what their connections do by themselves.
    """
    place = place_for("asyncpg", lambda: postgres, tmp_path)

    def unable(_):
        raise NotImplementedError

    async with place.opened() as database:
        monkeypatch.setattr(database._engine.dialect, "detect_autocommit_setting", unable)
        async with database():
            await add(database, "Ada")

    assert place.names == ["Ada"]


@pytest.mark.parametrize("enter", [lambda each: each(), lambda each: each.session()])
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_trio_is_refused(enter):
    """
    With a sentence, and not with whatever a driver would say.
    """
    database = Database(create_async_engine("sqlite+aiosqlite:///users.db"))

    with pytest.raises(ConfigurationError, match="trio"):
        async with enter(database):
            pass
