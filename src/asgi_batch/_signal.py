"""
Something that is waited for once, by one task; on asyncio in a fraction of the time of an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import anyio


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
    if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
        return anyio.Event
    return partial(_AsyncioSignal, asyncio.get_running_loop())
