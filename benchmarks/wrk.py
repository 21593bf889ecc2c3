"""
Requests as fast as a server takes them, sent by wrk.
"""

import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from benchmarks.apps import Call
from benchmarks.programs import HOST

MISSING = "wrk is missing. Install it: apt-get install wrk, or brew install wrk."

_SCRIPT = Path(__file__).with_name("replay.lua")


def is_installed() -> bool:
    """
    Whether there is a wrk to run.
    """
    return shutil.which("wrk") is not None


def version() -> str | None:
    """
    Which wrk that is, where there is one.
    """
    if not is_installed():
        return None
    # It knows no option that succeeds without a server.
    process = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)
    return process.stdout.partition(" [")[0].removeprefix("wrk ")


def write_requests(file: Path, calls: Iterable[Call]) -> None:
    """
    Write *calls* as requests into *file*, for the script to replay.
    """
    requests = map(_request, calls)
    file.write_bytes(b"".join(b"%d\n%b" % (len(request), request) for request in requests))


def _request(call: Call) -> bytes:
    head = f"{call.method} {call.path} HTTP/1.1\r\nhost: {HOST}\r\n"
    if call.body:
        head += f"content-type: application/json\r\ncontent-length: {len(call.body)}\r\n"
    return head.encode() + b"\r\n" + call.body


def requests_per_second(port: int, file: Path, *, connections: int, seconds: int) -> float:
    """
    Send the requests in *file* over *connections*, for so many *seconds*.
    """
    options = ["--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
    command = ["wrk", *options, "--script", str(_SCRIPT), f"http://{HOST}:{port}", "--", str(file)]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    outcome = json.loads(process.stdout.splitlines()[-1])
    if outcome["failed"] or not outcome["requests"]:
        raise SystemExit(f"Not all requests of wrk were answered well:\n{process.stdout}")
    return outcome["requests"] / outcome["microseconds"] * 1e6
