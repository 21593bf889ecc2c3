"""
Every error of asgi_batch, in one tree; it raises none of them itself.

AsgiBatchError
├── ConfigurationError            a wrong argument, raised at construction
├── BatchRefused                  the whole batch; becomes a problem+json answer
│   ├── InvalidJSON                   400 invalid_json
│   ├── InvalidUnicode                400 invalid_unicode
│   ├── JSONTooDeep                   400 json_too_deep
│   ├── DuplicateKey                  400 duplicate_key
│   ├── NestedBatch                   400 nested_batch
│   ├── MethodNotAllowed              405 method_not_allowed
│   ├── RequestTimeout                408 request_timeout
│   ├── PayloadTooLarge               413 payload_too_large
│   ├── TooManyOperations             413 too_many_operations
│   ├── UnsupportedMediaType          415 unsupported_media_type
│   ├── UnsupportedContentEncoding    415 unsupported_content_encoding
│   ├── InvalidBatch                  422 invalid_batch, with the list of problems
│   ├── InvalidParameter              400 invalid_parameter
│   ├── IdempotencyKeyReused          422 idempotency_key_reused
│   ├── BatchNotFound                 404 batch_not_found
│   ├── BatchNotFinished              409 batch_not_finished
│   ├── NothingToRetry                409 nothing_to_retry
│   ├── OperationsErased              410 operations_erased
│   ├── Overloaded                    503 overloaded
│   ├── BackgroundUnavailable         503 background_unavailable
│   ├── StoreUnavailable              503 store_unavailable
│   ├── StoreFull                     503 store_full
│   └── WrongProcess                  503 wrong_process
└── OperationAborted              raised into the wrapped app by ``send()``

An error of one operation is not an exception but a `Failure` (`_core/failures.py`): it becomes
that operation's result and touches nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from asgi_batch._problem import Problem


class AsgiBatchError(Exception):
    """
    Base of all errors of this library.
    """


class ConfigurationError(AsgiBatchError, ValueError):
    """Raised when `BatchMiddleware` or `Limits` is given a value it cannot use."""


class OperationAborted(AsgiBatchError, OSError):
    """
    Raised by the ``send()`` of an operation whose answer nobody waits for any more.

    It is an `OSError`, because that is what the ASGI specification (2.4) lets an
    app expect from ``send()`` after a disconnect.
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
    retry_after: ClassVar[int | None] = None

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


class InvalidJSON(BatchRefused):
    """Raised when the body is not one JSON document of RFC 8259."""

    code = "invalid_json"


class InvalidUnicode(BatchRefused):
    """Raised when the body is not UTF-8 or escapes half a surrogate pair."""

    code = "invalid_unicode"


class JSONTooDeep(BatchRefused):
    """Raised when arrays and objects are nested beyond ``Limits.max_json_depth``."""

    code = "json_too_deep"


class DuplicateKey(BatchRefused):
    """Raised when the envelope names a member twice, or in a spelling that hides its name."""

    code = "duplicate_key"


class NestedBatch(BatchRefused):
    """Raised when an operation of a batch arrives at a batch endpoint."""

    code = "nested_batch"


class MethodNotAllowed(BatchRefused):
    """Raised when the batch endpoint is called with a method other than POST."""

    status = 405
    code = "method_not_allowed"


class RequestTimeout(BatchRefused):
    """Raised when the body does not arrive within ``Limits.body_timeout``."""

    status = 408
    code = "request_timeout"


class PayloadTooLarge(BatchRefused):
    """Raised when the body is larger than ``Limits.max_body_bytes``."""

    status = 413
    code = "payload_too_large"


class TooManyOperations(BatchRefused):
    """Raised when a batch has more operations than the limits allow."""

    status = 413
    code = "too_many_operations"


class UnsupportedMediaType(BatchRefused):
    """Raised when the body is not declared as JSON in UTF-8."""

    status = 415
    code = "unsupported_media_type"


class UnsupportedContentEncoding(BatchRefused):
    """Raised when the body is compressed."""

    status = 415
    code = "unsupported_content_encoding"


class InvalidBatch(BatchRefused):
    """
    Raised when the body is JSON, but not a batch that can be carried out.

    Args:
        problems: All problems found, in the order of the operations.
        total: How many operations the batch has; None where that cannot be told.
        shown: How many problems the answer lists.
    """

    status = 422
    code = "invalid_batch"

    def __init__(self, problems: Sequence[Problem], *, total: int | None, shown: int) -> None:
        self.problems = problems
        self.shown = shown
        count = len(problems)
        found = "1 problem" if count == 1 else f"{count} problems"
        affected = {problem.index for problem in problems}
        is_told = total and None not in affected
        where = f" in {len(affected)} of {total} operations" if is_told else ""
        cut = f" The first {shown} are listed." if count > shown else ""
        super().__init__(f"{found}{where}; nothing was executed.{cut}")

    def as_dict(self) -> dict[str, Any]:
        """
        The problem document with ``errors``, and ``omitted`` where the list was cut.
        """
        document = super().as_dict()
        document["errors"] = [problem.as_dict() for problem in self.problems[: self.shown]]
        if (omitted := len(self.problems) - self.shown) > 0:
            document["omitted"] = omitted
        return document


class Overloaded(BatchRefused):
    """Raised when this process has no room for another batch just now."""

    status = 503
    code = "overloaded"
    retry_after = 5


class BackgroundUnavailable(BatchRefused):
    """Raised when nothing here could carry a batch out after its request."""

    status = 503
    code = "background_unavailable"


class StoreUnavailable(BatchRefused):
    """Raised when the store does not answer; it is not known whether it did what it was asked."""

    status = 503
    code = "store_unavailable"
    retry_after = 2


class StoreFull(BatchRefused):
    """Raised when the store has no room for another batch."""

    status = 503
    code = "store_full"
    retry_after = 30


class BatchNotFound(BatchRefused):
    """Raised when there is no such batch: it never was, has expired, or is somebody else's."""

    status = 404
    code = "batch_not_found"


class BatchNotFinished(BatchRefused):
    """Raised when a batch is to be tried again that still runs."""

    status = 409
    code = "batch_not_finished"
    retry_after = 1


class NothingToRetry(BatchRefused):
    """Raised when a batch is to be tried again of which every operation has succeeded."""

    status = 409
    code = "nothing_to_retry"


class OperationsErased(BatchRefused):
    """Raised when a batch is to be tried again later than ``Limits.retry_ttl`` after its end."""

    status = 410
    code = "operations_erased"


class WrongProcess(BatchRefused):
    """Raised when a batch lives in the memory of another process."""

    status = 503
    code = "wrong_process"
    retry_after = 1


class InvalidParameter(BatchRefused):
    """Raised when a header or a query parameter of a batch request cannot be read."""

    code = "invalid_parameter"


class IdempotencyKeyReused(BatchRefused):
    """Raised when an ``Idempotency-Key`` comes with another body or from another caller."""

    status = 422
    code = "idempotency_key_reused"
