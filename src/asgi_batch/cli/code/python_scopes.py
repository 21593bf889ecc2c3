"""
Finds out what the names of a Python module stand for, function by function.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from asgi_batch.cli.code.python_clients import FUNCTIONS, Scope, own_nodes, parameters


def scopes_of(tree: ast.Module) -> list[Scope]:
    """
    The scopes of *tree*, that of the module first.
    """
    scopes = list(_open(Scope(node=tree)))
    for scope in scopes:
        _bind(scope)
    # What is a client may only be known once something else is; this ends, since it only grows.
    known = -1
    while known != (known := sum(len(each.clients) + len(each.makers) for each in scopes)):
        for scope in scopes:
            _recognise(scope)
    return scopes


def _open(scope: Scope) -> Iterator[Scope]:
    """
    *scope* and all scopes inside.
    """
    yield scope
    is_class = isinstance(scope.node, ast.ClassDef)
    for node in own_nodes(scope.node):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            inner = Scope(
                node=node,
                outer=scope.outer if is_class else scope,
                owner=scope if is_class else scope.owner,
            )
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                scope.defined[node.name] = inner
            yield from _open(inner)


def _bind(scope: Scope) -> None:
    """
    Note what is imported, given as an argument, and set.
    """
    if isinstance(scope.node, FUNCTIONS):
        scope.values.update((each.arg, None) for each in parameters(scope.node))
    for node in own_nodes(scope.node):
        if isinstance(node, ast.Import | ast.ImportFrom):
            scope.import_from(node)
        for target, value in bindings(node):
            if isinstance(target, ast.Name):
                # Set twice, or in a loop, it is not known.
                scope.values[target.id] = None if target.id in scope.values else value


def bindings(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """
    What *node* sets, and to what; None for a part of something.
    """
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                yield from _targets(target, value)
        case ast.AnnAssign(target=target, value=value) if value is not None:
            yield target, value
        case ast.NamedExpr(target=target, value=value):
            yield target, value
        case ast.AugAssign(target=target):
            yield target, None
        case ast.withitem(context_expr=value, optional_vars=target) if target is not None:
            yield from _targets(target, value)
        case ast.For(target=target) | ast.AsyncFor(target=target):
            yield from _targets(target, None)
        case ast.comprehension(target=target):
            yield from _targets(target, None)
        case _:
            return


def _targets(
    target: ast.expr, value: ast.expr | None
) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    if isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from _targets(element, None)
    elif isinstance(target, ast.Starred):
        yield from _targets(target.value, None)
    else:
        yield target, value


def _recognise(scope: Scope) -> None:
    """
    Note what is a client, as far as it is known by now.
    """
    if isinstance(scope.node, FUNCTIONS):
        for parameter in parameters(scope.node):
            _note(scope, parameter.arg, scope.annotated(parameter.annotation))
    for node in own_nodes(scope.node):
        if isinstance(node, ast.AnnAssign) and (library := scope.annotated(node.annotation)):
            _note_target(scope, node.target, library)
        for target, value in bindings(node):
            if library := scope.client(value):
                _note_target(scope, target, library)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = scope.defined[node.name]
            if library := scope.annotated(node.returns) or _returned(inner):
                scope.makers[node.name] = library
        if isinstance(node, ast.Call):
            _pass_on(scope, node)


def _note(scope: Scope, name: str, library: str | None) -> None:
    if library:
        scope.clients[name] = library


def _note_target(scope: Scope, target: ast.expr, library: str) -> None:
    match target:
        case ast.Name(id=name):
            scope.clients[name] = library
        case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name) if scope.owner:
            scope.owner.clients[name] = library
        case _:
            return


def _returned(function: Scope) -> str | None:
    returns = (node for node in own_nodes(function.node) if isinstance(node, ast.Return))
    return next(filter(None, (function.client(each.value) for each in returns)), None)


def _pass_on(scope: Scope, call: ast.Call) -> None:
    """
    Tell the function that is called which of its parameters are clients.
    """
    called = scope.function(call.func)
    if called is None or not isinstance(called.node, FUNCTIONS):
        return
    names = [each.arg for each in parameters(called.node)]
    if isinstance(call.func, ast.Attribute):
        names = names[1:]
    given = [*zip(names, call.args, strict=False)]
    given += [(each.arg, each.value) for each in call.keywords if each.arg in names]
    for name, value in given:
        if library := scope.client(value):
            called.clients[name] = library
