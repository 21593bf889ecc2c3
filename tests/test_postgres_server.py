"""
The PostgreSQL servers that other tests rely on.
"""

from pathlib import Path

import asyncpg
import psycopg
import pytest

from postgres_server import postgres_server

STATEMENT = "INSERT INTO numbers\n SELECT {}::int"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with postgres_server(tmp_path_factory.mktemp("postgres"), work_mem="1MB") as server:
        server.query("CREATE TABLE numbers (number integer)")
        yield server


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_statements_are_told_however_a_driver_sends_them(server):
    """
    Prepared or not, several at a time, and over several lines; but not those of `query`.
    """
    server.clear_statements()
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(STATEMENT.format("%s"), [1])
        connection.execute(STATEMENT.format("2"))
    connection = await asyncpg.connect(server.dsn)
    await connection.executemany(STATEMENT.format("$1"), [(3,), (4,)])
    await connection.close()
    server.query("SELECT 1")

    assert server.statements("INSERT") == [
        *map(STATEMENT.format, ["$1", "2"]),
        *[STATEMENT.format("$1")] * 2,
    ]


def test_a_server_can_be_stopped_and_started(server):
    """
    With all that it has kept, and the settings it had.
    """
    server.query("TRUNCATE numbers")
    server.query(STATEMENT.format("7"))
    server.stop()
    with pytest.raises(psycopg.OperationalError):
        server.query("SELECT 1")
    server.start()

    assert server.query("SELECT number FROM numbers WHERE number < %s", 9) == [(7,)]
    assert server.query("SHOW work_mem") == [("1MB",)]


def test_connections_can_be_killed(server):
    """
    All of them, idle ones too.
    """
    with psycopg.connect(server.dsn) as connection:
        assert server.clients("idle") == [connection.info.backend_pid]

        server.kill_connections()

        assert server.clients() == []
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_nothing_is_left_behind(tmp_path):
    """
    No process and no file but the log, though a client is still connected.
    """
    with postgres_server(tmp_path) as server:
        connection = psycopg.connect(server.dsn)
        folder = Path(server.query("SHOW data_directory")[0][0]).parent
        assert folder.is_dir()
    connection.close()

    assert not folder.exists()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["server.log"]
