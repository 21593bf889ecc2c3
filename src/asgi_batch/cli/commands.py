"""
``asgi-batch`` and its commands.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from asgi_batch.cli.bar import say
from asgi_batch.cli.batches import cancel, results, retry, watch
from asgi_batch.cli.candidates import candidates
from asgi_batch.cli.demo import demo
from asgi_batch.cli.problems import INTERRUPTED
from asgi_batch.cli.submit import submit


class _Commands(click.Group):
    """
    Ends as a shell expects it where Ctrl-C is pressed and the command has nothing to say to it.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """
        Run the command.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say("Interrupted.")
            sys.exit(INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="asgi-batch")
def asgi_batch() -> None:
    """
    Send batches from a terminal, and find what is worth one.
    """


for _command in (submit, watch, results, cancel, retry, candidates, demo):
    asgi_batch.add_command(_command)
