"""
The command ``demo``: serves a small app with a batch endpoint, to try the other commands on.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any

import click

from asgi_batch.cli.bar import say
from asgi_batch.cli.problems import UsageProblem

_HOST = "127.0.0.1"


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
def demo(port: int) -> None:
    """
    Serve an example app on this machine, until Ctrl-C.
    """
    try:
        import uvicorn  # noqa: PLC0415
    except ModuleNotFoundError:
        raise UsageProblem("The demo needs uvicorn: pip install uvicorn") from None
    url = f"http://{_HOST}:{port}/batch"
    try:
        with socket.create_server((_HOST, port)) as listener:
            say(f"Serving {url}; Ctrl-C ends it. In another terminal:")
            say(
                """  echo '{"method": "GET", "path": "/users/1"}'"""
                f" | asgi-batch submit - --url {url}"
            )
            _serve(uvicorn, listener)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise UsageProblem(f"Port {port} cannot be listened on: {reason}.") from error


def _serve(uvicorn: Any, listener: socket.socket) -> None:
    config = uvicorn.Config("asgi_batch.cli.demo_app:app", access_log=False)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
