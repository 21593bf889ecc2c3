"""
Worker processes: an app under its own lifespan, the command that runs one, and what it says.
"""

import os
import signal
import subprocess
import sys
import threading

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware

from asgi_batch import BatchMiddleware
from asgi_batch.errors import ConfigurationError
from asgi_batch.worker import load, main, working
from background import Store
from clients import wait_until
from queue_support import Line, limits
from redis_server import redis_server
from servers import kill
from service import Service, mixed, results_of, submit, unknown, wait_for


class Lived:
    """
    An app that notes what its lifespan hears.
    """

    def __init__(self, *answers):
        self.heard, self._answers = [], list(answers)

    async def __call__(self, scope, receive, send):
        while True:
            message = await receive()
            self.heard.append(message["type"])
            answer = (
                self._answers.pop(0) if self._answers else {"type": message["type"] + ".complete"}
            )
            await send(answer)
            if message["type"] == "lifespan.shutdown":
                return


def with_queue(app, queue=None):
    """
    *app* with batches that go over a queue.
    """
    return BatchMiddleware(app, store=Store(), queue=queue or Line(), limits=limits())


async def test_the_lifespan_of_the_app_is_run_once():
    """
    As a server would run it, however much comes.
    """
    app = Lived()
    async with working(with_queue(app)) as run:
        started = list(app.heard)
        for _ in range(3):
            await run("x" * 32, None)

    assert started == ["lifespan.startup"]
    assert app.heard == ["lifespan.startup", "lifespan.shutdown"]


async def test_middleware_that_is_made_late_is_found():
    """
    Starlette makes it when the lifespan begins.
    """
    queue = Line()
    options = {"store": Store(), "queue": queue}
    app = Starlette(middleware=[Middleware(BatchMiddleware, **options)])
    async with working(app) as run:
        await run("x" * 32, None)


async def test_one_of_several_queues_is_named():
    """
    Where one is inside the other.
    """
    inner, outer = Line(), Line()
    app = with_queue(with_queue(Lived(), inner), outer)
    with pytest.raises(ConfigurationError, match="several queues"):
        async with working(app):
            pass
    runs = []
    for queue in (inner, outer):
        async with working(app, queue) as run:
            runs.append(run.__self__)

    assert runs[0] is not runs[1]


@pytest.mark.parametrize("app", [Lived(), BatchMiddleware(Lived())])
async def test_an_app_without_a_queue_is_no_worker(app):
    """
    It says what is missing.
    """
    with pytest.raises(ConfigurationError, match="queue=…"):
        async with working(app):
            pass


async def test_an_app_that_does_not_start_says_why():
    """
    No message is taken by it.
    """
    app = with_queue(Lived({"type": "lifespan.startup.failed", "message": "No database."}))
    with pytest.raises(ConfigurationError, match="No database"):
        async with working(app):
            pass


async def test_an_app_that_raises_at_its_end_does_so_for_the_worker():
    """
    Nothing hides it.
    """

    class Broken(Lived):
        async def __call__(self, scope, receive, send):
            await super().__call__(scope, receive, send)
            raise LookupError("The end.")

    with pytest.raises(LookupError, match="The end"):
        async with working(with_queue(Broken())):
            pass


async def test_a_worker_that_is_cancelled_comes_to_its_end():
    """
    Its app shuts down nevertheless.
    """
    app = Lived()
    with anyio.move_on_after(0.05):
        async with working(with_queue(app)):
            await anyio.sleep_forever()

    assert app.heard == ["lifespan.startup", "lifespan.shutdown"]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("no.such.module:app", "No module named"),
        ("asgi_batch:nothing", "nothing"),
        (":app", "names no app"),
        ("asgi_batch", "app"),
    ],
)
def test_what_names_no_app(target, reason, capsys):
    """
    The command ends with a sentence, as it does for wrong options.
    """
    with pytest.raises(SystemExit) as ended:
        main([target])

    assert ended.value.code == 2
    assert reason in capsys.readouterr().err


def test_an_app_is_named_by_module_and_attribute():
    """
    As servers have it.
    """
    assert load("asgi_batch:BatchMiddleware.__call__") is BatchMiddleware.__call__


def test_the_command_runs_until_it_is_told_to_end(monkeypatch):
    """
    In this process, by SIGTERM.
    """
    app, line = Lived(), Line()
    monkeypatch.setattr(sys.modules[__name__], "an_app", with_queue(app, line), raising=False)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    main([f"{__name__}:an_app"])
    timer.join()

    assert app.heard == ["lifespan.startup", "lifespan.shutdown"]


def test_the_command_says_nothing_of_itself():
    """
    Python warns of a module that is run and has been imported already.
    """
    command = [sys.executable, "-m", "asgi_batch.worker", "nowhere:app"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr.startswith("python -m asgi_batch.worker: 'nowhere:app' names no app")


def test_an_app_that_is_no_worker_ends_the_command(monkeypatch, capsys):
    """
    With a sentence, and no traceback.
    """
    monkeypatch.setattr(sys.modules[__name__], "an_app", BatchMiddleware(Lived()), raising=False)
    with pytest.raises(SystemExit) as ended:
        main([f"{__name__}:an_app"])

    assert ended.value.code == 2
    assert "queue=…" in capsys.readouterr().err


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """
    One Redis server for all processes: store and queue.
    """
    with redis_server(tmp_path_factory.mktemp("redis")) as proc:
        yield proc


@pytest.fixture
def service(redis, tmp_path):
    """
    A service whose store and queue are empty.
    """
    redis.client.flushall()
    return Service(redis.url, tmp_path, "apps.queued:app")


def test_f57_a_killed_worker_loses_nothing_and_repeats_nothing_unsafe(service):
    """
    F57: what it held goes to another one, which has been there all the time or comes later.
    """
    with service.server() as server, service.worker() as first, service.worker():
        batch = submit(server.url, mixed(400))
        wait_for(server.url, batch, lambda status: status["progress"] > 0.3)
        kill(first)
        status = wait_for(server.url, batch, lambda status: status["finishedAt"])
        results = results_of(server.url, batch)
    doubtful, starts = unknown(results), service.starts()

    assert (status["status"], status["completed"]) == ("completed", 400)
    assert all(index % 2 for index in doubtful)
    assert all(starts[("POST", str(n))] == 1 for n in range(1, 400, 2) if n not in doubtful)
    assert all(starts[("POST", str(n))] <= 1 for n in doubtful)
    assert all(1 <= starts[("GET", str(n))] <= 3 for n in range(0, 400, 2))
    assert server.process.pid not in service.pids()


def test_f6_a_worker_that_stops_hands_over_what_it_has(service):
    """
    F6: each operation runs once, the worker's app has come to its end, and its exit code is 0.
    """
    with service.server() as server, service.worker() as first, service.worker():
        batch = submit(server.url, mixed(400))
        wait_for(server.url, batch, lambda status: status["progress"] > 0.2)
        first.terminate()
        code = first.wait(20)
        status = wait_for(server.url, batch, lambda status: status["finishedAt"])

    assert code == 0
    assert first.pid in service.lives("closed")
    assert (status["status"], status["succeeded"]) == ("completed", 400)
    assert set(service.starts().values()) == {1}


def test_all_workers_take_part_in_one_batch(service):
    """
    And each has opened its app once.
    """
    with (
        service.server() as server,
        service.worker() as one,
        service.worker() as two,
    ):
        wait_until(lambda: len(service.lives("opened")) == 3)
        batch = submit(server.url, mixed(600))
        wait_for(server.url, batch)

    assert service.pids() == {one.pid, two.pid}
    assert service.lives("opened") == sorted([server.process.pid, one.pid, two.pid])
