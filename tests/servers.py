"""
Real servers for tests: one subprocess each, on a port of its own, and nothing of it left behind.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOST = "127.0.0.1"

# Below the ports that the system gives to outgoing connections, so that none of those takes a
# port between the moment it is found free and the moment the server binds it.
_FIRST_PORT = 20_000
_PORTS = 12_000

# Seconds within which a server must do what it was told, on a machine that is busy.
_PATIENCE = 30.0

_UVICORN = "-m uvicorn --host {host} --port {port} --no-access-log --ws wsproto"
_COMMANDS = {
    "uvicorn-httptools-uvloop": f"{_UVICORN} --http httptools --loop uvloop",
    "uvicorn-h11-asyncio": f"{_UVICORN} --http h11 --loop asyncio",
    "hypercorn-asyncio": "-m hypercorn --bind {host}:{port} --worker-class asyncio",
    "hypercorn-trio": "-m hypercorn --bind {host}:{port} --worker-class trio",
    "granian": "-m granian --interface asgi --host {host} --port {port}",
}
SERVERS = tuple(_COMMANDS)


@dataclass(frozen=True, kw_only=True)
class Server:
    """
    A running server.
    """

    kind: str
    port: int
    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def log(self, start: int = 0) -> str:
        """
        What it has written, from the position *start* on.
        """
        return self.log_file.read_bytes()[start:].decode()

    def log_size(self) -> int:
        return self.log_file.stat().st_size


@contextmanager
def serving(
    kind: str, app: str, folder: Path, *options: str, env: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """
    Serve *app*, written as ``module:name``, and stop in the end; the stop must be a clean one.

    Args:
        kind: One of `SERVERS`.
        app: Found in the repository, or in the folder of the tests.
        folder: Where the server runs and writes its log.
        options: Further arguments of its command line.
        env: Further variables of its environment.
    """
    port = free_port()
    command = [sys.executable, *command_for(kind, port), *options, app]
    with running(kind, command, port, folder, env) as server:
        yield server


@contextmanager
def running(
    kind: str, command: list[str], port: int, folder: Path, env: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """
    Run *command* until it listens on *port*, and stop it in the end.
    """
    process, log_file = start(command, folder, env)
    server = Server(kind=kind, port=port, process=process, log_file=log_file)
    try:
        _wait_until_listening(server)
        yield server
        _stop(server)
    finally:
        kill(process)


def start(
    command: list[str], folder: Path, env: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[bytes], Path]:
    """
    Start *command* in a process group of its own; its output goes into a file in *folder*.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log_file = folder / "server.log"
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return process, log_file


def command_for(kind: str, port: int) -> list[str]:
    """
    What follows ``python`` and comes before the app.
    """
    return _COMMANDS[kind].format(host=HOST, port=port).split()


def free_port() -> int:
    """
    A port that nobody listens on.
    """
    while True:
        port = _FIRST_PORT + secrets.randbelow(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


def kill(process: subprocess.Popen[bytes]) -> None:
    """
    End whatever is left of *process* and of all that it started.
    """
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait_until_listening(server: Server) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            socket.create_connection((HOST, server.port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"{server.kind} does not listen:\n{server.log()}")


def _stop(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)
    try:
        status = server.process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{server.kind} does not stop:\n{server.log()}") from None
    # uvicorn shuts down first and then ends by the signal that told it to.
    is_clean = status == 0 or (status == -signal.SIGTERM and "Finished server" in server.log())
    assert is_clean, f"{server.kind} ended with {status}:\n{server.log()}"
    # What hypercorn's own process has started ends a moment after it.
    deadline = time.monotonic() + _PATIENCE
    while living(server.process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert living(server.process.pid) == [], f"{server.kind} left processes behind"


def living(group: int) -> list[str]:
    """
    The processes of *group* that have not ended, whether or not their parent has noticed.
    """
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = file.read_text()
        except OSError:
            continue
        state, _, of_group = text.rpartition(")")[2].split()[:3]
        if int(of_group) == group and state != "Z":
            found.append(text)
    return found
