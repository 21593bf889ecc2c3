"""
The tasks of one batch: a task group, and workers beside it that belong to it as well.

An operation that waits has a worker to itself, and a batch may have a thousand of them. On asyncio
a task of a task group of anyio takes five times as long to start as one of asyncio. So workers are
tasks of asyncio there, and what a task group does for its tasks is done for them here: its block
does not end before they have; they are cancelled when it is, and it is when one of them fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol, Self, TypeAlias

import anyio
from anyio.abc import TaskGroup

from asgi_batch._loop import is_asyncio

#: What a worker does.
Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class Tasks:
    """
    The tasks of one batch where workers are tasks of the group like any others.

    Args:
        group: Where they run.

    Attributes:
        start_soon: Starts something else than a worker.
        new_scope: Makes cancel scopes; it need not find out each time for which event loop.
    """

    __slots__ = ("_group", "new_scope", "start_soon")

    def __init__(self, group: TaskGroup) -> None:
        self._group = group
        self.start_soon = group.start_soon
        self.new_scope = type(group.cancel_scope)

    async def __aenter__(self) -> Self:
        """
        Begin the block in which tasks are started.
        """
        return self

    async def __aexit__(self, _: object, error: BaseException | None, *__: object) -> None:
        """
        Wait for the workers, which are cancelled where the block has failed or is cancelled.
        """

    def start_worker(self, work: Work, scope: anyio.CancelScope) -> None:
        """
        Start to *work*, which enters *scope* first, and does nothing outside of it.
        """
        self._group.start_soon(work)


class _AsyncioTasks(Tasks):
    """
    Those where workers are tasks of asyncio.
    """

    __slots__ = ("_end", "_errors", "_loop", "_scopes")

    def __init__(self, group: TaskGroup) -> None:
        super().__init__(group)
        self._loop = asyncio.get_running_loop()
        self._scopes: dict[asyncio.Task[None], anyio.CancelScope] = {}
        self._errors: list[BaseException] = []
        self._end: asyncio.Future[None] | None = None

    async def __aexit__(self, _: object, error: BaseException | None, *__: object) -> None:
        if error is not None:
            self._cancel()
        cancellation = await self._wait()
        for each in self._errors:
            self._group.start_soon(_raise, each)
        if error is None and cancellation is not None:
            raise cancellation

    def start_worker(self, work: Work, scope: anyio.CancelScope) -> None:
        # An eager task factory of the loop would run it inside of whoever starts it.
        task = asyncio.Task(work(), loop=self._loop)
        self._scopes[task] = scope
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._scopes[task]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._errors.append(error)
        if error is not None or task.cancelled():
            self._group.cancel_scope.cancel()
        if self._end is not None and not (self._scopes or self._end.done()):
            self._end.set_result(None)

    def _cancel(self) -> None:
        for scope in self._scopes.values():
            scope.cancel()

    async def _wait(self) -> asyncio.CancelledError | None:
        """
        Wait for all workers, and cancel them when the group is.

        Returns:
            What has interrupted it.
        """
        cancellation = None
        with anyio.CancelScope() as scope:
            while self._scopes:
                self._end = self._loop.create_future()
                try:
                    await self._end
                except asyncio.CancelledError as error:
                    cancellation = error
                    scope.shield = True
                    self._cancel()
        return cancellation


async def _raise(error: BaseException) -> None:
    raise error


class Run(Protocol):
    """
    Whatever runs operations.
    """

    @property
    def has_remains(self) -> bool:
        """
        Whether an operation has left something in the task that ran it.
        """
        ...


@asynccontextmanager
async def tasks_for(run: Run) -> AsyncIterator[Tasks]:
    """
    The tasks in which operations run.

    What apps leave behind in a task comes up as a RuntimeError when a task of trio ends. It has
    been logged, and ends here.
    """
    try:
        async with anyio.create_task_group() as group:
            kind = _AsyncioTasks if is_asyncio() else Tasks
            async with kind(group) as tasks:
                yield tasks
    except BaseExceptionGroup as errors:
        _, others = errors.split(RuntimeError)
        if others is not None or not run.has_remains:
            raise
