"""
Serves the Starlette app with batches kept in Redis, in one process, and prints the port.

``/waiting/items/{id}`` answers what ``/items/{id}`` answers, 5 ms or ``seconds`` later; ``/die``
ends the process by SIGKILL. Limits are the defaults but for *lease* and *scan*.
"""

import os
import signal
import socket
import sys

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from asgi_batch import BatchMiddleware, Limits
from benchmarks.apps import starlette
from benchmarks.programs import HOST

#: Seconds that an operation awaits something else than the processor.
WAIT = 0.005


async def _wait(request: Request) -> Response:
    await anyio.sleep(float(request.query_params.get("seconds", WAIT)))
    return JSONResponse({"id": request.path_params["item_id"], "name": "x"})


async def _die(request: Request) -> Response:
    os.kill(os.getpid(), signal.SIGKILL)
    return Response()


def main(store: str, http: str, loop: str, lease: str, scan: str) -> None:
    """
    Serve until told to stop.
    """
    app = Starlette(
        routes=[
            Route("/waiting/items/{item_id:int}", _wait),
            Route("/die", _die),
            *starlette.routes,
        ]
    )
    limits = Limits(lease=float(lease), scan_interval=float(scan))
    config = uvicorn.Config(
        BatchMiddleware(app, store=store, limits=limits),
        http=http,
        loop=loop,
        access_log=False,
        log_level="warning",
    )
    # asyncio sends small answers at once only where a socket says that it is TCP.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind((HOST, 0))
        listener.listen(config.backlog)
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
