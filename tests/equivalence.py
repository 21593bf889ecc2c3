"""
One request asked in two ways, and its two answers made comparable.

What a result must look like is taken from docs/reference.md, not from the library's code.
"""

import json
from base64 import b64decode
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from support import Exchange, http_scope

WHITE_SPACE = b" \t\r\n"

# What a client sends with every request of its own, batch or not; an operation may replace some.
CALLER = {
    "host": "testserver",
    "user-agent": "tests",
    "accept": "*/*",
    "authorization": "Bearer token",
    "cookie": "a=1; b=2",
    "x-forwarded-for": "192.0.2.1",
}
# What speaks of the batch request alone.
BATCH_ONLY = {
    "content-type": "application/json",
    "accept-encoding": "gzip",
    "if-none-match": '"outer"',
    "range": "bytes=0-1",
    "x-http-method-override": "DELETE",
}
MEDIA_TYPES = {
    "json": "application/json",
    "text": "text/plain; charset=utf-8",
    "base64": "application/octet-stream",
}
RESULT_HEADERS = frozenset(
    """
    accept-patch accept-post accept-ranges allow cache-control content-disposition content-encoding
    content-language content-location content-range content-type deprecation etag expires
    last-modified link location preference-applied proxy-authenticate ratelimit ratelimit-policy
    retry-after sunset vary www-authenticate
    """.split()
)


class Place(NamedTuple):
    """
    Where an app is reached.

    Args:
        prefix: What precedes every path.
        root_path: What the server says it has been told.
        is_mounted: Whether another app hands requests on to it.
    """

    prefix: str = ""
    root_path: str = ""
    is_mounted: bool = False

    def scope(
        self, method: str, target: str, headers: dict[str, str], **members: Any
    ) -> dict[str, Any]:
        """
        What a server makes of a request to *target* below this place.
        """
        raw_path, _, query = target.partition("?")
        return http_scope(
            method,
            self.prefix + unquote(raw_path),
            raw_path=(quote(self.prefix) + raw_path).encode(),
            root_path=self.root_path,
            query_string=query.encode(),
            headers=[(name.encode(), value.encode()) for name, value in headers.items()],
            **members,
        )


class Request(NamedTuple):
    """
    What is asked of the app, in both ways.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: str | None
    encoding: str

    def as_operation(self) -> bytes:
        """
        How a batch writes it; a JSON body is not touched.
        """
        members = {"method": self.method, "path": self.target, "headers": self.headers}
        if self.body is None:
            return json.dumps(members).encode()
        members["bodyEncoding"] = self.encoding
        body = self.body if self.encoding == "json" else json.dumps(self.body)
        return json.dumps(members)[:-1].encode() + b', "body": ' + body.encode() + b"}"

    def content(self) -> bytes:
        """
        Its body, as it comes over the wire on its own.
        """
        body = (self.body or "").encode()
        return b64decode(body) if self.encoding == "base64" else body

    def scope(self, place: Place) -> dict[str, Any]:
        """
        What a server makes of it.
        """
        headers = CALLER | {name.lower(): value for name, value in self.headers.items()}
        if self.body is not None:
            headers.setdefault("content-type", MEDIA_TYPES[self.encoding])
            headers["content-length"] = str(len(self.content()))
        elif self.method in ("POST", "PUT", "PATCH"):
            headers["content-length"] = "0"
        return place.scope(self.method, self.target, headers)


class Answer(NamedTuple):
    """
    An answer, however it came.

    Args:
        status: Of the answer.
        headers: Those that a result shows.
        body: Without the white space around it, which JSON loses.
        encoding: How a result writes the body, where it has to say so.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    encoding: str | None

    @classmethod
    def of(cls, request: Request, exchange: Exchange) -> "Answer":
        """
        What a client gets of a direct answer, as far as a result would show it.
        """
        headers: dict[str, str] = {}
        for name, value in exchange.sent[0]["headers"]:
            key = name.decode().lower()
            if key in RESULT_HEADERS:
                text = value.decode("latin-1")
                headers[key] = f"{headers[key]}, {text}" if key in headers else text
        has_body = request.method != "HEAD" and exchange.status not in (204, 304)
        body = exchange.body if has_body else b""
        encoding = documented_encoding(headers, body)
        if encoding is None and media_type(headers) == "application/json":
            del headers["content-type"]
        return cls(exchange.status, headers, body.strip(WHITE_SPACE), encoding)

    @classmethod
    def read(cls, result: dict[str, bytes]) -> "Answer":
        """
        What a result says, whose members are still JSON.
        """
        status = json.loads(result["status"])
        member = "result" if status < 400 else "error"
        headers = json.loads(result.get("headers", b"{}"))
        encoding = json.loads(result.get("encoding", b"null"))
        if member not in result:
            body = b""
        elif encoding == "base64":
            body = b64decode(json.loads(result[member]), validate=True)
        elif encoding == "text" or not is_json_type(media_type(headers) or "application/json"):
            body = json.loads(result[member]).encode()
        else:
            body = result[member]

        assert set(result) <= {"id", "status", member, "headers", "encoding"}
        assert headers or "headers" not in result
        return cls(status, headers, body.strip(WHITE_SPACE), encoding)


def documented_encoding(headers: dict[str, str], body: bytes) -> str | None:
    """
    How a result has to write *body*: the table "The form of a body".
    """
    if not body:
        return None
    kind = media_type(headers)
    if "content-encoding" in headers:
        return "base64"
    if is_json_type(kind):
        return None if is_json(body) else "text" if is_utf8(body) else "base64"
    is_text = kind.startswith("text/") or kind.endswith(("/xml", "+xml"))
    charset = headers.get("content-type", "").lower().partition("charset=")[2].partition(";")[0]
    return None if is_text and charset in ("", "utf-8") and is_utf8(body) else "base64"


def media_type(headers: dict[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json_type(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json")


def is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_json(body: bytes) -> bool:
    """
    Whether *body* is what RFC 8259 allows, in UTF-8 and without half surrogate pairs.
    """
    try:
        value = json.loads(body.decode(), parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except ValueError:
        return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(constant)
