"""
How much memory a batch takes beyond its own bytes.

Each case runs in a process of its own: once under tracemalloc, which sees every byte that Python
allocates, and once without, for the peak that the operating system sees. What counts begins with
the first byte of the request: the pieces that a server hands over, the batch as it is taken apart,
the operations, the results, and the answer as it is written. The document that the pieces are cut
from is made before, and pieces of the answer are dropped, as a server drops what it has sent.
"""

import argparse
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

# From here on imports are looked up from the root: this folder would hide the library's own http.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import anyio

from asgi_batch.types import ASGIApp, Message, Receive, Scope, Send
from benchmarks.apps import wrapped
from benchmarks.asgi import batch_scope
from benchmarks.report import Bar, finish, table

_KIB = 1024
_MIB = 1024 * _KIB
_PIECE = 64 * _KIB
_OPERATIONS = 1000


class Case(NamedTuple):
    """
    A batch of so many operations, and what it is answered with.
    """

    description: str
    app: ASGIApp
    document: Callable[[int], bytes]
    status: int


def _answers_with(body: bytes) -> ASGIApp:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        # A body of its own each time, as an app that makes its answers has.
        await send({"type": "http.response.body", "body": bytes(bytearray(body))})

    return app


def _record(size: int) -> dict[str, Any]:
    """
    Plain data that takes about *size* bytes as JSON.
    """
    rows = [{"sku": f"A-{number:05}", "count": number} for number in range(size // 32)]
    return {"rows": rows, "note": "ü" * 8}


def _reads(count: int) -> bytes:
    return _dump([{"method": "GET", "path": f"/items/{index}"} for index in range(count)])


def _writes(count: int) -> bytes:
    record = _record(10 * _KIB)
    paths = [f"/items/{index}" for index in range(count)]
    return _dump([{"method": "PUT", "path": path, "body": record} for path in paths])


def _spoilt_writes(count: int) -> bytes:
    return _writes(count).replace(b'"path":"/items/0"', b'"path":"//items/0"', 1)


def _dump(operations: list[dict[str, Any]]) -> bytes:
    text = json.dumps({"operations": operations}, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


_SMALL = _answers_with(b'{"ok":true}')
CASES = {
    "results": Case(
        "1 KiB of JSON from each operation", _answers_with(_dump([_record(_KIB)])), _reads, 200
    ),
    "bodies": Case("10 KiB of JSON to each operation", _SMALL, _writes, 200),
    "refused": Case("the same, with one path that is not allowed", _SMALL, _spoilt_writes, 422),
}


class Measured(NamedTuple):
    """
    Bytes of the request and of the answer, and the most that was held on top.
    """

    request: int
    response: int
    peak: int


async def _submit(app: ASGIApp, document: bytes) -> tuple[int, int]:
    """
    Send *document* through *app* in pieces: status and size of the answer.
    """
    pieces = _pieces_of(document)
    seen = {"status": 0, "size": 0}

    async def receive() -> Message:
        message = next(pieces, None)
        return message if message is not None else await anyio.sleep_forever()

    async def send(message: Message) -> None:
        seen["status"] = message.get("status", seen["status"])
        seen["size"] += len(message.get("body", b""))

    await app(batch_scope(document), receive, send)
    return seen["status"], seen["size"]


def _pieces_of(document: bytes) -> Iterator[Message]:
    for start in range(0, len(document), _PIECE):
        piece = document[start : start + _PIECE]
        yield {
            "type": "http.request",
            "body": piece,
            "more_body": start + _PIECE < len(document),
        }


def _resident_peak() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * _KIB


def _measure(case: Case, count: int, *, traced: bool) -> Measured:
    """
    Run *case* in this process, after a small batch that loads what is loaded once.
    """
    app, document = wrapped(case.app), case.document(count)
    anyio.run(_submit, app, case.document(2))
    if traced:
        tracemalloc.start()
        status, size = anyio.run(_submit, app, document)
        peak = tracemalloc.get_traced_memory()[1]
    else:
        # Writing 5 there sets the peak back to what is resident now (proc(5)).
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _resident_peak()
        status, size = anyio.run(_submit, app, document)
        peak = _resident_peak() - before
    if status != case.status:
        raise SystemExit(f"the batch was answered with {status}, not with {case.status}")
    return Measured(len(document), size, peak)


def _measure_apart(name: str, count: int, *, traced: bool) -> Measured:
    command = [sys.executable, __file__, "--case", name, "--operations", str(count)]
    command += ["--traced"] if traced else []
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return Measured(*json.loads(run.stdout))


def _report(count: int, *, check: bool) -> int:
    rows, bars, figures = [], [], {}
    for name, case in CASES.items():
        traced = _measure_apart(name, count, traced=True)
        resident = _measure_apart(name, count, traced=False)
        own = traced.request + traced.response
        allowed = 3 * own + 2 * _MIB
        sizes = (traced.request, traced.response, traced.peak, resident.peak, allowed)
        rows.append((name, *(f"{size / _MIB:.2f}" for size in sizes), case.description))
        bars.append(Bar(name=f"{name}: peak, MiB", value=traced.peak / _MIB, limit=allowed / _MIB))
        figures[name] = {**traced._asdict(), "resident_peak": resident.peak, "allowed": allowed}
    print(f"Memory of a batch of {count} operations, in MiB")
    headings = ("case", "request", "response", "peak", "resident peak", "allowed", "")
    table(headings, rows)
    return finish("memory", {"operations": count, "bytes": figures}, bars, check=check)


def main() -> int:
    """
    Measure every case, each in a process of its own.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ten operations, to try it out")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bar is missed")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--operations", type=int, default=_OPERATIONS, help=argparse.SUPPRESS)
    parser.add_argument("--traced", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        case = CASES[arguments.case]
        print(json.dumps(_measure(case, arguments.operations, traced=arguments.traced)))
        return 0
    return _report(10 if arguments.quick else arguments.operations, check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
