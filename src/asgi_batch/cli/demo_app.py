"""
The app that ``asgi-batch demo`` starts: users in memory, behind a batch endpoint.

It takes its time, so that there is something to watch.
"""

from __future__ import annotations

import json
import re
from itertools import count
from typing import Any, Final

import anyio

from asgi_batch.middleware import BatchMiddleware
from asgi_batch.types import Receive, Scope, Send

_SECONDS: Final = 0.02
_USER = re.compile(r"/users(?:/(\d+))?")

_users: dict[int, Any] = {1: {"id": 1, "name": "Ada"}, 2: {"id": 2, "name": "Grace"}}
_ids = count(3)


async def users(scope: Scope, receive: Receive, send: Send) -> None:
    """
    ``GET`` and ``PUT /users/{id}``, and ``POST /users``.
    """
    if scope["type"] == "http":
        body = await _body(receive)
        await anyio.sleep(_SECONDS)
        status, content = _answer(scope["method"], scope["path"], body)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(content).encode()})


async def _body(receive: Receive) -> bytes:
    body, is_more = b"", True
    while is_more:
        message = await receive()
        body += message.get("body", b"")
        is_more = message.get("more_body", False)
    return body


def _answer(method: str, path: str, body: bytes) -> tuple[int, Any]:
    found = _USER.fullmatch(path)
    if found is None:
        return 404, {"detail": "There are only users here."}
    number = int(found[1] or 0)
    if method == "GET" and number:
        user = _users.get(number)
        return (200, user) if user else (404, {"detail": "There is no such user."})
    if method == ("PUT" if number else "POST"):
        return _kept(number, body)
    return 405, {"detail": "GET and PUT /users/{id}, or POST /users."}


def _kept(number: int, body: bytes) -> tuple[int, Any]:
    try:
        name = json.loads(body)["name"]
    except (ValueError, KeyError, TypeError):
        return 422, {"detail": "A user needs a name."}
    status = 200 if number else 201
    number = number or next(_ids)
    _users[number] = {"id": number, "name": name}
    return status, _users[number]


app = BatchMiddleware(users, console=True)
