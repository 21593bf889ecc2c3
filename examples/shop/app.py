"""
The app: its tables, its endpoints, and the batches around them.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from asgi_batch import BatchMiddleware, Limits

from . import orders, users
from .database import Base, database, engine


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


api = FastAPI(title="Shop", lifespan=lifespan)
api.include_router(users.router)
api.include_router(orders.router)

app = BatchMiddleware(
    api,
    transaction=database,
    console=True,
    # Batches of more than a hundred operations would run in the background.
    limits=Limits(sync_operations=1000),
)
