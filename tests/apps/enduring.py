"""
An app whose operations wait, block the event loop, and take or answer as much as they are told to.

``STORE`` says where batches are kept, ``EFFECTS`` names the file in which starts and ends are
written down, ``LIMITS`` changes limits, and ``MEMORY`` is how many bytes the process may get, or 0.
"""

import json
import os
import resource
import time
from pathlib import Path

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from asgi_batch import BatchMiddleware, Limits, current_operation

_EFFECTS = Path(os.environ["EFFECTS"])
_LOG = os.open(_EFFECTS, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
_LIMITS = {"lease": 1.0, "scan_interval": 0.2, "cancel_interval": 0.2, "drain_timeout": 2.0}

# What operations have taken and never give back, and how much of it at a time.
_taken = []
_BIT = 64 * 1024


def note(event, request):
    """
    One line of an operation, whole, whoever else writes.
    """
    current = current_operation()
    if current is not None:
        line = f"{event} {os.getpgrp()} {current.batch_id} {request.method} {current.index}\n"
        os.write(_LOG, line.encode())


def is_there(sign):
    """
    Whether a test has put up *sign*; the empty one always is.
    """
    return not sign or _EFFECTS.with_name(sign).exists()


async def work(request):
    """
    Takes a moment.
    """
    await anyio.sleep(0.02)


async def wait(request):
    """
    Waits for a sign: the first attempt for the first, and so on.
    """
    current = current_operation()
    attempt = 1 if current is None else current.attempt
    for sign in request.query_params.getlist("sign")[attempt - 1 : attempt]:
        while not is_there(sign):  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def block(request):
    """
    Lets nothing else happen in the process until there is a sign.
    """
    while not is_there(request.query_params["sign"]):
        time.sleep(0.01)  # noqa: ASYNC251


async def take(request):
    """
    Takes so many bytes, and gives them back.
    """
    bytearray(int(request.query_params["bytes"]))


async def keep(request):
    """
    Takes so many bytes, bit by bit, and keeps them.
    """
    count = int(request.query_params["bytes"]) // _BIT
    _taken.extend(bytearray(_BIT) for _ in range(count))


async def large(request):
    """
    Answers so many bytes.
    """
    return Response(b"x" * int(request.query_params["bytes"]), media_type="text/plain")


_ROUTES = {f"/{each.__name__}": each for each in (work, wait, block, take, keep, large)}


async def plain(scope, receive, send):
    """
    An app with nothing around it that would answer for its exceptions.
    """
    request = Request(scope, receive)
    note("start", request)
    answer = await _ROUTES[scope["path"]](request)
    note("end", request)
    await (answer or JSONResponse({"server": os.getpgrp()}))(scope, receive, send)


if memory := int(os.environ["MEMORY"]):
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

app = BatchMiddleware(
    plain,
    store=os.environ["STORE"],
    limits=Limits(**_LIMITS | json.loads(os.environ["LIMITS"])),
)
