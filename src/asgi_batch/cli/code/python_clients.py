"""
Tells which names of a Python module are HTTP clients: modules, their functions, and their sessions.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

#: A function, a class or the module: whatever has names of its own.
Owner: TypeAlias = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)

METHODS: Final = frozenset({"get", "post", "put", "patch", "delete", "head", "options"})
#: Called with the method first.
BY_NAME: Final = frozenset({"request", "stream"})

_CLIENTS: Final = {
    "requests": frozenset({"Session", "session"}),
    "httpx": frozenset({"Client", "AsyncClient"}),
    "httpx2": frozenset({"Client", "AsyncClient"}),
    "aiohttp": frozenset({"ClientSession"}),
}
_ENTER: Final = frozenset({"enter_context", "enter_async_context"})
_OPTIONAL: Final = frozenset({"Optional", "Annotated"})


@dataclass(slots=True, eq=False)
class Scope:
    """
    What names mean in one function, class or module.

    Args:
        outer: Where to look for what is not known here; None for the module.
        node: The function, class or module itself.
        owner: The class where this is one of its methods, so that ``self`` is known.
        defined: Its functions, by name.
        modules: Names of libraries.
        functions: Names of functions that send a request: library and method.
        makers: Names of what makes a client: the library.
        clients: Names, and for classes attributes, that are clients: the library.
        values: What names were set to; None for those set more than once, and for parameters.
    """

    node: Owner
    outer: Scope | None = None
    owner: Scope | None = None
    defined: dict[str, Scope] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    functions: dict[str, tuple[str, str]] = field(default_factory=dict)
    makers: dict[str, str] = field(default_factory=dict)
    clients: dict[str, str] = field(default_factory=dict)
    values: dict[str, ast.expr | None] = field(default_factory=dict)

    def holder(self, name: str) -> Scope | None:
        """
        The scope that gives *name* its meaning.
        """
        scope: Scope | None = self
        while scope is not None:
            if scope.knows(name):
                return scope
            scope = scope.outer
        return None

    def knows(self, name: str) -> bool:
        """
        Whether *name* has a meaning of its own here.
        """
        imported = (self.modules, self.functions, self.makers)
        return any(name in kind for kind in (*imported, self.defined, self.clients, self.values))

    def function(self, node: ast.expr) -> Scope | None:
        """
        The function of this file that a call of *node* calls.
        """
        match node:
            case ast.Name(id=name):
                holder = self.holder(name)
                return holder.defined.get(name) if holder else None
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
                return self.owner.defined.get(name) if self.owner else None
            case _:
                return None

    def value(self, name: str) -> ast.expr | None:
        """
        What *name* was set to, if only once.
        """
        holder = self.holder(name)
        return holder.values.get(name) if holder else None

    def client(self, node: ast.expr | None) -> str | None:
        """
        The library whose client *node* is; None where it is none.
        """
        match node:
            case ast.Name(id=name):
                holder = self.holder(name)
                return holder.clients.get(name) if holder else None
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
                return self.owner.clients.get(name) if self.owner else None
            case ast.Call(func=ast.Attribute(attr=name), args=[inner, *_]) if name in _ENTER:
                return self.client(inner)
            case ast.Call(func=function):
                return self.maker(function)
            case ast.Await(value=inner) | ast.NamedExpr(value=inner):
                return self.client(inner)
            case ast.BoolOp(values=parts):
                return next(filter(None, map(self.client, parts)), None)
            case ast.IfExp(body=body, orelse=orelse):
                return self.client(body) or self.client(orelse)
            case _:
                return None

    def maker(self, node: ast.expr) -> str | None:
        """
        The library whose client is made by a call of *node*.
        """
        match node:
            case ast.Name(id=name):
                holder = self.holder(name)
                return holder.makers.get(name) if holder else None
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
                return self.owner.makers.get(name) if self.owner else None
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                library = self._module(module)
                return library if library and name in _CLIENTS[library] else None
            case _:
                return None

    def sender(self, node: ast.expr) -> tuple[str, str] | None:
        """
        Library and method where a call of *node* sends a request.
        """
        match node:
            case ast.Name(id=name):
                holder = self.holder(name)
                return holder.functions.get(name) if holder else None
            case ast.Attribute(value=value, attr=name) if name in METHODS or name in BY_NAME:
                library = self.client(value)
                if library is None and isinstance(value, ast.Name):
                    library = self._module(value.id)
                    if library == "aiohttp" and name != "request":
                        return None
                return (library, name) if library else None
            case _:
                return None

    def annotated(self, node: ast.expr | None) -> str | None:
        """
        The library whose client something is by its annotation.
        """
        match node:
            case ast.Constant(value=str(text)):
                try:
                    return self.annotated(ast.parse(text, mode="eval").body)
                except SyntaxError:
                    return None
            case ast.BinOp(left=left, right=right):
                return self.annotated(left) or self.annotated(right)
            case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inner):
                parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
                return self.annotated(next(iter(parts), None)) if name in _OPTIONAL else None
            case ast.Name() | ast.Attribute():
                return self.maker(node)
            case _:
                return None

    def _module(self, name: str) -> str | None:
        holder = self.holder(name)
        return holder.modules.get(name) if holder else None

    def import_from(self, node: ast.Import | ast.ImportFrom) -> None:
        """
        Take over what *node* imports.
        """
        library = getattr(node, "module", None)
        for alias in node.names:
            name = alias.asname or alias.name
            if isinstance(node, ast.Import):
                if alias.name in _CLIENTS:
                    self.modules[name] = alias.name
            elif library in _CLIENTS and node.level == 0:
                # aiohttp has no function for each method.
                sends = {"request"} if library == "aiohttp" else METHODS | BY_NAME
                if alias.name in _CLIENTS[library]:
                    self.makers[name] = library
                elif alias.name in sends:
                    self.functions[name] = (library, alias.name)


def own_nodes(owner: ast.AST) -> Iterator[ast.AST]:
    """
    The nodes that run in *owner* itself; functions and classes inside are given, not entered.
    """
    waiting = list(ast.iter_child_nodes(owner))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            waiting.extend(ast.iter_child_nodes(node))


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[ast.arg]:
    """
    All parameters of *function*, those by position first.
    """
    arguments = function.args
    others = [each for each in (arguments.vararg, arguments.kwarg) if each]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *others]
