"""
A small FastAPI app with a batch endpoint.

Run it with ``uvicorn examples.fastapi_app:app`` or ``python examples/fastapi_app.py``.
"""

import os
from http import HTTPStatus
from itertools import count
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, Field

from asgi_batch import BatchMiddleware
from asgi_batch.contrib.fastapi import add_to_docs

users = {1: "Ada", 2: "Grace", 3: "Edsger"}
new_ids = count(4)
fastapi_app = FastAPI(title="Users")


class NewUser(BaseModel):
    name: Annotated[str, Field(min_length=1)]


class User(BaseModel):
    id: int
    name: str


async def known_id(user_id: int) -> int:
    if user_id not in users:
        raise HTTPException(404)
    return user_id


KnownId = Annotated[int, Depends(known_id)]


@fastapi_app.get("/hello", response_class=PlainTextResponse)
async def hello() -> str:
    return "Hello!"


@fastapi_app.get("/crash")
async def crash() -> None:
    raise RuntimeError("This endpoint always crashes.")


@fastapi_app.post("/users", status_code=201)
async def create_user(user: NewUser, response: Response) -> User:
    user_id = next(new_ids)
    users[user_id] = user.name
    response.headers["location"] = f"/users/{user_id}"
    return User(id=user_id, name=user.name)


@fastapi_app.get("/users/{user_id:int}")
async def read_user(user_id: KnownId) -> User:
    return User(id=user_id, name=users[user_id])


@fastapi_app.put("/users/{user_id:int}")
async def rename_user(user_id: KnownId, user: NewUser) -> User:
    users[user_id] = user.name
    return User(id=user_id, name=user.name)


@fastapi_app.delete("/users/{user_id:int}", status_code=204)
async def delete_user(user_id: KnownId) -> None:
    del users[user_id]


@fastapi_app.exception_handler(RequestValidationError)
async def on_invalid_request(request: Request, error: RequestValidationError) -> Response:
    return JSONResponse({"detail": "A user needs a name."}, 422)


@fastapi_app.exception_handler(Exception)
async def on_crash(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": HTTPStatus.INTERNAL_SERVER_ERROR.phrase}, 500)


app = BatchMiddleware(fastapi_app, console=True)
add_to_docs(fastapi_app, app)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
