"""
Serves an API that adds users to PostgreSQL, one by one, in bulk or by the list; prints the port.
"""

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_batch import BatchMiddleware, Limits, bulk
from benchmarks.programs import HOST

#: Connections to the database; as many as operations of a batch run at a time.
POOL = 10
#: Rows of one bulk call.
MAX_SIZE = 500

_MANY = "INSERT INTO users (name, email) SELECT * FROM unnest($1::text[], $2::text[]) RETURNING id"
_ONE = "INSERT INTO users (name, email) VALUES ($1, $2) RETURNING id"


class NewUser(BaseModel):
    """
    A user to be added.
    """

    name: str
    email: str


class User(NewUser):
    """
    A user that is there.
    """

    id: int


def with_asyncpg(dsn: str) -> FastAPI:
    """
    The API with nothing between it and the driver.
    """
    pool: asyncpg.Pool

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal pool
        async with asyncpg.create_pool(dsn, min_size=POOL, max_size=POOL) as pool:
            yield

    async def insert_all(rows: list[NewUser]) -> list[User]:
        names, emails = [row.name for row in rows], [row.email for row in rows]
        async with pool.acquire() as connection:
            ids = await connection.fetch(_MANY, names, emails)
        return [
            User(id=found["id"], name=row.name, email=row.email)
            for found, row in zip(ids, rows, strict=True)
        ]

    async def insert_one(row: NewUser) -> User:
        async with pool.acquire() as connection:
            number = await connection.fetchval(_ONE, row.name, row.email)
        return User(id=number, name=row.name, email=row.email)

    return _api(FastAPI(lifespan=lifespan), insert_one, insert_all)


class _Base(DeclarativeBase):
    pass


class _Row(_Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str]


def with_sqlalchemy(dsn: str) -> FastAPI:
    """
    The API with a SQLAlchemy session for each request, and for each bulk call.
    """
    engine = create_async_engine(
        dsn.replace("postgresql://", "postgresql+asyncpg://"), pool_size=POOL, max_overflow=0
    )
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def insert_all(rows: list[NewUser]) -> list[User]:
        statement = insert(_Row).returning(_Row.id, sort_by_parameter_order=True)
        async with sessions() as session:
            found = await session.scalars(statement, [row.model_dump() for row in rows])
            ids = found.all()
            await session.commit()
        return [
            User(id=number, name=row.name, email=row.email)
            for number, row in zip(ids, rows, strict=True)
        ]

    async def insert_one(row: NewUser) -> User:
        async with sessions() as session:
            user = _Row(name=row.name, email=row.email)
            session.add(user)
            await session.commit()
        return User(id=user.id, name=user.name, email=user.email)

    return _api(FastAPI(), insert_one, insert_all)


def _api(api: FastAPI, insert_one, insert_all) -> FastAPI:
    insert_in_bulk = bulk(max_size=MAX_SIZE)(insert_all)

    @api.post("/single", status_code=201)
    async def single(user: NewUser) -> User:
        return await insert_one(user)

    @api.post("/bulk", status_code=201)
    async def in_bulk(user: NewUser) -> User:
        return await insert_in_bulk(user)

    @api.post("/list", status_code=201)
    async def by_list(users: list[NewUser]) -> list[User]:
        return await insert_all(users)

    return api


#: Ways to talk to the database.
WAYS = {"asyncpg": with_asyncpg, "sqlalchemy": with_sqlalchemy}


def main(way: str, dsn: str, http: str, loop: str) -> None:
    """
    Serve the API until told to stop.
    """
    app = BatchMiddleware(WAYS[way](dsn), limits=Limits(sync_operations=1000))
    config = uvicorn.Config(app, http=http, loop=loop, access_log=False, log_level="warning")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind((HOST, 0))
        listener.listen(config.backlog)
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
