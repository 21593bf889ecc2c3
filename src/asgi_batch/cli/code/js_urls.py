"""
Tells from an expression of JavaScript what URL it makes, as far as the source says.
"""

from __future__ import annotations

from typing import Final

from tree_sitter import Node

from asgi_batch.cli.code.js_scopes import Scope
from asgi_batch.cli.code.js_syntax import (
    arguments_of,
    callee_of,
    member_of,
    pairs_of,
    text_of,
    unwrapped,
)
from asgi_batch.cli.code.urls import UNKNOWN, as_path, named, placeholder

_SAME: Final = frozenset({"encodeURIComponent", "encodeURI", "String", "URL", "Request", "Number"})
_METHODS: Final = frozenset({"get", "post", "put", "patch", "delete", "head", "options"})
_FORMS: Final = {"postForm": "POST", "putForm": "PUT", "patchForm": "PATCH"}
_DEEPEST: Final = 8


def request_of(name: str, arguments: list[Node], scope: Scope) -> tuple[str, str] | None:
    """
    Method and path template of a request; None where calling *name* sends none.

    Args:
        name: The member of axios; empty where axios or `fetch` itself is called.
        arguments: What it is given.
        scope: What names stand for.
    """
    method = _FORMS.get(name, name.upper() if name in _METHODS else "")
    if not method and name not in {"", "request"}:
        return None
    first = unwrapped(arguments[0]) if arguments else None
    settings = _object(first, scope) or (_object(arguments[1], scope) if arguments[1:] else {})
    url = settings.get("url", first) if first is None or first.type != "string" else first
    if not method and "method" in settings:
        method = url_of(settings["method"], scope).upper()
    template = placeholder("url") if url is None else url_of(url, scope)
    query = _object(settings.get("params"), scope)
    if query and "?" not in template:
        template += "?" + "&".join(f"{key}={placeholder(key)}" for key in query)
    return (method if method.lower() in _METHODS else "GET"), as_path(template)


def url_of(node: Node, scope: Scope, depth: int = 0) -> str:
    """
    The URL that *node* makes, with placeholders for what is not known.
    """
    node = unwrapped(node) or node
    if node.type in {"string", "template_string"}:
        return "".join(_piece(each, scope, depth) for each in node.named_children)
    if node.type == "number":
        return text_of(node)
    if node.type == "binary_expression" and text_of(node.child_by_field_name("operator")) == "+":
        return "".join(url_of(each, scope, depth + 1) for each in node.named_children)
    if node.type in {"call_expression", "new_expression"}:
        return _called(node, scope, depth)
    if node.type == "identifier" and depth < _DEEPEST:
        value = scope.value(text_of(node))
        if value is not None:
            return named(text_of(node), url_of(value, scope, depth + 1))
    return placeholder(_name_of(node))


def _piece(node: Node, scope: Scope, depth: int) -> str:
    if node.type == "template_substitution":
        return url_of(next(iter(node.named_children), node), scope, depth + 1)
    return text_of(node)


def _called(node: Node, scope: Scope, depth: int) -> str:
    callee = callee_of(node)
    arguments = arguments_of(node)
    owner, name = member_of(callee)
    if name == "toString" and owner is not None:
        return url_of(owner, scope, depth + 1)
    if text_of(callee) in _SAME and arguments:
        return url_of(arguments[0], scope, depth + 1)
    return placeholder(name or text_of(callee))


def _object(node: Node | None, scope: Scope) -> dict[str, Node]:
    """
    The members of the object that *node* is, where the source says so.
    """
    node = unwrapped(node)
    if node is not None and node.type == "identifier":
        node = scope.value(text_of(node))
    return pairs_of(node)


def _name_of(node: Node) -> str:
    """
    What a person would call *node*: user["id"] and user.id are both id.
    """
    if node.type == "subscript_expression":
        index = node.child_by_field_name("index")
        if index is not None and index.type == "string":
            return text_of(index).strip("'\"")
        owner = node.child_by_field_name("object")
        return UNKNOWN if owner is None else _name_of(owner)
    return member_of(node)[1] or (text_of(node) if node.type == "identifier" else UNKNOWN)
