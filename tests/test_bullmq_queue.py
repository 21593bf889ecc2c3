"""
The plug for BullMQ alone: what it sends, how long that takes, and what becomes of its jobs.
"""

import logging
from contextlib import asynccontextmanager

import anyio
import pytest
import redis.exceptions

import asgi_batch.queues.bullmq as plug
from asgi_batch.ports import HostedQueue, Queue
from asgi_batch.queues.bullmq import BullMQQueue
from redis_server import redis_server

PATIENCE = 60


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request):
    """
    BullMQ knows these two only.
    """
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as proc:
        yield proc


@pytest.fixture
async def queue(server):
    server.client.flushall()
    queue = BullMQQueue(server.url, "batches")
    yield queue
    await queue.aclose()


@asynccontextmanager
async def receiving(queue, run):
    """
    A worker for as long as the context lasts.
    """
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(queue.receive, run)
            yield
            tasks.cancel_scope.cancel()


def jobs(server, state):
    """
    The ids of the jobs in *state*.
    """
    key = f"bull:batches:{state}"
    return (
        server.client.zrange(key, 0, -1) if state != "active" else server.client.lrange(key, 0, -1)
    )


def test_it_is_a_queue_that_our_command_serves():
    queue = BullMQQueue("redis://localhost")

    assert isinstance(queue, Queue)
    assert not isinstance(queue, HostedQueue)


async def test_a_job_names_a_chunk_and_nothing_else(server, queue):
    await queue.send("QmF0Y2g", 3)
    await queue.send("QmF0Y2g", None)

    assert server.client.hget("bull:batches:1", "data") == b'{"batch":"QmF0Y2g","chunk":3}'
    assert server.client.hget("bull:batches:2", "data") == b'{"batch":"QmF0Y2g","chunk":null}'


async def test_each_job_comes_to_the_worker(server, queue):
    heard, ended = [], anyio.Event()

    async def run(batch_id, chunk):
        heard.append((batch_id, chunk))
        if len(heard) == 20:
            ended.set()

    async with receiving(queue, run):
        for chunk in range(20):
            await queue.send("a", chunk)
        await ended.wait()

    assert sorted(heard) == [("a", chunk) for chunk in range(20)]
    assert len(jobs(server, "completed")) == 20


async def test_as_many_run_at_a_time_as_was_said(server):
    queue = BullMQQueue(server.url, "narrow", concurrency=3)
    running, most, ended = 0, 0, anyio.Event()

    async def run(batch_id, chunk):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(0.02)
        running -= 1
        if chunk == 11:
            ended.set()

    async with receiving(queue, run):
        for chunk in range(12):
            await queue.send("a", chunk)
        await ended.wait()
    await queue.aclose()

    assert most == 3


async def test_a_worker_that_stops_waits_for_nothing(server, queue):
    """
    F6: what goes on is given back by others; its job ends, and is not found stalled later.
    """
    entered, cut = anyio.Event(), []

    async def run(batch_id, chunk):
        entered.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            cut.append(chunk)
            raise

    async with receiving(queue, run):
        await queue.send("a", 0)
        await entered.wait()

    assert cut == [0]
    assert (jobs(server, "completed"), jobs(server, "active")) == ([b"1"], [])


async def test_jobs_that_have_ended_do_not_pile_up(server, queue, monkeypatch):
    monkeypatch.setattr(
        plug, "_KEPT", {"removeOnComplete": {"count": 5}, "removeOnFail": {"count": 5}}
    )
    ended = anyio.Event()

    async def run(batch_id, chunk):
        if chunk == 29:
            ended.set()
        if chunk % 2:
            raise ValueError("Something is wrong with the code.")

    async with receiving(queue, run):
        for chunk in range(30):
            await queue.send("a", chunk)
        await ended.wait()

    assert 1 <= len(jobs(server, "completed")) <= 5
    assert 1 <= len(jobs(server, "failed")) <= 5


async def test_a_job_that_is_none_of_ours_fails_alone(server, queue):
    heard, ended = [], anyio.Event()

    async def run(batch_id, chunk):
        heard.append(batch_id)
        ended.set()

    async with receiving(queue, run):
        await queue._queue().add("run", {"something": "else"})
        await queue.send("a", 0)
        await ended.wait()

    assert heard == ["a"]
    assert jobs(server, "failed") == [b"1"]


async def test_a_redis_that_is_down_is_told_soon(tmp_path):
    """
    F56: and one that is there again is used again.
    """
    with redis_server(tmp_path / "first") as server:
        queue = BullMQQueue(server.url)
        await queue.send("a", 0)
        server.kill()
        with anyio.fail_after(PATIENCE), pytest.raises(redis.exceptions.ConnectionError):
            await queue.send("a", 1)
        with server.restarted(tmp_path / "second") as other:
            await queue.send("a", 2)
            waiting = other.client.llen("bull:asgi-batch:wait")
        await queue.aclose()

    assert waiting == 1


async def test_a_redis_that_is_silent_is_given_up(server, queue, monkeypatch):
    """
    F56.
    """
    monkeypatch.setattr(plug, "_TIMEOUT", 0.2)
    with anyio.fail_after(PATIENCE), server.frozen(), pytest.raises(TimeoutError):
        await queue.send("a", 0)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_worker_goes_on_after_redis_was_lost(tmp_path, caplog):
    heard, again = [], anyio.Event()

    async def run(batch_id, chunk):
        heard.append(chunk)
        again.set()

    caplog.set_level(logging.WARNING, "asgi_batch")
    with redis_server(tmp_path / "first") as server:
        queue = BullMQQueue(server.url)
        async with receiving(queue, run):
            await queue.send("a", 0)
            await again.wait()
            again = anyio.Event()
            server.kill()
            with server.restarted(tmp_path / "second"):
                await queue.send("a", 1)
                await again.wait()
        await queue.aclose()

    assert heard == [0, 1]


def test_it_may_be_used_in_one_event_loop_after_another(server):
    """
    As by tests of an app; in each of them it opens connections of its own.
    """
    server.client.flushall()
    queue, seen = BullMQQueue(server.url, "batches"), []

    async def connect():
        seen.append(queue._queue())

    async def send():
        assert queue._queue() not in seen
        async with anyio.create_task_group() as tasks:
            for chunk in range(20):
                tasks.start_soon(queue.send, "a", chunk)
        await queue.aclose()
        await queue.aclose()

    for _ in range(3):
        anyio.run(connect)
        anyio.run(send)

    assert server.client.llen("bull:batches:wait") == 60


async def test_a_worker_that_stops_does_not_wait_for_redis(tmp_path, monkeypatch):
    """
    F6: it is away, and its jobs are not ended by anybody.
    """
    monkeypatch.setattr(plug, "_TIMEOUT", 0.2)
    entered = anyio.Event()

    async def run(batch_id, chunk):
        entered.set()
        await anyio.sleep_forever()

    with redis_server(tmp_path) as server:
        queue = BullMQQueue(server.url)
        async with receiving(queue, run):
            await queue.send("a", 0)
            await entered.wait()
            server.kill()
        await queue.aclose()
