"""
One transaction from its beginning to its end, and what became of it; it runs no operations.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from enum import Enum, auto
from typing import Any, Final

import anyio

from asgi_batch._task_guard import guard_factory
from asgi_batch.errors import OutcomeUnknown
from asgi_batch.ports import TransactionFactory

logger = logging.getLogger("asgi_batch")


class Verdict(Enum):
    """
    What became of a transaction.
    """

    COMMITTED = auto()
    #: As an operation has failed, or nobody wanted it any more.
    ROLLED_BACK = auto()
    #: Every operation has succeeded, and then the transaction could not be committed.
    COMMIT_FAILED = auto()
    #: It may have been committed.
    UNKNOWN = auto()
    #: It could not be begun.
    UNAVAILABLE = auto()


# What may have gone wrong on the way to the server and on the way back.
_UNCERTAIN: Final = (OutcomeUnknown, OSError, EOFError)


# What is logged of what has not ended in time.
_TOO_LATE: Final = {
    Verdict.UNAVAILABLE: "A transaction was not begun within %g seconds.",
    Verdict.ROLLED_BACK: "A transaction was not rolled back within %g seconds.",
    Verdict.UNKNOWN: "A transaction was not committed within %g seconds.",
}


class _RollBack(Exception):
    """
    Raised inside of a transaction that must not be committed.
    """


async def run_in(
    transaction: TransactionFactory, work: Callable[[], Awaitable[bool]], *, patience: float
) -> Verdict:
    """
    Do *work* in a transaction, and commit it if the work says so.

    Args:
        transaction: Makes the transaction.
        work: What is done in it.
        patience: Seconds in which the transaction has to begin, and then to end, whatever is
            cancelled meanwhile.
    """
    attempt = _Attempt(work, patience)
    # It is around all scopes that the transaction may have, so that they are left in order.
    with attempt.scope:
        await attempt.carry_out(transaction)
    attempt.obey()
    return attempt.verdict


class _Attempt:
    """
    One transaction, from its beginning to its end.

    Attributes:
        scope: Ends what takes too long.
        verdict: What has become of it so far.
    """

    def __init__(self, work: Callable[[], Awaitable[bool]], patience: float) -> None:
        self._work = work
        self._patience = patience
        self._guard = guard_factory()()
        self._cause: BaseException = _RollBack()
        self.scope = anyio.CancelScope()
        self.verdict = Verdict.UNAVAILABLE

    async def carry_out(self, transaction: TransactionFactory) -> None:
        """
        Do the work in a transaction; what has interrupted it is raised by `obey`.
        """
        self._hurry()
        try:
            manager = transaction()
            await manager.__aenter__()
        except Exception:
            logger.exception("No transaction could be begun.")
            return
        self.scope.deadline = math.inf
        may_commit = not self.scope.cancel_called and await self._do_work()
        self.scope.shield = True
        self._hurry()
        await (self._commit(manager) if may_commit else self._roll_back(manager))

    def obey(self) -> None:
        """
        Raise what has interrupted the work, unless that came from inside of the transaction.
        """
        if self.scope.cancelled_caught:
            logger.error(_TOO_LATE[self.verdict], self._patience)
        if isinstance(self._cause, _RollBack):
            return
        if not isinstance(self._cause, anyio.get_cancelled_exc_class()):
            raise self._cause
        is_cancelled = anyio.current_effective_deadline() == -math.inf
        if is_cancelled or not self._guard.is_clean():
            raise self._cause

    async def _do_work(self) -> bool:
        self.verdict = Verdict.ROLLED_BACK
        try:
            return await self._work()
        except BaseException as error:  # noqa: BLE001
            self._cause = error
            return False

    async def _commit(self, manager: AbstractAsyncContextManager[Any]) -> None:
        self.verdict = Verdict.UNKNOWN
        try:
            await manager.__aexit__(None, None, None)
        except Exception as error:
            if self.scope.cancel_called or any(isinstance(e, _UNCERTAIN) for e in _leaves(error)):
                logger.exception("A transaction may have been committed, or not.")
                return
            logger.exception("A transaction could not be committed.")
            self.verdict = Verdict.COMMIT_FAILED
        else:
            self.verdict = Verdict.COMMITTED

    async def _roll_back(self, manager: AbstractAsyncContextManager[Any]) -> None:
        cause = self._cause
        expected = (_RollBack, anyio.get_cancelled_exc_class())
        try:
            await manager.__aexit__(type(cause), cause, cause.__traceback__)
        except BaseException as error:
            if error is cause:
                return
            if not all(isinstance(each, expected) for each in _leaves(error)):
                # The database rolls back by itself what it hears no more of.
                logger.exception("A transaction could not be rolled back.")
            if not isinstance(error, Exception):
                raise

    def _hurry(self) -> None:
        self.scope.deadline = anyio.current_time() + self._patience


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """
    What has been raised, where task groups have made groups of it.
    """
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
