"""
What background batches do to others in the same process: direct requests, and polls of the status.

The server is one process of uvicorn. All requests come from this one, over sockets that stay open,
written and read with as little as that takes. Direct requests are ``GET /items/7``, one after the
other over one connection: while four batches run that have been accepted, up to the end of the
first of them; and, for comparison, beside four clients that send batch after batch and look for
their ends, so that what it takes to accept them is in it as well.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from threading import Event, Thread
from time import perf_counter, sleep
from typing import Self

import orjson

from benchmarks.programs import HOST

#: Batches that run at a time, which is as many as a process takes.
BATCHES = 4
#: Connections over which the status is polled.
POLLERS = 10


class Connection:
    """
    A connection that stays open.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, request: bytes) -> bytes:
        """
        Send *request*; the body of its answer, which must be a good one.
        """
        self._socket.sendall(request)
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._receive()
        head, body = data[:end].lower(), data[end + 4 :]
        if head.split(b" ", 2)[1] not in (b"200", b"202"):
            raise SystemExit(f"A request was not answered well: {data!r:.500}")
        length = int(head.partition(b"content-length:")[2].partition(b"\r")[0])
        while len(body) < length:
            body += self._receive()
        return body

    def _receive(self) -> bytes:
        data = self._socket.recv(64 * 1024)
        if not data:
            raise ConnectionError("The server has closed the connection.")
        return data


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    """
    A request as it is sent.
    """
    lines = [f"{method} {path} HTTP/1.1", f"host: {HOST}", *headers]
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


DIRECT = request("GET", "/items/7")


def submission(prefix: str, size: int, query: str = "") -> bytes:
    """
    A batch for later that reads below *prefix*.
    """
    paths = [f"{prefix}/items/{index}{query}" for index in range(size)]
    operations = [{"method": "GET", "path": path} for path in paths]
    body = orjson.dumps({"operations": operations})
    return request("POST", "/batch", body, "prefer: respond-async")


@dataclass(slots=True)
class Waits:
    """
    Milliseconds for each direct request.
    """

    idle: list[float] = field(default_factory=list)
    computing: list[float] = field(default_factory=list)
    awaiting: list[float] = field(default_factory=list)
    accepting: list[float] = field(default_factory=list)


def part(values: list[float], share: float) -> float:
    """
    The value that *share* of all values do not exceed.
    """
    return sorted(values)[ceil(share * len(values)) - 1]


def measure_waits(port: int, *, size: int, rounds: int, requests: int) -> Waits:
    """
    How long direct requests take, idle and beside batches in turn.
    """
    waits = Waits()
    for _ in range(rounds):
        waits.idle += _direct_requests(port, requests)
        waits.computing += _requests_beside(port, submission("", size), requests)
        waits.awaiting += _requests_beside(port, submission("/waiting", size), requests)
        with batches_running(port, submission("", size)):
            waits.accepting += _direct_requests(port, requests)
    return waits


def _direct_requests(port: int, number: int) -> list[float]:
    with Connection(port) as connection:
        connection.ask(DIRECT)
        return [_ask_once(connection) for _ in range(number)]


@contextmanager
def batches_running(port: int, batch: bytes) -> Iterator[list[str]]:
    """
    Have four batches run until the context ends; where their status is, just now.
    """
    over = Event()
    urls = [""] * BATCHES

    def keep_running(number: int) -> None:
        with Connection(port) as connection:
            while not over.is_set():
                urls[number] = orjson.loads(connection.ask(batch))["statusUrl"]
                _wait_for_end(connection, request("GET", urls[number]))

    threads = [Thread(target=keep_running, args=[number]) for number in range(BATCHES)]
    for thread in threads:
        thread.start()
    try:
        while not all(urls):
            sleep(0.001)
        yield urls
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _requests_beside(port: int, batch: bytes, number: int) -> list[float]:
    """
    Direct requests while four batches run that have been accepted, and none has come to its end.
    """
    waits: list[float] = []
    with Connection(port) as connection, Connection(port) as other:
        while len(waits) < number:
            urls = [orjson.loads(connection.ask(batch))["statusUrl"] for _ in range(BATCHES)]
            recent: list[float] = []
            while orjson.loads(connection.ask(request("GET", urls[0])))["finishedAt"] is None:
                waits += recent
                recent = [_ask_once(other) for _ in range(10)]
            for url in urls:
                _wait_for_end(connection, request("GET", url))
    return waits[:number]


def _ask_once(connection: Connection) -> float:
    started = perf_counter()
    connection.ask(DIRECT)
    return (perf_counter() - started) * 1000


def _wait_for_end(connection: Connection, ask: bytes) -> None:
    while (status := orjson.loads(connection.ask(ask)))["finishedAt"] is None:
        sleep(0.02)
    if status["succeeded"] != status["total"]:
        raise SystemExit(f"Not all operations were answered well: {status}")


def measure_polls(port: int, *, size: int, seconds: float) -> float:
    """
    Polls of the status per second, while four batches run.
    """
    counts = [0] * POLLERS
    with batches_running(port, submission("/waiting", size)) as urls:
        end = perf_counter() + seconds

        def poll(number: int) -> None:
            with Connection(port) as connection:
                while perf_counter() < end:
                    connection.ask(request("GET", urls[number % BATCHES]))
                    counts[number] += 1

        threads = [Thread(target=poll, args=[number]) for number in range(POLLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sum(counts) / seconds
