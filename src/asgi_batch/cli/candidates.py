"""
The command ``candidates``: finds operations that are called in loops, in logs and in source trees.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TransferSpeedColumn

from asgi_batch.cli.access.bursts import Rules
from asgi_batch.cli.access.openapi import read_openapi
from asgi_batch.cli.access.reading import blocks_of
from asgi_batch.cli.access.survey import Survey
from asgi_batch.cli.access.templates import LearntTemplates
from asgi_batch.cli.code.tree import Tree, scan_tree
from asgi_batch.cli.problems import UsageProblem
from asgi_batch.cli.report import print_code_findings, print_log_findings

_ROWS: Final = 20
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("logs", nargs=-1, metavar="[LOG]...")
@click.option("--openapi", type=_FILE, metavar="FILE", help="Take path templates from FILE (JSON).")
@click.option("--code", multiple=True, type=_FOLDER, metavar="DIR", help="Look into source code.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of a table.")
@click.option("--top", type=click.IntRange(1), help="So many findings; 20, and with --json all.")
@click.option(
    "--gap",
    type=click.FloatRange(0),
    default=2.0,
    show_default=True,
    help="Seconds between two requests of a loop, at most.",
)
@click.option(
    "--least",
    type=click.IntRange(2),
    default=3,
    show_default=True,
    help="Requests that make a loop.",
)
def candidates(
    logs: tuple[str, ...],
    openapi: Path | None,
    code: tuple[Path, ...],
    as_json: bool,
    top: int | None,
    gap: float,
    least: int,
) -> None:
    """
    Find the requests that are worth a batch.

    LOG is an access log: common, combined, uvicorn's, or lines of JSON; also compressed with gzip;
    "-" is standard input. What the same caller asks of the same endpoint in a row is a loop.
    """
    if not logs and not code:
        raise click.UsageError("Name an access log, or a source tree with --code.")
    survey = _read(logs, openapi, Rules(gap=gap, least=least)) if logs else None
    trees = [scan_tree(folder) for folder in code]
    if as_json:
        _print_json(survey, trees, top)
    else:
        _print_tables(survey, trees, top or _ROWS)


def _read(logs: tuple[str, ...], openapi: Path | None, rules: Rules) -> Survey:
    survey = Survey(read_openapi(openapi) if openapi else LearntTemplates(), rules)
    with _progress() as progress:
        for name in logs:
            size = None if name == "-" else _size(name)
            task = progress.add_task(name, total=size)
            for lines, position in blocks_of(name):
                survey.read(lines)
                progress.update(task, completed=position)
    if survey.requests == 0:
        raise UsageProblem(
            f"No request found in {survey.lines:,} lines; the forms that are known are common,"
            " combined, uvicorn's, and lines of JSON with method, path and status."
        )
    return survey


def _progress() -> Progress:
    """
    How far the reading is, on a terminal.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _size(name: str) -> int | None:
    file = Path(name)
    return file.stat().st_size if file.is_file() else None


def _print_json(survey: Survey | None, trees: list[Tree], top: int | None) -> None:
    document: dict[str, Any] = {}
    if survey is not None:
        document["log"] = {
            "lines": survey.lines,
            "requests": survey.requests,
            "unreadable": survey.unreadable,
            "findings": [each.as_json() for each in survey.findings()[:top]],
        }
    if trees:
        document["code"] = {
            "files": sum(tree.files for tree in trees),
            "unreadable": [name for tree in trees for name in tree.unreadable],
            "findings": [each.as_json() for tree in trees for each in tree.findings][:top],
        }
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _print_tables(survey: Survey | None, trees: list[Tree], top: int) -> None:
    console = Console(highlight=False)
    if survey is not None:
        if survey.unreadable:
            console.print(f"{survey.unreadable:,} of {survey.lines:,} lines are in no known form.")
        findings = survey.findings()
        if findings:
            print_log_findings(console, findings, top, survey.requests)
        else:
            console.print(f"No loops in {survey.requests:,} requests.")
    for name in (name for tree in trees for name in tree.unreadable):
        console.print(f"{name} can be parsed in part only, or not at all.", markup=False)
    if trees:
        found = [each for tree in trees for each in tree.findings]
        if found:
            print_code_findings(console, found, top)
        else:
            console.print(f"No requests in loops in {sum(tree.files for tree in trees):,} files.")
