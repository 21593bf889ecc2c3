"""
What every benchmark prints: tables to read, bars that are held or not, one line of JSON.
"""

import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

_LIBRARIES = (
    "asgi-batch",
    "anyio",
    "fastapi",
    "httptools",
    "httpx",
    "httpx2",
    "msgspec",
    "orjson",
    "pydantic",
    "starlette",
    "trio",
    "uvicorn",
    "uvloop",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """
    A figure that has to stay on one side of a limit.

    Args:
        name: What is measured.
        value: What has been measured.
        limit: What it is held against.
        at_least: Whether *limit* is the least that will do, and not the most.
    """

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """
        Whether the figure is good enough.
        """
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def as_row(self) -> tuple[str, str, str, str]:
        """
        The figure as a row of a table.
        """
        bound = f"{'≥' if self.at_least else '≤'} {self.limit:g}"
        return self.name, f"{self.value:.2f}", bound, "pass" if self.holds else "FAIL"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """
    Print *rows* in columns: the first to the left, numbers to the right.
    """
    lines = [list(headings), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print()
    for line in lines:
        first, *others = (
            cell.rjust(width) if position else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join((first, *others)).rstrip())


def surroundings() -> dict[str, Any]:
    """
    Where the figures come from.
    """
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in _LIBRARIES},
    }


def finish(benchmark: str, figures: dict[str, Any], bars: Sequence[Bar], *, check: bool) -> int:
    """
    Print how *bars* stand, then everything as one line of JSON.

    Returns:
        The exit code: 1 where *check* is asked for and a bar does not hold.
    """
    table(("bar", "measured", "limit", ""), [bar.as_row() for bar in bars])
    passed = all(bar.holds for bar in bars)
    summary = {
        "benchmark": benchmark,
        **surroundings(),
        **figures,
        "bars": [
            {"name": bar.name, "value": bar.value, "limit": bar.limit, "holds": bar.holds}
            for bar in bars
        ],
        "passed": passed,
    }
    print()
    print(json.dumps(summary))
    return int(check and not passed)
