"""
What carries flows out for code that blocks.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Self,
    TypeVar,
    cast,
)

from asgi_batch.client._effects import Answer, Ask, Effect, Flow, Give, Pause, Pull, Reply
from asgi_batch.client._line import Line
from asgi_batch.client._operations import AnyOperation, prepare

if TYPE_CHECKING:
    pass

T = TypeVar("T")

# Seconds in which a batch can be cancelled that nobody waits for any more.
_FAREWELL: Final = 5.0


class Stream(Generic[T]):
    """
    What comes from the server, as it comes: an iterator.

    Whoever leaves it early uses it as a context manager, so that it comes to its end as well::

        with client.stream(operations) as results:
            for result in results:
                ...
    """

    def __init__(
        self,
        line: Line,
        flow: Flow[Any],
        *,
        source: Iterable[AnyOperation] = (),
        timeout: float | None = None,
        farewell: Callable[[], Flow[None]] | None = None,
    ) -> None:
        self._line = line
        self._flow = flow
        self._source = iter(source)
        self._timeout = timeout
        self._deadline: float | None = None
        self._farewell = farewell
        self._things: deque[T] = deque()
        self._answer: Answer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        try:
            while not self._things:
                if not self._goes_on():
                    raise StopIteration
        except BaseException:
            self.close()
            raise
        return self._things.popleft()

    def close(self) -> None:
        """
        Come to an end; a batch in the background that is not finished is cancelled.
        """
        farewell, self._farewell = self._farewell, None
        self._flow.close()
        if farewell is not None:
            with suppress(Exception):
                finish(self._line, farewell(), time.monotonic() + _FAREWELL)

    def _goes_on(self) -> bool:
        if self._timeout is not None and self._deadline is None:
            self._deadline = time.monotonic() + self._timeout
        try:
            effect = self._flow.send(self._answer)
        except StopIteration:
            return False
        self._answer = None
        if isinstance(effect, Give):
            self._things.extend(effect.things)
        elif isinstance(effect, Pull):
            operation = next(self._source, None)
            self._answer = None if operation is None else prepare(operation, effect.index)
        else:
            self._answer = perform(self._line, effect, self._deadline)
        return True


def perform(line: Line, effect: Effect, deadline: float | None) -> Answer:
    """
    Do what a flow asks for.

    Raises:
        TimeoutError: The *deadline* has come before.
    """
    left = None if deadline is None else deadline - time.monotonic()
    if isinstance(effect, Pause):
        time.sleep(effect.seconds if left is None else max(0.0, min(left, effect.seconds)))
        answer: Answer = None
    else:
        assert isinstance(effect, Ask)
        try:
            answer = line.reply(line.http.request(**line.arguments(effect, left)))
        except line.errors as error:
            answer = line.lost(error)
    if deadline is not None and not isinstance(answer, Reply) and time.monotonic() >= deadline:
        raise TimeoutError
    return answer


def finish(line: Line, flow: Flow[T], deadline: float | None = None) -> T:
    """
    What *flow* returns in the end.
    """
    answer: Answer = None
    while True:
        try:
            effect = flow.send(answer)
        except StopIteration as end:
            return cast("T", end.value)
        answer = perform(line, effect, deadline)
