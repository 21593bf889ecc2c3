"""
The plug for Celery alone: what it sends, how long that takes, and how an app lives in a process.
"""

import base64
import json
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import anyio
import pytest
from celery import Celery, signals
from celery.exceptions import Reject
from fastapi import FastAPI
from kombu.exceptions import OperationalError

import asgi_batch.queues.celery as plug
from asgi_batch import BatchMiddleware, ConfigurationError
from asgi_batch.ports import HostedQueue
from asgi_batch.queues.celery import CeleryQueue
from asgi_batch.worker import working
from redis_server import redis_server
from servers import HOST, free_port

PATIENCE = 60


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    """
    Senders may run on either.
    """
    return request.param


class Life:
    """
    What happens to an app in worker processes.
    """

    def __init__(self):
        self.events = []
        self.threads = set()
        self.fails_to_start = False
        self.given_back = threading.Event()
        self.late = threading.Event()
        self.entered = threading.Event()
        self.breaks = None

    @asynccontextmanager
    async def working(self):
        self.events.append("start")
        if self.fails_to_start:
            raise RuntimeError("The app does not start.")
        self.breaks, leaving = anyio.Event(), anyio.Event()

        async def run(batch_id, chunk):
            self.threads.add(threading.get_ident())
            self.events.append((batch_id, chunk))
            if batch_id == "break":
                self.breaks.set()
            if batch_id == "late":
                self.entered.set()
                try:
                    await anyio.sleep_forever()
                finally:
                    self.events.append("passed on")
            if batch_id == "long":
                self.entered.set()
                await leaving.wait()
                self.given_back.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._break)
            yield run
            leaving.set()
            if self.late.is_set():
                await anyio.to_thread.run_sync(self.entered.wait, PATIENCE)
            tasks.cancel_scope.cancel()
        self.events.append("stop")

    async def _break(self):
        await self.breaks.wait()
        raise RuntimeError("The app has ended by itself.")


class Worker:
    """
    A worker process, as far as the queue sees it.
    """

    def __init__(self):
        self.celery_app = Celery("worker", broker="memory://")
        self.queue = CeleryQueue(self.celery_app)
        self.life = Life()
        self.queue.attach(self.life.working)
        self.carry = self.celery_app.tasks["asgi_batch.run"]
        self._has_ended = False

    def end(self):
        """
        What Celery does last in a process of a pool.
        """
        if not self._has_ended:
            self._has_ended = True
            assert self.queue._leave in receivers_of(signals.worker_process_shutdown)
            assert self.queue._leave in receivers_of(signals.worker_shutdown)
            self.queue._leave()


def receivers_of(signal):
    """
    What Celery calls in that moment.
    """
    return [receiver for _, receiver in signal.receivers]


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    worker.end()


def test_it_is_a_queue_that_others_host():
    assert isinstance(CeleryQueue(Celery("one")), HostedQueue)


async def test_a_message_names_a_chunk_and_nothing_else(tmp_path):
    """
    F57: it is JSON, so that workers which accept nothing else take it.
    """
    with redis_server(tmp_path) as redis:
        celery_app = Celery("one", broker=redis.url, set_as_current=False)
        celery_app.conf.update(task_serializer="pickle", result_backend=redis.url)
        await CeleryQueue(celery_app).send("QmF0Y2g", 3)
        celery_app.close()
        message = json.loads(redis.client.lpop("celery"))

    arguments, keywords, embedded = json.loads(base64.b64decode(message["body"]))
    assert (arguments, keywords) == (["QmF0Y2g", 3], {})
    assert not any(embedded.values())
    assert message["content-type"] == "application/json"
    assert message["headers"]["task"] == "asgi_batch.run"
    assert message["headers"]["ignore_result"] is True


def test_what_celery_is_told_about_the_task():
    """
    F57: a message stays with the broker until it is carried out, also where its process is killed.
    """
    task = Worker().carry

    assert task.acks_late
    assert task.reject_on_worker_lost
    assert task.acks_on_failure_or_timeout


async def test_a_broker_that_is_down_is_told_soon():
    """
    F56: and meanwhile the event loop goes on.
    """
    queue = CeleryQueue(Celery("one", broker=f"redis://{HOST}:{free_port()}", set_as_current=False))
    turns = 0

    async def turn():
        nonlocal turns
        while True:
            await anyio.sleep(0.001)
            turns += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        with anyio.fail_after(PATIENCE), pytest.raises(OperationalError):
            await queue.send("a", 0)
        tasks.cancel_scope.cancel()

    assert turns > 10


async def test_a_broker_that_is_silent_is_given_up(monkeypatch):
    """
    F56: also by all those who would send after four of them.
    """
    monkeypatch.setattr(plug, "_TIMEOUT", 0.2)
    failures, taken = [], []

    async def send(number):
        try:
            await queue.send("a", number)
        except TimeoutError:
            failures.append(number)

    async def look():
        # While they wait, the threads are there for others.
        await anyio.wait_all_tasks_blocked()
        taken.append(anyio.to_thread.current_default_thread_limiter().borrowed_tokens)

    with socket.create_server((HOST, 0)) as listener:
        url = f"redis://{HOST}:{listener.getsockname()[1]}"
        queue = CeleryQueue(Celery("one", broker=url, set_as_current=False))
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                for number in range(6):
                    tasks.start_soon(send, number)
                tasks.start_soon(look)

    assert sorted(failures) == [0, 1, 2, 3, 4, 5]
    assert taken == [0]


def test_one_lifespan_for_all_messages_of_a_process(worker):
    """
    However many threads the pool has.
    """
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: worker.carry("a", number), range(40)))
    worker.end()

    assert worker.life.events[0] == "start"
    assert sorted(worker.life.events[1:-1]) == [("a", number) for number in range(40)]
    assert worker.life.events[-1] == "stop"
    assert len(worker.life.threads) == 1


def test_a_process_of_a_pool_hears_that_the_worker_stops(worker):
    """
    F6: what it carries out is given back, and what comes afterwards goes to another worker.
    """
    with ThreadPoolExecutor(1) as pool:
        carrying = pool.submit(worker.carry, "long", 0)
        assert worker.life.entered.wait(PATIENCE)
        signals.worker_shutting_down.send(sender="worker", sig="SIGTERM", how="Warm", exitcode=0)
        try:
            carrying.result(PATIENCE)
        finally:
            os.write(worker.queue._hammer, b"!")
        assert worker.life.given_back.is_set()
        worker.end()
        with pytest.raises(Reject) as rejected:
            worker.carry("late", 0)

    assert rejected.value.requeue
    assert worker.life.events == ["start", ("long", 0), "stop"]


def test_a_message_that_comes_while_the_app_stops(worker):
    """
    F6: the app passes it on, once nobody waits for it any more.
    """
    worker.carry("first", 0)
    worker.life.late.set()
    worker.queue._ring()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(worker.carry, "late", 0).result(PATIENCE)
    worker.end()

    assert sorted(map(str, worker.life.events[-3:])) == ["('late', 0)", "passed on", "stop"]


def test_processes_that_are_forked_hear_it_all(worker):
    """
    However many read what is said, it stays said.
    """
    other = Worker()
    other.queue._bell = worker.queue._bell
    with ThreadPoolExecutor(2) as pool:
        carrying = [pool.submit(each.carry, "long", 0) for each in (worker, other)]
        try:
            assert worker.life.entered.wait(PATIENCE)
            assert other.life.entered.wait(PATIENCE)
        finally:
            worker.queue._ring()
        for each in carrying:
            each.result(PATIENCE)
    worker.end()
    other.end()

    assert worker.life.events[-1] == other.life.events[-1] == "stop"


def test_an_app_whose_middleware_is_made_late(tmp_path):
    """
    FastAPI makes it with the first request, and an app in a worker gets none.
    """
    events = []

    @asynccontextmanager
    async def lifespan(app):
        events.append("start")
        yield
        events.append("stop")

    with redis_server(tmp_path) as redis:
        worker = Worker()
        api = FastAPI(lifespan=lifespan)
        api.add_middleware(BatchMiddleware, store=redis.url, queue=worker.queue)
        worker.queue.attach(lambda: working(api))
        worker.carry("A" * 22, None)
        worker.end()

    assert events == ["start", "stop"]


def test_an_app_that_does_not_start_is_tried_again(worker):
    worker.life.fails_to_start = True
    with pytest.raises(RuntimeError, match="does not start"):
        worker.carry("a", 0)
    worker.life.fails_to_start = False
    worker.carry("a", 1)

    assert worker.life.events == ["start", "start", ("a", 1)]


def test_an_app_that_ends_by_itself_is_started_again(worker):
    worker.carry("break", 0)
    assert worker.queue._home._end.exception(PATIENCE) is not None
    worker.carry("a", 1)

    assert worker.life.events == ["start", ("break", 0), "start", ("a", 1)]


def test_a_process_that_has_carried_out_nothing_ends():
    worker = Worker()
    worker.end()

    assert worker.life.events == []


def test_a_name_that_is_taken():
    celery_app = Celery("one")
    CeleryQueue(celery_app)
    CeleryQueue(celery_app, name="second")

    with pytest.raises(ConfigurationError, match=r"'asgi_batch\.run' already: pass another name"):
        CeleryQueue(celery_app)


def test_a_worker_without_an_app():
    queue = CeleryQueue(Celery("one"))

    with pytest.raises(ConfigurationError, match=r"No app is attached.*queue\.attach"):
        queue._carry("a", 0)


async def test_it_is_not_started_by_the_command_of_other_queues():
    with pytest.raises(ConfigurationError, match="celery -A module worker"):
        await CeleryQueue(Celery("one")).receive(None)
