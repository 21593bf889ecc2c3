"""
A client for batch endpoints, on top of httpx or httpx2; the library itself does without.
"""

from asgi_batch.client._async import AsyncBatch, AsyncBatchClient, AsyncStream
from asgi_batch.client._batch import Handle
from asgi_batch.client._limits import ServerLimits
from asgi_batch.client._operations import Operation
from asgi_batch.client._results import Result
from asgi_batch.client._run import Sent
from asgi_batch.client._sync import Batch, BatchClient, Stream
from asgi_batch.client._talk import Accepted, Status
from asgi_batch.errors import (
    BatchFailed,
    ClientError,
    OperationFailed,
    RequestRefused,
    ResultNotReady,
)

__all__ = [
    "Accepted",
    "AsyncBatch",
    "AsyncBatchClient",
    "AsyncStream",
    "Batch",
    "BatchClient",
    "BatchFailed",
    "ClientError",
    "Handle",
    "Operation",
    "OperationFailed",
    "RequestRefused",
    "Result",
    "ResultNotReady",
    "Sent",
    "ServerLimits",
    "Status",
    "Stream",
]
