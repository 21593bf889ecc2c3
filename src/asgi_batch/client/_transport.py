"""
A transport for httpx and httpx2 that turns requests of the same moment into one batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

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
        _check(transport, path, max_operations, max_delay)
        self._transport = transport
        boarding = Boarding(
            path=path,
            root_path=root_path,
            methods=_listed("methods", methods),
            operation_headers=_listed("operation_headers", operation_headers),
            exclude=_listed("exclude", exclude),
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

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    def __enter__(self) -> Self:
        self._transport.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self._transport.__exit__(kind, error, trace)

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


def _check(transport: object, path: object, most: object, delay: object) -> None:
    """
    See that the arguments of a `BatchTransport` are what they should be.
    """
    if not (hasattr(transport, "handle_async_request") or hasattr(transport, "handle_request")):
        told = f"{transport!r:.100}): give a transport, as httpx.AsyncHTTPTransport()."
    elif not (isinstance(path, str) and path.startswith("/")):
        told = f"path={path!r:.100}): write a path, as '/batch'."
    elif not (most is None or (isinstance(most, int) and most > 0)):
        told = f"max_operations={most!r:.100}): write a whole number above 0."
    elif not (delay is None or (isinstance(delay, (int, float)) and delay >= 0)):
        told = f"max_delay={delay!r:.100}): write seconds."
    else:
        return
    raise ConfigurationError(f"BatchTransport({told}")


def _listed(name: str, texts: Iterable[str]) -> tuple[str, ...]:
    """
    *texts* as they were listed; one that stands alone would be taken for its letters.
    """
    listed = () if isinstance(texts, str) else tuple(texts)
    if isinstance(texts, str) or not all(isinstance(each, str) for each in listed):
        raise ConfigurationError(
            f'BatchTransport({name}={texts!r:.100}): write a list, ["…", "…"].'
        )
    return listed
