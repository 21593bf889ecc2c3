"""
How operations are to be carried out, and how a batch of them is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypedDict

from asgi_batch.client._operations import AnyOperation, Prepared, prepare
from asgi_batch.client._talk import Status
from asgi_batch.errors import ConfigurationError

_CHOICES: Final = {"on_error": ("continue", "stop"), "invalid": ("raise", "result")}


@dataclass(frozen=True, slots=True)
class Sent:
    """
    A batch that the server has accepted in the background.

    Args:
        batch_id: Its id.
        key: Its idempotency key.
        first: Index of its first operation.
        count: How many operations it has.
    """

    batch_id: str
    key: str
    first: int
    count: int


class TermsOptions(TypedDict, total=False):
    """
    The arguments of `Terms`.
    """

    atomic: bool
    on_error: Literal["continue", "stop"]
    key: str | None
    first: int
    invalid: Literal["raise", "result"]
    on_batch: Callable[[Sent], Any] | None
    on_status: Callable[[Status], Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """
    How operations are to be carried out.

    Args:
        atomic: All in one transaction.
        on_error: Whether others go on after one has failed.
        key: What idempotency keys begin with.
        first: Index of the first operation.
        invalid: Whether an operation that the server finds invalid ends everything, or has a result
            that says so.
        on_batch: Is told of each batch that is accepted in the background.
        on_status: Is told how far such a batch is.
    """

    atomic: bool = False
    on_error: Literal["continue", "stop"] = "continue"
    key: str | None = None
    first: int = 0
    invalid: Literal["raise", "result"] = "raise"
    on_batch: Callable[[Sent], Any] | None = None
    on_status: Callable[[Status], Any] | None = None

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                told = " or ".join(map(repr, choices))
                raise ConfigurationError(f"{name}={value!r:.100}: write {told}.")

    @property
    def is_free(self) -> bool:
        """
        Whether each operation stands for itself, so that it may be tried again by itself.
        """
        return not self.atomic and self.on_error == "continue"

    def document(self, operations: Sequence[Prepared]) -> bytes:
        """
        The batch of *operations*.
        """
        envelope = b'"atomic":true,' if self.atomic else b""
        if self.on_error == "stop":
            envelope += b'"onError":"stop",'
        return b'{%b"operations":[%b]}' % (envelope, b",".join(each.wire for each in operations))


def document_of(operations: Iterable[AnyOperation], *, atomic: bool) -> bytes:
    """
    One batch of all *operations*.
    """
    prepared = [prepare(each, index) for index, each in enumerate(operations)]
    return Terms(atomic=atomic).document(prepared)
