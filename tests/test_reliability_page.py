"""
docs/reliability.md names tests that exist, and leaves none of its numbers out.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text(encoding="utf-8")

# What the library has to show.
DONE = """
    T4 T5 T6 T7 T8 T10 T11 T12 T13 T14 T15 T16 T17 T18 T19 T20 T21 T22 T23 T24 T25 T27 T28
    T30 T31 T32 T39 T40 T44 T45 T48 T49
    F3 F4 F5 F6 F7 F8 F9 F10 F11 F12 F13 F14 F15 F16 F17 F18 F19 F20 F21 F22 F23 F24
    F25 F26 F27 F28 F29 F30 F31 F32 F33 F34
    F35 F36 F37 F38 F39 F40 F41 F42 F43 F44 F45 F46 F47 F48 F49 F50 F51 F52 F53 F54 F55 F56 F57
""".split()

_CITED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def test_every_test_that_is_named_exists():
    """
    A test that was renamed is renamed on the page too.
    """
    cited = set(_CITED.findall(PAGE))
    missing = {(file, name) for file, name in cited if name not in names_of(TESTS / file)}

    assert len(cited) > 100
    assert missing == set()


@cache
def names_of(path):
    """
    All functions of a file, those in classes too.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


@pytest.mark.parametrize("number", DONE)
def test_every_number_has_a_row_with_tests(number):
    """
    What is said to be done says how it is shown.
    """
    (row,) = re.findall(rf"^\| {number} \|.*$", PAGE, re.MULTILINE)

    assert _CITED.search(row) is not None
