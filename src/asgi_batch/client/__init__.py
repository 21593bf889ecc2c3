"""
A client for batch endpoints, on top of httpx or httpx2; the library itself does without.
"""

from asgi_batch.client._async_client import AsyncBatch, AsyncBatchClient
from asgi_batch.client._async_stream import AsyncStream
from asgi_batch.client._batch import Handle
from asgi_batch.client._limits import ServerLimits
from asgi_batch.client._operations import Operation
from asgi_batch.client._results import Result
from asgi_batch.client._sync_client import Batch, BatchClient
from asgi_batch.client._sync_stream import Stream
from asgi_batch.client._talk import Accepted, Status
from asgi_batch.client._terms import Sent
from asgi_batch.client._transport import BatchTransport
from asgi_batch.errors import (
    AnswerUnreadable,
    BatchFailed,
    ClientError,
    OperationFailed,
    RequestRefused,
    ResultNotReady,
)

__all__ = [
    "Accepted",
    "AnswerUnreadable",
    "AsyncBatch",
    "AsyncBatchClient",
    "AsyncStream",
    "Batch",
    "BatchClient",
    "BatchFailed",
    "BatchTransport",
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
