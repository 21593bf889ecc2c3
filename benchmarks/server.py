"""
Serves an app with its batch endpoint under uvicorn, in one process, and prints the port.

Limits are the defaults. Nothing is logged but warnings.
"""

import socket
import sys

import uvicorn

from asgi_batch import BatchMiddleware
from benchmarks.apps import APPS
from benchmarks.programs import HOST


def main(app: str, http: str, loop: str) -> None:
    """
    Serve *app*, one of `APPS`, until told to stop.
    """
    config = uvicorn.Config(
        BatchMiddleware(APPS[app]), http=http, loop=loop, access_log=False, log_level="warning"
    )
    # asyncio sends small answers at once only where a socket says that it is TCP.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind((HOST, 0))
        # From here on connections wait in line, so that nobody has to wait for the server.
        listener.listen(config.backlog)
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
