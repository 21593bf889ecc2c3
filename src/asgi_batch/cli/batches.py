"""
The commands about one batch on a server: ``watch``, ``results``, ``cancel``, ``retry``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from asgi_batch.cli.bar import Bar, say
from asgi_batch.cli.problems import INTERRUPTED, SOME_FAILED, SUCCEEDED
from asgi_batch.cli.remote import Server, talks_to_server
from asgi_batch.cli.sink import Sink
from asgi_batch.cli.wire import line_of
from asgi_batch.client import BatchClient, Status

_OUTPUT = click.Path(dir_okay=False, path_type=Path)
_Headers = tuple[tuple[str, str], ...]


@click.command()
@click.argument("batch_id", metavar="ID")
@talks_to_server
def watch(batch_id: str, url: str, headers: _Headers) -> None:
    """
    Show how far a batch is, until its end.

    The batch goes on if this is stopped. Exit codes: 0 all operations have succeeded, 1 some have
    not.
    """
    try:
        with Server(url, headers).client() as client:
            status = _watched(client, batch_id)
    except KeyboardInterrupt:
        say("Interrupted; the batch goes on.")
        sys.exit(INTERRUPTED)
    say(_told(status))
    sys.exit(SUCCEEDED if status.succeeded == status.total else SOME_FAILED)


@click.command()
@click.argument("batch_id", metavar="ID")
@talks_to_server
@click.option("-o", "--output", type=_OUTPUT, metavar="FILE", help="Write results to FILE.")
@click.option("--only-failed", is_flag=True, help="Leave out results that are good.")
def results(
    batch_id: str, url: str, headers: _Headers, output: Path | None, only_failed: bool
) -> None:
    """
    Write the results of a batch as they come, until its end, one on each line.

    Exit codes: 0 all operations have succeeded, 1 some have not.
    """
    code = SUCCEEDED
    with Server(url, headers).client() as client, Sink(output) as sink:
        for result in client.results(batch_id):
            code = code if result.is_success else SOME_FAILED
            if not (only_failed and result.is_success):
                sink.write(line_of(result))
    sys.exit(code)


@click.command()
@click.argument("batch_id", metavar="ID")
@talks_to_server
def cancel(batch_id: str, url: str, headers: _Headers) -> None:
    """
    Let no further operation of a batch start.
    """
    with Server(url, headers).client() as client:
        say(_told(client.cancel(batch_id)))


@click.command()
@click.argument("batch_id", metavar="ID")
@talks_to_server
def retry(batch_id: str, url: str, headers: _Headers) -> None:
    """
    Try again what has not succeeded, as a new batch, and print its id.
    """
    with Server(url, headers).client() as client:
        accepted = client.retry(batch_id)
    say(f"{accepted.total:,} operations are tried again in a new batch:")
    click.echo(accepted.batch_id)


def _watched(client: BatchClient, batch_id: str) -> Status:
    """
    How *batch_id* is at its end.
    """
    status = client.status(batch_id)
    with Bar(status.total) as bar:
        for status in client.watch(batch_id):
            failed = status.failed + status.skipped
            bar.show(status.completed, succeeded=status.succeeded, failed=failed)
    return status


def _told(status: Status) -> str:
    return (
        f"{status.status}: {status.completed:,} of {status.total:,} operations; "
        f"{status.succeeded:,} succeeded, {status.failed:,} failed, {status.skipped:,} skipped"
    )
