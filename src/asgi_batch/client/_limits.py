"""
What the server lets a batch have: asked for, or learnt from a refusal.
"""

from __future__ import annotations

from typing import Final

import msgspec

from asgi_batch.client._effects import Reply
from asgi_batch.errors import RequestRefused

#: The status of what is too large, for whatever reason.
TOO_LARGE: Final = 413
# Operations that can be sent in two batches.
_DIVISIBLE: Final = 2


class ServerLimits(msgspec.Struct, frozen=True, rename="camel"):
    """
    The limits that ``OPTIONS`` tells. Without a word from the server its defaults are assumed.
    """

    max_operations: int = 1000
    sync_operations: int = 100
    max_body_bytes: int = 10 * 1024 * 1024
    max_operation_bytes: int = 1024 * 1024
    max_path_bytes: int = 2048
    max_query_bytes: int = 8192
    max_headers: int = 64
    max_header_bytes: int = 8192
    operation_timeout: float = 30.0
    batch_timeout: float = 60.0

    def after(self, refusal: RequestRefused, *, operations: int, size: int) -> ServerLimits | None:
        """
        What is to be kept to after a batch was refused for its size; None if that was not so.

        Args:
            refusal: The refusal.
            operations: How many the batch had.
            size: Bytes that the batch had.
        """
        if refusal.status != TOO_LARGE or operations < _DIVISIBLE:
            return None
        most = refusal.limits.get("maxOperations", self.max_operations)
        largest = refusal.limits.get("maxBodyBytes", self.max_body_bytes)
        if most >= operations and largest >= size:
            # Something in between has other limits than the server, and does not tell them.
            largest = size // 2
        return msgspec.structs.replace(
            self,
            max_operations=most,
            sync_operations=min(most, self.sync_operations),
            max_body_bytes=largest,
        )


class _Description(msgspec.Struct):
    limits: ServerLimits


def limits_of(reply: Reply) -> ServerLimits | None:
    """
    The limits that *reply* tells; None where it is not the answer of a batch endpoint.
    """
    try:
        return msgspec.json.decode(reply.content, type=_Description).limits
    except msgspec.DecodeError:
        return None
