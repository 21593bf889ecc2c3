"""
How requests of the same moment find together: one of them leads, and the others wait for it.

There is no task or thread but those of the requests. Whichever leads sends the batch; if it is
cancelled, the next one leads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final

import anyio
from anyio.lowlevel import checkpoint

from asgi_batch.client._carriage import Boarding, Call, Key
from asgi_batch.client._effects import Reply
from asgi_batch.client._journey import ALONE, Journeys, Landed, response_of

# Seconds for which a thread waits for others.
_THREADS: Final = 0.002


class _Group:
    """
    Requests that travel together; *full* is set once no other may join.
    """

    def __init__(self, leader: Call, full: Any) -> None:
        self.leader = leader
        self.full = full
        self.calls: list[Call] = []

    def remaining(self) -> list[Call]:
        """
        Those that still wait for an outcome.
        """
        return [call for call in self.calls if call.outcome is None and not call.is_gone]

    def wake(self) -> None:
        """
        Let those go on that have an outcome.
        """
        for call in self.calls:
            if call.outcome is not None:
                call.turn.set()


class _Gathering:
    """
    What gathers requests, whether they await or block.

    Args:
        inner: The transport that sends what goes out.
        boarding: Decides what can travel.
        journeys: Decides what is sent.
        max_delay: Seconds for which a request waits for others; None for the usual time.
        event: Makes what the others wait for.
    """

    def __init__(
        self,
        inner: Any,
        boarding: Boarding,
        journeys: Journeys,
        max_delay: float | None,
        event: Callable[[], Any],
    ) -> None:
        self._inner = inner
        self._boarding = boarding
        self._journeys = journeys
        self._max_delay = max_delay
        self._event = event
        self._groups: dict[Key, _Group] = {}

    def _admit(self, request: Any) -> Call | None:
        call = self._boarding.admit(request)
        return call if call is not None and self._journeys.is_served(call) else None

    def _join(self, call: Call) -> _Group:
        call.turn = self._event()
        group = self._groups.get(call.key)
        if group is None:
            group = self._groups[call.key] = _Group(call, self._event())
            call.turn.set()
        group.calls.append(call)
        if len(group.calls) >= self._journeys.most(call):
            self._close(group)
        return group

    def _leave(self, group: _Group, call: Call) -> None:
        """
        Go on without *call*; if it was the one that led, another one does.
        """
        call.is_gone = True
        heirs = group.remaining()
        if not heirs:
            # Nobody is left to lead whoever would join.
            self._close(group)
        elif group.leader is call:
            group.leader = heirs[0]
            group.leader.turn.set()

    def _close(self, group: _Group) -> None:
        group.full.set()
        if self._groups.get(group.leader.key) is group:
            del self._groups[group.leader.key]


class TaskGathering(_Gathering):
    """
    For requests that await.
    """

    async def send(self, request: Any) -> Any:
        """
        The response to *request*, which may have travelled.
        """
        call = self._admit(request)
        if call is not None:
            group = self._join(call)
            try:
                await call.turn.wait()
                if call.outcome is None:
                    await self._lead(group)
            except BaseException:
                self._leave(group, call)
                raise
            if call.outcome is not ALONE:
                return response_of(call)
        return await self._inner.handle_async_request(request)

    async def _lead(self, group: _Group) -> None:
        if not group.full.is_set():
            await self._gather(group)
            self._close(group)
        calls = group.remaining()
        # The next one to lead sends the batch again, which must do no harm.
        is_harmless = len(calls) == 1 or all(call.is_repeatable for call in calls)
        with nullcontext() if is_harmless else anyio.CancelScope(shield=True):
            await self._drive(group, calls)

    async def _gather(self, group: _Group) -> None:
        if self._max_delay is None:
            count = 0
            while count < len(group.calls) and not group.full.is_set():
                count = len(group.calls)
                await checkpoint()
        else:
            with anyio.move_on_after(self._max_delay):
                await group.full.wait()

    async def _drive(self, group: _Group, calls: list[Call]) -> None:
        landed: Landed | Exception | None = None
        journey = self._journeys.journey(calls)
        while True:
            try:
                request = journey.send(landed)
            except StopIteration:
                break
            finally:
                group.wake()
            try:
                response = await self._inner.handle_async_request(request)
                await response.aread()
                landed = _landed(response)
            except Exception as error:  # noqa: BLE001
                landed = error


class ThreadGathering(_Gathering):
    """
    For requests that block, each in a thread.
    """

    def __init__(
        self, inner: Any, boarding: Boarding, journeys: Journeys, max_delay: float | None
    ) -> None:
        super().__init__(inner, boarding, journeys, max_delay, threading.Event)
        self._lock = threading.Lock()

    def send(self, request: Any) -> Any:
        """
        The response to *request*, which may have travelled.
        """
        call = self._admit(request)
        if call is not None:
            with self._lock:
                group = self._join(call)
            try:
                call.turn.wait()
                if call.outcome is None:
                    self._lead(group)
            except BaseException:
                with self._lock:
                    self._leave(group, call)
                raise
            if call.outcome is not ALONE:
                return response_of(call)
        return self._inner.handle_request(request)

    def _lead(self, group: _Group) -> None:
        if not group.full.is_set():
            group.full.wait(_THREADS if self._max_delay is None else self._max_delay)
            with self._lock:
                self._close(group)
        with self._lock:
            calls = group.remaining()
        self._drive(group, calls)

    def _drive(self, group: _Group, calls: list[Call]) -> None:
        landed: Landed | Exception | None = None
        journey = self._journeys.journey(calls)
        while True:
            try:
                request = journey.send(landed)
            except StopIteration:
                break
            finally:
                group.wake()
            try:
                response = self._inner.handle_request(request)
                response.read()
                landed = _landed(response)
            except Exception as error:  # noqa: BLE001
                landed = error


def _landed(response: Any) -> Landed:
    reply = Reply(response.status_code, response.headers, response.content)
    return Landed(reply, response.extensions.get("http_version", b"HTTP/1.1"))
