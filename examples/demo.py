"""
Sends batches to examples/fastapi_app.py under a real server, and shows what comes back.

``make demo`` runs it, and then demo_background.py and demo_shop.py; so does ``python
examples/demo.py``, alone.
"""

import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx

OPERATIONS = [
    {"id": "greet", "method": "GET", "path": "/hello"},
    {"id": "read", "method": "GET", "path": "/users/1"},
    {"id": "create", "method": "POST", "path": "/users", "body": {"name": "Barbara"}},
    {"id": "rename", "method": "PUT", "path": "/users/2", "body": {"name": "Grace Hopper"}},
    {"id": "delete", "method": "DELETE", "path": "/users/3"},
    {"id": "unknown", "method": "GET", "path": "/users/99"},
    {"id": "nameless", "method": "POST", "path": "/users", "body": {"name": ""}},
    {"id": "crash", "method": "GET", "path": "/crash"},
]
STATUSES = [200, 200, 201, 200, 204, 404, 422, 500]
SUMMARY = {"total": 8, "succeeded": 5, "failed": 3, "skipped": 0}

MISTAKES = [
    {"id": "fine", "method": "DELETE", "path": "/users/1"},
    {"id": "method", "method": "FETCH", "path": "/users/1"},
    {"id": "twice", "method": "GET", "path": "/users/../admin"},
    {"id": "twice", "method": "GET", "path": "/users/1", "headers": {"cookie": "user=root"}},
]
CODES = ["method_not_allowed", "invalid_path", "duplicate_id", "header_not_allowed"]

IS_COLOURED = sys.stdout.isatty() and "NO_COLOR" not in os.environ


class Surprise(Exception):
    """
    Raised when something is not as this demo expects it.
    """


# All that answers of another kind than expected can lead to.
SURPRISES = (
    Surprise,
    httpx.HTTPError,
    sqlite3.Error,
    subprocess.SubprocessError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
)


def main(show: Callable[[Path], None]) -> int:
    """
    Call *show* with a folder of its own; the exit status of the demo.
    """
    # Whoever stops the demo stops its servers, too; a shell may have told it to ignore that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory() as folder:
            show(Path(folder))
    except SURPRISES as error:
        print(f"\nThe demo did not go as expected: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nThe demo has been stopped, and its servers with it.", file=sys.stderr)
        return 130
    print("All servers have stopped. All went as expected.")
    return 0


def show_batches(folder: Path) -> None:
    port = free_port()
    with serving("fastapi_app:app", port, folder / "log"):
        show_batch(f"http://127.0.0.1:{port}")
        show_refusal(f"http://127.0.0.1:{port}")


def show_batch(url: str) -> None:
    print(bold(f"One request: POST {url}/batch"))
    show_table(
        ("id", "method", "path", "body"),
        [(each["id"], each["method"], each["path"], text(each.get("body"))) for each in OPERATIONS],
    )
    response = httpx.post(f"{url}/batch", json={"operations": OPERATIONS}, trust_env=False)
    check("status of the batch", response.status_code, 200)
    answer = response.json()
    print(bold("One answer: 200, with a result for each operation"))
    show_table(("id", "status", "answer"), map(result_row, answer["results"]))
    counts = ", ".join(f"{name} {count}" for name, count in answer["summary"].items())
    print(f"  summary: {counts}\n")
    check("statuses", [result["status"] for result in answer["results"]], STATUSES)
    check("summary", answer["summary"], SUMMARY)


def show_refusal(url: str) -> None:
    response = httpx.post(f"{url}/batch", json={"operations": MISTAKES}, trust_env=False)
    check("status of the batch with mistakes", response.status_code, 422)
    problem = response.json()
    print(bold(f"A batch with mistakes: 422, {problem['title']}"))
    print(f"  {problem['detail']}\n")
    show_table(
        ("id", "where", "what to change"),
        [(each["id"], each["pointer"], each["detail"]) for each in problem["errors"]],
    )
    check("codes", [each["code"] for each in problem["errors"]], CODES)
    survivor = httpx.get(f"{url}/users/1", trust_env=False)
    check("status of the user that was not deleted", survivor.status_code, 200)


def result_row(result: dict[str, Any]) -> Sequence[str]:
    answer = text(result.get("result", result.get("error")))
    location = result.get("headers", {}).get("location")
    where = f"  location: {location}" if location else ""
    return result["id"], str(result["status"]), f"{answer}{where}"


def free_port() -> int:
    while True:
        # Below the ports that the system gives to outgoing connections.
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def serving(
    app: str, port: int, log: Path, **env: str
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """
    Serve an app of this folder for as long as the context lasts.
    """
    return running([sys.executable, "-m", "uvicorn", app, "--port", str(port)], port, log, **env)


@contextmanager
def running(
    command: list[str], port: int, log: Path, **env: str
) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run a server that listens on *port*; what it has to say goes into *log*.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=Path(__file__).parent,
            env={**os.environ, **env},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_listening(port, process, log)
        yield process
        process.terminate()
        # SIGKILL is what the demo itself has done to it.
        if process.wait(30) not in (0, -signal.SIGTERM, -signal.SIGKILL):
            raise Surprise(f"the server did not stop cleanly:\n{log.read_text()}")
    finally:
        process.kill()
        process.wait()


def wait_until_listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise Surprise(f"the server did not start:\n{log.read_text()}")


def check(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise Surprise(f"{what}: {found!r} instead of {expected!r}")


def text(value: object) -> str:
    return "" if value is None else json.dumps(value)


def show_table(titles: Sequence[str], rows: Iterator[Sequence[str]] | list[Any]) -> None:
    table = [titles, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(titles))]
    for index, row in enumerate(table):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        line = "  " + "  ".join(cells).rstrip()
        print(line if index else dim(line))
    print()


def bold(line: str) -> str:
    return f"\033[1m{line}\033[0m" if IS_COLOURED else line


def dim(line: str) -> str:
    return f"\033[2m{line}\033[0m" if IS_COLOURED else line


if __name__ == "__main__":
    sys.exit(main(show_batches))
