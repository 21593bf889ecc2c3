"""
Two servers over one Redis, and what is done to them: one runs on and is watched, one is restarted.
"""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import anyio
import anyio.to_thread

from redis_server import RedisProc
from servers import (
    HOST,
    Server,
    _wait_until_listening,
    command_for,
    free_port,
    kill,
    start,
)

_KIND = "uvicorn-httptools-uvloop"
_PATIENCE = 30.0


class Worker:
    """
    A server that can be started again on its port.

    Args:
        folder: Where it runs.
        redis_url: Of the store.
    """

    def __init__(self, folder: Path, redis_url: str) -> None:
        self._folder = folder
        self._redis_url = redis_url
        self._starts = count()
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        """
        Start it, and wait until it listens.
        """
        command = [sys.executable, *command_for(_KIND, self.port), "soak.app:app"]
        folder = self._folder / str(next(self._starts))
        self.process, log_file = start(command, folder, {"REDIS": self._redis_url})
        server = Server(kind=_KIND, port=self.port, process=self.process, log_file=log_file)
        _wait_until_listening(server)

    def restart(self, number: signal.Signals) -> None:
        """
        End it by a signal, and start it again.
        """
        self.process.send_signal(number)
        self.process.wait(_PATIENCE)
        kill(self.process)
        self.start()

    def held(self) -> dict[str, int]:
        """
        What the system says that its process holds.
        """
        proc = Path("/proc") / str(self.process.pid)
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        return {
            "rss": int(status["VmRSS"].split()[0]) * 1024,
            "threads": int(status["Threads"]),
            "fds": len(list((proc / "fd").iterdir())),
        }


@contextmanager
def workers(folder: Path, redis_url: str) -> Iterator[tuple[Worker, Worker]]:
    """
    The one that is watched, and the one that is restarted.
    """
    started: list[Worker] = []
    try:
        started += [Worker(folder / name, redis_url) for name in ("steady", "restless")]
        yield started[0], started[1]
    finally:
        for worker in started:
            kill(worker.process)


async def hurt(redis: RedisProc, restless: Worker, done: Counter[str], end: float) -> None:
    """
    Restart a worker or freeze Redis now and then, until *end*.

    Args:
        redis: May be frozen for a moment.
        restless: May be restarted.
        done: Told what has been done.
        end: By the clock of the event loop.
    """
    while True:
        pause = random.uniform(5, 15)
        if anyio.current_time() + pause > end:
            return
        await anyio.sleep(pause)
        fault = random.choice(["term", "kill", "freeze"])
        done[fault] += 1
        if fault == "freeze":
            await anyio.to_thread.run_sync(_freeze, redis)
        else:
            number = signal.SIGTERM if fault == "term" else signal.SIGKILL
            await anyio.to_thread.run_sync(restless.restart, number)


def _freeze(redis: RedisProc) -> None:
    with redis.frozen():
        time.sleep(random.uniform(0.2, 1.5))
