"""
What anyio does on any event loop, and what asyncio does itself in a fraction of the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import anyio
from anyio.lowlevel import checkpoint


def is_asyncio() -> bool:
    """
    Whether the running event loop is one of asyncio, such as uvloop.
    """
    return anyio.get_cancelled_exc_class() is asyncio.CancelledError


class Signal(Protocol):
    """
    Set once, and waited for once.
    """

    def set(self) -> None:
        """
        Let the waiting task go on.
        """
        ...

    def is_set(self) -> bool:
        """
        Whether it has been set.
        """
        ...

    def wait(self) -> Awaitable[object]:
        """
        Wait until it is set.
        """
        ...


class _AsyncioSignal:
    """
    The same as an `anyio.Event`, as far as that is needed.
    """

    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future = loop.create_future()

    def set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def is_set(self) -> bool:
        return self._future.done() and not self._future.cancelled()

    def wait(self) -> Awaitable[object]:
        return self._future


def signal_factory() -> Callable[[], Signal]:
    """
    Makes signals for the running event loop.
    """
    return partial(_AsyncioSignal, asyncio.get_running_loop()) if is_asyncio() else anyio.Event


def way_to_give_way() -> Callable[[], Awaitable[None]]:
    """
    Lets other tasks of the running event loop have their turn.
    """
    return partial(asyncio.sleep, 0) if is_asyncio() else checkpoint
