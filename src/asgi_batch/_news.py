"""
Tells one task that something has come up in others; it does not say what.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio

# Seconds; little against the time of a client, and much against that of an operation that computes.
_MOMENT: Final = 0.005


class News:
    """
    News for one listener; what comes up while it does not listen is heard when it does.
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = anyio.Event()

    def wake(self) -> None:
        """
        Something has come up.
        """
        self._event.set()

    async def wait(self, longest: float) -> None:
        """
        Wait for news, but not for more than *longest* seconds.
        """
        with anyio.move_on_after(longest):
            await self._event.wait()
        self._event = anyio.Event()

    async def gather(self, is_more_to_come: Callable[[], bool]) -> None:
        """
        Wait until there is no more to come, but only for a moment.
        """
        with anyio.move_on_after(_MOMENT):
            while is_more_to_come():
                await self._event.wait()
                self._event = anyio.Event()
