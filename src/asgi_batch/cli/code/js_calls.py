"""
Walks through a JavaScript file: which requests it sends, what it calls, and in which loops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from tree_sitter import Node

from asgi_batch.cli.code.js_loops import LOOPS, draws, loop_of
from asgi_batch.cli.code.js_scopes import Scope
from asgi_batch.cli.code.js_syntax import (
    CLASSES,
    FUNCTIONS,
    arguments_of,
    callee_of,
    member_of,
    names_in,
    span_of,
    text_of,
    unwrapped,
)
from asgi_batch.cli.code.js_urls import request_of
from asgi_batch.cli.code.loops import Loop
from asgi_batch.cli.code.reach import Call, Function, Send

# Methods that run a function for each of many.
_ITERATING: Final = frozenset(
    "forEach map flatMap filter find findIndex some every reduce reduceRight each eachLimit"
    " mapLimit mapSeries eachSeries".split()
)
_ITERATING_BY_NAME: Final = frozenset({"pMap", "pEach", "pMapSeries", "Array.from"})
_WAITING: Final = frozenset(f"Promise.{name}" for name in ("all", "allSettled", "race", "any"))
# Calls that keep a function until something happens.
_KEEPING: Final = frozenset(
    "addEventListener on once subscribe useCallback useMemo useQuery useMutation watch".split()
)


class Walk:
    """
    What the functions of a file do; *functions* has them by the id of their node.

    Args:
        scopes: What names stand for, by the id of the node; that of the file first.
    """

    def __init__(self, scopes: dict[int, Scope]) -> None:
        self.functions: dict[object, Function] = {}
        self._scopes = scopes
        self._scope = next(iter(scopes.values()))
        self._function = Function()
        self._loops: list[Loop] = []
        self._kind = ""
        self._enter(self._scope.node)

    def _enter(self, node: Node) -> None:
        """
        Walk through the function, class or file *node*, which nothing around it runs here.
        """
        before = self._scope, self._function, self._loops, self._kind
        self._scope, self._function = self._scopes[node.id], Function()
        self._loops, self._kind = [], ""
        self.functions[node.id] = self._function
        self._visit_all(node.named_children)
        self._scope, self._function, self._loops, self._kind = before

    def _run(self, node: Node) -> None:
        """
        Walk through the function *node*, which is run where it stands.
        """
        before, self._scope = self._scope, self._scopes[node.id]
        self._visit_all(node.named_children)
        self._scope = before

    def _visit_all(self, nodes: Sequence[Node | None]) -> None:
        for node in nodes:
            if node is not None:
                self._visit(node)

    def _visit(self, node: Node) -> None:
        if node.type in FUNCTIONS or node.type in CLASSES:
            self._enter(node)
        elif node.type in LOOPS:
            self._loop(node)
        elif node.type in {"call_expression", "new_expression"}:
            self._call(node)
        else:
            self._visit_all(node.named_children)

    def _loop(self, node: Node) -> None:
        """
        What a loop goes through is made once, and so is what it starts with.
        """
        once = [node.child_by_field_name(name) for name in ("right", "initializer")]
        self._visit_all(once)
        outside = {each.id for each in once if each is not None}
        with self._within(loop_of(node)):
            self._visit_all([each for each in node.named_children if each.id not in outside])

    def _call(self, node: Node) -> None:
        callee = callee_of(node)
        arguments = arguments_of(node)
        self._called(node, callee, arguments)
        if callee is not None and callee.type in FUNCTIONS:
            self._run(callee)
        else:
            self._visit(callee)
        owner, name = member_of(callee)
        is_by_name = text_of(callee) in _ITERATING_BY_NAME
        is_each = is_by_name or (owner is not None and name in _ITERATING)
        label = text_of(callee) if is_by_name else name
        kind, self._kind = self._kind, text_of(callee) if text_of(callee) in _WAITING else ""
        for argument in filter(None, map(unwrapped, arguments)):
            if is_each and self._is_function(argument):
                with self._within(Loop(kind or label, is_each=True)):
                    self._given(node, argument)
            elif argument.type in FUNCTIONS and name not in _KEEPING:
                self._run(argument)
            else:
                self._visit(argument)
        self._kind = kind

    def _is_function(self, node: Node) -> bool:
        is_known = self._scope.function(node) is not None or self._scope.is_fetch(node)
        return node.type in FUNCTIONS or is_known or self._scope.is_client(member_of(node)[0])

    def _given(self, node: Node, function: Node) -> None:
        """
        The call *node* runs *function* for each of many.
        """
        if function.type in FUNCTIONS:
            self._run(function)
        else:
            self._called(node, function, [])

    def _called(self, node: Node, callee: Node, arguments: list[Node]) -> None:
        owner, name = member_of(callee)
        line = node.start_point[0] + 1
        client, request = "", None
        if self._scope.is_fetch(callee):
            client, request = "fetch", request_of("", arguments, self._scope)
        elif self._scope.is_client(callee):
            client, request = "axios", request_of("", arguments, self._scope)
        elif self._scope.is_client(owner):
            client, request = "axios", request_of(name, arguments, self._scope)
        if request is not None:
            loops = self._batchable(node, [*arguments, owner])
            self._function.sends.append(Send(line, client, *request, loops))
        called = self._scope.function(callee)
        if called is not None:
            loops = self._batchable(node, [*arguments, owner])
            self._function.calls.append(Call(line, called.id, name or text_of(callee), loops))

    def _batchable(self, node: Node, given: list[Node | None]) -> list[Loop]:
        """
        The loops that make the call *node*, which is made from what is *given*, one of many.
        """
        if not self._loops:
            return []
        used = {name for part in given for name in names_in(part)}
        has_draw = any(draws(part) for part in given if part is not None)
        span = span_of(node)
        return [each for each in self._loops if each.is_batchable(span, used, draws=has_draw)]

    @contextmanager
    def _within(self, loop: Loop) -> Iterator[None]:
        self._loops.append(loop)
        yield
        self._loops.pop()
