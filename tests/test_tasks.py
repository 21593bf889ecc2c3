"""
The tasks of one batch: whatever starts them, their block is like that of a task group of anyio.
"""

import asyncio
from types import SimpleNamespace

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asgi_batch._tasks import tasks_for
from support import settled

ASYNCIO = pytest.mark.parametrize(
    "anyio_backend",
    [
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ],
)


def block():
    """
    A block of tasks in which no operation leaves anything behind.
    """
    return tasks_for(SimpleNamespace(has_remains=False))


def start(tasks, work):
    """
    Start a worker that does *work*; the scope that it is in.
    """
    scope = tasks.new_scope()

    async def in_scope():
        with scope:
            await work()

    tasks.start_worker(in_scope, scope)
    return scope


class Waits:
    """
    What a worker does that waits for ever, and what has become of it.

    Args:
        swallows: Cancellations that it ignores.
    """

    def __init__(self, swallows=0):
        self._swallows = swallows
        self.seen = []

    async def __call__(self):
        self.seen.append("begun")
        for _ in range(self._swallows):
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                self.seen.append("swallowed")
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            self.seen.append("cancelled")
            raise


async def fail():
    """
    What a worker does that fails.
    """
    raise LookupError("The worker has failed.")


async def errors_of(body):
    """
    What comes of a block that does *body*.
    """
    told = []
    with anyio.move_on_after(5) as alarm:
        try:
            async with block() as tasks:
                await body(tasks)
        except BaseExceptionGroup as errors:
            told = sorted(map(str, errors.exceptions))

    assert not alarm.cancel_called
    return told


async def test_the_block_ends_with_its_last_worker():
    """
    Also with one that another worker has started meanwhile, and none runs before it is its turn.
    """
    seen = []

    async def last():
        await settled()
        seen.append("last")

    async def first():
        await settled()
        seen.append("first")
        start(tasks, last)

    async with block() as tasks:
        start(tasks, first)
        seen.append("block")

    assert seen == ["block", "first", "last"]


async def test_a_block_without_workers():
    """
    Ends at once, as does that of a batch which was over before it began.
    """
    with anyio.fail_after(5):
        async with block():
            pass


@pytest.mark.parametrize("swallows", [0, 1, 3])
@pytest.mark.parametrize("is_at_its_end", [False, True])
async def test_workers_are_cancelled_with_what_is_around_them(is_at_its_end, swallows):
    """
    Until they obey, whether the block is still at something, or waits for them only.
    """
    worker, late = Waits(swallows), Waits()

    async def cancel():
        await settled()
        outer.cancel()

    with anyio.fail_after(5), anyio.CancelScope() as outer:
        async with block() as tasks:
            start(tasks, worker)
            tasks.start_soon(cancel)
            if not is_at_its_end:
                try:
                    await anyio.sleep_forever()
                finally:
                    start(tasks, late)

    assert outer.cancelled_caught
    assert worker.seen == ["begun", *["swallowed"] * swallows, "cancelled"]
    assert late.seen == ([] if is_at_its_end else ["begun", "cancelled"])


async def test_workers_are_cancelled_where_the_block_fails():
    """
    Its error is what comes of it.
    """
    worker = Waits()

    async def body(tasks):
        start(tasks, worker)
        await settled()
        raise LookupError("The block has failed.")

    assert await errors_of(body) == ["The block has failed."]
    assert worker.seen == ["begun", "cancelled"]


@pytest.mark.parametrize("is_at_its_end", [False, True])
async def test_a_worker_that_fails_ends_the_block_and_the_others(is_at_its_end):
    """
    Its error is what comes of it, in a group as of any task.
    """
    worker, ended = Waits(), []

    async def body(tasks):
        start(tasks, worker)
        await settled()
        start(tasks, fail)
        if not is_at_its_end:
            try:
                await anyio.sleep_forever()
            finally:
                ended.append("block")

    assert await errors_of(body) == ["The worker has failed."]
    assert worker.seen == ["begun", "cancelled"]
    assert ended == ([] if is_at_its_end else ["block"])


async def test_errors_of_the_block_and_of_a_worker():
    """
    Both are told of.
    """

    async def fail_late():
        try:
            await anyio.sleep_forever()
        finally:
            await fail()

    async def body(tasks):
        start(tasks, fail_late)
        await settled()
        raise LookupError("The block has failed.")

    assert await errors_of(body) == ["The block has failed.", "The worker has failed."]


async def test_a_worker_that_is_cancelled_alone():
    """
    Nothing becomes of the others, nor of the block.
    """
    worker, seen = Waits(), []

    async with block() as tasks:
        scope = start(tasks, worker)
        await settled()
        scope.cancel()
        await settled()
        await checkpoint()
        seen.append("block")

    assert worker.seen == ["begun", "cancelled"]
    assert seen == ["block"]


@ASYNCIO
async def test_a_task_that_asyncio_cancels_ends_the_block():
    """
    As where asyncio.run() cancels all tasks; one that has not begun yet is waited for no longer.
    """
    worker, unborn = Waits(), Waits()
    known = asyncio.all_tasks()

    with anyio.fail_after(5):
        async with block() as tasks:
            start(tasks, worker)
            await settled()
            begun = asyncio.all_tasks() - known
            start(tasks, unborn)
            for task in asyncio.all_tasks() - known - begun:
                task.cancel()
            await anyio.sleep_forever()

    assert worker.seen == ["begun", "cancelled"]
    assert unborn.seen == []


@ASYNCIO
@pytest.mark.parametrize("is_at_its_end", [False, True])
async def test_a_block_that_asyncio_cancels(is_at_its_end):
    """
    Is cancelled, and not before its workers are.
    """
    worker = Waits(swallows=1)

    async def run():
        async with block() as tasks:
            start(tasks, worker)
            if not is_at_its_end:
                await anyio.sleep_forever()

    task = asyncio.create_task(run())
    await settled()
    task.cancel()
    with anyio.fail_after(5), pytest.raises(asyncio.CancelledError):
        await task

    assert worker.seen == ["begun", "swallowed", "cancelled"]
