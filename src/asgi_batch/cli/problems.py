"""
What can go wrong, as one sentence and an exit code; a person never gets to see a traceback.
"""

from __future__ import annotations

from typing import Final

import click

#: How the command ends.
SUCCEEDED: Final = 0
SOME_FAILED: Final = 1
USAGE: Final = 2
TRANSPORT: Final = 3
#: By Ctrl-C, as shells have it.
INTERRUPTED: Final = 130


class UsageProblem(click.ClickException):
    """
    Raised when what was asked for cannot be done as it stands.
    """

    exit_code = USAGE


class TransportProblem(click.ClickException):
    """
    Raised when the server cannot be reached, or does not do what was asked of it.
    """

    exit_code = TRANSPORT


class Refused(TransportProblem):
    """
    Raised when the server has refused a batch, of which nothing ran.
    """
