"""
A transport for httpx and httpx2 that turns requests of the same moment into one batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import anyio

from asgi_batch.client._carriage import SAFE, Boarding
from asgi_batch.client._flavours import installed
from asgi_batch.client._gathering import TaskGathering, ThreadGathering
from asgi_batch.client._journey import Journeys
from asgi_batch.errors import ConfigurationError

if TYPE_CHECKING:
    import httpx
    import httpx2

    class _Base(  # type: ignore[misc]
        httpx.AsyncBaseTransport,
        httpx.BaseTransport,
        httpx2.AsyncBaseTransport,
        httpx2.BaseTransport,
    ):
        pass
else:
    # One class for all of them: neither library then finds itself with a transport of the other.
    _Base = type(
        "_Base",
        tuple(
            getattr(library, name)
            for library in installed()
            for name in ("AsyncBaseTransport", "BaseTransport")
        ),
        {},
    )


class BatchTransport(_Base):
    """
    Sends requests of the same moment to the same server as one batch.

    It goes into an ``AsyncClient`` around an ``AsyncHTTPTransport``, or into a ``Client`` that
    threads share around an ``HTTPTransport``. What cannot travel in a batch goes out as it is, and
    so does what is alone.

    Args:
        transport: Sends what goes out.
        path: Of the batch endpoint, from the root of the server.
        root_path: Where the app is mounted, if the endpoint counts paths from there.
        methods: Methods of requests that may travel.
        exclude: Paths that never travel, such as ``"/login"`` and ``"/files/*"``.
        operation_headers: Headers that the server lets operations set, beside the usual ones.
        max_operations: Requests in one batch at most; as many as the server answers at once, where
            left out.
        max_delay: Seconds for which a request waits for others. Where left out, for as long as each
            turn of the event loop brings new ones, and for two milliseconds in threads.
    """

    def __init__(
        self,
        transport: Any,
        *,
        path: str = "/batch",
        root_path: str = "",
        methods: Iterable[str] = SAFE,
        exclude: Iterable[str] = (),
        operation_headers: Iterable[str] = (),
        max_operations: int | None = None,
        max_delay: float | None = None,
    ) -> None:
        if not path.startswith("/"):
            raise ConfigurationError(f"BatchTransport(path={path!r}): write a path, as '/batch'.")
        self._transport = transport
        boarding = Boarding(
            path=path,
            root_path=root_path,
            methods=methods,
            operation_headers=operation_headers,
            exclude=exclude,
        )
        journeys = Journeys(boarding, max_operations)
        self._tasks = TaskGathering(transport, boarding, journeys, max_delay, anyio.Event)
        self._threads = ThreadGathering(transport, boarding, journeys, max_delay)

    async def handle_async_request(self, request: Any) -> Any:
        """
        The response to *request*, which may have travelled in a batch.
        """
        return await self._tasks.send(request)

    def handle_request(self, request: Any) -> Any:
        """
        The response to *request*, which may have travelled in a batch.
        """
        return self._threads.send(request)

    async def aclose(self) -> None:
        """
        Close the transport inside.
        """
        await self._transport.aclose()

    def close(self) -> None:
        """
        Close the transport inside.
        """
        self._transport.close()
