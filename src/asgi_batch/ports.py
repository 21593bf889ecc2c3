"""
What the library asks of its plugs, each as a Protocol; it holds no code of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from asgi_batch._core.models import HeaderPair
from asgi_batch._core.records import (
    Claim,
    Created,
    Hold,
    NewBatch,
    Outcome,
    Page,
    Remains,
    Saving,
    Share,
    Snapshot,
)
from asgi_batch._core.reports import BatchReport, Mode

# What a plug raises that is set up in a wrong way: it finds all it needs of the house here.
from asgi_batch.errors import ConfigurationError as ConfigurationError  # noqa: PLC0414
from asgi_batch.types import ASGIApp

#: Makes the transaction of one atomic batch. It is entered before the first operation, in a context
#: that all of them start from; it is left without an exception to commit, and with one to roll
#: back. If it raises an exception when it is left without one, it has been rolled back; it raises
#: `OutcomeUnknown` (or an `OSError`) where it cannot tell.
TransactionFactory: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]

#: What a holder learns from each write: go on, stop because of a cancellation, or stop because
#: somebody else holds the batch now or it is gone. ``"ended"`` says that its chunk has come to its
#: end, and the batch has not.
Standing: TypeAlias = Literal["held", "cancelled", "lost", "ended"]


class Store(Protocol):
    """
    Keeps batches that outlive their request.

    Each method is one atomic step: it happens as a whole or not at all, also where the caller is
    cancelled, the reply is lost and the call repeated, or several processes call at once. Time is
    the store's own. Batches and their results are kept for *result_ttl* seconds after their end,
    and their operations for *retry_ttl* seconds where some of them have not succeeded.

    All methods may raise `StoreUnavailable`; then it is not known whether the step was taken.
    """

    @property
    def durability(self) -> Literal["process", "store"]:
        """
        What a batch survives: ``"process"`` nothing but its request, ``"store"`` its process.
        """
        ...

    async def open(self, result_ttl: float, retry_ttl: float = 0.0) -> None:
        """
        Get ready, in the event loop in which the other methods are called.

        Raises:
            ConfigurationError: The store cannot keep its promises as it is set up.
        """
        ...

    async def aclose(self) -> None:
        """
        Give back what `open` took.
        """
        ...

    def new_id(self, idempotency_key: str | None = None, owner: str = "") -> str:
        """
        An id for a new batch: 22 to 64 characters of ``A-Z a-z 0-9 _ -``, 128 bits or more of
        them by chance.
        """
        ...

    def is_elsewhere(self, batch_id: str) -> bool:
        """
        Whether a batch that is not here may be known to another process of the same app.
        """
        ...

    async def create(
        self, batch: NewBatch, *, limit: int, owner_limit: int | None = None
    ) -> Created:
        """
        Keep *batch*, unless a batch of the same idempotency key and owner is there.

        Args:
            batch: The batch.
            limit: Unfinished batches that the store may hold.
            owner_limit: Unfinished batches that its owner may have in it, if it has one.

        Raises:
            Overloaded: There are as many.
            TooManyBatches: Its owner has as many.
            StoreFull: There is no room.
        """
        ...

    async def claim(
        self, lease: float, batch_id: str | None = None, chunk: int | None = None
    ) -> Claim | None:
        """
        Take a batch, or a chunk of one that is divided, that nobody holds, the oldest first; None
        where there is none.

        Args:
            lease: Seconds for which it is held.
            batch_id: Take this one and no other.
            chunk: Of this one take this chunk.
        """
        ...

    async def overdue(self, delay: float) -> list[Share]:
        """
        What may be claimed, and has not been though its time has come. Whoever is told of it sees
        to it: nobody is told again for *delay* seconds, or as long as nothing has changed where
        that is longer.
        """
        ...

    async def save(self, hold: Hold, saving: Saving) -> Standing:
        """
        Write down what has come up, and hold the batch for longer.

        A batch that *ends* although the store lacks some of its results is lost to its holder, and
        can be claimed at once: then the store has lost writes.

        A batch that *ends* is given back. Of what it took to carry it out, only the operations
        may be kept.
        """
        ...

    async def release(self, hold: Hold, allowed: int) -> None:
        """
        Give an unfinished batch back, so that it can be claimed at once.

        Args:
            hold: The right to it.
            allowed: No operation from this index on has started.
        """
        ...

    async def cancel(self, batch_id: str) -> tuple[Snapshot, bool] | None:
        """
        Let no further operation of a batch start; None where there is no such batch.

        Returns:
            How it is now, and whether somebody holds it who has not heard of it yet.
        """
        ...

    async def fail(self, hold: Hold, error: str) -> None:
        """
        End a batch that cannot be carried out.
        """
        ...

    async def remains(self, batch_id: str) -> Remains | None:
        """
        What is kept of the request of a finished batch; None where nothing is.
        """
        ...

    async def snapshot(self, batch_id: str) -> Snapshot | None:
        """
        How far a batch is; None where there is no such batch.
        """
        ...

    async def results(
        self, batch_id: str, *, after: int, limit: int, outcome: Outcome | None
    ) -> Page | None:
        """
        Results in the order of the operations, up to the first that has none yet; None where there
        is no such batch.

        Args:
            batch_id: The batch.
            after: Start after the operation of this index; -1 for the first page.
            limit: Operations to look at, at most.
            outcome: Only results of this kind; all kinds where None.
        """
        ...


#: Carries out what a message names, a batch or one chunk of it: returns when that has ended, or is
#: somebody else's, or has been given back. What is wrong with a message raises nothing.
Run: TypeAlias = Callable[[str, int | None], Awaitable[None]]

#: The app under its own lifespan, in the calling event loop, for as long as the context lasts; it
#: gives what carries out messages. When it is left, what runs is given back within
#: `Limits.drain_timeout`.
Working: TypeAlias = Callable[[], AbstractAsyncContextManager[Run]]


@runtime_checkable
class Queue(Protocol):
    """
    Tells worker processes of batches. It may lose messages, delay them or bring them twice: what
    runs is decided by the store.
    """

    async def send(self, batch_id: str, chunk: int | None) -> None:
        """
        Let a worker process hear of a batch, or of one chunk of it.

        What it raises is logged; the message is sent again later.
        """
        ...

    async def receive(self, run: Run) -> None:
        """
        Call *run* for each message that comes, several at a time if the queue is made for that,
        until cancelled; called in worker processes.
        """
        ...


@runtime_checkable
class HostedQueue(Queue, Protocol):
    """
    A queue whose worker processes are started by a command of its own.
    """

    def attach(self, working: Working) -> None:
        """
        Take what a worker process enters once, to carry out messages from then on.
        """
        ...


class BatchSpan(Protocol):
    """
    One batch in a trace.
    """

    def enter(self) -> None:
        """
        Make what the calling context starts from now on a part of it.
        """
        ...

    def end(self, report: BatchReport) -> None:
        """
        Close it.
        """
        ...


class Tracer(Protocol):
    """
    Makes traces of batches, and of the operations in them.
    """

    def begin(self, mode: Mode, headers: Sequence[HeaderPair]) -> BatchSpan:
        """
        Begin with a batch.

        Args:
            mode: Whether it is answered at once.
            headers: Of its request, which may name the trace that it belongs to.
        """
        ...

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """
        *app* with a span around each operation; called once, for operations only.
        """
        ...
