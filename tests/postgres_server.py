"""
Real PostgreSQL servers for tests, each with a cluster and a port of its own, and ways to hurt them.
"""

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from servers import HOST, Server, _wait_until_listening, free_port, kill, start

#: Who the clients of a server are.
USER = DATABASE = "postgres"

# Seconds within which a server must do what it was told, on a machine that is busy.
_PATIENCE = 30.0
# PostgreSQL does not run as root, so that it runs as the user of its Debian package there.
_ACCOUNT = "postgres"
# Quick rather than durable; nothing outside of its folder, and every statement in its log.
_SETTINGS = {
    "autovacuum": "off",
    "deadlock_timeout": "100ms",
    "dynamic_shared_memory_type": "mmap",
    "fsync": "off",
    "full_page_writes": "off",
    "jit": "off",
    "listen_addresses": HOST,
    "log_line_prefix": "%p|",
    "log_statement": "all",
    "max_connections": "50",
    "shared_buffers": "16MB",
    "synchronous_commit": "off",
    "unix_socket_directories": "",
}
# A statement of the log, over several lines where all but the first begin with a tab.
_STATEMENT = re.compile(r"^\d+\|LOG:  (?:statement|execute [^:]+): (.*(?:\n\t.*)*)", re.MULTILINE)


class PostgresProc:
    """
    A PostgreSQL server, running unless it was stopped.

    Args:
        folder: Where its log goes.
        data: Where its cluster is.
        settings: What it is started with.
    """

    def __init__(self, folder: Path, data: Path, settings: dict[str, str]) -> None:
        self.port = free_port()
        self.dsn = f"postgresql://{USER}@{HOST}:{self.port}/{DATABASE}"
        self._folder = folder
        self._command = [*_as_account(), str(_programs() / "postgres"), "-D", str(data)]
        self._command += [f"--{name}={value}" for name, value in settings.items()]
        self._command.append(f"--port={self.port}")
        self._server: Server | None = None
        self._seen = 0
        self._starts = 0

    def url(self, driver: str = "asyncpg") -> str:
        """
        Its URL for SQLAlchemy.
        """
        return self.dsn.replace("postgresql://", f"postgresql+{driver}://")

    def start(self) -> None:
        """
        Start it, with what it has kept.
        """
        self._starts += 1
        process, log = start(self._command, self._folder / str(self._starts))
        self._seen = 0
        self._server = Server(kind="postgres", port=self.port, process=process, log_file=log)
        _wait_until_listening(self._server)
        self._wait_until_ready()

    def stop(self) -> None:
        """
        Stop it in good order, whoever is connected.
        """
        if self._server is None:
            return
        server, self._server = self._server, None
        try:
            server.process.send_signal(signal.SIGINT)
            server.process.wait(_PATIENCE)
        finally:
            kill(server.process)

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """
        The rows of *sql*, which is left out of `statements`.
        """
        with psycopg.connect(
            self.dsn, autocommit=True, options="-c log_statement=none"
        ) as connection:
            cursor = connection.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def clients(self, state: str = "%") -> list[int]:
        """
        The processes of its clients that are in a state like *state*, such as ``"idle in %"``.
        """
        rows = self.query(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " AND pid <> pg_backend_pid() AND state LIKE %s",
            state,
        )
        return [pid for (pid,) in rows]

    def kill_connections(self) -> None:
        """
        End all connections of clients, whatever they are doing.
        """
        self.query(
            "SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
            int(_PATIENCE * 1000),
        )

    def statements(self, start: str = "") -> list[str]:
        """
        What clients have had it carry out since `clear_statements` that begins like *start*.
        """
        found = _STATEMENT.findall(self._log())
        return [each.replace("\n\t", "\n") for each in found if each.startswith(start)]

    def clear_statements(self) -> None:
        """
        Forget what has been carried out until now.
        """
        assert self._server is not None
        self._seen = self._server.log_size()

    def _log(self) -> str:
        assert self._server is not None
        return self._server.log(self._seen)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self.query("SELECT 1")
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, self._log()
                time.sleep(0.02)
            else:
                return


@contextmanager
def postgres_server(folder: Path, **settings: str) -> Iterator[PostgresProc]:
    """
    A PostgreSQL server with nothing in it that trusts everybody, and leaves nothing behind.

    Args:
        folder: Where its log goes.
        settings: Of its configuration.
    """
    # Not in *folder*, where only the user of the tests may go.
    home = Path(tempfile.mkdtemp(prefix="asgi_batch_pg_"))
    try:
        if _as_account():
            shutil.chown(home, _ACCOUNT)
        _make_cluster(home / "data")
        proc = PostgresProc(folder, home / "data", {**_SETTINGS, **settings})
        try:
            proc.start()
            yield proc
        finally:
            proc.stop()
    finally:
        shutil.rmtree(home)


def _make_cluster(data: Path) -> None:
    options = f"--username={USER} --auth=trust --no-sync --locale=C --encoding=UTF8"
    command = [*_as_account(), str(_programs() / "initdb"), *options.split(), str(data)]
    done = subprocess.run(
        command, cwd="/", capture_output=True, text=True, timeout=_PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _as_account() -> Sequence[str]:
    if os.geteuid() != 0:
        return ()
    account = pwd.getpwnam(_ACCOUNT)
    identity = f"--reuid={account.pw_uid} --regid={account.pw_gid} --init-groups"
    return ("setpriv", *identity.split())


def _programs() -> Path:
    """
    Where the programs of the newest version are; Debian does not put them on the path.
    """
    found = list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return max(found, key=lambda file: int(file.parts[-3])).parent
    program = shutil.which("initdb")
    assert program is not None, "There is no initdb: install PostgreSQL."
    return Path(program).parent
