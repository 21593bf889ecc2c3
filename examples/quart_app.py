"""
A small Quart app with a batch endpoint.

Run it with ``uvicorn examples.quart_app:app`` or ``python examples/quart_app.py``.
"""

import os
from http import HTTPStatus
from itertools import count

import uvicorn
from quart import Quart, Response, ResponseReturnValue, abort, request
from werkzeug.exceptions import HTTPException

from asgi_batch import BatchMiddleware

users = {1: "Ada", 2: "Grace", 3: "Edsger"}
new_ids = count(4)
app = Quart(__name__)


class InvalidUser(Exception):
    """
    Raised when a request body does not describe a user.
    """


async def read_name() -> str:
    body = await request.get_json(silent=True)
    name = body.get("name") if isinstance(body, dict) else None
    if not isinstance(name, str) or not name:
        raise InvalidUser
    return name


def check_known(user_id: int) -> None:
    if user_id not in users:
        abort(404)


@app.get("/hello")
async def hello() -> ResponseReturnValue:
    return "Hello!", {"content-type": "text/plain; charset=utf-8"}


@app.get("/crash")
async def crash() -> ResponseReturnValue:
    raise RuntimeError("This endpoint always crashes.")


@app.post("/users")
async def create_user() -> ResponseReturnValue:
    name = await read_name()
    user_id = next(new_ids)
    users[user_id] = name
    return {"id": user_id, "name": name}, 201, {"location": f"/users/{user_id}"}


@app.get("/users/<int:user_id>")
async def read_user(user_id: int) -> ResponseReturnValue:
    check_known(user_id)
    return {"id": user_id, "name": users[user_id]}


@app.put("/users/<int:user_id>")
async def rename_user(user_id: int) -> ResponseReturnValue:
    check_known(user_id)
    users[user_id] = await read_name()
    return {"id": user_id, "name": users[user_id]}


@app.delete("/users/<int:user_id>")
async def delete_user(user_id: int) -> ResponseReturnValue:
    check_known(user_id)
    del users[user_id]
    response = Response(status=204)
    del response.headers["content-type"]
    return response


@app.errorhandler(InvalidUser)
async def on_invalid_user(error: InvalidUser) -> ResponseReturnValue:
    return {"detail": "A user needs a name."}, 422


@app.errorhandler(HTTPException)
async def on_http_error(error: HTTPException) -> ResponseReturnValue:
    return {"detail": error.name}, error.code or 500


@app.errorhandler(Exception)
async def on_crash(error: Exception) -> ResponseReturnValue:
    app.logger.error("A request crashed.", exc_info=error)
    return {"detail": HTTPStatus.INTERNAL_SERVER_ERROR.phrase}, 500


app.asgi_app = BatchMiddleware(app.asgi_app, console=True)  # type: ignore[method-assign]

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
