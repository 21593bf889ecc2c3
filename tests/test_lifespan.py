"""
The background around an app's lifespan: what the server hears, and in which order things happen.
"""

import logging

import anyio
import pytest

from asgi_batch import BatchMiddleware, ConfigurationError
from asgi_batch.errors import StoreUnavailable
from asgi_batch.stores.memory import MemoryStore
from support import PATIENCE, respond, submit, until

STARTUP = {"type": "lifespan.startup"}
SHUTDOWN = {"type": "lifespan.shutdown"}
STARTED = {"type": "lifespan.startup.complete"}
STOPPED = {"type": "lifespan.shutdown.complete"}


class Server:
    """
    A server's side of lifespan: it starts the app up, and shuts it down when told to.
    """

    def __init__(self):
        self.heard = []
        self.up = anyio.Event()
        self._stop = anyio.Event()
        self._messages = [STARTUP, SHUTDOWN]

    def stop(self):
        """
        Shut down.
        """
        self._stop.set()

    async def receive(self):
        """
        Startup; then shutdown, once it is time.
        """
        message = self._messages.pop(0)
        if message is SHUTDOWN:
            await self._stop.wait()
        return message

    async def send(self, message):
        """
        Keep *message*.
        """
        self.heard.append(message)
        self.up.set()


async def live(app, server=None, **scope):
    """
    One lifespan from its start to its end; what the server heard.
    """
    server = server or Server()
    server.stop()
    with anyio.fail_after(PATIENCE):
        await app({"type": "lifespan", "state": {}, **scope}, server.receive, server.send)
    return server.heard


class Noted(MemoryStore):
    """
    A store that writes down when it is opened and closed.
    """

    def __init__(self, notes, error=None):
        super().__init__()
        self.notes = notes
        self.error = error

    async def open(self, result_ttl, retry_ttl=0.0):
        self.notes.append("store opens")
        if self.error is not None:
            raise self.error
        await super().open(result_ttl, retry_ttl)

    async def aclose(self):
        self.notes.append("store closes")
        await super().aclose()


def polite(notes):
    """
    An app that takes part in lifespan.
    """

    async def app(scope, receive, send):
        if scope["type"] != "lifespan":
            await respond(send, b"fine")
            return
        for answer in (STARTED, STOPPED):
            notes.append((await receive())["type"])
            await send(answer)

    return app


async def test_the_store_opens_before_the_app_starts_and_closes_after_it_has_stopped():
    """
    What the app does in its lifespan finds the store open.
    """
    notes = []
    heard = await live(BatchMiddleware(polite(notes), store=Noted(notes)))

    assert heard == [STARTED, STOPPED]
    assert notes == ["store opens", "lifespan.startup", "lifespan.shutdown", "store closes"]


@pytest.mark.parametrize("ends", ["raises", "raises later", "returns"])
async def test_f16_an_app_without_lifespan_gets_one(ends):
    """
    F16: Django raises, others return at once; batches run in the background all the same.
    """

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await respond(send, b"fine")
        elif ends == "raises":
            raise ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")
        elif ends == "raises later":
            raise KeyError((await receive())["type"])

    server = Server()
    middleware = BatchMiddleware(app)
    async with anyio.create_task_group() as tasks:
        scope = {"type": "lifespan", "state": {}}
        tasks.start_soon(middleware, scope, server.receive, server.send)
        with anyio.fail_after(PATIENCE):
            await server.up.wait()
            answer = await submit(middleware, *["GET /"] * 101)
            server.stop()

    assert answer.status == 202
    assert server.heard == [STARTED, STOPPED]


async def test_f16_an_app_that_cannot_start_says_so_itself():
    """
    F16: the server gets the app's own message, and the exception that follows it as it is.
    """
    failure = {"type": "lifespan.startup.failed", "message": "no database"}
    error = ConnectionError("no database")

    async def app(scope, receive, send):
        await receive()
        await send(failure)
        raise error

    server = Server()
    with pytest.raises(ConnectionError) as raised:
        await live(BatchMiddleware(app), server)

    assert raised.value is error
    assert server.heard == [failure]
    assert server.heard[0] is failure


@pytest.mark.parametrize(
    "error", [ConfigurationError("wrong policy"), StoreUnavailable("no answer")]
)
async def test_f17_a_store_that_cannot_be_used_fails_the_startup(error):
    """
    F17: the server does not come up, and says why; the app is not even started.
    """
    notes = []
    heard = await live(BatchMiddleware(polite(notes), store=Noted(notes, error)))

    assert heard == [{"type": "lifespan.startup.failed", "message": f"asgi_batch: {error}"}]
    assert notes == ["store opens"]


async def test_f15_nothing_runs_in_the_background_before_and_after_the_lifespan():
    """
    F15: a batch for later is refused while nobody could carry it out.
    """
    middleware = BatchMiddleware(polite([]))
    await live(middleware)
    answer = await submit(middleware, *["GET /"] * 101)

    assert (answer.status, answer.json()["code"]) == (503, "background_unavailable")


async def test_a_mounted_app_can_run_its_background_in_its_parents_lifespan():
    """
    No server runs the lifespan of a mounted app; a context manager does.
    """
    middleware = BatchMiddleware(polite([]))
    async with middleware.running():
        inside = await submit(middleware, *["GET /"] * 101)
    outside = await submit(middleware, *["GET /"] * 101)

    assert (inside.status, outside.status) == (202, 503)


async def test_a_mounted_app_is_told_what_operations_have_to_find():
    """
    The state of the parent's lifespan reaches them as a server would hand it on.
    """
    seen = []

    async def app(scope, receive, send):
        seen.append((scope["state"], scope["app"]))
        await respond(send)

    middleware = BatchMiddleware(app)
    async with middleware.running({"state": {"pool": 7}, "app": "parent"}):
        await submit(middleware, *["GET /"] * 101)
        await until(lambda: len(seen) == 101)

    assert seen == [({"pool": 7}, "parent")] * 101


@pytest.mark.parametrize(
    ("arguments", "workers", "is_warned"),
    [
        (["uvicorn", "--workers", "2"], "", True),
        (["hypercorn", "-w", "4", "app"], "", True),
        (["gunicorn", "--workers=3"], "", True),
        (["uvicorn", "app"], "2", True),
        (["uvicorn", "--workers", "1"], "4", False),
        (["uvicorn", "app"], "1", False),
        (["uvicorn", "app"], "many", False),
        (["uvicorn", "app"], "", False),
    ],
)
async def test_f13_memory_of_several_processes(arguments, workers, is_warned, monkeypatch, caplog):
    """
    F13: a warning at the start, and another answer for ids that are not from here.
    """
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.setenv("WEB_CONCURRENCY", workers)
    store = MemoryStore()
    with caplog.at_level(logging.WARNING):
        await store.open(60)

    assert bool(caplog.records) == is_warned
    assert store.is_elsewhere("x" * 32) == is_warned
    assert not store.is_elsewhere(store.new_id())
