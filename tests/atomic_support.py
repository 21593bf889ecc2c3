"""
What tests of atomic batches on real servers share: databases with two tables, looked at from
outside, and servers of an app that uses them.
"""

import http.client
import json
import sqlite3
import time
from contextlib import contextmanager

import httpx

from servers import HOST, serving
from sqlalchemy_support import place_for

KIND = "uvicorn-h11-asyncio"
APP = "apps.atomic:app"
PATIENCE = 60


class Shop:
    """
    A database, and servers of the app over it.

    Args:
        place: The database.
        folder: Where the servers run.
        env: More of the environment of each.
    """

    def __init__(self, place, folder, **env):
        self.place = place
        self._folder = folder
        self._effects = folder / "effects.log"
        self._gate = folder / "gate"
        self._reached = folder / "reached"
        self._env = {"EFFECTS": str(self._effects), "GATE": str(self._gate), **env}
        self._count = 0

    def empty(self):
        """
        As it was in the beginning.
        """
        self.place.execute("DELETE FROM orders")
        self.place.execute("DELETE FROM users")
        self._effects.write_text("")
        self._gate.unlink(missing_ok=True)
        self._reached.unlink(missing_ok=True)

    @contextmanager
    def server(self, *options, **env):
        """
        One more server, with further options and variables of its environment.
        """
        self._count += 1
        env = {"DATABASE": self.place.url, **self._env, **env}
        with serving(KIND, APP, self._folder / str(self._count), *options, env=env) as server:
            yield server

    def open_gate(self):
        """
        Let operations go on that wait.
        """
        self._gate.touch()

    def is_at_gate(self):
        """
        Whether something waits for it.
        """
        return self._reached.exists()

    def starts(self):
        """
        The number of each operation that has begun, with its process and its attempt.
        """
        text = self._effects.read_text() if self._effects.exists() else ""
        return [tuple(map(int, line.split())) for line in text.splitlines()]

    def wait_for_starts(self, count):
        """
        Wait until so many operations have begun.
        """
        wait_until(lambda: len(self.starts()) >= count)


@contextmanager
def shop_for(driver, get_postgres, folder, **env):
    """
    A shop with empty tables, of which one is gone in the end, as others would not get rid of it.
    """
    place = place_for(driver, get_postgres, folder)
    place.execute(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY,"
        " user_id INTEGER REFERENCES users (id) DEFERRABLE INITIALLY DEFERRED)"
    )
    try:
        yield Shop(place, folder, **env)
    finally:
        place.execute("DROP TABLE orders")


@contextmanager
def unavailable(shop, request):
    """
    Have PostgreSQL stopped, or the file of SQLite locked, for as long as the context lasts.
    """
    if shop.place.is_sqlite:
        file = shop.place.url.partition("///")[2]
        writer = sqlite3.connect(file, isolation_level=None)
        try:
            writer.execute("BEGIN IMMEDIATE")
            yield
        finally:
            writer.close()
    else:
        postgres = request.getfixturevalue("postgres")
        postgres.stop()
        try:
            yield
        finally:
            postgres.start()


def wait_until(condition):
    """
    Wait for what other processes do.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "What was waited for has not come."
        time.sleep(0.02)


def body_of(*paths, is_atomic=True):
    """
    A batch of POSTs, and of GETs where a path has no number.
    """
    operations = [
        {"method": "POST" if any(map(str.isdigit, path)) else "GET", "path": path} for path in paths
    ]
    return {"atomic": is_atomic, "operations": operations}


def post(server, *paths, timeout=PATIENCE, **headers):
    """
    The answer to an atomic batch.
    """
    body = body_of(*paths)
    return httpx.post(f"{server.url}/batch", json=body, headers=headers, timeout=timeout)


@contextmanager
def gone_after(server, *paths):
    """
    A client that sends an atomic batch and goes away at the end of the context.
    """
    connection = http.client.HTTPConnection(HOST, server.port)
    try:
        headers = {"content-type": "application/json"}
        connection.request("POST", "/batch", json.dumps(body_of(*paths)), headers)
        yield
    finally:
        connection.close()


def told(answer):
    """
    What each operation was told: its status, and the code where the library speaks.
    """
    assert answer.status_code == 200, answer.text
    return [told_by(result) for result in answer.json()["results"]]


def told_by(result):
    """
    The same of one result.
    """
    by_batch = result.get("source") == "batch"
    return result["status"], result["error"]["code"] if by_batch else None


def limits(**each):
    """
    A variable of the environment.
    """
    return {"LIMITS": json.dumps(each)}
