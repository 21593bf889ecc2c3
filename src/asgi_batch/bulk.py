"""
Bulk functions: called for one item each, and run once for all that operations of a batch ask them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping, Sequence
from functools import partial, update_wrapper
from types import TracebackType
from typing import Any, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from anyio import NoEventLoopError, from_thread, get_cancelled_exc_class

from asgi_batch._call import current_operation
from asgi_batch._core.gathering import calls_at_once
from asgi_batch._gathering import current_gathering
from asgi_batch._group import Outcome
from asgi_batch.errors import BulkError, ConfigurationError, OutcomeUnknown

T = TypeVar("T")
R = TypeVar("R")

#: Takes many items, and returns an answer for each, or an exception in the place of one.
Function: TypeAlias = Callable[[list[T]], Awaitable[Sequence[R | Exception]]]


# They can be gone through, but it says nothing which answer is for which item.
_NO_LISTS: Final = (str, bytes, Mapping, set, frozenset)


class _Failed(NamedTuple):
    """
    An error in the place of an answer; several operations may get the same.
    """

    error: BaseException
    traceback: TracebackType | None


class Bulk(Generic[T, R]):
    """
    A bulk function, as `bulk` makes it; call it with one item.
    """

    def __init__(
        self,
        function: Function[T, R],
        *,
        max_size: int,
        max_delay: float,
        key: Callable[[T], Hashable] | None,
        is_unique: bool,
        bisects: bool,
        max_calls: int,
    ) -> None:
        if not inspect.iscoroutinefunction(function):
            raise ConfigurationError(f"bulk() of {function!r:.100}: write it as async def.")
        update_wrapper(self, function)
        self._function = function
        self._name = function.__qualname__
        self._key = key
        self._bisects = bisects
        self._max_calls = max_calls
        self.max_size = max_size
        self.max_delay = max_delay
        self.is_unique = is_unique

    async def __call__(self, item: T) -> R:
        """
        The answer to *item*: in a batch, of a call for others as well; elsewhere, for it alone.

        Raises:
            Exception: What the function raised for this item, or returned in its place.
            BulkError: The function did not return one answer for each item, or it is not known
                whose fault it is that it failed.
        """
        return self._answer(await self._ask(item))

    def _ask(self, item: T, *, in_thread: bool = False) -> Coroutine[Any, Any, Outcome]:
        gathering, operation = current_gathering.get(None), current_operation()
        if gathering is None or operation is None or not gathering.is_open or calls_at_once.get():
            return self._ask_alone(item)
        if self.is_unique:
            hash(item)
        key = None if self._key is None else self._key(item)
        return gathering.gather(self, key, operation.index, item, in_thread=in_thread)

    async def _ask_alone(self, item: T) -> Outcome:
        (outcome,) = await self.call([item])
        return outcome

    async def at_once(self, item: T) -> R:
        """
        The answer to *item*, of a call for it alone; for code that holds what others wait for.
        """
        return self._answer(await self._ask_alone(item))

    def sync(self, item: T) -> R:
        """
        The same as a call, for sync endpoints that Starlette, FastAPI or Litestar runs in threads.

        Raises:
            BulkError: The thread does not belong to an event loop.
        """
        try:
            outcome = from_thread.run(partial(self._ask, in_thread=True), item)
        except NoEventLoopError:
            raise BulkError(
                f"{self._name}.sync() was called in a thread that anyio has not made. Make"
                " the endpoint async, or write async_to_sync() of asgiref around the function."
            ) from None
        return self._answer(outcome)

    async def call(self, items: Sequence[T]) -> Sequence[Outcome]:
        """
        One outcome for each of *items*, which are halved where the function fails.
        """
        outcomes: list[Outcome] = [None] * len(items)
        calls, parts = 0, [(0, len(items))]
        while parts:
            start, end = parts.pop()
            calls += 1
            try:
                outcomes[start:end] = await self._call_part(items[start:end])
            except BaseException as error:
                if not _is_of_function(error):
                    raise
                if end - start > 1 and self._bisects and _may_go_away(error):
                    if calls + len(parts) + 2 <= self._max_calls:
                        middle = (start + end) // 2
                        parts += [(middle, end), (start, middle)]
                        continue
                    error = self._unclear(error)
                outcomes[start:end] = [_Failed(error, error.__traceback__)] * (end - start)
        return outcomes

    def _unclear(self, error: BaseException) -> BulkError:
        unclear = BulkError(
            f"{self._name} failed for several items, and after {self._max_calls} calls it is not"
            " known which of them are to blame; none of these has been carried out."
        )
        unclear.__cause__ = error
        return unclear

    def _answer(self, outcome: Outcome) -> R:
        if isinstance(outcome, _Failed):
            raise outcome.error.with_traceback(outcome.traceback)
        answer: R = outcome
        return answer

    async def _call_part(self, items: Sequence[T]) -> list[Outcome]:
        returned = await self._function(list(items))
        try:
            answers = None if isinstance(returned, _NO_LISTS) else list(returned)
        except TypeError:
            answers = None
        if answers is None:
            raise BulkError(
                f"{self._name} was called with {len(items)} items and returned"
                f" {returned!r:.100}; it must return a list of one answer for each."
            )
        if len(answers) != len(items):
            raise BulkError(
                f"{self._name} was called with {len(items)} items and returned"
                f" {len(answers)} answers; it must return one for each, in the same order."
            )
        return [
            _Failed(each, each.__traceback__) if isinstance(each, Exception) else each
            for each in answers
        ]


def _is_of_function(error: BaseException) -> bool:
    """
    Whether *error* is that of a function, and not one that whoever has called it must obey.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_of_function, error.exceptions))
    obeyed = (KeyboardInterrupt, GeneratorExit, get_cancelled_exc_class())
    return not isinstance(error, obeyed)


def bulk(
    *,
    max_size: int = 100,
    max_delay: float = 1.0,
    key: Callable[[T], Hashable] | None = None,
    unique: bool = False,
    on_error: Literal["bisect", "fail"] = "bisect",
    max_calls: int = 128,
) -> Callable[[Function[T, R]], Bulk[T, R]]:
    """
    Make a function of many items one that is called with a single item.

    Within a batch, what operations ask of it at the same time becomes one call: it is made once
    *max_size* items have come together, or once every operation of the batch that has started
    waits for a call and no further one may start. Elsewhere each call is one of a single item.

    Args:
        max_size: Items of one call at most.
        max_delay: Seconds without a further item after which a call is made, at most twice as many;
            only where slow operations keep others waiting.
        key: Tells calls apart that must not be one, such as those of two tenants.
        unique: Whether equal items, which must be hashable, are passed once. For reads.
        on_error: What happens when the function raises an exception for several items:
            ``"bisect"`` calls it again for each half, until those that are to blame are alone,
            unless nobody knows what has been done; ``"fail"`` makes it the error of all.
        max_calls: Calls made in place of one; what is not told apart then gets a `BulkError`.

    Raises:
        ConfigurationError: An argument cannot be used.
    """
    _check(max_size=max_size, max_delay=max_delay, max_calls=max_calls, on_error=on_error)
    return lambda function: Bulk(
        function,
        max_size=max_size,
        max_delay=max_delay,
        key=key,
        is_unique=unique,
        bisects=on_error == "bisect",
        max_calls=max_calls,
    )


def _may_go_away(error: BaseException) -> bool:
    """
    Whether there may be no error with fewer items, and no call does again what has been done.
    """
    never = (BulkError, OutcomeUnknown, OSError, EOFError)
    if not isinstance(error, Exception) or isinstance(error, never):
        return False
    # What SQLAlchemy and the drivers of PostgreSQL say of connections that are lost.
    state = getattr(error, "sqlstate", None)
    is_lost = getattr(error, "connection_invalidated", False)
    return not (is_lost or (isinstance(state, str) and state.startswith("08")))


def _check(*, max_delay: float, on_error: str, **whole: int) -> None:
    for name, value in whole.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigurationError(f"bulk({name}={value!r:.100}): write a whole number above 0.")
    if not isinstance(max_delay, (int, float)) or not 0 < max_delay < math.inf:
        raise ConfigurationError(f"bulk(max_delay={max_delay!r:.100}): write seconds above 0.")
    if on_error not in ("bisect", "fail"):
        raise ConfigurationError(f"bulk(on_error={on_error!r:.100}): write 'bisect' or 'fail'.")
