"""
Tells from an expression of Python what URL it makes, as far as the source says.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Final, TypeAlias

from asgi_batch.cli.code.python_clients import BY_NAME, METHODS
from asgi_batch.cli.code.urls import UNKNOWN, as_path, named, placeholder

#: Tells what a name was set to, where that is known.
Lookup: TypeAlias = Callable[[str], ast.expr | None]

_PERCENT = re.compile(r"%(?:\((\w+)\))?[-+ #0]*\d*(?:\.\d+)?[sdrif]")
_FIELD = re.compile(r"\{(\w*)[^{}]*\}")
# Functions whose value looks like their argument.
_SAME: Final = frozenset({"str", "quote", "quote_plus", "URL", "int"})
_DEEPEST: Final = 8


def request_of(
    name: str, arguments: list[ast.expr], keywords: list[ast.keyword], lookup: Lookup
) -> tuple[str, str]:
    """
    Method and path template of the request that a call sends.

    Args:
        name: What is called: ``get``, or ``request``.
        arguments: What it is given by position.
        keywords: What it is given by name.
        lookup: Tells what names stand for.
    """
    given = {each.arg: each.value for each in keywords}
    method = name.upper()
    if name in BY_NAME:
        first, arguments = (arguments[0], arguments[1:]) if arguments else (None, [])
        node = first or given.get("method")
        method = "" if node is None else url_of(node, lookup).upper()
    url = next(iter(arguments), given.get("url"))
    template = placeholder("url") if url is None else url_of(url, lookup)
    path = as_path(template + _query(given.get("params"), template))
    return (method if method.lower() in METHODS else "GET"), path


def _query(parameters: ast.expr | None, template: str) -> str:
    """
    The query that *parameters* make, where they are written down.
    """
    if not isinstance(parameters, ast.Dict) or "?" in template:
        return ""
    names = [str(each.value) for each in parameters.keys if isinstance(each, ast.Constant)]
    return "?" + "&".join(f"{name}={placeholder(name)}" for name in names) if names else ""


def url_of(node: ast.expr, lookup: Lookup, depth: int = 0) -> str:
    """
    The URL that *node* makes, with placeholders for what is not known.
    """

    def inner(part: ast.expr) -> str:
        return url_of(part, lookup, depth + 1)

    match node:
        case ast.Constant(value=str() | int() as value):
            return str(value)
        case ast.JoinedStr(values=parts):
            return "".join(map(inner, parts))
        case ast.FormattedValue(value=part) | ast.Await(value=part):
            return inner(part)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return inner(left) + inner(right)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return f"{inner(left)}/{inner(right)}"
        case ast.BinOp(left=left, op=ast.Mod(), right=right):
            return _filled(_PERCENT, inner(left), _values(right), inner)
        case ast.Call():
            return _called(node, inner)
        case ast.Name(id=name) if depth < _DEEPEST and (known := lookup(name)) is not None:
            return named(name, inner(known))
        case _:
            return placeholder(_name_of(node))


def _called(node: ast.Call, inner: Callable[[ast.expr], str]) -> str:
    match node:
        case ast.Call(func=ast.Attribute(value=text, attr="format"), args=arguments):
            return _filled(_FIELD, inner(text), arguments, inner)
        case ast.Call(func=function, args=[_, part]) if _name_of(function) == "urljoin":
            return inner(part)
        case ast.Call(func=function, args=[part, *_]) if _name_of(function) in _SAME:
            return inner(part)
        case _:
            return placeholder(_name_of(node))


def _filled(
    field: re.Pattern[str], text: str, values: list[ast.expr], inner: Callable[[ast.expr], str]
) -> str:
    """
    *text* with each *field* replaced by the value in its turn, or by its name.
    """
    remaining = iter(values)

    def replaced(found: re.Match[str]) -> str:
        if found[1] and not found[1].isdigit():
            return placeholder(found[1])
        value = next(remaining, None)
        return placeholder(found[1] or UNKNOWN) if value is None else inner(value)

    return field.sub(replaced, text)


def _values(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def _name_of(node: ast.expr) -> str:
    """
    What a person would call *node*: user["id"] and user.id are both id.
    """
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return name
        case ast.Subscript(value=value):
            return _name_of(value)
        case ast.Call(func=function):
            return _name_of(function)
        case _:
            return UNKNOWN
