"""
Refusals that concern batches that outlive their request, and the store that keeps them.
"""

from __future__ import annotations

from asgi_batch.errors._base import BatchRefused


class CredentialsRefused(BatchRefused):
    """Raised when a batch would be kept together with credentials that may not be stored."""

    status = 422
    code = "credentials_refused"


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


class IdempotencyKeyReused(BatchRefused):
    """Raised when an ``Idempotency-Key`` comes with another body or from another caller."""

    status = 422
    code = "idempotency_key_reused"


class TransactionUnavailable(BatchRefused):
    """Raised when no transaction can be begun for an atomic batch."""

    status = 503
    code = "transaction_unavailable"
    retry_after = 1


class TooManyBatches(BatchRefused):
    """Raised when an owner has as many unfinished batches as it may."""

    status = 429
    code = "too_many_batches"
    retry_after = 5


class OwnerUnknown(BatchRefused):
    """Raised when it cannot be told whose request it is, as the app's own function has failed."""

    status = 503
    code = "owner_unknown"


class RecordCorrupt(BatchRefused):
    """Raised when what a store hands out is not what it was given."""

    status = 500
    code = "record_corrupt"
