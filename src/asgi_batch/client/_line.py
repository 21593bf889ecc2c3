"""
How a request of a flow is handed to httpx or httpx2, and how its answer is read.
"""

from __future__ import annotations

from typing import Any

from asgi_batch.client._effects import Ask, Lost, Reply
from asgi_batch.client._flavours import flavour_of
from asgi_batch.errors import ConfigurationError


class Line:
    """
    The way to one batch endpoint.

    Args:
        http: A client of httpx or httpx2.
        path: Of the endpoint; a URL, where the client has no base URL.
        kind: The class that the client has to be of.
    """

    def __init__(self, http: Any, path: str, kind: str) -> None:
        self._flavour = flavour_of(http)
        if not isinstance(http, getattr(self._flavour, kind)):
            raise ConfigurationError(
                f"{type(http).__name__}: a BatchClient takes a Client, an AsyncBatchClient an"
                " AsyncClient."
            )
        if "?" in path or "#" in path:
            raise ConfigurationError(
                f"{path!r:.200}: the batch endpoint has no query, nor fragment."
            )
        self.http = http
        self._path = path.rstrip("/")
        self.errors: type[Exception] = self._flavour.TransportError

    def arguments(self, ask: Ask, left: float | None = None) -> dict[str, Any]:
        """
        Arguments of ``request()``.

        Args:
            ask: What to ask.
            left: Seconds that it may take at most.
        """
        usual = self.http.timeout
        read = usual.read if usual.read is None else max(usual.read, ask.patience)
        waits = (usual.connect, read, usual.write, usual.pool)
        names = ("connect", "read", "write", "pool")
        timeout = self._flavour.Timeout(
            **{name: _shorter(wait, left) for name, wait in zip(names, waits, strict=True)}
        )
        return {
            "method": ask.method,
            "url": self._path + ask.below,
            "headers": ask.headers,
            "content": ask.content,
            "timeout": timeout,
        }

    def lost(self, error: Exception) -> Lost:
        """
        What *error* says about a request that was not answered.
        """
        flavour = self._flavour
        unsent = (flavour.ConnectError, flavour.ConnectTimeout, flavour.PoolTimeout)
        return Lost(error, isinstance(error, unsent))

    @staticmethod
    def reply(response: Any) -> Reply:
        """
        The answer, read whole.
        """
        return Reply(response.status_code, response.headers, response.content)


def _shorter(wait: float | None, left: float | None) -> float | None:
    if left is None:
        return wait
    return max(0.001, left if wait is None else min(wait, left))
