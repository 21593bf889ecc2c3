"""One class for each face of the batch endpoint, and which of them a request means."""

from __future__ import annotations

import re
from typing import Final

from asgi_batch._core.scope import route_path
from asgi_batch._endpoints.direct import DirectRequest
from asgi_batch._endpoints.endpoint import Endpoint, Settings
from asgi_batch._endpoints.events import EventsEndpoint
from asgi_batch._endpoints.later import CancelEndpoint, ResultsEndpoint, StatusEndpoint
from asgi_batch._endpoints.page import PageEndpoint, is_for_browser
from asgi_batch._endpoints.retry import RetryEndpoint
from asgi_batch._endpoints.submit import SubmitEndpoint
from asgi_batch.types import Scope

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


def endpoint_for(scope: Scope, settings: Settings) -> type[Endpoint] | None:
    """
    Who answers the request of *scope*; None where the app does.
    """
    face = _face_of(route_path(scope), settings.rules.batch_path)
    if face is None or settings.pages is None or not face.has_page:
        return face
    return PageEndpoint if is_for_browser(scope["method"], scope["headers"]) else face


def _face_of(path: str, batch_path: str) -> type[Endpoint] | None:
    if not path.startswith(batch_path):
        return None
    if path == batch_path:
        return SubmitEndpoint
    face = _FACE(path[len(batch_path) :])
    return None if face is None else _FACES[face[1]]
