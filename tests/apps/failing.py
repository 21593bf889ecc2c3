"""
An app that does not start, on its own and with a batch endpoint.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette

from asgi_batch import BatchMiddleware


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    raise ConnectionError("the database is away")
    yield


bare = Starlette(lifespan=lifespan)
wrapped = BatchMiddleware(bare)
