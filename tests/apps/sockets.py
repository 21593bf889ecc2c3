"""
The app behind the tests over real sockets; it tells what happened to it when asked.

Nothing here waits for a time to pass: operations that hang do so until they are released.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

import anyio
import anyio.from_thread
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_batch import BatchMiddleware, Limits

MAX_BODY_BYTES = 64 * 1024


class Events:
    """
    How often each named thing has happened; a task or a thread may wait for one.
    """

    def __init__(self) -> None:
        self.counts: defaultdict[str, int] = defaultdict(int)
        self._for_tasks: defaultdict[str, anyio.Event] = defaultdict(anyio.Event)
        self._for_threads: defaultdict[str, threading.Event] = defaultdict(threading.Event)

    def happened(self, name: str) -> None:
        self.counts[name] += 1
        self._for_tasks[name].set()
        self._for_threads[name].set()

    async def wait(self, name: str) -> None:
        """
        Hold the calling task until *name* happens.
        """
        await self._for_tasks[name].wait()

    def block(self, name: str) -> None:
        """
        Hold the calling thread until *name* happens.
        """
        self._for_threads[name].wait(60)


events = Events()

# The servers set up their own logs only; levels are what the tests look for.
logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
    logger.info("lifespan startup")
    yield {"greeting": "Hello!"}
    logger.info("lifespan shutdown")


async def hello(request: Request) -> Response:
    return PlainTextResponse(request.state.greeting)


async def echo(request: Request) -> Response:
    return Response(await request.body(), media_type=request.headers.get("content-type"))


async def crash(request: Request) -> Response:
    raise RuntimeError("This endpoint always crashes.")


async def missing(request: Request) -> Response:
    return JSONResponse({"detail": "Not Found"}, 404)


async def hang(request: Request) -> Response:
    name = request.path_params["name"]
    events.happened(f"{name}-started")
    try:
        await anyio.sleep_forever()
    finally:
        events.happened(f"{name}-ended")
    return Response()


def block(request: Request) -> Response:
    name = request.path_params["name"]
    anyio.from_thread.run_sync(events.happened, f"{name}-started")
    events.block(f"{name}-released")
    return Response()


async def stream(request: Request) -> Response:
    async def ticks() -> AsyncIterator[bytes]:
        while True:
            yield b"data: tick\n\n"
            await anyio.sleep(0.01)

    return StreamingResponse(ticks(), media_type="text/event-stream")


async def background(request: Request) -> Response:
    name = request.path_params["name"]

    async def work() -> None:
        await events.wait(f"{name}-released")
        events.happened(f"{name}-done")

    return PlainTextResponse("answered", background=BackgroundTask(work))


async def happen(request: Request) -> Response:
    events.happened(request.path_params["name"])
    return Response(status_code=204)


async def wait(request: Request) -> Response:
    await events.wait(request.path_params["name"])
    return Response(status_code=204)


async def status(request: Request) -> Response:
    return JSONResponse({"events": events.counts, **asdict(batches.statistics())})


async def websocket(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(f"{socket.url.path} {await socket.receive_text()}")
    await socket.close()


starlette_app = Starlette(
    routes=[
        Route("/hello", hello),
        Route("/echo", echo, methods=["POST"]),
        Route("/crash", crash),
        Route("/missing", missing),
        Route("/hang/{name}", hang),
        Route("/block/{name}", block),
        Route("/stream", stream),
        Route("/background/{name}", background),
        Route("/events/{name}", happen, methods=["POST"]),
        Route("/events/{name}", wait),
        Route("/status", status),
        WebSocketRoute("/ws", websocket),
        WebSocketRoute("/batch", websocket),
    ],
    lifespan=lifespan,
)
batches = BatchMiddleware(starlette_app, limits=Limits(max_body_bytes=MAX_BODY_BYTES))
app = BatchMiddleware(batches, path="/hasty", limits=Limits(body_timeout=0.5))
