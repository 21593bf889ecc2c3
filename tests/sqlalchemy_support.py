"""
What tests of SQLAlchemy share: databases of each kind, and a table that is looked at from outside.
"""

import sqlite3
from contextlib import asynccontextmanager

from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_batch.contrib.sqlalchemy import Database


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Place:
    """
    Where the users are, and how that is looked at without SQLAlchemy.
    """

    def __init__(self, url, query):
        self.url = url
        self._query = query

    @property
    def is_sqlite(self):
        return self.url.startswith("sqlite")

    @property
    def names(self):
        """
        The names of the users that are there for good.
        """
        return [name for (name,) in self._query("SELECT name FROM users ORDER BY id")]

    def execute(self, sql):
        self._query(sql)

    @property
    def watchful(self):
        """
        Options of an engine on whose connections the server looks whether anybody is still there,
        also while it carries out a statement.
        """
        name, value = "client_connection_check_interval", "100ms"
        if "asyncpg" in self.url:
            return {"connect_args": {"server_settings": {name: value}}}
        return {"connect_args": {"options": f"-c {name}={value}"}}

    def engine(self, **options):
        """
        An engine with one connection, which is waited for in vain for two seconds.
        """
        return create_async_engine(
            options.pop("url", self.url),
            **{"pool_size": 1, "max_overflow": 0, "pool_timeout": 2, **options},
        )

    @asynccontextmanager
    async def opened(self, patience=30.0, **options):
        """
        A `Database` on an engine of its own, which in the end must have its connection back.
        """
        engine = self.engine(**options)
        try:
            yield Database(engine, timeout=patience)
            assert engine.pool.checkedout() == 0
        finally:
            await engine.dispose()


def place_for(driver, get_postgres, folder):
    """
    An empty table of users for *driver*.
    """
    if driver == "aiosqlite":
        place = _file(folder / "users.db")
    else:
        server = get_postgres()
        place = Place(server.url(driver), server.query)
    place.execute("DROP TABLE IF EXISTS users")
    place.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name VARCHAR NOT NULL UNIQUE)")
    return place


def _file(path):
    def query(sql):
        connection = sqlite3.connect(path)
        try:
            with connection:
                return connection.execute(sql).fetchall()
        finally:
            connection.close()

    return Place(f"sqlite+aiosqlite:///{path}", query)


async def add(database, *names, first=1):
    """
    What an endpoint does: add users, each with a session and a commit of its own.
    """
    for number, name in enumerate(names, first):
        async with database.session() as session:
            session.add(User(id=number, name=name))
            await session.commit()


def on_commit(engine, act):
    """
    Call *act* just before COMMIT is sent.
    """
    event.listen(engine.sync_engine, "commit", lambda _: act())
