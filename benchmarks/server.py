"""
Serves one of the apps, with batches as they come, under uvicorn; prints the port it has found.
"""

import sys

import uvicorn

from asgi_batch import BatchMiddleware
from benchmarks.apps import APPS
from benchmarks.programs import HOST


def main(name: str) -> None:
    """
    Serve the app called *name* until told to stop.
    """
    config = uvicorn.Config(
        BatchMiddleware(APPS[name]),
        host=HOST,
        port=0,
        http="httptools",
        loop="uvloop",
        access_log=False,
        log_level="warning",
    )
    listener = config.bind_socket()
    # From here on connections wait in line, so that nobody has to wait for the server.
    listener.listen(config.backlog)
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1])
