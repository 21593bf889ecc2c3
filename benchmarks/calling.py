"""
Requests as a Python program sends them, with `httpx.AsyncClient`.

Every answer is read whole and its status looked at; the JSON in it is not parsed.
"""

from collections.abc import Iterable, Sequence
from time import perf_counter

import anyio
import httpx

from benchmarks.apps import Call
from benchmarks.programs import HOST

_HEADERS = {"content-type": "application/json"}
# What the JSON of a batch says when every operation went well.
_ALL_WELL = b'"failed":0,'


def open_client(port: int, connections: int, *, keep_alive: bool = True) -> httpx.AsyncClient:
    """
    A client of the server on *port*, with at most so many *connections*.
    """
    limits = httpx.Limits(
        max_connections=connections, max_keepalive_connections=connections if keep_alive else 0
    )
    base_url = f"http://{HOST}:{port}"
    return httpx.AsyncClient(base_url=base_url, limits=limits, timeout=60, trust_env=False)


async def send(client: httpx.AsyncClient, call: Call) -> httpx.Response:
    """
    Send *call*; it must be answered well, and so must all operations in it.
    """
    headers = _HEADERS if call.body else None
    response = await client.request(call.method, call.path, content=call.body, headers=headers)
    response.raise_for_status()
    if call.path == "/batch" and _ALL_WELL not in response.content:
        raise SystemExit("Not all operations of a batch were answered well.")
    return response


async def seconds_for(client: httpx.AsyncClient, calls: Sequence[Call], workers: int) -> float:
    """
    How long so many *workers* take for all *calls*, each sending one after the other.
    """
    remaining = iter(calls)
    started = perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(workers):
            tasks.start_soon(_work, client, remaining)
    return perf_counter() - started


async def _work(client: httpx.AsyncClient, remaining: Iterable[Call]) -> None:
    for call in remaining:
        await send(client, call)
