"""
What a program's URL looks like as a path template; for all languages alike.
"""

from __future__ import annotations

import re
from typing import Final

_ORIGIN = re.compile(r"^https?://[^/?#]*", re.IGNORECASE)
# A base that only the program knows: {base}/users/7
_BASE = re.compile(r"^\{[^{}]*\}(?=/)")
_UNKNOWN = re.compile(r"\{[^{}]*\}")
_WORD = re.compile(r"\W+")

#: Stands for what cannot be told.
UNKNOWN: Final = "value"


def placeholder(name: str) -> str:
    """
    How a value that is called *name* stands in a template.
    """
    return "{" + (_WORD.sub("_", name).strip("_") or UNKNOWN) + "}"


def named(name: str, url: str) -> str:
    """
    *url* as that of something called *name*, whose name is the better one if nothing is known.
    """
    return placeholder(name) if _UNKNOWN.fullmatch(url) else url


def as_path(url: str) -> str:
    """
    The path template of *url*, in which placeholders stand for what is not known.
    """
    path = _BASE.sub("", _ORIGIN.sub("", url)).partition("#")[0]
    return path if path.startswith("/") else f"/{path}"
