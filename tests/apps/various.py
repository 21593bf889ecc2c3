"""
An app whose answers are of every kind, chosen by the path; for tests of what a client may rely on.
"""

import zlib

from asgi_batch import BatchMiddleware

_JSON = (b"content-type", b"application/json")
_ANSWERS = (
    (200, [_JSON, (b"etag", b'"1"')], b'{"a": [1, 2.0, null]}'),
    (200, [_JSON], b'{"broken'),
    (201, [(b"location", b"/users/7")], b""),
    (200, [(b"content-type", b"text/html; charset=utf-8")], "<p>ü</p>".encode()),
    (200, [(b"content-type", b"image/png")], b"\x89PNG\r\n\x1a\n\xff"),
    (304, [(b"etag", b'"1"')], b""),
    (302, [(b"location", b"/elsewhere"), (b"set-cookie", b"a=b")], b""),
    (404, [(b"content-type", b"application/problem+json")], b'{"title": "Not Found"}'),
    (500, [(b"content-type", b"text/plain")], b"no"),
    (200, [(b"content-type", b"text/event-stream")], b"data: 1\n\n"),
)


async def _answer(scope, receive, send):
    await receive()
    number = zlib.crc32(scope["raw_path"]) % (len(_ANSWERS) + 1)
    if number == len(_ANSWERS):
        return
    status, headers, body = _ANSWERS[number]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


app = BatchMiddleware(_answer)
