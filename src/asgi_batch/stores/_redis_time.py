"""
The end of the time that a call may take, which is said until it is heard; it knows no Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

#: Seconds in which a call that was told of its end may clean up, before it is told again.
_AGAIN: Final = 0.1


@asynccontextmanager
async def ended_at(deadline: float) -> AsyncIterator[None]:
    """
    `asyncio.timeout_at` that also ends who has not heard it.

    redis-py sends with ``asyncio.wait_for``, which before Python 3.12 keeps a cancellation for
    itself where it comes just when all is sent. An event loop that was held up for a moment brings
    both together, and redis-py then goes on for its nine tries of two seconds each.

    Raises:
        TimeoutError: It was still going on at *deadline*, a time of the event loop.
    """
    loop = asyncio.get_running_loop()
    # There is one wherever something is awaited; mypy does not see that.
    task: Any = asyncio.current_task()
    others = task.cancelling()
    told = 0
    alarm: asyncio.TimerHandle

    def tell() -> None:
        nonlocal told, alarm
        told += 1
        task.cancel()
        alarm = loop.call_later(_AGAIN, tell)

    alarm = loop.call_at(deadline, tell)
    try:
        yield
    except asyncio.CancelledError as error:
        # As for asyncio's own, it is somebody else's if there is one more than was told here.
        if told and task.cancelling() - told <= others:
            raise TimeoutError from error
        raise
    finally:
        alarm.cancel()
        for _ in range(told):
            task.uncancel()


def ended_after(seconds: float) -> AbstractAsyncContextManager[None]:
    """
    `ended_at`, from now on.
    """
    return ended_at(asyncio.get_running_loop().time() + seconds)
