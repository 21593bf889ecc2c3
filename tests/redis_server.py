"""
Real Redis servers for tests, each with a port and a folder of its own, and ways to hurt them.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from servers import HOST, Server, _wait_until_listening, free_port, kill, start


class RedisProc:
    """
    A running Redis server.

    Args:
        server: Its process.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.port = server.port
        self.url = f"redis://{HOST}:{server.port}/0"
        #: A client of its own, to look behind the store's back.
        self.client = redis.Redis(host=HOST, port=server.port)

    def config(self, **settings: object) -> None:
        """
        Change *settings*; an underscore stands for a dash.
        """
        for name, value in settings.items():
            self.client.config_set(name.replace("_", "-"), str(value))

    def kill(self) -> None:
        """
        End it as a loss of power would.
        """
        self.client.close()
        kill(self._server.process)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """
        Keep it from doing anything, though its connections stay.
        """
        self._server.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._server.process.send_signal(signal.SIGCONT)

    @contextmanager
    def restarted(self, folder: Path) -> Iterator["RedisProc"]:
        """
        A server on the same port after this one was killed, with nothing of its data.
        """
        with _serving(self.port, folder, ()) as proc:
            yield proc


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[RedisProc]:
    """
    A Redis server that keeps nothing on disk.

    Args:
        folder: Where it runs.
        options: More of its command line, such as ``"--cluster-enabled", "yes"``.
    """
    with _serving(free_port(), folder, options) as proc:
        yield proc


@contextmanager
def _serving(port: int, folder: Path, options: tuple[str, ...]) -> Iterator[RedisProc]:
    command = ["redis-server", "--bind", HOST, "--port", str(port), "--save", "", *options]
    process, log_file = start(command, folder)
    try:
        server = Server(kind="redis", port=port, process=process, log_file=log_file)
        _wait_until_listening(server)
        proc = RedisProc(server)
        try:
            yield proc
        finally:
            proc.client.close()
    finally:
        kill(process)
