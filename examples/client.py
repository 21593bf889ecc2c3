"""
A client of the Starlette example: a batch call by call, a stream of many operations, and requests
of plain httpx that travel as one batch.

It starts the app in a process of its own, unless ``URL`` names a server that runs already::

    python examples/client.py
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx

from asgi_batch.client import AsyncBatchClient, BatchTransport, Operation

HOST = "127.0.0.1"


async def call_by_call(http: httpx.AsyncClient) -> None:
    async with AsyncBatchClient(http).batch() as batch:
        created = batch.post("/users", json={"name": "Barbara"})
        unknown = batch.get("/users/99")
    print(f"Created {created.result.json()}, and /users/99 is {unknown.result.status}.")


async def many(http: httpx.AsyncClient) -> None:
    operations = (Operation("GET", f"/users/{1 + n % 3}") for n in range(2500))
    found = 0
    async with AsyncBatchClient(http).stream(operations) as results:
        async for result in results:
            found += result.is_success
    print(f"{found} of 2500 operations have succeeded.")


async def transparent(url: str) -> None:
    transport = BatchTransport(httpx.AsyncHTTPTransport())  # This is the line.
    async with httpx.AsyncClient(base_url=url, transport=transport) as http:
        shared = []

        async def read(number: int) -> None:
            response = await http.get(f"/users/{number}")
            shared.append(response.extensions["asgi_batch"]["operations"])

        async with anyio.create_task_group() as tasks:
            for number in range(1, 21):
                tasks.start_soon(read, number)
    print(f"{len(shared)} requests of httpx, each in a batch of {max(shared)}.")


async def main(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as http:
        await call_by_call(http)
        await many(http)
    await transparent(url)


@contextlib.contextmanager
def server() -> Iterator[str]:
    """
    Run the example app until the context ends.
    """
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    script = Path(__file__).with_name("starlette_app.py")
    environment = {**os.environ, "PORT": str(port)}
    with subprocess.Popen(
        [sys.executable, str(script)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            _wait_for(port)
            yield f"http://{HOST}:{port}"
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError):
            socket.create_connection((HOST, port)).close()
            return
        time.sleep(0.05)
    raise SystemExit("The server has not started.")


if __name__ == "__main__":
    with contextlib.nullcontext(os.environ.get("URL")) if "URL" in os.environ else server() as url:
        anyio.run(main, url)
