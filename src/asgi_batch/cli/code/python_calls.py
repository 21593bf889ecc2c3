"""
Walks through one function of Python: which requests it sends, what it calls, and in which loops.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from asgi_batch.cli.code.loops import Loop
from asgi_batch.cli.code.python_clients import Scope
from asgi_batch.cli.code.python_loops import (
    comprehension_loop,
    draws,
    for_loop,
    name_of,
    names_in,
    span_of,
    while_loop,
)
from asgi_batch.cli.code.python_urls import request_of
from asgi_batch.cli.code.reach import Call, Function, Send

# Run a function for each of many.
_MAPPING: Final = frozenset("map imap imap_unordered starmap map_async".split())
# Run a function that they are given, once.
_STARTING: Final = frozenset(
    "start_soon start submit to_thread run_in_executor run_sync apply_async partial spawn"
    " create_task ensure_future run_in_threadpool call_soon".split()
)
# Wait for many at once.
_GATHERING: Final = frozenset("gather wait as_completed".split())


class Walk:
    """
    What the function, class or module of *scope* does.
    """

    def __init__(self, scope: Scope) -> None:
        self.function = Function()
        self._scope = scope
        self._loops: list[Loop] = []
        self._kind = "comprehension"
        # The body of a lambda runs where the lambda is given to something that runs it.
        if not isinstance(scope.node, ast.Lambda):
            self._visit_all(scope.node.body)

    def _visit_all(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self._visit(node)

    def _visit(self, node: ast.AST) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Lambda():
                # What is defined does not run here.
                return
            case ast.For() | ast.AsyncFor():
                # What is looped over is made once, and so is what comes after it.
                self._visit(node.iter)
                with self._within(for_loop(node)):
                    self._visit_all(node.body)
                self._visit_all(node.orelse)
            case ast.While():
                with self._within(while_loop(node)):
                    self._visit_all([node.test, *node.body])
                self._visit_all(node.orelse)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
                self._comprehension(node.generators, [node.elt])
            case ast.DictComp():
                self._comprehension(node.generators, [node.key, node.value])
            case ast.Call():
                self._call(node)
            case _:
                self._visit_all(ast.iter_child_nodes(node))

    def _call(self, node: ast.Call) -> None:
        """
        A request, a call of what sends one, or of what runs such a function.
        """
        self._called(node, node.func, node.args)
        name = name_of(node)
        if name in _MAPPING and node.args:
            with self._within(Loop("map", is_each=True)):
                self._run(node, node.args[0], [])
        elif name in _STARTING:
            for position, argument in enumerate(node.args):
                self._run(node, argument, node.args[position + 1 :])
        kind, self._kind = self._kind, "gather" if name in _GATHERING else "comprehension"
        self._visit_all([node.func, *node.args, *node.keywords])
        self._kind = kind

    def _run(self, node: ast.Call, function: ast.expr, arguments: list[ast.expr]) -> None:
        """
        *function* is run with *arguments*, if it is one.
        """
        if isinstance(function, ast.Lambda):
            self._visit(function.body)
        elif not isinstance(function, ast.Call):
            self._called(node, function, arguments)
        elif name_of(function) == "partial" and function.args:
            self._run(node, function.args[0], function.args[1:])

    def _called(self, node: ast.Call, function: ast.expr, arguments: list[ast.expr]) -> None:
        given = [*arguments, *(each.value for each in node.keywords)]
        if isinstance(function, ast.Attribute):
            given.append(function.value)
        if sender := self._scope.sender(function):
            library, name = sender
            method, template = request_of(name, arguments, node.keywords, self._scope.value)
            loops = self._batchable(node, given)
            send = Send(node.lineno, library, method, template, loops)
            self.function.sends.append(send)
        if called := self._scope.function(function):
            name = getattr(called.node, "name", "")
            loops = self._batchable(node, given)
            self.function.calls.append(Call(node.lineno, called, name, loops))

    def _batchable(self, node: ast.Call, given: list[ast.expr]) -> list[Loop]:
        """
        The loops that make the call *node*, which is made from what is *given*, one of many.
        """
        used = {name for each in given for name in names_in(each)}
        has_draw = any(map(draws, given))
        span = span_of(node)
        return [each for each in self._loops if each.is_batchable(span, used, draws=has_draw)]

    def _comprehension(self, generators: list[ast.comprehension], results: list[ast.expr]) -> None:
        kind, self._kind = self._kind, "comprehension"
        depth = len(self._loops)
        for generator in generators:
            self._visit(generator.iter)
            self._loops.append(comprehension_loop(generator, kind))
            self._visit_all(generator.ifs)
        self._visit_all(results)
        del self._loops[depth:]
        self._kind = kind

    @contextmanager
    def _within(self, loop: Loop) -> Iterator[None]:
        self._loops.append(loop)
        yield
        self._loops.pop()
