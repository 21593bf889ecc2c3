"""
Atomic batches with SQLAlchemy: one transaction for a batch, and sessions that take part in it.

What belongs into the transaction, and whether it ends well, is decided by others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from traceback import clear_frames
from types import MappingProxyType
from typing import Any, Final

import anyio
from sqlalchemy import StaticPool, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    AsyncTransaction,
    async_sessionmaker,
)

from asgi_batch._core.gathering import calls_at_once
from asgi_batch.errors import ConfigurationError, OutcomeUnknown

# Options of a session that say which connection it has, and how it joins a transaction.
_OURS: Final = frozenset({"bind", "binds", "join_transaction_mode", "twophase"})


class Database:
    """
    An engine whose sessions take part in the transaction of an atomic batch.

    It is the factory of that transaction itself: ``BatchMiddleware(app, transaction=database)``.
    Inside of the batch all sessions share its connection, and a session's own ``commit()`` only
    releases a savepoint. Everywhere else sessions are as ever.

    Runs on asyncio and uvloop, as SQLAlchemy does.

    Args:
        engine: Where connections come from.
        timeout: Seconds that the end of a transaction may take. A commit or rollback that has begun
            goes on for so long even where its batch is cancelled.
        session_options: As for `async_sessionmaker`; ``expire_on_commit`` is False where left out.
    """

    def __init__(
        self, engine: AsyncEngine, *, timeout: float = 30.0, **session_options: Any
    ) -> None:
        if taken := sorted(_OURS & session_options.keys()):
            raise ConfigurationError(f"Database(…, {taken[0]}=…): leave it out, it is set for you.")
        if isinstance(engine.pool, StaticPool):
            raise ConfigurationError(
                "Database(engine): all requests would share one connection, and so one transaction;"
                " use a file in place of a SQLite database in memory."
            )
        self._engine = engine
        self._timeout = timeout
        self._sessions = async_sessionmaker(
            engine, **{"expire_on_commit": False, **session_options}
        )

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        """
        A transaction on a connection of its own, which all sessions opened inside of it join.

        It commits where it is left without an exception, and rolls back otherwise.

        Raises:
            OutcomeUnknown: The connection was lost while it committed, or no answer came in time.
            ConfigurationError: Connections of the engine commit each statement, or this is not
                asyncio.
        """
        _require_asyncio()
        async with self._connected() as connection:
            transaction = await _begin(connection)
            shared = _Shared(connection)
            before = _open.get(), calls_at_once.get()
            _open.set({**before[0], self: shared})
            calls_at_once.set(shared)
            try:
                yield
                await self._check(connection)
            except BaseException as error:
                _let_go(connection, error)
                shared.is_over = True
                await self._roll_back(connection)
                raise
            else:
                shared.is_over = True
                await self._commit(transaction, connection)
            finally:
                _open.set(before[0])
                calls_at_once.set(before[1])

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """
        A session, which is closed in the end, and does not commit by itself.

        Inside of an atomic batch it is on the batch's connection. Its work is in a savepoint, which
        its ``commit()`` releases, and which it rolls back to otherwise.
        """
        _require_asyncio()
        shared = _open.get().get(self)
        if shared is None or shared.is_over:
            async with self._sessions() as session:
                yield session
            return
        session = self._sessions(bind=shared.connection, join_transaction_mode="create_savepoint")
        try:
            yield session
        except BaseException as error:
            _let_go(shared.connection, error)
            raise
        finally:
            # Nobody else may use the connection before the savepoint is gone.
            with anyio.move_on_after(self._timeout, shield=True):
                await session.close()

    async def dependency(self) -> AsyncIterator[AsyncSession]:
        """
        `session` for FastAPI: ``Depends(database.dependency)``.
        """
        async with self.session() as session:
            yield session

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        connection = await self._engine.connect()
        try:
            yield connection
        finally:
            with anyio.move_on_after(self._timeout, shield=True):
                await connection.close()

    async def _check(self, connection: AsyncConnection) -> None:
        """
        Find out whether it is there: a connection that was lost before COMMIT has not committed.
        """
        try:
            with anyio.fail_after(self._timeout, shield=True):
                await connection.execute(select(1))
        except OSError as error:
            # As it is, it would say that nobody knows whether the transaction was committed.
            raise SQLAlchemyError("The connection was lost before COMMIT.") from error

    async def _commit(self, transaction: AsyncTransaction, connection: AsyncConnection) -> None:
        try:
            with anyio.fail_after(self._timeout, shield=True):
                await transaction.commit()
        except (DBAPIError, OSError) as error:
            if isinstance(error, DBAPIError) and not error.connection_invalidated:
                # SQLite keeps the transaction open then, and the pool would hand it out.
                await self._roll_back(connection)
                raise
            await self._abandon(connection)
            raise OutcomeUnknown("The connection was lost during COMMIT.") from error

    async def _roll_back(self, connection: AsyncConnection) -> None:
        """
        Roll back, or else leave the connection, so that the server does so.
        """
        try:
            with anyio.fail_after(self._timeout, shield=True):
                await connection.rollback()
        except (SQLAlchemyError, OSError):
            await self._abandon(connection)

    async def _abandon(self, connection: AsyncConnection) -> None:
        with anyio.move_on_after(self._timeout, shield=True):
            await connection.invalidate()


class _Shared:
    """
    The connection of an atomic batch. It is true while a savepoint is open on it.

    Attributes:
        is_over: The transaction has ended, or is about to.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self.is_over = False

    def __bool__(self) -> bool:
        return self.connection.in_nested_transaction()


_NOTHING: Final[Mapping[Database, _Shared]] = MappingProxyType({})
_open: ContextVar[Mapping[Database, _Shared]] = ContextVar(
    "asgi_batch_sqlalchemy", default=_NOTHING
)


def _require_asyncio() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError(
            "SQLAlchemy does not run on trio; serve the app on asyncio or uvloop."
        ) from None


async def _begin(connection: AsyncConnection) -> AsyncTransaction:
    transaction = await connection.begin()
    pooled = await connection.get_raw_connection()
    if connection.dialect.name == "sqlite":
        # Without this the driver begins with the first change: not before a savepoint, whose
        # release would then commit. Writers wait for each other here, rather than fail later.
        driver: Any = pooled.driver_connection
        if not driver.in_transaction:
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
    elif _commits_each_statement(connection, pooled.dbapi_connection):
        raise ConfigurationError(
            "Database(engine): its connections commit each statement; leave out"
            ' isolation_level="AUTOCOMMIT".'
        )
    return transaction


def _commits_each_statement(connection: AsyncConnection, driver: Any) -> bool:
    try:
        return connection.dialect.detect_autocommit_setting(driver)
    except NotImplementedError:
        return False


def _let_go(connection: AsyncConnection, error: BaseException) -> None:
    """
    Let statements end that *error* has interrupted, and that what it went through still keeps.

    SQLite's transactions stay open with them, even where their connections are closed.
    """
    if connection.dialect.name != "sqlite":
        return
    each: BaseException | None = error
    while each is not None:
        clear_frames(each.__traceback__)
        each = each.__context__
