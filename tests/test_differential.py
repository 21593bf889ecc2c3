"""
An operation is answered as the same request is when it comes on its own (T3).

Requests and answers are made up; each goes directly to an app and through a batch, and the two
answers must be the same, once the result is read as docs/reference.md says.
"""

import json
from base64 import b64encode
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount

from apps.mirrors import MIRRORS
from apps.reflection import METHODS, Reply
from asgi_batch import BatchMiddleware
from equivalence import BATCH_ONLY, CALLER, Answer, Place, Request
from support import Exchange, call

EXAMPLES = settings().max_examples


class Document(msgspec.Struct):
    """
    The answer to a batch, its results as they were written.
    """

    results: list[dict[str, msgspec.Raw]]
    summary: dict[str, int]


PLACES = {
    "alone": Place(),
    # uvicorn --root-path, and what others make of the same setting.
    "root-path-in-path": Place(prefix="/api/v1", root_path="/api/v1"),
    "root-path-not-in-path": Place(root_path="/api/v1"),
    "mounted": Place(prefix="/m\u00fcnt", is_mounted=True),
}

SPECIAL_JSON = [
    "12345678901234567890123",
    "1.0",
    "-0",
    "1E+2",
    "0.10000000000000000000000001",
    '{"a":1,"a":2}',
    '{"b":1,"a":2}',
    '{ "a" : [ ] }',
    '"\\u00fc\\ud83d\\ude00\\/"',
    '"\u00fc\U0001f600\u2028"',
    "null",
    '""',
]
NOT_QUITE_JSON = [
    b"",
    b" ",
    b"NaN",
    b"[1,]",
    b"{}{}",
    b"\xff",
    b"\xef\xbb\xbf{}",
    b'"\x00"',
    b"'a'",
]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
json_texts = st.sampled_from(SPECIAL_JSON) | st.builds(json.dumps, json_values)
octets = st.binary(max_size=40)
texts = st.text(max_size=20)

segments = (
    st.text(
        st.characters(categories=["L", "M", "N", "P", "S", "Zs"], exclude_characters="/\\;"),
        min_size=1,
        max_size=6,
    )
    .filter(lambda segment: segment not in (".", ".."))
    .map(lambda segment: quote(segment, safe="!$&'()*+,=:@"))
)
queries = st.sampled_from(
    ["", "?", "?a", "?a=1&a=2&&b=", "?x=%C3%BC+%2F%00", "?q=[1]&r={2}", "?rank=1.0&draft=yes"]
)
paths = st.builds("/echo/{}".format, segments) | st.sampled_from(
    ["/", "/echo", "/echo/", "/echo/a/b", "/only-get", "/only-get/", "/notes/1", "/notes/x"]
)
replies = st.builds(
    Reply,
    st.sampled_from([200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308])
    | st.integers(400, 599),
    st.lists(
        st.sampled_from(
            [
                ("content-type", "application/json"),
                ("content-type", "Application/JSON; charset=utf-8"),
                ("content-type", "application/problem+json"),
                ("content-type", "text/plain; charset=utf-8"),
                ("content-type", "text/html"),
                ("content-type", "text/plain; charset=latin-1"),
                ("content-type", "image/svg+xml"),
                ("content-type", "image/png"),
                ("content-type", ""),
                ("Location", "/elsewhere?a=b"),
                ("location", "http://elsewhere.example/"),
                ("ETag", 'W/"1"'),
                ("link", '</2>; rel="next"'),
                ("link", '</9>; rel="last"'),
                ("vary", "accept"),
                ("vary", "cookie"),
                ("retry-after", "10"),
                ("content-encoding", "gzip"),
                ("set-cookie", "session=secret"),
                ("x-internal", "secret"),
            ]
        ),
        max_size=5,
        unique_by=lambda pair: pair if pair[0] in ("link", "vary") else pair[0].lower(),
    ),
    st.lists(octets | json_texts.map(str.encode) | st.sampled_from(NOT_QUITE_JSON), max_size=3),
)
targets = st.builds("".join, st.tuples(paths, queries)) | st.builds(
    lambda reply: f"/reply?{reply.as_query()}", replies
)
operation_headers = st.fixed_dictionaries(
    {},
    optional={
        "Accept": st.sampled_from(["*/*", "text/html", "application/json;q=0.5"]),
        "accept-language": st.just("de, en;q=0.5"),
        "Content-Type": st.sampled_from(
            ["application/json", "text/plain", "application/vnd.x+json", "multipart/form-data"]
        ),
        "If-None-Match": st.just('"1"'),
        "prefer": st.just("return=minimal"),
    },
)
bodies = (
    st.tuples(json_texts, st.just("json"))
    | st.tuples(texts, st.just("text"))
    | st.tuples(octets.map(lambda data: b64encode(data).decode()), st.just("base64"))
    | st.just((None, "json"))
)
requests = st.builds(
    lambda method, target, headers, body: Request(method, target, headers, *body),
    st.sampled_from(METHODS),
    targets,
    operation_headers,
    bodies,
)


def at(place: Place, app: Any) -> Any:
    """
    *app* where *place* has it.
    """
    return Starlette(routes=[Mount(place.prefix, app)]) if place.is_mounted else app


async def ask_directly(app: Any, place: Place, request: Request) -> Answer:
    exchange = Exchange(request.scope(place), request.content())
    try:
        await call(app, exchange)
    except Exception:
        # A server would write a traceback; the client has its answer.
        if not exchange.answered.is_set():
            raise
    return Answer.of(request, exchange)


async def ask_in_batch(app: Any, place: Place, asked: list[Request]) -> list[Answer]:
    operations = b", ".join(request.as_operation() for request in asked)
    scope = place.scope("POST", "/batch", CALLER | BATCH_ONLY)
    exchange = await call(app, Exchange(scope, b'{"operations": [%b]}' % operations))

    assert exchange.status == 200, exchange.body
    assert exchange.json()["summary"]["total"] == len(asked)
    document = msgspec.json.decode(exchange.body, type=Document)
    results = [{name: bytes(raw) for name, raw in each.items()} for each in document.results]
    assert [json.loads(result["id"]) for result in results] == list(map(str, range(len(asked))))
    return [Answer.read(result) for result in results]


ASYNCIO = ("asyncio", {"use_uvloop": False})
CASES = [
    *(pytest.param(name, ASYNCIO, id=f"{name}-asyncio") for name in MIRRORS),
    *(
        pytest.param(name, ("trio", {}), id=f"{name}-trio")
        for name in ("bare", "starlette", "fastapi", "litestar")
    ),
]


@pytest.mark.parametrize(("framework", "anyio_backend"), CASES)
@settings(max_examples=EXAMPLES)
@given(
    place=st.sampled_from(list(PLACES.values())), asked=st.lists(requests, min_size=1, max_size=4)
)
async def test_t3_operation_equals_request(framework, anyio_backend, place, asked):
    """
    T3: status, body and headers of a result are those of the direct answer.
    """
    note(f"{place} {asked}")
    app = MIRRORS[framework]
    directly = at(place, app)
    direct = [await ask_directly(directly, place, request) for request in asked]
    batched = await ask_in_batch(at(place, BatchMiddleware(app)), place, asked)

    assert batched == direct
