"""
The tables of limits and errors in README and docs are those of the code; links lead somewhere.
"""

import ast
import re
from dataclasses import fields
from pathlib import Path

import anyio
import httpx
import pytest

from asgi_batch import BatchMiddleware, GateStatistics, Limits
from asgi_batch._core.failures import Failure
from asgi_batch.errors import BatchRefused
from pages import DOCS, PAGES, README, ROOT, first_names, names, section, tables

SOURCE = ROOT / "src" / "asgi_batch"
ERRORS = DOCS / "errors.md"
LIMITS = DOCS / "limits.md"

_UNITS = {"KiB": 1024, "MiB": 1024**2, "s": 1}

# One faulty operation, or several, for each code inside of invalid_batch.
_FAULTS = {
    "empty_batch": [],
    "unknown_field": [{"method": "GET", "path": "/", "mehtod": "GET"}],
    "invalid_operation": [{"method": "GET"}],
    "method_not_allowed": [{"method": "get", "path": "/"}],
    "invalid_path": [{"method": "GET", "path": "users"}],
    "invalid_query": [{"method": "GET", "path": "/?a=%zz"}],
    "path_not_allowed": [{"method": "GET", "path": "/denied"}],
    "nested_batch": [{"method": "POST", "path": "/batch"}],
    "duplicate_id": [{"method": "GET", "path": "/", "id": "a"}] * 2,
    "invalid_header": [{"method": "GET", "path": "/", "headers": {"x_y": "1"}}],
    "header_not_allowed": [{"method": "GET", "path": "/", "headers": {"host": "other"}}],
    "headers_too_large": [{"method": "GET", "path": "/", "headers": {"accept": "a" * 9000}}],
    "operation_too_large": [{"method": "POST", "path": "/", "body": "a" * 1024**2}],
}


def _number(text):
    """
    The number that *text*, such as ``10 MiB``, says.
    """
    digits, _, unit = text.partition(" ")
    return int(digits) * _UNITS.get(unit, 1)


def _is_code(node):
    return isinstance(node, ast.Constant) and re.fullmatch(r"[a-z]+(_[a-z]+)+", str(node.value))


def _arguments(node, makers):
    """
    What *node* hands to one of *makers*, or puts into a fault: a place, a code and a sentence.
    """
    if isinstance(node, ast.Tuple):
        return node.elts if len(node.elts) == 3 else []
    if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in makers:
        return [*node.args, *(keyword.value for keyword in node.keywords)]
    return []


def _leads_somewhere(page, link):
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.exists() or not anchor:
        return target.exists()
    headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
    return anchor in {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize(
    ("page", "heading"),
    [(README, "## Limits"), (LIMITS, "## All limits")],
    ids=["README.md", "limits.md"],
)
def test_limits_are_those_of_the_dataclass(page, heading):
    """
    Each limit is listed once, in order, with its default in readable units.
    """
    rows = tables(section(page, heading))[0]

    assert [(names(row[0])[0], _number(row[1])) for row in rows] == [
        (field.name, field.default) for field in fields(Limits)
    ]


def test_limits_that_are_recommended_can_be_used():
    """
    Each setting that docs/limits.md recommends is accepted, and differs from the defaults.
    """
    rows = tables(section(LIMITS, "## Some settings"))[0]
    recommended = [eval(names(row[1])[0], {"Limits": Limits}) for row in rows]

    assert [limits != Limits() for limits in recommended] == [True] * 4


def test_statistics_are_those_of_the_class():
    """
    What `statistics()` tells is listed in full.
    """
    rows = tables(section(LIMITS, "## Look at it"))[0]

    assert first_names(rows) == [field.name for field in fields(GateStatistics)]


@pytest.mark.parametrize(
    ("page", "heading"),
    [(README, "## Errors"), (ERRORS, "## Refusals")],
    ids=["README.md", "errors.md"],
)
def test_refusals_are_those_of_the_code(page, heading):
    """
    Each way to refuse a batch is listed with its status and code.
    """
    rows = tables(section(page, heading))[0]

    assert sorted((int(row[0]), *names(row[1])) for row in rows) == sorted(
        (each.status, each.code) for each in BatchRefused.__subclasses__()
    )


@pytest.mark.parametrize(
    ("page", "heading"),
    [(README, "## Errors"), (ERRORS, "## Failed operations")],
    ids=["README.md", "errors.md"],
)
def test_failures_are_those_of_the_code(page, heading):
    """
    Each way in which an operation fails is listed, in order, with its status and code.
    """
    rows = tables(section(page, heading))[1]

    assert [(int(row[0]), *names(row[1])) for row in rows] == [
        (failure.status, failure.code) for failure in Failure
    ]


def test_only_skipped_operations_are_said_to_be_safe():
    """
    docs/errors.md says "not executed" of what the code counts as skipped.
    """
    rows = tables(section(ERRORS, "## Failed operations"))[1]

    assert [(row[3], row[4]) == ("no", "yes") for row in rows] == [
        failure.is_skip for failure in Failure
    ]


def test_problems_are_listed():
    """
    docs/errors.md lists the codes that an invalid batch can have, each of which has a fault here.
    """
    rows = tables(section(ERRORS, "### Codes inside `invalid_batch`"))[0]

    assert first_names(rows) == list(_FAULTS)


@pytest.mark.parametrize("code", _FAULTS)
def test_a_fault_has_the_code_that_is_listed(code):
    """
    The faults above are what their codes say, and keep the app from being called.
    """
    calls = []

    async def app(scope, receive, send):
        calls.append(scope)

    async def ask():
        transport = httpx.ASGITransport(BatchMiddleware(app, deny=["/denied"]))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/batch", json={"operations": _FAULTS[code]})

    refusal = anyio.run(ask).json()

    assert refusal["code"] == "invalid_batch"
    assert {error["code"] for error in refusal["errors"]} == {code}
    assert calls == []


def test_no_problem_of_the_code_is_left_out():
    """
    Every code that the source gives to a problem is listed in docs/errors.md.
    """
    makers = {"Problem", "TargetError", "HeaderError", "_note"}
    used = {
        node.value
        for folder in ("_core", "dialects")
        for file in (SOURCE / folder).glob("*.py")
        if file.name not in {"failures.py", "packing.py"}
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        for node in _arguments(call, makers)
        if _is_code(node)
    }

    assert used == set(_FAULTS)


def test_lines_that_wrap_an_app_are_those_of_the_examples():
    """
    What the README tells to write for a framework is in that framework's example, which is tested.
    """
    rows = tables(section(README, "## Wrap your app"))[0]
    missing = []
    for framework, line in rows:
        name = "bare" if framework == "Any ASGI callable" else framework.lower()
        example = Path(ROOT, "examples", f"{name}_app.py").read_text(encoding="utf-8")
        # What is off by default is no part of the shortest way.
        example = example.replace(", console=True)", ")")
        if f"\n{names(line)[0]}" not in re.sub(rf"\b{name}_app\b", "app", example):
            missing.append(framework)

    assert missing == []


def test_rooms_are_those_of_the_source():
    """
    The tree in docs/design.md shows each room of the house.
    """
    tree = re.findall(r"[├└]── (\S+)", section(DOCS / "design.md", "## Rooms"))
    rooms = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in SOURCE.iterdir()
        if path.name not in {"__pycache__", "py.typed"}
    }

    assert set(tree) == rooms


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    """
    A relative link names a file that is there and, after a hash, one of its headings.
    """
    links = re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8"))

    assert [link for link in links if not _leads_somewhere(page, link)] == []
