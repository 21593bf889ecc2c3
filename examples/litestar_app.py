"""
A small Litestar app with a batch endpoint.

Run it with ``uvicorn examples.litestar_app:app`` or ``python examples/litestar_app.py``.
"""

import os
from http import HTTPStatus
from itertools import count
from typing import Annotated

import msgspec
import uvicorn
from litestar import Litestar, MediaType, Request, Response, delete, get, post, put
from litestar.exceptions import HTTPException, NotFoundException
from litestar.params import FromPath, JSONBody

from asgi_batch import BatchMiddleware

users = {1: "Ada", 2: "Grace", 3: "Edsger"}
new_ids = count(4)


class NewUser(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1)]


class User(msgspec.Struct):
    id: int
    name: str


def check_known(user_id: int) -> None:
    if user_id not in users:
        raise NotFoundException


@get("/hello", media_type=MediaType.TEXT)
async def hello() -> str:
    return "Hello!"


@get("/crash")
async def crash() -> None:
    raise RuntimeError("This endpoint always crashes.")


@post("/users")
async def create_user(data: JSONBody[NewUser]) -> Response[User]:
    user_id = next(new_ids)
    users[user_id] = data.name
    return Response(User(user_id, data.name), headers={"location": f"/users/{user_id}"})


@get("/users/{user_id:int}")
async def read_user(user_id: FromPath[int]) -> User:
    check_known(user_id)
    return User(user_id, users[user_id])


@put("/users/{user_id:int}")
async def rename_user(user_id: FromPath[int], data: JSONBody[NewUser]) -> User:
    check_known(user_id)
    users[user_id] = data.name
    return User(user_id, data.name)


@delete("/users/{user_id:int}")
async def delete_user(user_id: FromPath[int]) -> None:
    check_known(user_id)
    del users[user_id]


def on_http_error(request: Request, error: HTTPException) -> Response:
    if error.status_code == HTTPStatus.BAD_REQUEST:
        return Response({"detail": "A user needs a name."}, status_code=422)
    return Response({"detail": error.detail}, status_code=error.status_code)


def on_crash(request: Request, error: Exception) -> Response:
    return Response({"detail": HTTPStatus.INTERNAL_SERVER_ERROR.phrase}, status_code=500)


litestar_app = Litestar(
    [hello, crash, create_user, read_user, rename_user, delete_user],
    exception_handlers={
        HTTPException: on_http_error,
        Exception: on_crash,
    },
)
app = BatchMiddleware(litestar_app, console=True)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
