"""
The command ``submit``: sends the operations of a file, and writes their results as they come.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from asgi_batch.cli.operations.csv_file import Mapped, mapping_of
from asgi_batch.cli.operations.source import Source
from asgi_batch.cli.problems import SOME_FAILED, SUCCEEDED
from asgi_batch.cli.remote import Server, talks_to_server
from asgi_batch.cli.running import Options, run

_OUTPUT = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("file")
@talks_to_server
@click.option("-o", "--output", type=_OUTPUT, metavar="FILE", help="Write results to FILE.")
@click.option("--only-failed", is_flag=True, help="Leave out results that are good.")
@click.option("--retry-failed", is_flag=True, help="Send what has failed once more at the end.")
@click.option("--resume", is_flag=True, help="Go on with a run that was interrupted.")
@click.option("--path", metavar="TEMPLATE", help="For CSV: the path, with columns in braces.")
@click.option("--method", default="POST", show_default=True, help="For CSV: of all operations.")
@click.option(
    "--map", "fields", multiple=True, metavar="FIELD[:TYPE]=COLUMN", help="For CSV: of the body."
)
@click.option("--id", "name", metavar="COLUMN", help="For CSV: the id of each operation.")
def submit(
    file: str,
    url: str,
    headers: tuple[tuple[str, str], ...],
    output: Path | None,
    only_failed: bool,
    retry_failed: bool,
    resume: bool,
    path: str | None,
    method: str,
    fields: tuple[str, ...],
    name: str | None,
) -> None:
    """
    Send the operations in FILE.

    FILE has one operation on each line, as in a batch or in the form of OpenAI's batch files; or a
    JSON array, or {"operations": […]}; or CSV, with --path. "-" is standard input. Results are
    lines of JSON.

    Exit codes: 0 all have succeeded, 1 some have failed, 2 wrong usage, 3 the server cannot be
    reached or refuses, 130 interrupted.
    """
    if path is None and (fields or name):
        raise click.UsageError("--map and --id go with --path, for CSV.")
    mapped = path and Mapped(path, method.upper(), mapping_of(fields), name)
    options = Options(Source(file, mapped or None), output, only_failed, retry_failed, resume)
    sending = run(Server(url, headers), options)
    sys.exit(SOME_FAILED if sending.failed else SUCCEEDED)
