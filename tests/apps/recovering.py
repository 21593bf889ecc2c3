"""
An app that writes down each start and end of an operation, so that a test can see what ran twice.

``EFFECTS`` names the file, ``REDIS`` the store.
"""

import os

import anyio
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_batch import BatchMiddleware, Limits, current_operation

_EFFECTS = os.open(os.environ["EFFECTS"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)


def note(event, request):
    """
    One line, whole, whoever else writes.
    """
    current = current_operation()
    line = f"{event} {os.getpid()} {request.method} {current.index} {current.attempt}\n"
    os.write(_EFFECTS, line.encode())


async def work(request):
    """
    Takes a moment.
    """
    note("start", request)
    await anyio.sleep(float(request.query_params.get("seconds", 0.02)))
    note("end", request)
    return JSONResponse({"pid": os.getpid()})


async def poison(request):
    """
    Ends the process.
    """
    note("start", request)
    os._exit(1)


app = BatchMiddleware(
    Starlette(
        routes=[
            Route("/work", work, methods=["GET", "POST", "PUT"]),
            Route("/poison", poison, methods=["GET", "POST"]),
        ]
    ),
    store=os.environ["REDIS"],
    limits=Limits(lease=1.0, scan_interval=0.2, cancel_interval=0.2, drain_timeout=5),
)
