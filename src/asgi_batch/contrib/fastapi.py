"""
The batch endpoint in the documentation that FastAPI makes of an app; batches need nothing of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgi_batch.errors import ConfigurationError
from asgi_batch.middleware import BatchMiddleware

if TYPE_CHECKING:
    from fastapi import FastAPI


def add_to_docs(api: FastAPI, batch: BatchMiddleware | None = None) -> None:
    """
    Show the batch endpoint in ``/docs`` and in ``/openapi.json``, beside the routes of *api*.

    It is there at its path, with its limits. An `openapi` of the app's own goes on to be asked, if
    it was put there before this call.

    Args:
        api: The app.
        batch: What is wrapped around it; left out where *api* was given it by ``add_middleware``.

    Raises:
        ConfigurationError: The app has no batch endpoint.
    """
    if batch is None:
        batch = _added_to(api)
    plain = api.openapi

    def openapi() -> dict[str, Any]:
        return batch.openapi(plain())

    api.openapi = openapi  # type: ignore[method-assign]


def _added_to(api: FastAPI) -> BatchMiddleware:
    """
    The one that ``add_middleware`` has been told of; it is made anew, to be asked for its settings.
    """
    for each in api.user_middleware:
        made: Any = each.cls
        settings: Any = each.kwargs
        if isinstance(made, type) and issubclass(made, BatchMiddleware):
            return made(api, **settings)
    raise ConfigurationError(
        "add_to_docs(api): pass the BatchMiddleware as well, or add it to api before this."
    )
