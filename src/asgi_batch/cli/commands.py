"""
``asgi-batch`` and its commands.
"""

from __future__ import annotations

import click

from asgi_batch.cli.batches import cancel, results, retry, watch
from asgi_batch.cli.candidates import candidates
from asgi_batch.cli.demo import demo
from asgi_batch.cli.submit import submit


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="asgi-batch")
def asgi_batch() -> None:
    """
    Send batches from a terminal, and find what is worth one.
    """


for _command in (submit, watch, results, cancel, retry, candidates, demo):
    asgi_batch.add_command(_command)
