"""One class for each face of the batch endpoint, and which of them a request means."""

from __future__ import annotations

import re
from typing import Final

from asgi_batch._endpoints.direct import DirectRequest
from asgi_batch._endpoints.endpoint import Endpoint, Settings
from asgi_batch._endpoints.events import EventsEndpoint
from asgi_batch._endpoints.later import CancelEndpoint, ResultsEndpoint, StatusEndpoint
from asgi_batch._endpoints.retry import RetryEndpoint
from asgi_batch._endpoints.submit import SubmitEndpoint

__all__ = ["DirectRequest", "Settings", "endpoint_for"]

_FACES: Final[dict[str, type[Endpoint]]] = {
    "": CancelEndpoint,
    "/status": StatusEndpoint,
    "/results": ResultsEndpoint,
    "/events": EventsEndpoint,
    "/retry": RetryEndpoint,
}
# What follows the path of the batch endpoint: an id, and which face of it is meant.
_FACE: Final = re.compile(rf"/[^/]+({'|'.join(_FACES)})").fullmatch


def endpoint_for(path: str, batch_path: str) -> type[Endpoint] | None:
    """
    Who answers a request to *path*; None where the app does.

    Args:
        path: Without the root path.
        batch_path: Path of the batch endpoint.
    """
    if not path.startswith(batch_path):
        return None
    if path == batch_path:
        return SubmitEndpoint
    face = _FACE(path[len(batch_path) :])
    return None if face is None else _FACES[face[1]]
