"""
What the mirrors have in common: they show the request, or answer what the request asks for.
"""

import json
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

# What the server says of itself and of its own extensions may differ; all else must not.
_SHOWN = ("type", "http_version", "method", "path", "root_path", "scheme", "server", "client")


class Reply(NamedTuple):
    """
    An answer that a request asks for.
    """

    status: int
    headers: list[tuple[str, str]]
    chunks: list[bytes]

    def as_query(self) -> str:
        """
        The query that asks for it.
        """
        chunks = [b64encode(chunk).decode() for chunk in self.chunks]
        document = json.dumps([self.status, self.headers, chunks]).encode()
        return f"reply={urlsafe_b64encode(document).decode()}"

    @classmethod
    def from_query(cls, query_string: bytes) -> "Reply":
        """
        What *query_string* asks for.
        """
        document = urlsafe_b64decode(query_string.removeprefix(b"reply="))
        status, headers, chunks = json.loads(document)
        return cls(status, [tuple(pair) for pair in headers], [b64decode(each) for each in chunks])

    @property
    def content_type(self) -> str | None:
        return dict(self.headers).get("content-type")

    def body(self) -> Iterator[bytes]:
        yield from self.chunks

    async def stream(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk


def seen(scope: Any, body: bytes) -> dict[str, Any]:
    """
    All that an app can see of a request.
    """
    return {
        **{key: scope.get(key) for key in _SHOWN},
        "raw_path": scope["raw_path"].decode(),
        "query_string": scope["query_string"].decode(),
        "headers": sorted((name.decode(), value.decode()) for name, value in scope["headers"]),
        "body": b64encode(body).decode(),
    }
