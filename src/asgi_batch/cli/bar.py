"""
How far something is, on standard error: a bar on a terminal, and a sentence at the end.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    """
    Operations in a second.
    """

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


class Bar:
    """
    A bar with rate, time left, and how many have succeeded and failed.

    Args:
        total: Operations; None where that is not known.
    """

    def __init__(self, total: int | None) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(None),
            MofNCompleteColumn(),
            _Rate(),
            TextColumn("[green]{task.fields[succeeded]:,} succeeded[/]"),
            TextColumn("[red]{task.fields[failed]:,} failed[/]"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            redirect_stdout=False,
        )
        self._task = self._progress.add_task("", total=total, succeeded=0, failed=0)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, completed: int, *, succeeded: int, failed: int) -> None:
        """
        So many have their result.
        """
        self._progress.update(self._task, completed=completed, succeeded=succeeded, failed=failed)


def say(text: str) -> None:
    """
    Tell a person *text*, without getting into the way of what is on standard output.
    """
    click.echo(text, err=True)
