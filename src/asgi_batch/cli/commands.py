"""
``asgi-batch`` and its commands.
"""

from __future__ import annotations

import click

from asgi_batch.cli.candidates import candidates


@click.group()
@click.version_option(package_name="asgi-batch")
def asgi_batch() -> None:
    """
    Send batches from a terminal, and find what is worth one.
    """


asgi_batch.add_command(candidates)
