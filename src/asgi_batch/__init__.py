"""Batches for any ASGI app: ``app = BatchMiddleware(app)``."""

from asgi_batch._call import current_operation
from asgi_batch._core.models import CurrentOperation
from asgi_batch.errors import (
    AsgiBatchError,
    ConfigurationError,
    OperationAborted,
)
from asgi_batch.limits import GateStatistics, Limits
from asgi_batch.middleware import BatchMiddleware

__all__ = [
    "AsgiBatchError",
    "BatchMiddleware",
    "ConfigurationError",
    "CurrentOperation",
    "GateStatistics",
    "Limits",
    "OperationAborted",
    "current_operation",
]
