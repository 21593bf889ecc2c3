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
from anyio.lowlevel import checkpoint, current_token

from asgi_batch.client._carriage import Boarding, Call, Key
from asgi_batch.client._effects import Reply
from asgi_batch.client._journey import ALONE, Journey, Journeys, Landed, response_of

# Seconds for which a thread waits for others.
_THREADS: Final = 0.002


class _Group:
    """
    Requests that travel together.

    Args:
        leader: The one that sends the batch.
        news: What the others wait for: outcomes, or another leader.
        full: Set once no other may join.
    """

    def __init__(self, leader: Call, news: Any, full: Any) -> None:
        self.leader = leader
        self.news = news
        self.full = full
        self.calls: list[Call] = []

    def remaining(self) -> list[Call]:
        """
        Those that still wait for an outcome.
        """
        return [call for call in self.calls if call.outcome is None and not call.is_gone]


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

    def _admit(self, request: Any, loop: Any = None) -> Call | None:
        call = self._boarding.admit(request, loop)
        return call if call is not None and self._journeys.is_served(call) else None

    def _join(self, call: Call) -> _Group:
        group = self._groups.get(call.key)
        if group is None:
            group = self._groups[call.key] = _Group(call, self._event(), self._event())
        group.calls.append(call)
        if len(group.calls) >= self._journeys.most(call):
            # It runs already, so that the server need not wait until the one before has its turn.
            group.leader = call
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
            self._tell(group)

    def _tell(self, group: _Group) -> None:
        """
        Wake those that wait, to look for themselves.
        """
        news, group.news = group.news, self._event()
        news.set()

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
        # Nobody may wait for a leader whose event loop has ended.
        call = self._admit(request, current_token())
        if call is not None:
            await self._travel(call)
            if call.outcome is not ALONE:
                return response_of(call)
        return await self._inner.handle_async_request(request)

    async def _travel(self, call: Call) -> None:
        group = self._join(call)
        try:
            while call.outcome is None:
                if group.leader is not call:
                    await group.news.wait()
                elif group.full.is_set():
                    await self._lead(group)
                else:
                    await self._gather(group)
        except BaseException:
            self._leave(group, call)
            raise

    async def _gather(self, group: _Group) -> None:
        """
        Wait for others, until another one leads or nobody may join.
        """
        leader, count = group.leader, 0
        if self._max_delay is None:
            while count < len(group.calls) and not group.full.is_set():
                count = len(group.calls)
                await checkpoint()
        else:
            with anyio.move_on_after(self._max_delay):
                await group.full.wait()
        if group.leader is leader:
            self._close(group)

    async def _lead(self, group: _Group) -> None:
        calls = group.remaining()
        # The next one to lead sends the batch again, which must do no harm.
        is_harmless = len(calls) == 1 or all(call.is_repeatable for call in calls)
        with nullcontext() if is_harmless else anyio.CancelScope(shield=True):
            landed: Landed | Exception | None = None
            journey = self._journeys.journey(calls)
            while (request := _next(journey, landed)) is not None:
                try:
                    landed = await self._fetch(request)
                except Exception as error:  # noqa: BLE001
                    landed = error
        self._tell(group)

    async def _fetch(self, request: Any) -> Landed:
        response = await self._inner.handle_async_request(request)
        try:
            await response.aread()
        finally:
            # Whoever cannot read a response to its end has to give its connection back.
            await response.aclose()
        return _landed(response)


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
            self._travel(call)
            if call.outcome is not ALONE:
                return response_of(call)
        return self._inner.handle_request(request)

    def _travel(self, call: Call) -> None:
        with self._lock:
            group = self._join(call)
        try:
            while True:
                with self._lock:
                    # Looked at together, so that no news is missed.
                    news, leader = group.news, group.leader
                    if call.outcome is not None:
                        return
                if leader is not call:
                    news.wait()
                elif group.full.is_set():
                    self._lead(group)
                else:
                    self._gather(group, call)
        except BaseException:
            with self._lock:
                self._leave(group, call)
            raise

    def _gather(self, group: _Group, leader: Call) -> None:
        """
        Wait for others, until another one leads or nobody may join.
        """
        group.full.wait(_THREADS if self._max_delay is None else self._max_delay)
        with self._lock:
            if group.leader is leader:
                self._close(group)

    def _lead(self, group: _Group) -> None:
        with self._lock:
            calls = group.remaining()
        landed: Landed | Exception | None = None
        journey = self._journeys.journey(calls)
        while (request := _next(journey, landed)) is not None:
            try:
                landed = self._fetch(request)
            except Exception as error:  # noqa: BLE001
                landed = error
        with self._lock:
            self._tell(group)

    def _fetch(self, request: Any) -> Landed:
        response = self._inner.handle_request(request)
        try:
            response.read()
        finally:
            response.close()
        return _landed(response)


def _next(journey: Journey, landed: Landed | Exception | None) -> Any:
    """
    The next request of a journey; None after its end.
    """
    try:
        return journey.send(landed)
    except StopIteration:
        return None


def _landed(response: Any) -> Landed:
    reply = Reply(response.status_code, response.headers, response.content)
    return Landed(reply, response.extensions.get("http_version", b"HTTP/1.1"))
