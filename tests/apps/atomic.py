"""
An app over a database, whose batches are atomic where they ask for it.

``DATABASE`` is its URL and ``ISOLATION`` that of its transactions, ``STORE`` where batches are
kept, ``LIMITS`` are more of them. Operations that begin are written into the file ``EFFECTS``, and
those that wait do so until there is a file ``GATE``. ``DIE`` ends the process at the end of a
transaction that is to be committed: ``before`` or ``after`` the database is told, or ``politely``,
by SIGTERM, and then it waits for the gate, as it does for ``later``, which ends nothing. ``POOL``
is how many connections there are.
"""

import json
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from sqlalchemy import event, func, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_batch import BatchMiddleware, Limits, bulk, current_operation
from asgi_batch.contrib.sqlalchemy import Database
from sqlalchemy_support import User

_EFFECTS = os.open(os.environ["EFFECTS"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
_GATE = Path(os.environ["GATE"])
_REACHED = _GATE.with_name("reached")
_DIE = os.environ.get("DIE")
_URL = os.environ["DATABASE"]

# SQLite waits for its lock in a thread.
_OPTIONS = {"connect_args": {"timeout": 1.5}} if _URL.startswith("sqlite") else {}
if "ISOLATION" in os.environ:
    _OPTIONS["isolation_level"] = os.environ["ISOLATION"]
engine = create_async_engine(
    _URL,
    pool_size=int(os.environ.get("POOL", "2")),
    max_overflow=0,
    pool_pre_ping=True,
    **_OPTIONS,
)
database = Database(engine, timeout=5)


@event.listens_for(engine.sync_engine, "connect")
def connect(connection, _):
    """
    SQLite knows of foreign keys if it is told to, and so does PostgreSQL of clients that have gone.
    """
    cursor = connection.cursor()
    if engine.dialect.name == "sqlite":
        cursor.execute("PRAGMA foreign_keys = ON")
    else:
        cursor.execute("SET client_connection_check_interval = '100ms'")
        connection.commit()
    cursor.close()


@asynccontextmanager
async def transaction():
    """
    That of the database, and the end of the process where it is asked for.
    """
    async with database():
        yield
        if _DIE == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if _DIE == "politely":
            os.kill(os.getpid(), signal.SIGTERM)
        if _DIE in ("later", "politely"):
            await gate()
    if _DIE == "after":
        os.kill(os.getpid(), signal.SIGKILL)


async def gate():
    """
    Wait until the test says otherwise, and let it know.
    """
    _REACHED.touch()
    while not _GATE.exists():  # noqa: ASYNC110, ASYNC240
        await anyio.sleep(0.01)


@bulk(max_size=500)
async def insert_users(users):
    """
    One INSERT.
    """
    async with database.session() as session:
        await session.execute(insert(User).values(users))
        await session.commit()
    return users


async def create(request):
    """
    A user, by itself or with others, and then whatever the query says.
    """
    current = current_operation()
    line = f"{request.path_params['number']} {os.getpid()} {current.attempt}\n"
    os.write(_EFFECTS, line.encode())
    number = request.path_params["number"]
    user = {"id": number, "name": request.query_params.get("name", f"user {number}")}
    try:
        if "bulk" in request.query_params:
            await insert_users(user)
        else:
            async with database.session() as session:
                session.add(User(**user))
                await session.commit()
    except IntegrityError:
        return JSONResponse({"error": "There is one already."}, 409)
    then = request.query_params.get("then", "201")
    if then.isdigit():
        return JSONResponse(user, int(then))
    if then == "late crash":
        return JSONResponse(user, 201, background=BackgroundTask(crash))
    await {"crash": crash, "die": die, "wait": gate, "sleep": sleep}[then]()
    return JSONResponse(user, 201)


async def crash():
    """
    As any error in an app.
    """
    raise ValueError("as it was told to")


async def die():
    """
    As if somebody had sent a SIGKILL.
    """
    os.kill(os.getpid(), signal.SIGKILL)


async def sleep():
    """
    Have PostgreSQL wait.
    """
    async with database.session() as session:
        await session.execute(text("SELECT pg_sleep(1000)"))


async def order(request):
    """
    An order of a user that there should be when the transaction ends.
    """
    async with database.session() as session:
        await session.execute(
            text("INSERT INTO orders VALUES (:number, :number)"), request.path_params
        )
        await session.commit()
    return JSONResponse({}, 201)


async def count(_):
    """
    How many users there are.
    """
    async with database.session() as session:
        return JSONResponse(await session.scalar(select(func.count()).select_from(User)))


app = BatchMiddleware(
    Starlette(
        routes=[
            Route("/users", count),
            Route("/users/{number:int}", create, methods=["POST"]),
            Route("/orders/{number:int}", order, methods=["POST"]),
        ]
    ),
    store=os.environ.get("STORE", "memory://"),
    transaction=transaction,
    limits=Limits(
        **{
            "lease": 1.0,
            "scan_interval": 0.2,
            "cancel_interval": 0.2,
            "drain_timeout": 0.5,
            "sync_operations": 1000,
            **json.loads(os.environ.get("LIMITS", "{}")),
        }
    ),
)
