"""Batches for any ASGI app: ``app = BatchMiddleware(app)``."""

from asgi_batch._call import current_operation
from asgi_batch._core.models import CurrentOperation
from asgi_batch._core.records import Snapshot
from asgi_batch._core.reports import BatchReport
from asgi_batch._gate import GateStatistics
from asgi_batch.bulk import Bulk, bulk
from asgi_batch.errors import (
    AsgiBatchError,
    BatchNotFound,
    BulkError,
    ConfigurationError,
    OperationAborted,
    OutcomeUnknown,
    StoreUnavailable,
)
from asgi_batch.limits import Limits, RateLimit
from asgi_batch.middleware import BatchMiddleware
from asgi_batch.progress import Progress

__all__ = [
    "AsgiBatchError",
    "BatchMiddleware",
    "BatchNotFound",
    "BatchReport",
    "Bulk",
    "BulkError",
    "ConfigurationError",
    "CurrentOperation",
    "GateStatistics",
    "Limits",
    "OperationAborted",
    "OutcomeUnknown",
    "Progress",
    "RateLimit",
    "Snapshot",
    "StoreUnavailable",
    "bulk",
    "current_operation",
]
