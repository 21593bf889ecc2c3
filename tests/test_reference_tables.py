"""
The names in docs/reference.md are those of the wire: members, methods, headers, scope keys.
"""

import re

import anyio
import httpx
import pytest

from asgi_batch import BatchMiddleware, CurrentOperation
from asgi_batch._core import headers
from asgi_batch._core.models import Summary
from asgi_batch._problem import Problem
from asgi_batch.dialects._native_checks import METHODS
from asgi_batch.dialects._native_wire import Envelope, WireOperation
from asgi_batch.errors import BatchRefused
from pages import DOCS, first_names, names, section, table_after, tables

REFERENCE = DOCS / "reference.md"

# What an app answers to operations whose results have, taken together, every member there is.
_ANSWERS = {
    "/json": (200, [(b"content-type", b"application/json"), (b"etag", b'"1"')], b"{}"),
    "/bytes": (200, [(b"content-type", b"image/png")], b"\x89PNG"),
    "/missing": (404, [(b"content-type", b"text/plain")], b"Not found"),
    "/endless": (200, [(b"content-type", b"text/event-stream")], b""),
}


async def _answer(scope, receive, send):
    status, headers, body = _ANSWERS[scope["path"]]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _post(app, paths):
    """
    What *app*, which has been wrapped, answers to a batch that gets *paths*.
    """

    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            operations = [{"method": "GET", "path": path} for path in paths]
            return await client.post("/batch", json={"operations": operations})

    return anyio.run(ask).json()


@pytest.mark.parametrize(
    ("sentence", "members"),
    [
        ("The batch:", Envelope.__struct_fields__),
        ("An operation:", WireOperation.__struct_fields__),
        ("The summary:", Summary.__struct_fields__),
    ],
)
def test_members_are_those_of_the_wire(sentence, members):
    """
    Each object of the wire is listed with all its members.
    """
    assert sorted(first_names(table_after(REFERENCE, sentence))) == sorted(members)


def test_members_of_an_answer_are_those_of_the_wire():
    """
    The answer and its results are listed with all their members.
    """
    answer = _post(BatchMiddleware(_answer), _ANSWERS)
    in_results = {member for result in answer["results"] for member in result}

    assert first_names(table_after(REFERENCE, "The answer:")) == list(answer)
    assert set(first_names(table_after(REFERENCE, "A result:"))) == in_results


def test_members_of_a_problem_are_those_of_the_wire():
    """
    An entry of ``errors`` is listed with all its members.
    """
    problem = Problem(code="", detail="", pointer="", index=0, id="")

    assert first_names(table_after(REFERENCE, "An entry of `errors`:")) == list(problem.as_dict())


def test_checks_name_every_refusal():
    """
    The order of checks leaves no refusal out and invents none.
    """
    submitted, later, *_ = tables(section(REFERENCE, "## Checks"))

    assert {(int(row[0]), code) for row in [*submitted, *later] for code in names(row[1])} == {
        (each.status, each.code) for each in BatchRefused.__subclasses__()
    }


def test_methods_are_those_of_the_code():
    """
    The methods that an operation may have are listed.
    """
    line = re.search(r"^Methods: .*$", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)[0]

    assert names(line) == list(METHODS)


def test_headers_that_may_be_set_are_those_of_the_code():
    """
    The headers that an operation may set are listed.
    """
    listed, _, _ = section(REFERENCE, "### Headers of an operation").partition("The argument")

    assert names(listed) == sorted(headers.OPERATION_HEADERS)


def test_headers_that_may_never_be_set_are_those_of_the_code():
    """
    The headers that no setting allows are listed by their reasons.
    """
    rows = tables(section(REFERENCE, "### Headers of an operation"))[0]

    assert [set(names(row[1])) for row in rows] == [
        {*headers._CALLER, *headers._CALLER_PREFIXES},
        headers._FRAMING,
        headers._METHOD_OVERRIDES,
    ]


def test_headers_that_are_not_inherited_are_those_of_the_code():
    """
    The headers that operations do not take over are listed, and examples of those that they do.
    """
    text = section(REFERENCE, "### Headers that operations inherit")
    examples, _, others = text.partition("those that speak of")
    inherited = headers.inherited_headers((name.encode(), b"") for name in names(text))

    assert set(names(others)) == headers._OUTER_ONLY
    assert [name.decode() for name, _ in inherited] == names(examples)


def test_headers_that_are_shown_are_those_of_the_code():
    """
    The headers of the app that a result shows are listed.
    """
    listed, _, _ = section(REFERENCE, "### Headers of a result").partition("The argument")

    assert names(listed) == sorted(headers.RESULT_HEADERS)


def test_members_of_the_current_operation_are_those_of_the_class():
    """
    What an app can ask about the operation it is answering is listed.
    """
    rows = tables(section(REFERENCE, "## Inside the app"))[0]

    assert first_names(rows) == list(CurrentOperation.__struct_fields__)


def test_keys_of_a_scope_are_listed():
    """
    The keys that an operation's scope can have are listed.
    """
    seen = []

    async def app(scope, receive, send):
        seen.extend(scope)

    async def outer(scope, receive, send):
        established = dict.fromkeys(("app", "litestar_app", "user", "auth"), 1)
        await batch({**scope, **established, "state": {}}, receive, send)

    batch = BatchMiddleware(app)
    _post(outer, ["/"])

    assert sorted(first_names(tables(section(REFERENCE, "## Inside the app"))[1])) == sorted(seen)
