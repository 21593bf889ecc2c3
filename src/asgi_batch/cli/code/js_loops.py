"""
The loops of JavaScript, and what is set in them.
"""

from __future__ import annotations

from typing import Final

from tree_sitter import Node

from asgi_batch.cli.code.js_syntax import (
    all_nodes,
    bindings,
    callee_of,
    member_of,
    names_in,
    own_nodes,
    span_of,
    text_of,
)
from asgi_batch.cli.code.loops import Loop, Step

LOOPS: Final = frozenset({"for_statement", "for_in_statement", "while_statement", "do_statement"})

# Calls that give something else each time, without a name that says so.
_DRAWING: Final = frozenset({"pop", "shift", "next", "randomUUID", "dequeue"})
# Calls after which a name stands for something else.
_CHANGING: Final = frozenset({"push", "set", "append", "assign", "unshift"})


def loop_of(node: Node) -> Loop:
    """
    The loop that the statement *node* is.
    """
    kind = node.type.partition("_")[0]
    operator = text_of(node.child_by_field_name("operator"))
    loop = Loop(f"{kind}…{operator}" if operator else kind)
    has_condition = node.child_by_field_name("condition") is not None
    loop.is_open = kind in {"while", "do"} or (kind == "for" and not operator and not has_condition)
    if operator:
        loop.names.update(names_in(node.child_by_field_name("left")))
    for each in own_nodes(node):
        loop.has_exit |= each.type in {"break_statement", "return_statement"}
        if each.type == "call_expression":
            owner, name = member_of(callee_of(each))
            if name in _CHANGING:
                loop.names.update(names_in(owner))
        if bound := bindings(each):
            targets, value = frozenset(names_in(bound[0])), bound[1]
            loop.names |= targets
            if value is not None:
                loop.steps.append(Step(targets, frozenset(names_in(value)), span_of(value)))
    return loop


def draws(node: Node) -> bool:
    """
    Whether *node* takes something from somewhere, and something else the next time.
    """
    return any(
        each.type == "call_expression" and member_of(callee_of(each))[1] in _DRAWING
        for each in all_nodes(node)
    )
