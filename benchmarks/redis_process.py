"""
A Redis server beside a benchmark, in a folder of its own; it keeps nothing on disk.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import redis

from benchmarks.programs import HOST

MISSING = (
    "redis-server is missing. Install it: apt-get install redis-server, or brew install redis."
)

# What the benchmarks themselves send.
_OWN_COMMANDS = ("config|resetstat", "exists", "info", "memory", "memory|usage", "monitor", "ping")
_END = "echo"
# Seconds that it has for coming up.
_PATIENCE = 10


def is_installed() -> bool:
    """
    Whether there is a Redis to run.
    """
    return shutil.which("redis-server") is not None


@contextmanager
def redis_running() -> Iterator["redis.Redis"]:
    """
    Run a server until the context ends; a client of it.
    """
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    command = ["redis-server", "--bind", HOST, "--port", str(port), "--save", ""]
    with (
        TemporaryDirectory() as folder,
        subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as process,
        redis.Redis(host=HOST, port=port) as client,
    ):
        try:
            _wait_for(client)
            yield client
        finally:
            process.terminate()


def url_of(client: "redis.Redis") -> str:
    """
    Where a store finds the server of *client*.
    """
    settings: dict[str, Any] = client.connection_pool.connection_kwargs
    return f"redis://{settings['host']}:{settings['port']}/0"


def commands(client: "redis.Redis") -> int:
    """
    How many commands have been called since the counts were set back, also by scripts.
    """
    stats: dict[str, dict[str, int]] = client.info("commandstats")
    return sum(
        each["calls"]
        for name, each in stats.items()
        if name.removeprefix("cmdstat_") not in _OWN_COMMANDS
    )


@contextmanager
def noting_what_is_sent(client: "redis.Redis") -> Iterator[list[str]]:
    """
    The commands that clients send in the meantime, without those that scripts call.
    """
    sent: list[str] = []
    with client.monitor() as monitor:

        def note() -> None:
            for each in monitor.listen():
                name = each["command"].split(" ")[0].lower()
                if name == _END:
                    return
                if each["client_type"] != "lua" and name not in _OWN_COMMANDS:
                    sent.append(name)

        thread = Thread(target=note)
        thread.start()
        yield sent
        client.echo("")
        thread.join()


def _wait_for(client: "redis.Redis") -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            client.ping()
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
