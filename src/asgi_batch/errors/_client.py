"""
What the client raises; errors of the connection itself are those of httpx.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from asgi_batch.errors._base import AsgiBatchError


class ClientError(AsgiBatchError):
    """
    Base of the errors that `asgi_batch.client` raises.
    """


class ResultNotReady(ClientError):
    """Raised when a result is asked for before its batch has been sent."""


class RequestRefused(ClientError):
    """
    Raised when the server has refused a request, and trying again has not helped or would not.

    Args:
        status: Of the answer.
        code: Stable name of the reason; empty where the answer is not one of a batch endpoint.
        detail: A sentence that says what to change.
        problems: What is wrong with operations, as the server lists it; ``index`` counts all
            operations that were handed over.
        retry_after: Seconds after which the server wants to be asked again; None without a word.
        limits: Numbers that the server has named.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        problems: Sequence[Mapping[str, Any]] = (),
        retry_after: float | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> None:
        named = f"{status} {code}".rstrip()
        super().__init__(f"{named}: {detail}" if detail else named)
        self.status = status
        self.code = code
        self.detail = detail
        self.problems = problems
        self.retry_after = retry_after
        self.limits = limits or {}


class AnswerUnreadable(ClientError):
    """
    Raised when a request was answered by something that is no batch endpoint, as if all were well.
    """


class OperationFailed(ClientError):
    """
    Raised by ``raise_for_status()`` of a result whose status is 400 or above.

    Args:
        detail: What has failed, and how.
        result: The result.
    """

    def __init__(self, detail: str, result: Any) -> None:
        super().__init__(detail)
        self.result = result


class BatchFailed(ClientError):
    """
    Raised when a batch in the background has ended without all of its results.

    Args:
        batch_id: The batch.
        code: Why, as far as the server says.
    """

    def __init__(self, batch_id: str, code: str) -> None:
        super().__init__(f"Batch {batch_id} has ended without all of its results: {code}.")
        self.batch_id = batch_id
        self.code = code
