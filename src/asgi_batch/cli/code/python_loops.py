"""
The loops of Python, and what is set in them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Final

from asgi_batch.cli.code.loops import Loop, Span, Step
from asgi_batch.cli.code.python_clients import own_nodes
from asgi_batch.cli.code.python_scopes import bindings

# Calls that give something else each time, without a name that says so.
_DRAWING: Final = frozenset("pop popleft popitem next get get_nowait readline uuid4".split())
# Calls after which a name stands for something else.
_CHANGING: Final = frozenset("update append add extend insert setdefault".split())


def for_loop(node: ast.For | ast.AsyncFor) -> Loop:
    """
    The loop that *node* is.
    """
    loop = _body_loop("for" if isinstance(node, ast.For) else "async for", node.body)
    loop.names.update(names_in(node.target))
    return loop


def while_loop(node: ast.While) -> Loop:
    """
    The loop that *node* is.
    """
    loop = _body_loop("while", [ast.Expr(node.test), *node.body])
    loop.is_open = True
    return loop


def comprehension_loop(node: ast.comprehension, kind: str) -> Loop:
    """
    The loop that one ``for`` of a comprehension is.
    """
    return Loop(kind, set(names_in(node.target)))


def names_in(node: ast.AST) -> Iterator[str]:
    """
    The names that *node* uses; what belongs to ``self`` has names of its own.
    """
    for each in ast.walk(node):
        match each:
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                yield f"self.{name}"
            case ast.Name(id=name) if name != "self":
                yield name


def draws(node: ast.AST) -> bool:
    """
    Whether *node* takes something from somewhere, and something else the next time.
    """
    return any(isinstance(each, ast.Call) and name_of(each) in _DRAWING for each in ast.walk(node))


def name_of(call: ast.Call) -> str:
    """
    What is called, without what it belongs to.
    """
    return str(getattr(call.func, "attr", "") or getattr(call.func, "id", ""))


def span_of(node: ast.expr) -> Span:
    """
    Where *node* begins and ends.
    """
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def _body_loop(kind: str, body: Sequence[ast.stmt]) -> Loop:
    loop = Loop(kind)
    for node in own_nodes(ast.Module(list(body), [])):
        loop.has_exit |= isinstance(node, ast.Break | ast.Return)
        for target, value in bindings(node):
            targets = frozenset(names_in(target))
            loop.names |= targets
            if value is not None:
                loop.steps.append(Step(targets, frozenset(names_in(value)), span_of(value)))
        if isinstance(node, ast.Call) and name_of(node) in _CHANGING:
            loop.names.update(names_in(node.func))
    return loop
