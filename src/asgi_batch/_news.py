"""
Tells one task that something has come up in others; it does not say what.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio


class News:
    """
    News for one listener; what comes up while it does not listen is heard when it does.
    """

    __slots__ = ("_event", "_is_more_to_come")

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._is_more_to_come: Callable[[], bool] | None = None

    def wake(self) -> None:
        """
        Something has come up that cannot wait.
        """
        self._event.set()

    def arrive(self) -> None:
        """
        Something has come up; while more is gathered, it waits for that.
        """
        if self._is_more_to_come is None or not self._is_more_to_come():
            self._event.set()

    async def wait(self, longest: float) -> None:
        """
        Wait for news, but not for more than *longest* seconds.
        """
        with anyio.move_on_after(longest):
            await self._event.wait()
        self._event = anyio.Event()

    async def gather(self, longest: float, is_more_to_come: Callable[[], bool]) -> None:
        """
        Wait until there is no more to come, but not for more than *longest* seconds.
        """
        self._is_more_to_come = is_more_to_come
        try:
            if is_more_to_come():
                await self.wait(longest)
        finally:
            self._is_more_to_come = None
