"""
An ASGI app without any framework whose batches are carried out later.
"""

import json
from typing import Any

from apps.later import GREETING, SETTINGS, is_met, note, shown, take_a_moment
from asgi_batch import BatchMiddleware


async def lifespan(scope: Any, receive: Any, send: Any) -> None:
    for phase in ("startup", "shutdown"):
        await receive()
        note(phase)
        scope["state"]["greeting"] = GREETING
        await send({"type": f"lifespan.{phase}.complete"})


async def answer(scope: Any, receive: Any) -> tuple[int, Any]:
    name = scope["path"]
    if name == "/greeting":
        return 200, {"app": "bare", "greeting": scope["state"]["greeting"]}
    if name == "/echo":
        return 200, shown(scope, (await receive())["body"])
    if name == "/moment":
        return 200, await take_a_moment()
    if name.startswith("/flaky/"):
        return 200 if is_met(name) else 503, {"name": name}
    return 500 if name == "/crash" else 404, {"detail": "No."}


async def bare(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    status, document = await answer(scope, receive)
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(document).encode()})


app = BatchMiddleware(bare, **SETTINGS)
