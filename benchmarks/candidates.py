"""
``asgi-batch candidates`` on a large access log: how fast it reads, and how much memory it takes.

The log is written first, and deleted in the end. Some of its callers loop; how often is known, so
that what is found can be compared with it.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.report import Bar, finish, table

_MB = 1_000_000
_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
_SINGLE = ("/", "/health", "/api/orders", "/api/users/me", "/api/search?q=lamp&page=2")
_LOOPED = (
    ("GET", "/api/users/{}"),
    ("GET", "/api/orders/{}/lines"),
    ("POST", "/api/events"),
    ("PUT", "/api/products/sku-{}"),
    ("GET", "/api/tags/tag-{}-of-many"),
)


def write_log(file: Path, size: int, seed: int = 7) -> dict[str, int]:
    """
    Write a log of *size* bytes or a little more; requests that batches would save, by template.

    Each second has loops of callers of their own among single requests of others.
    """
    choice = random.Random(seed)
    saved: dict[str, int] = {}
    second, number, written = 0, 0, 0
    with file.open("w", encoding="ascii") as log:
        while written < size:
            lines: list[str] = []
            stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(1_700_000_000 + second))
            for _ in range(2):
                number += 1
                method, template = choice.choice(_LOOPED)
                length = choice.randrange(5, 60)
                caller = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
                lines += [
                    _line(caller, stamp, method, template.format(choice.randrange(1000, 10**6)))
                    for _ in range(length)
                ]
                saved[template] = saved.get(template, 0) + length - 1
            for _ in range(60):
                caller = f"192.168.{choice.randrange(250)}.{choice.randrange(250)}"
                lines.append(_line(caller, stamp, "GET", choice.choice(_SINGLE)))
            choice.shuffle(lines)
            written += log.write("".join(lines))
            second += 10
    return saved


def _line(caller: str, stamp: str, method: str, target: str) -> str:
    return f'{caller} - - [{stamp}] "{method} {target} HTTP/1.1" 200 512 "-" "{_AGENT}"\n'


# Runs the command in a process of its own, which tells its peak at the end.
_RUN = """
import resource, sys
from asgi_batch.cli.commands import asgi_batch
asgi_batch(["candidates", "--json", sys.argv[1]], standalone_mode=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, file=sys.stderr)
"""


def main() -> int:
    """
    Write a log, read it, and print what came of it.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small log, to try it out")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bar is missed")
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the log")
    arguments = parser.parse_args()
    size = _MB * (5 if arguments.quick else arguments.megabytes)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "access.log")
        saved = write_log(file, size)
        size = file.stat().st_size
        started = time.perf_counter()
        command = [sys.executable, "-c", _RUN, str(file)]
        run = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - started
    peak = int(run.stderr)
    log = json.loads(run.stdout)["log"]
    found = sum(each["saved"] for each in log["findings"])
    rows = [(each["template"], each["method"], str(each["saved"])) for each in log["findings"]]
    table(("template", "method", "saved"), rows)
    rate = size / _MB / seconds * 60
    figures = {
        "megabytes": size / _MB,
        "lines": log["lines"],
        "seconds": seconds,
        "megabytes_per_minute": rate,
        "peak_rss": peak,
        "saved_written": sum(saved.values()),
        "saved_found": found,
    }
    bars = [
        Bar(name="MB per minute", value=rate, limit=200, at_least=True),
        Bar(name="peak RSS, MB", value=peak / _MB, limit=150),
        Bar(name="requests saved, invented", value=max(0, found - sum(saved.values())), limit=0),
        Bar(
            name="requests saved, found of those written",
            value=found / sum(saved.values()),
            limit=0.99,
            at_least=True,
        ),
    ]
    return finish("candidates", figures, bars, check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
