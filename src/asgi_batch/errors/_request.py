"""
Refusals of what a request is or has in it, whatever becomes of batches that are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asgi_batch._problem import Problem
from asgi_batch.errors._base import BatchRefused


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


class CrossSiteRequest(BatchRefused):
    """Raised when a page of another site sends something that changes state."""

    status = 403
    code = "cross_site_request"


class AtomicNotSupported(BatchRefused):
    """Raised when a batch asks to be atomic and there is no transaction for it."""

    status = 422
    code = "atomic_not_supported"


class AtomicRequired(BatchRefused):
    """Raised when a batch asks not to be atomic where all batches are."""

    status = 422
    code = "atomic_required"


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


class InvalidParameter(BatchRefused):
    """Raised when a header or a query parameter of a batch request cannot be read."""

    code = "invalid_parameter"


class RateLimited(BatchRefused):
    """
    Raised when a caller has sent as many operations as `RateLimit` lets it.

    Args:
        detail: A sentence that says what to change.
        retry_after: Seconds after which the same would pass; None where it never can.
        fields: Header fields that tell how much is left.
    """

    status = 429
    code = "rate_limited"

    def __init__(
        self, detail: str, retry_after: int | None, fields: Sequence[tuple[bytes, bytes]]
    ) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        self.fields = fields


class RateLimitUnavailable(BatchRefused):
    """Raised when what counts the operations of a caller does not answer."""

    status = 503
    code = "rate_limit_unavailable"
    retry_after = 2
