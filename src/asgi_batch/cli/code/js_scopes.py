"""
Finds out what the names of a JavaScript file stand for, function by function.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tree_sitter import Node

from asgi_batch.cli.code.js_syntax import (
    CLASSES,
    FUNCTIONS,
    arguments_of,
    bindings,
    callee_of,
    member_of,
    names_in,
    own_nodes,
    pairs_of,
    text_of,
    unwrapped,
)

# Modules whose default is a fetch like the one of the platform.
_FETCHES: Final = frozenset({"node-fetch", "cross-fetch", "isomorphic-fetch", "undici"})
_GLOBALS: Final = frozenset({"window", "globalThis", "self", "global"})
_TYPES: Final = frozenset({"AxiosInstance", "AxiosStatic", "Axios"})


@dataclass(slots=True, eq=False)
class Scope:
    """
    What names mean in one function, class or file.

    Args:
        node: The function, class or file.
        outer: Where to look for what is not known here; None for the file.
        owner: The class whose ``this`` it has.
        clients: Names, and for classes members, that are axios or made by it.
        fetches: Names that are `fetch`.
        values: What names were set to; None for what is not known.
        defined: Functions, by name.
    """

    node: Node
    outer: Scope | None = None
    owner: Scope | None = None
    clients: set[str] = field(default_factory=set)
    fetches: set[str] = field(default_factory=set)
    values: dict[str, Node | None] = field(default_factory=dict)
    defined: dict[str, Node] = field(default_factory=dict)

    def holder(self, name: str) -> Scope | None:
        """
        The scope that gives *name* its meaning.
        """
        scope: Scope | None = self
        while scope is not None:
            kinds = (scope.clients, scope.fetches, scope.values, scope.defined)
            if any(name in kind for kind in kinds):
                return scope
            scope = scope.outer
        return None

    def value(self, name: str) -> Node | None:
        """
        What *name* was set to, if only once.
        """
        holder = self.holder(name)
        return holder.values.get(name) if holder else None

    def is_client(self, node: Node | None) -> bool:
        """
        Whether *node* is axios, or an instance of it.
        """
        node = unwrapped(node)
        if node is None:
            return False
        if node.type == "identifier":
            holder = self.holder(text_of(node))
            return holder is not None and text_of(node) in holder.clients
        if node.type in {"binary_expression", "ternary_expression"}:
            return any(self.is_client(each) for each in node.named_children)
        owner, name = member_of(callee_of(node) if node.type == "call_expression" else node)
        if node.type == "call_expression":
            return name == "create" and self.is_client(owner)
        if owner is not None and owner.type == "this":
            return self.owner is not None and name in self.owner.clients
        return name == "default" and owner is not None and self.is_client(owner)

    def is_fetch(self, node: Node | None) -> bool:
        """
        Whether *node* is `fetch`.
        """
        if node is not None and node.type == "identifier":
            holder = self.holder(text_of(node))
            is_own = holder is None and text_of(node) == "fetch"
            return is_own or (holder is not None and text_of(node) in holder.fetches)
        owner, name = member_of(node)
        return name == "fetch" and text_of(owner) in _GLOBALS

    def function(self, node: Node | None) -> Node | None:
        """
        The function of this file that a call of *node* calls.
        """
        if node is not None and node.type == "identifier":
            holder = self.holder(text_of(node))
            return holder.defined.get(text_of(node)) if holder else None
        owner, name = member_of(node)
        if owner is not None and owner.type == "this":
            return self.owner.defined.get(name) if self.owner else None
        if owner is not None and owner.type == "identifier":
            member = pairs_of(self.value(text_of(owner))).get(name)
            return member if member is not None and member.type in FUNCTIONS else None
        return None


def scopes_of(root: Node) -> dict[int, Scope]:
    """
    The scope of each function and class of a file, and of the file, by the id of its node.
    """
    scopes = {scope.node.id: scope for scope in _open(Scope(node=root))}
    for scope in scopes.values():
        _bind(scope)
    known = -1
    # What is a client may only be known once something else is; this ends, since it only grows.
    while known != (known := sum(len(each.clients) for each in scopes.values())):
        for scope in scopes.values():
            _recognise(scope, scopes)
    return scopes


def _open(scope: Scope) -> Iterator[Scope]:
    yield scope
    is_class = scope.node.type in CLASSES
    for node in own_nodes(scope.node):
        if node.type in FUNCTIONS or node.type in CLASSES:
            owner = scope if is_class else scope.owner
            yield from _open(Scope(node=node, outer=scope, owner=owner))


def _bind(scope: Scope) -> None:
    """
    Note what is imported, given as an argument, defined and set.
    """
    if scope.node.type in FUNCTIONS:
        for parameter in parameters(scope.node):
            scope.values.update(dict.fromkeys(names_in(parameter)))
    for node in own_nodes(scope.node):
        if node.type == "import_statement":
            _import(scope, node)
        elif node.type in FUNCTIONS and (name := text_of(node.child_by_field_name("name"))):
            scope.defined[name] = node
        elif bound := bindings(node):
            _set(scope, *bound)


def _set(scope: Scope, target: Node, value: Node | None) -> None:
    inner = unwrapped(value)
    if inner is not None and inner.type in FUNCTIONS:
        scope.defined[text_of(target)] = inner
    elif target.type in {"identifier", "property_identifier", "private_property_identifier"}:
        name = text_of(target)
        scope.values[name] = None if name in scope.values else inner
    elif target.type in {"object_pattern", "array_pattern"}:
        scope.values.update(dict.fromkeys(names_in(target)))
    module = _required(inner)
    names = {text_of(target): "default"} if target.type == "identifier" else _members(target)
    _note_imported(scope, module, names)


def _import(scope: Scope, node: Node) -> None:
    module = text_of(node.child_by_field_name("source")).strip("'\"")
    names: dict[str, str] = {}
    for clause in own_nodes(node):
        if clause.type == "import_clause":
            for each in clause.named_children:
                names |= _imported(each)
    scope.values.update(dict.fromkeys(names))
    _note_imported(scope, module, names)


def _note_imported(scope: Scope, module: str, names: dict[str, str]) -> None:
    """
    Note which of *names* are a client or `fetch`; each comes with what it is called in *module*.
    """
    for name, original in names.items():
        if module == "axios" and original == "default":
            scope.clients.add(name)
        elif module in _FETCHES and original in {"default", "fetch"}:
            scope.fetches.add(name)


def _imported(clause: Node) -> dict[str, str]:
    """
    The names that ``a``, ``{b, c as d}`` and ``* as e`` give, and what they are called there.
    """
    if clause.type != "named_imports":
        return dict.fromkeys(names_in(clause), "default")
    found = {}
    for each in clause.named_children:
        original = each.child_by_field_name("name")
        alias = each.child_by_field_name("alias") or original
        found[text_of(alias)] = text_of(original)
    return found


def _members(pattern: Node) -> dict[str, str]:
    """
    The names that ``{a, b: c}`` sets, and what they are called there.
    """
    found = {}
    for each in pattern.named_children:
        key = each.child_by_field_name("key") or each
        found[text_of(each.child_by_field_name("value") or each)] = text_of(key)
    return found


def _required(node: Node | None) -> str:
    """
    The module in ``require("module")``.
    """
    if node is None or node.type != "call_expression" or text_of(callee_of(node)) != "require":
        return ""
    return "".join(text_of(each).strip("'\"") for each in arguments_of(node))


def parameters(function: Node) -> list[Node]:
    """
    What *function* takes.
    """
    single = function.child_by_field_name("parameter")
    several = function.child_by_field_name("parameters")
    return [single] if single is not None else several.named_children if several is not None else []


def _recognise(scope: Scope, scopes: dict[int, Scope]) -> None:
    """
    Note what is a client, as far as it is known by now.
    """
    if scope.node.type in FUNCTIONS:
        for parameter in parameters(scope.node):
            _annotated(scope, parameter, parameter.child_by_field_name("pattern"))
    for node in own_nodes(scope.node):
        bound = bindings(node)
        if bound is not None:
            _annotated(scope, node, bound[0])
            if scope.is_client(bound[1]):
                _note(scope, bound[0])
        if node.type == "call_expression":
            function = scope.function(callee_of(node))
            if function is not None:
                _pass_on(scope, scopes[function.id], arguments_of(node))


def _annotated(scope: Scope, node: Node, target: Node | None) -> None:
    """
    Note *target* where its type says that it is a client; also one that a constructor keeps.
    """
    annotation = text_of(node.child_by_field_name("type")).lstrip(": ")
    if target is not None and annotation in _TYPES:
        _note(scope, target)
        is_kept = any(each.type == "accessibility_modifier" for each in node.named_children)
        if is_kept and scope.owner is not None:
            scope.owner.clients.add(text_of(target))


def _note(scope: Scope, target: Node) -> None:
    owner, name = member_of(target)
    if owner is None:
        scope.clients.add(text_of(target))
    elif owner.type == "this" and scope.owner is not None:
        scope.owner.clients.add(name)


def _pass_on(scope: Scope, called: Scope, arguments: list[Node]) -> None:
    """
    Tell the function that is called which of its parameters are clients.
    """
    for parameter, argument in zip(parameters(called.node), arguments, strict=False):
        if scope.is_client(argument):
            called.clients.add(text_of(parameter.child_by_field_name("pattern") or parameter))
