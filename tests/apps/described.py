"""
A FastAPI app that shows its batch endpoint, which is not where and as it is by default.
"""

from fastapi import FastAPI
from pydantic import BaseModel

from asgi_batch import BatchMiddleware, Limits
from asgi_batch.contrib.fastapi import add_to_docs

api = FastAPI(title="Users")


class Operation(BaseModel):
    """
    Named like one of the library's schemas.
    """

    number: int


@api.get("/users/{number}")
async def read_user(number: int) -> Operation:
    return Operation(number=number)


batches = BatchMiddleware(
    api,
    path="/v1/many",
    limits=Limits(max_operations=20, sync_operations=5, operation_timeout=2.5, max_headers=3),
    operation_headers=["x-tenant"],
    console=True,
)
add_to_docs(api, batches)
