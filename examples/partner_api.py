"""
An API for partners, with everything in front of it that such an API wants.

Partners are known by the key that they send. Whoever has none gets no further. Batches reach the
orders and nothing else, what they send is counted together with single requests, and what runs in
the background is seen by its owner only. With ``REDIS`` set, batches are kept there, sealed with
the key in ``SEAL``.

Run it, and send a batch::

    python examples/partner_api.py
    curl http://127.0.0.1:8000/batch \
        -H "x-api-key: key-of-ada" -H "content-type: application/json" \
        -d '{"operations": [{"method": "GET", "path": "/orders/1"}]}'
"""

import os

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_batch import BatchMiddleware, Limits, RateLimit
from asgi_batch.stores.redis import RedisStore

PARTNERS = {"key-of-ada": "ada", "key-of-bob": "bob"}


class Partners:
    """
    Lets nobody in who has no key, and notes whose it is.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Answer 401, or go on as a partner.
        """
        if scope["type"] == "http":
            key = Request(scope).headers.get("x-api-key", "")
            if key not in PARTNERS:
                await JSONResponse({"detail": "Who are you?"}, 401)(scope, receive, send)
                return
            scope["user"] = PARTNERS[key]
        await self._app(scope, receive, send)


async def read_order(request: Request) -> Response:
    """
    An order; each belongs to the partner who asks.
    """
    return JSONResponse({"id": request.path_params["number"], "of": request.user})


async def shut_down(request: Request) -> Response:
    """
    Nothing that should be tried by the hundred.
    """
    return JSONResponse({"detail": "Done."})


def partner(scope: Scope) -> str | None:
    """
    Whose a request is, which `Partners` has checked.
    """
    name: str | None = scope.get("user")
    return name


def store() -> RedisStore | str:
    """
    Redis, where there is one.
    """
    url = os.environ.get("REDIS")
    return "memory://" if url is None else RedisStore(url, encryption_key=os.environ["SEAL"])


app = Starlette(
    routes=[Route("/orders/{number:int}", read_order), Route("/admin/shut-down", shut_down)],
    middleware=[
        # The first is outermost: batches come from partners only.
        Middleware(Partners),
        Middleware(
            BatchMiddleware,
            allow=["GET /orders/*"],
            deny=["/admin/**"],
            rate_limit=RateLimit("200/minute", key=lambda scope: partner(scope) or ""),
            owner=partner,
            store=store(),
            limits=Limits(sync_operations=50),
        ),
        # Once more: an operation in the background is let in when it runs, by the key that was
        # kept with it, or no longer.
        Middleware(Partners),
    ],
)

if __name__ == "__main__":
    uvicorn.run(app)
