"""
A request that is not about batches, where these count as well: it goes to the app, or is refused.
"""

from __future__ import annotations

from asgi_batch._endpoints.endpoint import Endpoint
from asgi_batch.errors import BatchRefused
from asgi_batch.types import Message

_NAMES = frozenset((b"ratelimit", b"ratelimit-policy"))


class DirectRequest(Endpoint):
    """
    One operation that comes by itself.
    """

    async def __call__(self) -> None:
        """
        Hand the request on, unless its caller has sent too much.
        """
        limiter = self._settings.limiter
        assert limiter is not None
        try:
            self._fields = await limiter.charge(self._scope, 1)
        except BatchRefused as refusal:
            await self._refuse(refusal)
        else:
            await self._answer()

    async def _answer(self) -> None:
        await self._settings.app(self._scope, self._receive, self._tell)

    async def _tell(self, message: Message) -> None:
        if message["type"] == "http.response.start" and self._fields:
            headers = list(message.get("headers", ()))
            if not any(name.lower() in _NAMES for name, _ in headers):
                message = {**message, "headers": [*headers, *self._fields]}
        await self._send(message)
