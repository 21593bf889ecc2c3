"""
Real processes that are killed, paused, told to stop and started again: one Redis, several workers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import redis

import asgi_batch
from chaos.history import Worker
from servers import HOST, ROOT, command_for, free_port, kill, start

_KIND: Final = "uvicorn-h11-asyncio"
_PATIENCE: Final = 60.0
_LISTENS: Final = "0A"
# What workers import must be what the checkers import.
_PATH: Final = (Path(asgi_batch.__file__).parent.parent, ROOT, ROOT / "tests")


class Proc:
    """
    A process that is started again and again, each time in a folder of its own.
    """

    def __init__(self, command: list[str], folder: Path, env: Mapping[str, str]) -> None:
        self._command = command
        self._folder = folder
        self._env = {"PYTHONPATH": os.pathsep.join(map(str, _PATH)), **env}
        self._count = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.log_file = folder

    @property
    def pid(self) -> int:
        """
        Of the process that runs or ran last.
        """
        assert self._process is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """
        Whether it runs, or stands still.
        """
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """
        Start it anew.
        """
        self._count += 1
        folder = self._folder / str(self._count)
        self._process, self.log_file = start(self._command, folder, self._env)

    def signal(self, number: signal.Signals) -> None:
        """
        Send it a signal, if it runs.
        """
        if self.is_alive:
            os.kill(self.pid, number)

    def kill(self) -> float:
        """
        End it as a loss of power would; when it was gone.
        """
        if self._process is not None:
            kill(self._process)
        return time.monotonic()

    async def ended(self, seconds: float = _PATIENCE) -> float:
        """
        Wait for its end; when that was.
        """
        deadline = time.monotonic() + seconds
        while self.is_alive:
            if time.monotonic() > deadline:
                raise AssertionError(f"{self._command} does not stop: {self.log()}")
            await asyncio.sleep(0.01)
        return time.monotonic()

    def log(self) -> str:
        """
        What the process has written.
        """
        return self.log_file.read_text(errors="replace") if self.log_file.is_file() else ""


class WorkerProc(Proc):
    """
    A server of the chaos app.

    Args:
        app: As ``module:name``.
        folder: For its logs.
        env: Its environment.
        store_port: Where it reaches its store.
    """

    def __init__(self, app: str, folder: Path, env: Mapping[str, str], store_port: int) -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._store_port = store_port
        self._others_at_first: tuple[str, ...] = ()
        env = {**env, "REDIS": f"redis://{HOST}:{store_port}/0"}
        command = [sys.executable, *command_for(_KIND, self.port), "--lifespan", "on", app]
        super().__init__(command, folder, env)

    def set_queue(self, ports: Sequence[int]) -> None:
        """
        Have it be a worker of the queue of *ports*, if there are any; it starts anew where that
        changes.
        """
        queue = " ".join(map(str, sorted(ports, key=lambda port: port != self.port)))
        if self._env.get("QUEUE", "") != queue:
            self.kill()
            self._env["QUEUE"] = queue

    async def up(self) -> None:
        """
        Have it listening, started again as often as that takes.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            if not self.is_alive:
                self.start()
            if self._is_listening:
                self._others_at_first = self._files()[1]
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"It does not come up: {self.log()}")
            await asyncio.sleep(0.02)

    async def up_once(self) -> None:
        """
        Start it, and wait until it listens or has died.
        """
        self.start()
        deadline = time.monotonic() + _PATIENCE
        while True:
            if self._is_listening or not self.is_alive:
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"It does not come up: {self.log()}")
            await asyncio.sleep(0.02)

    @property
    def _is_listening(self) -> bool:
        return f"running on {self.url}" in self.log()

    def files(self) -> Worker:
        """
        What it has open.
        """
        connections, others = self._files()
        return Worker(self.pid, connections, others, self._others_at_first)

    def _files(self) -> tuple[int, tuple[str, ...]]:
        """
        Connections to the store, and all else but those of clients.
        """
        sockets = dict(_sockets(self.port, self._store_port))
        kinds, others = list[str](), list[str]()
        for file in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                name = str(file.readlink())
            except OSError:
                continue
            kinds.append(sockets.get(name, ""))
            if name not in sockets:
                others.append(name)
        return kinds.count("store"), tuple(sorted(others))


class RedisProc(Proc):
    """
    A Redis server that forgets nothing that it has acknowledged.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        data = folder / "data"
        data.mkdir(parents=True)
        options = f"--bind {HOST} --port {self.port} --appendonly yes --appendfsync always"
        command = ["redis-server", *options.split(), "--save", "", "--dir", str(data)]
        super().__init__(command, folder, {})
        #: A client of its own, to look behind the store's back.
        self.client = redis.Redis(
            host=HOST, port=self.port, socket_timeout=10, decode_responses=True
        )

    async def up(self) -> None:
        """
        Have it answering, with all its data.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            if not self.is_alive:
                self.start()
            try:
                self.client.ping()
            except (redis.ConnectionError, redis.BusyLoadingError):
                if time.monotonic() > deadline:
                    raise AssertionError(f"Redis does not come up: {self.log()}") from None
                await asyncio.sleep(0.02)
            else:
                return


@contextmanager
def ending(proc: Proc) -> Iterator[None]:
    """
    Leave nothing of *proc* behind.
    """
    try:
        yield
    finally:
        proc.kill()
        if isinstance(proc, RedisProc):
            proc.client.close()


def _sockets(own_port: int, store_port: int) -> Iterator[tuple[str, str]]:
    """
    The links of ``/proc`` that are sockets to clients or to the store, and which of the two.
    """
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_, inode = line.split()[:10]
        if int(remote.rpartition(":")[2], 16) == store_port:
            yield f"socket:[{inode}]", "store"
        elif int(local.rpartition(":")[2], 16) == own_port and state != _LISTENS:
            yield f"socket:[{inode}]", "client"
