"""
The pages that people read: their Python runs, and their JSON is JSON.

A block of Python is executed in the order of its page, and shares its names with the blocks before
it. A block with a title shows a file of the reader's own project and is only compiled, as is one
after ``<!-- test: skip-run -->``. A server is started under ``if __name__ == "__main__":``.
"""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest

from asgi_batch._core.failures import Failure
from asgi_batch.errors import BatchRefused

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# What can be wrong with one operation of an invalid batch.
PROBLEMS = set(
    """
    duplicate_id empty_batch header_not_allowed headers_too_large invalid_header invalid_operation
    invalid_path invalid_query method_not_allowed nested_batch operation_too_large
    path_not_allowed unknown_field
    """.split()
)

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)(?P<info>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_SKIP_RUN = "<!-- test: skip-run -->"

# Runs the blocks given as JSON on stdin in one namespace; line numbers are those of the page.
_RUNNER = """
import json, sys, types
page = sys.modules["page"] = types.ModuleType("page")
for path, line, code in json.load(sys.stdin):
    exec(compile("\\n" * (line - 1) + code, path, "exec"), vars(page))
"""


class Block(NamedTuple):
    """
    One fenced block of a page; *line* is that of its first line of code.
    """

    page: Path
    line: int
    language: str
    code: str
    is_run: bool


def blocks(page, language):
    """
    The blocks of *page* in *language*, in their order.
    """
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page=page,
            line=text.count("\n", 0, fence.start("code")) + 1,
            language=fence["language"],
            code=dedent(fence["code"]),
            is_run="title=" not in fence["info"]
            and not text[: fence.start()].rstrip().endswith(_SKIP_RUN),
        )
        for fence in _FENCE.finditer(text)
        if fence["language"] == language
    ]


def parametrize(language):
    """
    A test for each page that has a block in *language*.
    """
    pages = [page for page in PAGES if blocks(page, language)]
    return pytest.mark.parametrize("page", pages, ids=[page.name for page in pages])


def started_servers(tree):
    """
    Lines of the calls of ``uvicorn.run`` that run when the block does.
    """
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if isinstance(statement, ast.If) and "__main__" in ast.unparse(statement.test):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "uvicorn.run":
                yield node.lineno


def json_problems(block):
    """
    Where *block* is not JSON: its line, and why.
    """
    try:
        json.loads(block.code)
    except ValueError as error:
        yield f"{block.page.name}:{block.line}: {error}"


@parametrize("python")
def test_python_of_a_page_runs(page, tmp_path):
    """
    A reader who copies the page's code, block after block, gets no error.
    """
    to_run = [
        (str(block.page), block.line, block.code)
        for block in blocks(page, "python")
        if block.is_run
    ]

    done = subprocess.run(
        [sys.executable, "-c", _RUNNER],
        input=json.dumps(to_run),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr


@parametrize("python")
def test_python_of_a_page_compiles_and_starts_no_server(page):
    """
    Every block is Python, and a server starts only when the reader runs the file.
    """
    trees = [
        ast.parse("\n" * (block.line - 1) + block.code, filename=str(page))
        for block in blocks(page, "python")
    ]

    assert [line for tree in trees for line in started_servers(tree)] == []


@parametrize("json")
def test_json_of_a_page_is_json(page):
    """
    What is shown as JSON can be sent or parsed; what is shortened is shown as text.
    """
    assert [problem for block in blocks(page, "json") for problem in json_problems(block)] == []


def test_readme_shows_python():
    """
    The reader for blocks finds those of the README, so that the tests above test something.
    """
    assert len(blocks(ROOT / "README.md", "python")) > 0


def test_every_error_code_is_documented():
    """
    docs/errors.md names each code that a refusal, a problem in it or a result can carry.
    """
    codes = {each.code for each in BatchRefused.__subclasses__()}
    codes |= {failure.code for failure in Failure}
    codes |= PROBLEMS
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")

    assert {code for code in codes if f"`{code}`" not in text} == set()
