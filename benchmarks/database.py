"""
What bulk calls save: a thousand rows into PostgreSQL through single-row endpoints of FastAPI.

Four ways to have them there: (a) a thousand requests of httpx over 10 connections, (b) one batch
whose operations each send their own INSERT, (c) one batch whose operations share a bulk function,
(d) an endpoint written by hand that takes the list. Each with asyncpg alone and with SQLAlchemy's
sessions, with the database on this machine and behind a proxy that is 5 ms away, there and back.
All ways go to the same process of the server, and they take turns.
"""

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

# From here on imports are looked up from the root: this folder would hide the library's own http.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import anyio
import httpx

from benchmarks.apps import Call
from benchmarks.calling import open_client, seconds_for, send
from benchmarks.programs import running
from benchmarks.report import Bar, finish, table
from postgres_server import PostgresProc, postgres_server

#: Rows.
COUNT = 1000
CONNECTIONS = 10
#: Milliseconds there and back.
DISTANCES = (0, 5)
WAYS = ("asyncpg", "sqlalchemy")
LETTERS = {
    "a": "1000 requests, 10 connections",
    "b": "a batch without bulk",
    "c": "a batch with bulk",
    "d": "a list, by hand",
}
#: What (c) has to be faster than, by how much, with what, and how far away.
BARS = (
    ("b", 2.0, "asyncpg", 0),
    ("b", 4.0, "sqlalchemy", 0),
    ("b", 5.0, "asyncpg", 5),
    ("b", 5.0, "sqlalchemy", 5),
    ("a", 10.0, "asyncpg", 0),
    ("a", 10.0, "sqlalchemy", 0),
    ("a", 10.0, "asyncpg", 5),
    ("a", 10.0, "sqlalchemy", 5),
)

_TABLE = """
    CREATE TABLE users (
        id serial PRIMARY KEY, name varchar NOT NULL, email varchar NOT NULL UNIQUE
    )
"""

_USERS = [{"name": f"User {n}", "email": f"user-{n}@example.com"} for n in range(COUNT)]


def _batch_of(path: str) -> Call:
    operations = [{"method": "POST", "path": path, "body": user} for user in _USERS]
    return Call("POST", "/batch", json.dumps({"operations": operations}).encode())


_CALLS = {
    "a": [Call("POST", "/single", json.dumps(user).encode()) for user in _USERS],
    "b": [_batch_of("/single")],
    "c": [_batch_of("/bulk")],
    "d": [Call("POST", "/list", json.dumps(_USERS).encode())],
}


class Contest:
    """
    One way to talk to the database, at one distance.

    Args:
        postgres: The database.
        client: A client of the server.
    """

    def __init__(self, postgres: PostgresProc, client: httpx.AsyncClient) -> None:
        self._postgres = postgres
        self._client = client

    async def measure(self, rounds: int) -> dict[str, list[float]]:
        """
        Milliseconds until all rows were there, by the letter.
        """
        taken: dict[str, list[float]] = {letter: [] for letter in _CALLS}
        for number in range(rounds + 1):
            for letter, found in taken.items():
                seconds = await self._once(letter)
                # The first round only warms up.
                if number:
                    found.append(1000 * seconds)
        return taken

    async def _once(self, letter: str) -> float:
        self._postgres.query("TRUNCATE users")
        client, calls = self._client, _CALLS[letter]
        if len(calls) > 1:
            seconds = await seconds_for(client, calls, CONNECTIONS)
        else:
            started = perf_counter()
            await send(client, calls[0])
            seconds = perf_counter() - started
        ((count,),) = self._postgres.query("SELECT count(*) FROM users")
        if count != COUNT:
            raise SystemExit(f"({letter}) has added {count} rows.")
        return seconds


async def _compare(arguments: argparse.Namespace) -> int:
    rounds = 1 if arguments.quick else 15
    taken: dict[tuple[str, int], dict[str, list[float]]] = {}
    with (
        TemporaryDirectory() as folder,
        postgres_server(Path(folder), log_statement="none", shared_buffers="128MB") as postgres,
    ):
        postgres.query(_TABLE)
        for way in WAYS:
            for distance in DISTANCES:
                taken[way, distance] = await _run(postgres, way, distance, rounds, arguments)
    print(f"Milliseconds for {COUNT} rows, medians of {rounds} alternating rounds")
    rows = [
        (f"{way}, {distance} ms away", *(f"{median(found[letter]):.1f}" for letter in LETTERS))
        for (way, distance), found in taken.items()
    ]
    table(("", *(f"({letter})" for letter in LETTERS)), rows)
    print()
    for letter, meaning in LETTERS.items():
        print(f"({letter}) {meaning}")
    figures = {
        "quick": arguments.quick,
        "http": arguments.http,
        "loop": arguments.loop,
        "milliseconds": {
            f"{way}, {distance} ms": {k: round(median(v), 2) for k, v in found.items()}
            for (way, distance), found in taken.items()
        },
    }
    bars = [
        Bar(
            name=f"{way}, {distance} ms away: ({letter}) / (c)",
            value=median(taken[way, distance][letter]) / median(taken[way, distance]["c"]),
            limit=limit,
            at_least=True,
        )
        for letter, limit, way, distance in BARS
    ]
    return finish("database", figures, bars, check=arguments.check)


async def _run(
    postgres: PostgresProc, way: str, distance: int, rounds: int, arguments: argparse.Namespace
) -> dict[str, list[float]]:
    with ExitStack() as stack:
        dsn = postgres.dsn
        if distance:
            delay = str(distance / 2 / 1000)
            far = stack.enter_context(running("benchmarks.proxy", str(postgres.port), delay))
            dsn = dsn.replace(f":{postgres.port}/", f":{far}/")
        server = ("benchmarks.database_server", way, dsn, arguments.http, arguments.loop)
        port = stack.enter_context(running(*server))
        async with open_client(port, CONNECTIONS) as client:
            return await Contest(postgres, client).measure(rounds)


def main() -> int:
    """
    Run from the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--http", choices=("httptools", "h11"), default="h11")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="asyncio")
    parser.add_argument("--quick", action="store_true", help="one round, to try it out")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bar is missed")
    return anyio.run(_compare, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
