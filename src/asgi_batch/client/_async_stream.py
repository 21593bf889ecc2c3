"""
What carries flows out for code that awaits, on asyncio and trio.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Self,
    TypeAlias,
    TypeVar,
    cast,
)

import anyio

from asgi_batch.client._effects import Answer, Ask, Effect, Flow, Give, Pause, Pull
from asgi_batch.client._line import Line
from asgi_batch.client._operations import AnyOperation, prepare

if TYPE_CHECKING:
    pass

T = TypeVar("T")

#: Operations, which may come one by one.
AsyncOperations: TypeAlias = Iterable[AnyOperation] | AsyncIterable[AnyOperation]

# Seconds in which a batch can be cancelled that nobody waits for any more.
_FAREWELL: Final = 5.0


class AsyncStream(Generic[T]):
    """
    What comes from the server, as it comes: an async iterator.

    Whoever leaves it early uses it as a context manager, so that it comes to its end as well::

        async with client.stream(operations) as results:
            async for result in results:
                ...
    """

    def __init__(
        self,
        line: Line,
        flow: Flow[Any],
        *,
        source: AsyncOperations = (),
        timeout: float | None = None,
        farewell: Callable[[], Flow[None]] | None = None,
    ) -> None:
        self._line = line
        self._flow = flow
        self._source = _each(source)
        self._timeout = timeout
        self._deadline: float | None = None
        self._farewell = farewell
        self._things: deque[T] = deque()
        self._answer: Answer = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            while not self._things:
                if not await self._goes_on():
                    raise StopAsyncIteration
        except BaseException:
            await self.aclose()
            raise
        return self._things.popleft()

    async def aclose(self) -> None:
        """
        Come to an end; a batch in the background that is not finished is cancelled.
        """
        farewell, self._farewell = self._farewell, None
        self._flow.close()
        await self._source.aclose()
        if farewell is not None:
            with anyio.move_on_after(_FAREWELL, shield=True), suppress(Exception):
                await finish(self._line, farewell())

    async def _goes_on(self) -> bool:
        if self._timeout is not None and self._deadline is None:
            self._deadline = anyio.current_time() + self._timeout
        try:
            effect = self._flow.send(self._answer)
        except StopIteration:
            return False
        if isinstance(effect, Give):
            self._things.extend(effect.things)
            self._answer = None
            return True
        left = None if self._deadline is None else self._deadline - anyio.current_time()
        with anyio.fail_after(left):
            if isinstance(effect, Pull):
                operation = await anext(self._source, None)
                self._answer = None if operation is None else prepare(operation, effect.index)
            else:
                self._answer = await perform(self._line, effect)
        return True


async def _each(source: AsyncOperations) -> AsyncGenerator[AnyOperation, None]:
    if isinstance(source, AsyncIterable):
        async for operation in source:
            yield operation
    else:
        for operation in source:
            yield operation


async def perform(line: Line, effect: Effect) -> Answer:
    """
    Do what a flow asks for.
    """
    if isinstance(effect, Ask):
        try:
            return line.reply(await line.http.request(**line.arguments(effect)))
        except line.errors as error:
            return line.lost(error)
    assert isinstance(effect, Pause)
    await anyio.sleep(effect.seconds)
    return None


async def finish(line: Line, flow: Flow[T]) -> T:
    """
    What *flow* returns in the end.
    """
    answer: Answer = None
    while True:
        try:
            effect = flow.send(answer)
        except StopIteration as end:
            return cast("T", end.value)
        answer = await perform(line, effect)
