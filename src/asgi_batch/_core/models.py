"""
A batch, its operations and their results, as plain data.

They are `msgspec.Struct` and not dataclasses, because one of each is made per
operation and a frozen dataclass takes ten times as long to make. None can be part of a
cycle, so the garbage collector need not look at them (``gc=False``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from asgi_batch._core.failures import Failure

HeaderPair: TypeAlias = tuple[bytes, bytes]
HeaderPairs: TypeAlias = tuple[HeaderPair, ...]

NO_HEADERS: Final[HeaderPairs] = ()
NO_NAMES: Final[frozenset[bytes]] = frozenset()


class Operation(msgspec.Struct, frozen=True, gc=False):
    """
    One entry of a batch, checked and ready to be sent through the app.

    Args:
        index: Position in the request, from 0.
        id: The client's name for it; the index as a string where it gave none.
        method: Upper-case HTTP method.
        path: Decoded path, as ``scope["path"]`` wants it, without any root path.
        raw_path: The path as the client wrote it.
        query_string: What follows the question mark, undecoded.
        headers: Lower-case headers of this operation, framing included.
        replaces: Names in *headers* that the batch request may have set as well.
        body: The request body; `msgspec.Raw` is a slice of the batch's own bytes.
        timeout: Seconds; None for the limit's own.
    """

    index: int
    id: str
    method: str
    path: str
    raw_path: bytes
    query_string: bytes
    headers: HeaderPairs
    replaces: frozenset[bytes]
    body: bytes | msgspec.Raw
    timeout: float | None


class Batch(msgspec.Struct, frozen=True):
    """
    All operations of one request, and what to do when one fails.

    Args:
        operations: In order.
        stop_on_error: Whether nothing starts after the first failure.
        atomic: Whether all of them happen or none; then it stops on error as well.
    """

    operations: list[Operation]
    stop_on_error: bool = False
    atomic: bool = False


class Result(msgspec.Struct, frozen=True, gc=False):
    """
    The answer to one operation.

    Args:
        operation: What was asked.
        status: HTTP status of the app's answer, or of the *failure*.
        headers: The app's headers, in the order and the spelling in which it sent them.
        body: The app's body, undecoded.
        failure: Set where the library, not the app, made this result.
        error_id: Ties an unexpected failure to its log record.
    """

    operation: Operation
    status: int
    headers: Sequence[HeaderPair] = NO_HEADERS
    body: bytes = b""
    failure: Failure | None = None
    error_id: str | None = None

    @property
    def is_skipped(self) -> bool:
        """
        Whether the operation has had no effect.
        """
        return self.failure is not None and self.failure.is_skip

    @classmethod
    def failed(cls, operation: Operation, failure: Failure, error_id: str | None = None) -> Result:
        """
        The result that *failure* makes of *operation*.
        """
        return cls(operation, failure.status, NO_HEADERS, b"", failure, error_id)


class Summary(msgspec.Struct, frozen=True):
    """
    How the operations of a batch ended; the three outcomes add up to *total*.
    """

    total: int
    succeeded: int
    failed: int
    skipped: int


class CurrentOperation(msgspec.Struct, frozen=True, gc=False):
    """
    What an app can learn about the operation it is answering.

    Attributes:
        batch_id: Names the batch in logs; unguessable.
        operation_id: The client's id of the operation.
        index: Position in the batch, from 0.
        total: How many operations the batch has.
        attempt: 1 for the first run.
        atomic: Whether the batch is one transaction.
    """

    batch_id: str
    operation_id: str
    index: int
    total: int
    attempt: int = 1
    atomic: bool = False
