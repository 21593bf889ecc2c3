"""
A batch that is put together call by call, as one would call httpx; sending it is for others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from asgi_batch.client._operations import Operation, Params
from asgi_batch.client._results import Result
from asgi_batch.errors import ResultNotReady


class Handle:
    """
    One operation of a batch that is put together.

    Args:
        operation: The operation.
    """

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self._result: Result | None = None

    @property
    def result(self) -> Result:
        """
        What it was answered.

        Raises:
            ResultNotReady: Its batch has not been sent.
        """
        if self._result is None:
            raise ResultNotReady(
                f"{self.operation.method} {self.operation.path}: its batch has not been sent yet."
            )
        return self._result


class Composition:
    """
    Operations that become one batch, or several where the server allows no larger ones.
    """

    def __init__(self) -> None:
        self._handles: list[Handle] = []

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        content: bytes | str | None = None,
        id: str | None = None,  # noqa: A002
        timeout: float | None = None,
    ) -> Handle:
        """
        Add an operation, whose result the handle has after the batch.
        """
        operation = Operation(
            method.upper(),
            path,
            params=params,
            headers=headers,
            json=json,
            content=content,
            id=id,
            timeout=timeout,
        )
        handle = Handle(operation)
        self._handles.append(handle)
        return handle

    def get(self, path: str, **arguments: Any) -> Handle:
        """
        Add a ``GET``; arguments are those of `request`.
        """
        return self.request("GET", path, **arguments)

    def head(self, path: str, **arguments: Any) -> Handle:
        """
        Add a ``HEAD``.
        """
        return self.request("HEAD", path, **arguments)

    def options(self, path: str, **arguments: Any) -> Handle:
        """
        Add an ``OPTIONS``.
        """
        return self.request("OPTIONS", path, **arguments)

    def post(self, path: str, **arguments: Any) -> Handle:
        """
        Add a ``POST``.
        """
        return self.request("POST", path, **arguments)

    def put(self, path: str, **arguments: Any) -> Handle:
        """
        Add a ``PUT``.
        """
        return self.request("PUT", path, **arguments)

    def patch(self, path: str, **arguments: Any) -> Handle:
        """
        Add a ``PATCH``.
        """
        return self.request("PATCH", path, **arguments)

    def delete(self, path: str, **arguments: Any) -> Handle:
        """
        Add a ``DELETE``.
        """
        return self.request("DELETE", path, **arguments)

    def _operations(self) -> list[Operation]:
        return [handle.operation for handle in self._handles]

    def _hand_out(self, results: Sequence[Result]) -> None:
        for handle, result in zip(self._handles, results, strict=True):
            handle._result = result  # noqa: SLF001
