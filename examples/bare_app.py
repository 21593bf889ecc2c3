"""
A small ASGI app without any framework, with a batch endpoint.

Run it with ``uvicorn examples.bare_app:app`` or ``python examples/bare_app.py``.
"""

import json
import logging
import os
import re
from http import HTTPStatus
from itertools import count
from typing import Any, NamedTuple

import uvicorn

from asgi_batch import BatchMiddleware
from asgi_batch.types import Receive, Scope, Send

logger = logging.getLogger(__name__)
users = {1: "Ada", 2: "Grace", 3: "Edsger"}
new_ids = count(4)
user_path = re.compile(r"/users/(\d+)").fullmatch


class Answer(NamedTuple):
    status: int
    body: Any = None
    headers: tuple[tuple[bytes, bytes], ...] = ()


class ErrorAnswer(Exception):
    """
    Raised to answer with an error.
    """

    def __init__(self, status: HTTPStatus, detail: str | None = None) -> None:
        self.answer = Answer(status, {"detail": detail or status.phrase})


async def read_body(receive: Receive) -> bytes:
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def name_in(body: bytes) -> str:
    try:
        user = json.loads(body)
    except ValueError:
        user = None
    name = user.get("name") if isinstance(user, dict) else None
    if not isinstance(name, str) or not name:
        raise ErrorAnswer(HTTPStatus.UNPROCESSABLE_ENTITY, "A user needs a name.")
    return name


def answer_user(method: str, user_id: int, body: bytes) -> Answer:
    if user_id not in users:
        raise ErrorAnswer(HTTPStatus.NOT_FOUND)
    if method == "DELETE":
        del users[user_id]
        return Answer(204)
    if method == "PUT":
        users[user_id] = name_in(body)
    elif method != "GET":
        raise ErrorAnswer(HTTPStatus.METHOD_NOT_ALLOWED)
    return Answer(200, {"id": user_id, "name": users[user_id]})


def answer(method: str, path: str, body: bytes) -> Answer:
    if (match := user_path(path)) is not None:
        return answer_user(method, int(match[1]), body)
    match method, path:
        case "GET", "/hello":
            return Answer(200, "Hello!")
        case "GET", "/crash":
            raise RuntimeError("This endpoint always crashes.")
        case "POST", "/users":
            name = name_in(body)
            user_id = next(new_ids)
            users[user_id] = name
            location = f"/users/{user_id}".encode()
            return Answer(201, {"id": user_id, "name": name}, ((b"location", location),))
    raise ErrorAnswer(HTTPStatus.NOT_FOUND)


async def respond(send: Send, answer: Answer) -> None:
    headers = [*answer.headers]
    content = b""
    if isinstance(answer.body, str):
        headers.append((b"content-type", b"text/plain; charset=utf-8"))
        content = answer.body.encode()
    elif answer.body is not None:
        headers.append((b"content-type", b"application/json"))
        content = json.dumps(answer.body).encode()
    if answer.status != HTTPStatus.NO_CONTENT:
        headers.append((b"content-length", b"%d" % len(content)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def answer_lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return


async def bare_app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await answer_lifespan(receive, send)
        return
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    try:
        answered = answer(scope["method"], scope["path"], await read_body(receive))
    except ErrorAnswer as error:
        answered = error.answer
    except Exception:
        logger.exception("A request crashed.")
        answered = Answer(500, {"detail": HTTPStatus.INTERNAL_SERVER_ERROR.phrase})
    await respond(send, answered)


app = BatchMiddleware(bare_app, console=True)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
