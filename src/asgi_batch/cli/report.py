"""
What was found, for people: tables, bars and examples. Finds nothing itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from asgi_batch.cli.finding import CodeFinding, LogFinding

_BAR_WIDTH: Final = 24
# On a terminal of 80 columns endpoints need the room.
_SHORT_BAR_WIDTH: Final = 8
_WIDE: Final = 100
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_FULL: Final = "█"


def print_log_findings(
    console: Console, findings: Sequence[LogFinding], top: int, total: int
) -> None:
    """
    A table of the first of *findings*, with a bar for each, and the example of each below.

    Args:
        console: Where to print.
        findings: Most requests saved first.
        top: How many of them, at most.
        total: Requests in the logs.
    """
    table = Table(title="Endpoints that are called in loops", title_justify="left")
    table.add_column("#", justify="right")
    table.add_column("Endpoint", overflow="fold")
    for heading in ("Requests", "Loops", "Longest", "Saved"):
        table.add_column(heading, justify="right")
    width = _BAR_WIDTH if console.width >= _WIDE else _SHORT_BAR_WIDTH
    table.add_column("", width=width, no_wrap=True)
    most = max(each.saved for each in findings)
    for rank, each in enumerate(findings[:top], 1):
        figures = (each.requests, each.bursts, each.longest, each.saved)
        table.add_row(
            str(rank),
            _endpoint(each),
            *(f"{figure:,}" for figure in figures),
            Text(bar(each.saved / most, width), style="green"),
        )
    console.print(table)
    saved = sum(each.saved for each in findings)
    console.print(f"Batches in their place save {saved:,} of {total:,} requests.")
    _print_examples(console, findings, top)


def print_code_findings(console: Console, findings: Sequence[CodeFinding], top: int) -> None:
    """
    A table of the first of *findings*, and the example of each below.
    """
    table = Table(title="Requests that are sent in loops", title_justify="left")
    table.add_column("#", justify="right")
    table.add_column("Where", overflow="fold")
    for heading in ("Endpoint", "Client", "Loop"):
        table.add_column(heading, overflow="fold")
    table.add_column("", no_wrap=True)
    for rank, each in enumerate(findings[:top], 1):
        loop = each.loop if each.through is None else f"{each.loop}, through {each.through}"
        table.add_row(
            str(rank),
            Text(f"{each.file}:{each.line}"),
            _endpoint(each),
            each.client,
            Text(loop),
            Text(_FULL * 4 * each.depth, style="green"),
        )
    console.print(table)
    _print_examples(console, findings, top)


def bar(share: float, width: int = _BAR_WIDTH) -> str:
    """
    A bar that is as long as *share*, from 0 to 1, of *width*; never quite empty.
    """
    eighths = max(1, round(share * width * 8))
    full, rest = divmod(eighths, 8)
    return _FULL * full + _EIGHTHS[rest].strip()


def as_line(document: dict[str, Any]) -> str:
    """
    *document* as it goes over the wire, on one line.
    """
    return json.dumps(document, ensure_ascii=False)


def _endpoint(finding: LogFinding | CodeFinding) -> Text:
    return Text(f"{finding.method} {finding.template}")


def _print_examples(
    console: Console, findings: Sequence[LogFinding | CodeFinding], top: int
) -> None:
    if len(findings) > top:
        console.print(f"{len(findings) - top:,} more are not shown; see --top.")
    console.print("\nIn place of each loop, POST to the batch endpoint:")
    for rank, each in enumerate(findings[:top], 1):
        console.print(Text(f"{rank}. {each.method} {each.template}", style="bold"))
        # Not wrapped, so that what is copied from a terminal is one line.
        console.print(Text(as_line(each.example())), soft_wrap=True)
