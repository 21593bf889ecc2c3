"""
What all errors have in common, and what refusals have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class AsgiBatchError(Exception):
    """
    Base of all errors of this library.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # The usual way calls the class with the message alone, which many of them cannot do.
        return _remade, (type(self), self.args, vars(self))


def _remade(
    kind: type[AsgiBatchError], arguments: tuple[Any, ...], members: dict[str, Any]
) -> AsgiBatchError:
    """
    An error that has been copied, or has come from another process.
    """
    error = kind.__new__(kind, *arguments)
    vars(error).update(members)
    return error


class ConfigurationError(AsgiBatchError, ValueError):
    """Raised when `BatchMiddleware` or `Limits` is given a value it cannot use."""


class OperationAborted(AsgiBatchError, OSError):
    """
    Raised by the ``send()`` of an operation whose answer nobody waits for any more.

    It is an `OSError`, because that is what the ASGI specification (2.4) lets an
    app expect from ``send()`` after a disconnect.
    """


class OutcomeUnknown(AsgiBatchError):
    """
    Raised by a transaction that cannot tell whether it has been committed.
    """


class BulkError(AsgiBatchError):
    """
    Raised where a bulk function is not called, or does not answer, as it has to be.
    """


class BatchRefused(AsgiBatchError):
    """
    Base of the errors that refuse a whole batch before any operation has run.

    Args:
        detail: A sentence that says what to change.
        limits: Numbers that help the client to do so, added to the answer.
    """

    status: ClassVar[int] = 400
    code: ClassVar[str] = "batch_refused"
    retry_after: int | None = None
    fields: Sequence[tuple[bytes, bytes]] = ()

    def __init__(self, detail: str, *, limits: Mapping[str, int | float] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.limits = limits or {}

    @property
    def title(self) -> str:
        """
        The *code* as a person would write it.
        """
        words = self.code.replace("_", " ").replace("json", "JSON")
        return words[0].upper() + words[1:]

    def as_dict(self) -> dict[str, Any]:
        """
        The RFC 9457 problem document.
        """
        return {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            **self.limits,
        }
