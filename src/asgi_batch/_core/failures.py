"""What can go wrong with one operation; each becomes that operation's result and nothing else."""

from __future__ import annotations

from enum import Enum


class Failure(Enum):
    """
    What can go wrong with one operation, as ``(code, status, detail)``.

    Status 424 (RFC 4918 section 11.4) means, here and nowhere else: the operation had no effect. It
    never ran, or was undone with its batch.
    """

    APP_EXCEPTION = ("app_exception", 500, "The app raised an exception before it answered.")
    APP_NO_RESPONSE = ("app_no_response", 502, "The app returned without an answer.")
    APP_INCOMPLETE_RESPONSE = (
        "app_incomplete_response",
        502,
        "The app began an answer and did not finish it.",
    )
    APP_PROTOCOL_ERROR = (
        "app_protocol_error",
        502,
        "The app sent a message that ASGI does not allow here.",
    )
    RESPONSE_TOO_LARGE = (
        "response_too_large",
        502,
        "The operation ran, but its answer is larger than an operation of a batch may return.",
    )
    BATCH_RESPONSE_TOO_LARGE = (
        "batch_response_too_large",
        502,
        "The operation ran, but its answer no longer fits into the answer of the batch.",
    )
    STREAMING_NOT_SUPPORTED = (
        "streaming_not_supported",
        502,
        "The app answered with an endless stream, which a batch cannot carry.",
    )
    OPERATION_TIMEOUT = (
        "operation_timeout",
        504,
        "The operation did not finish in time; it may have had effects.",
    )
    BATCH_TIMEOUT = (
        "batch_timeout",
        504,
        "The operation was running when the time of the batch was over; it may have had effects.",
    )
    OUTCOME_UNKNOWN = (
        "outcome_unknown",
        502,
        "The process died while the operation may have been running; it was not repeated.",
    )
    WORKER_LOST = (
        "worker_lost",
        502,
        "Each process that ran the operation died; it was not tried again.",
    )
    CANCELLED = ("cancelled", 424, "Not executed: the batch was cancelled.")
    SKIPPED = ("skipped", 424, "Not executed: an earlier operation failed and onError is stop.")
    EXPIRED = ("expired", 424, "Not executed: the batch had waited for too long.")
    ROLLED_BACK = ("rolled_back", 424, "Undone or never done: the batch is atomic, and has failed.")
    COMMIT_FAILED = (
        "commit_failed",
        424,
        "Undone: each operation has succeeded, but the transaction could not be committed.",
    )
    COMMIT_UNKNOWN = (
        "commit_unknown",
        502,
        "Each operation has succeeded, but nobody knows whether the transaction was committed.",
    )
    SKIPPED_TIMEOUT = ("batch_timeout", 424, "Not executed: the time of the batch was over.")
    SKIPPED_TOO_LARGE = (
        "batch_response_too_large",
        424,
        "Not executed: the answer of the batch had reached its size limit.",
    )

    def __init__(self, code: str, status: int, detail: str) -> None:
        self.code = code
        self.status = status
        self.detail = detail

    @property
    def is_skip(self) -> bool:
        """
        Whether the operation has had no effect.
        """
        return self.status == 424
