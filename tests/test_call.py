"""
How the app is called: in a context of its own, whatever kind of callable it is, and so that code
anywhere inside of it can ask which operation it is answering.
"""

import asyncio
import functools
import threading
from collections.abc import Coroutine
from contextvars import ContextVar, copy_context
from types import SimpleNamespace

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTasks
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgi_batch import BatchMiddleware, CurrentOperation, current_operation
from asgi_batch._call import contain, go_on
from asgi_batch._core.models import Operation
from asgi_batch._subrequest import AnswerBounds, Subrequest
from support import Exchange, call, http_scope, respond, submit

colour: ContextVar[str] = ContextVar("colour", default="none")

ASYNCIO = pytest.mark.parametrize(
    "anyio_backend",
    [
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ],
)


# --- current_operation


def name():
    """
    The operation that this code is answering, as it sees it.
    """
    operation = current_operation()
    return operation and operation.operation_id


NAMED = [{"id": each, "method": "GET", "path": f"/{each}"} for each in ("a", "b", "c")]


async def test_current_operation_in_async_and_sync_endpoints():
    """
    It is known on the event loop and in threads alike.
    """
    threads = set()

    async def on_the_loop(request):
        await anyio.lowlevel.checkpoint()
        return JSONResponse(name())

    def in_a_thread(request):
        threads.add(threading.current_thread())
        return JSONResponse([name(), anyio.from_thread.run_sync(name)])

    routes = [Route("/a", on_the_loop), Route("/b", in_a_thread), Route("/c", on_the_loop)]
    answer = await submit(BatchMiddleware(Starlette(routes=routes)), *NAMED)

    assert answer.bodies == ["a", ["b", "b"], "c"]
    assert threading.current_thread() not in threads


async def test_current_operation_in_background_tasks():
    """
    It is still known after the answer, on the event loop and in threads.
    """
    seen = []

    async def on_the_loop():
        await anyio.lowlevel.checkpoint()
        seen.append(name())

    def in_a_thread():
        seen.append(name())

    async def endpoint(request):
        tasks = BackgroundTasks()
        tasks.add_task(on_the_loop)
        tasks.add_task(in_a_thread)
        return JSONResponse(None, background=tasks)

    app = Starlette(routes=[Route("/{id}", endpoint)])
    await submit(BatchMiddleware(app), *NAMED)

    assert sorted(seen) == ["a", "a", "b", "b", "c", "c"]


async def test_current_operation_in_tasks_that_the_app_starts():
    """
    Tasks inherit it, as they inherit every context variable.
    """
    seen = []

    async def child():
        seen.append(name())

    async def app(scope, receive, send):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child)
        await respond(send)

    await submit(BatchMiddleware(app), *NAMED)

    assert sorted(seen) == ["a", "b", "c"]


async def test_current_operation_is_what_the_scope_says():
    """
    Both ways to ask give the same answer.
    """
    seen = []

    async def app(scope, receive, send):
        seen.append((current_operation(), scope["asgi_batch"]))
        await respond(send)

    await submit(BatchMiddleware(app), *NAMED)

    assert all(operation is mark for operation, mark in seen)
    assert all(isinstance(operation, CurrentOperation) for operation, _ in seen)
    assert [operation.index for operation, _ in seen] == [0, 1, 2]


async def test_there_is_no_current_operation_outside_of_a_batch():
    """
    None in direct requests, before a batch and after it.
    """
    seen = [current_operation()]

    async def app(scope, receive, send):
        seen.append(current_operation())
        await respond(send)

    middleware = BatchMiddleware(app)
    await call(middleware, Exchange(http_scope("GET", "/direct")))
    await submit(BatchMiddleware(Starlette()), *NAMED)
    seen.append(current_operation())

    assert seen == [None, None, None]


async def test_the_context_is_that_of_the_request():
    """
    What outer middleware has put into context variables is there in every operation.
    """
    seen = []

    async def app(scope, receive, send):
        seen.append(colour.get())
        await anyio.lowlevel.checkpoint()
        seen.append(await anyio.to_thread.run_sync(colour.get))
        await respond(send)

    async def outer(scope, receive, send):
        token = colour.set("red")
        try:
            await BatchMiddleware(app)(scope, receive, send)
        finally:
            colour.reset(token)

    await submit(outer, "GET /a", "GET /b")

    assert seen == ["red"] * 4
    assert colour.get() == "none"


# --- kinds of callables


async def answering(scope, receive, send):
    """
    The usual app: a coroutine function.
    """
    await anyio.lowlevel.checkpoint()
    await respond(send, b"fine")


class WithCall:
    """
    An app that is an object.
    """

    async def __call__(self, scope, receive, send):
        await answering(scope, receive, send)


class Awaitable:
    """
    Something to await that is no coroutine.
    """

    def __init__(self, scope, receive, send):
        self._arguments = scope, receive, send

    def __await__(self):
        return answering(*self._arguments).__await__()


class OwnCoroutine(Coroutine):
    """
    A coroutine that was not made by Python, as compiled code has them.
    """

    def __init__(self, scope, receive, send):
        self._inner = answering(scope, receive, send)

    def send(self, value):
        return self._inner.send(value)

    def throw(self, *error):
        return self._inner.throw(*error)

    def close(self):
        self._inner.close()

    def __await__(self):
        return self._inner.__await__()


def calling(scope, receive, send):
    """
    A function that is no coroutine function, and returns a coroutine.
    """
    return answering(scope, receive, send)


KINDS = {
    "coroutine function": answering,
    "object": WithCall(),
    "method": WithCall().__call__,
    "partial": functools.partial(answering),
    "function that returns a coroutine": calling,
    "awaitable": Awaitable,
    "own coroutine": OwnCoroutine,
}


@pytest.mark.parametrize("app", KINDS.values(), ids=KINDS.keys())
async def test_every_kind_of_app_is_called(app):
    """
    ASGI asks for a callable that returns an awaitable, and for nothing else.
    """
    answer = await submit(BatchMiddleware(app), "GET /a", "GET /b")

    assert answer.bodies == ["fine", "fine"]


@ASYNCIO
async def test_an_app_may_return_a_task():
    """
    The app may already be at work in a task of its own when its call is awaited.
    """

    def app(scope, receive, send):
        return asyncio.ensure_future(answering(scope, receive, send))

    answer = await submit(BatchMiddleware(app), "GET /a", "GET /b")

    assert answer.bodies == ["fine", "fine"]


# --- how a call ends


async def test_what_an_app_waits_for_may_fail():
    """
    An exception of what was awaited is thrown into the app, where it can be caught.
    """

    def fails():
        raise LookupError("in a thread")

    async def app(scope, receive, send):
        try:
            await anyio.to_thread.run_sync(fails)
        except LookupError as error:
            await respond(send, str(error).encode())

    answer = await submit(BatchMiddleware(app), "GET /a", "GET /b")

    assert answer.bodies == ["in a thread"] * 2


def test_a_call_that_is_closed_cleans_up_in_its_own_context():
    """
    An event loop that is torn down closes what it has not run to its end.
    """
    seen = []

    class Pause:
        def __await__(self):
            yield "waiting"

    async def app():
        colour.set("own")
        try:
            await Pause()
        finally:
            seen.append(colour.get())

    caller = SimpleNamespace(is_waiting=False)
    call, context = app(), copy_context()
    driver = go_on(call, context.run(call.send, None), context, lambda _: None, caller)
    paused_for = driver.send(None)
    driver.close()

    assert paused_for == "waiting"
    assert seen == ["own"]


def test_a_call_waits_only_while_it_waits():
    """
    Whoever drives it is told when it pauses, and can see when it has gone on.
    """
    seen = []

    class Pause:
        def __await__(self):
            yield

    async def app():
        await Pause()
        seen.append(caller.is_waiting)
        await Pause()

    def on_pause(paused):
        seen.append(paused.is_waiting)

    caller = SimpleNamespace(is_waiting=False)
    call, context = app(), copy_context()
    driver = go_on(call, context.run(call.send, None), context, on_pause, caller)
    driver.send(None)
    driver.send(None)
    driver.close()

    assert seen == [True, False, True]


def test_what_an_aborted_operation_raises_is_no_second_result():
    """
    Its result was fixed when it was given up.
    """
    settled = []
    operation = Operation(0, "0", "GET", "/", b"/", b"", (), frozenset(), b"", None)
    subrequest = Subrequest(operation, settled.append, settled.append, AnswerBounds(1, 1, 1))
    subrequest.abort()
    contain(ValueError(), subrequest, "batch id", may_be_obeyed=False)

    assert settled == []


def test_ctrl_c_is_not_an_operations_business():
    """
    KeyboardInterrupt ends the process, and is no operation's failure.
    """
    settled = []
    operation = Operation(0, "0", "GET", "/", b"/", b"", (), frozenset(), b"", None)
    subrequest = Subrequest(operation, settled.append, settled.append, AnswerBounds(1, 1, 1))

    with pytest.raises(KeyboardInterrupt):
        contain(KeyboardInterrupt(), subrequest, "batch id", may_be_obeyed=True)

    assert settled == []
