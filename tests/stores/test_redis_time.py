"""
The end of a call's time, also where it is not heard at once.
"""

import asyncio

import anyio
import pytest

from asgi_batch.stores._redis_time import ended_after, ended_at
from redis_support import SOON
from wide import widely

KINDS = ["redis-asyncio", *widely("redis-uvloop")]


async def hear(times):
    """
    Go on until the end was said that many *times*.
    """
    for _ in range(times):
        try:
            await asyncio.sleep(SOON)
            raise AssertionError("The end was not said.")
        except asyncio.CancelledError as error:
            heard = error
    raise heard


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_f40_the_end_is_said_until_it_is_heard(times):
    """
    F40: and nothing of it is left to what comes afterwards.
    """
    with pytest.raises(TimeoutError):
        async with ended_after(0):
            await hear(times)
    await anyio.lowlevel.checkpoint()

    assert not asyncio.current_task().cancelling()


async def test_f40_the_ends_of_two_are_told_apart():
    """
    F40: where both come at once, also late, it is the outer one that was too long.
    """
    now = asyncio.get_running_loop().time()

    async def wait():
        with pytest.raises(asyncio.CancelledError) as inner:
            async with ended_at(now):
                await hear(2)
        raise inner.value

    with pytest.raises(TimeoutError):
        async with ended_at(now):
            await wait()

    assert not asyncio.current_task().cancelling()


async def test_f40_who_is_done_in_time_hears_nothing():
    """
    F40: nor is there an error if the end comes when all is done.
    """
    async with ended_after(60):
        await anyio.lowlevel.checkpoint()
    async with ended_after(0):
        with pytest.raises(asyncio.CancelledError):
            await hear(1)
    await anyio.lowlevel.checkpoint()

    assert not asyncio.current_task().cancelling()


@pytest.mark.parametrize("seconds", [0, 60])
async def test_f40_the_cancellation_of_others_stays_theirs(seconds):
    """
    F40: whether or not the end comes with it.
    """

    async def wait():
        asyncio.get_running_loop().call_soon(task.cancel)
        async with ended_after(seconds):
            await hear(1)

    task = asyncio.create_task(wait())
    with pytest.raises(asyncio.CancelledError):
        await task

    assert task.cancelled()
