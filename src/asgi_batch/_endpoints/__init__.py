"""One class for each face of the batch endpoint, and which of them a request means."""

from __future__ import annotations

from asgi_batch._endpoints.endpoint import Endpoint, Settings
from asgi_batch._endpoints.later import FACE, CancelEndpoint, ResultsEndpoint, StatusEndpoint
from asgi_batch._endpoints.submit import SubmitEndpoint

__all__ = ["Settings", "endpoint_for"]

_FACES: dict[str, type[Endpoint]] = {
    "": CancelEndpoint,
    "/status": StatusEndpoint,
    "/results": ResultsEndpoint,
}


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
    face = FACE(path[len(batch_path) :])
    return None if face is None else _FACES[face[2]]
