"""
What tests of whole servers over one Redis share: servers of an app that writes its effects down.
"""

import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import httpx

from servers import kill, serving, start

KIND = "uvicorn-h11-asyncio"
APP = "apps.recovering:app"
PATIENCE = 60


class Service:
    """
    Servers of one app over one Redis, and what their operations have done.

    Args:
        url: Of the store.
        folder: Where the servers run.
        app: Which one.
    """

    def __init__(self, url: str, folder: Path, app: str = APP) -> None:
        self._folder = folder
        self._app = app
        self._effects = folder / "effects.log"
        self.env = {"REDIS": url, "EFFECTS": str(self._effects)}
        self._count = 0

    @contextmanager
    def server(self, *options, **env):
        """
        One more server, with further options and variables of its environment.
        """
        self._count += 1
        folder = self._folder / str(self._count)
        with serving(KIND, self._app, folder, *options, env={**self.env, **env}) as server:
            yield server

    @contextmanager
    def worker(self):
        """
        One more worker process; it is killed in the end, if it still runs.
        """
        self._count += 1
        command = [sys.executable, "-m", "asgi_batch.worker", self._app]
        process, _ = start(command, self._folder / str(self._count), self.env)
        try:
            yield process
        finally:
            kill(process)

    def starts(self):
        """
        How often each operation was started, by method and index.
        """
        return Counter(line[2:4] for line in self._lines() if line[0] == "start")

    def pids(self):
        """
        The processes that ran operations.
        """
        return {int(line[1]) for line in self._lines() if line[0] == "start"}

    def lives(self, event):
        """
        The processes whose app has ``"opened"`` or ``"closed"``, each as often as it has.
        """
        return sorted(int(line[1]) for line in self._lines() if line[0] == event)

    def _lines(self):
        text = self._effects.read_text() if self._effects.exists() else ""
        return [tuple(line.split()) for line in text.splitlines()]


def post_later(url, operations, **headers):
    """
    The answer to a batch that is sent for later.
    """
    return httpx.post(
        f"{url}/batch",
        json={"operations": operations},
        headers={"prefer": "respond-async", **headers},
        timeout=PATIENCE,
    )


def submit(url, operations):
    """
    Send a batch for later; what is said of it.
    """
    answer = post_later(url, operations)
    assert answer.status_code == 202, answer.text
    return answer.json()


def status_of(url, batch):
    """
    The answer to the question how far *batch* is.
    """
    return httpx.get(url + batch["statusUrl"], timeout=PATIENCE)


def wait_for(url, batch, condition=lambda status: status["finishedAt"]):
    """
    The status of *batch* once *condition* holds for it; without one, once it is finished.
    """
    answer = None
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        answer = status_of(url, batch)
        if answer.status_code == 200 and condition(answer.json()):
            return answer.json()
        time.sleep(0.02)
    raise AssertionError(answer.text)


def results_of(url, batch):
    """
    All results of *batch*.
    """
    answer = httpx.get(url + batch["resultsUrl"], params={"limit": 1000}, timeout=PATIENCE)
    return answer.json()["results"]


def mixed(count):
    """
    Reads and writes in turn.
    """
    return [{"method": "POST" if n % 2 else "GET", "path": "/work"} for n in range(count)]


def unknown(results):
    """
    The indexes of operations of which it is not known whether they were carried out.
    """
    return {
        int(result["id"])
        for result in results
        if result["status"] == 502 and result["error"]["code"] == "outcome_unknown"
    }


def assert_nothing_unsafe_ran_twice(service, results):
    """
    Each POST ran once, or at most once where its outcome is told to be unknown; reads ran.
    """
    starts, doubtful = service.starts(), unknown(results)
    assert {result["status"] for result in results} <= {200, 502}
    assert all(index % 2 for index in doubtful)
    for index in range(len(results)):
        if index in doubtful:
            assert starts["POST", str(index)] <= 1
        elif index % 2:
            assert starts["POST", str(index)] == 1
        else:
            assert 1 <= starts["GET", str(index)] <= 3
