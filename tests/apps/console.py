"""
An app for tests of the browser page: it waits to be told, fails once, or answers with markup.
"""

import json

import anyio

from asgi_batch import BatchMiddleware, Limits

# What a page would do if it took text for markup.
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"
JSON = b"application/json"

_OPENED = anyio.Event()
_met = set()


async def answer(path):
    """
    Status, headers and body.
    """
    kind = path.split("/")[1]
    if kind == "open":
        _OPENED.set()
    elif kind == "wait":
        await _OPENED.wait()
    elif kind == "once" and path not in _met:
        _met.add(path)
        return 409, {}, {"detail": "Once more, please."}
    elif kind == "fail":
        return 404, {}, {"detail": "There is nothing here."}
    elif kind == "markup":
        headers = {"location": f"javascript:{MARKUP}", "etag": f'"{MARKUP}"'}
        return 422, headers, {MARKUP: [MARKUP, {"</textarea>": "</script>"}]}
    elif kind == "text":
        return 200, {"content-type": "text/html"}, f"<svg onload=alert(3)>{MARKUP}"
    return 200, {}, {"path": path}


async def answering(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    status, headers, body = await answer(scope["path"])
    if isinstance(body, str):
        content = body.encode()
    else:
        # As some app may write it: on two lines, with numbers that JavaScript would change.
        content = (
            json.dumps(body).replace("{", '{"n": 12345678901234567890,\n"x": 1.0, ', 1).encode()
        )
        headers = {"content-type": "application/json", **headers}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": content})


def owner_of(scope):
    """
    Whoever says so, in a header or a cookie; good enough for a test.
    """
    headers = dict(scope["headers"])
    user = headers.get(b"authorization", headers.get(b"cookie"))
    return None if user is None else user.decode()


app = BatchMiddleware(answering, console=True, limits=Limits(concurrency=4))
owned = BatchMiddleware(answering, console=True, owner=owner_of)
# One client follows events here, and no other can.
busy = BatchMiddleware(answering, console=True, limits=Limits(max_event_streams=1))
