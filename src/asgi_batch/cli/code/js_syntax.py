"""
What tree-sitter calls the parts of JavaScript and TypeScript; looks, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tree_sitter import Node

from asgi_batch.cli.code.loops import Span

FUNCTIONS: Final = frozenset(
    "arrow_function function_expression function_declaration method_definition"
    " generator_function generator_function_declaration function".split()
)
CLASSES: Final = frozenset({"class_declaration", "class", "abstract_class_declaration"})
# What only says something about a type, or only groups.
_WRAPPINGS: Final = frozenset(
    "parenthesized_expression await_expression as_expression non_null_expression"
    " satisfies_expression".split()
)


def text_of(node: Node | None) -> str:
    """
    The source of *node*.
    """
    return "" if node is None or node.text is None else node.text.decode(errors="replace")


def unwrapped(node: Node | None) -> Node | None:
    """
    What *node* is about: the call in ``(await call(…))!``.
    """
    while node is not None and node.type in _WRAPPINGS:
        node = next(iter(node.named_children), None)
    return node


def arguments_of(call: Node) -> list[Node]:
    """
    What *call* is given; the template of a tagged one is none.
    """
    arguments = call.child_by_field_name("arguments")
    if arguments is None or arguments.type != "arguments":
        return []
    return [each for each in arguments.named_children if each.type != "comment"]


def callee_of(call: Node) -> Node:
    """
    What is called, or made with ``new``.
    """
    function = call.child_by_field_name("function") or call.child_by_field_name("constructor")
    return unwrapped(function) or call


def member_of(node: Node | None) -> tuple[Node | None, str]:
    """
    Object and name of ``object.name``; no object where *node* is anything else.
    """
    if node is None or node.type != "member_expression":
        return None, ""
    return unwrapped(node.child_by_field_name("object")), text_of(
        node.child_by_field_name("property")
    )


def own_nodes(root: Node) -> Iterator[Node]:
    """
    The nodes that belong to *root* itself; functions and classes inside are given, not entered.
    """
    waiting = list(root.named_children)
    while waiting:
        node = waiting.pop()
        yield node
        if node.type not in FUNCTIONS and node.type not in CLASSES:
            waiting.extend(node.named_children)


def all_nodes(root: Node) -> Iterator[Node]:
    """
    *root* and everything inside.
    """
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(node.named_children)


def names_in(root: Node | None) -> Iterator[str]:
    """
    The names that *root* uses or sets; what belongs to ``this`` has names of its own.
    """
    for node in [] if root is None else all_nodes(root):
        if node.type in {
            "identifier",
            "shorthand_property_identifier",
            "shorthand_property_identifier_pattern",
        }:
            yield text_of(node)
        elif node.type == "member_expression":
            owner, name = member_of(node)
            if owner is not None and owner.type == "this":
                yield f"this.{name}"


def bindings(node: Node) -> tuple[Node, Node | None] | None:
    """
    What *node* sets and to what; None where it sets nothing.
    """
    fields = {
        "variable_declarator": ("name", "value"),
        "assignment_expression": ("left", "right"),
        "augmented_assignment_expression": ("left", None),
        "update_expression": ("argument", None),
        "for_in_statement": ("left", None),
        "public_field_definition": ("name", "value"),
        "field_definition": ("property", "value"),
    }.get(node.type)
    if fields is None:
        return None
    target = node.child_by_field_name(fields[0])
    value = node.child_by_field_name(fields[1]) if fields[1] else None
    return (target, value) if target is not None else None


def pairs_of(node: Node | None) -> dict[str, Node]:
    """
    The members of the object that *node* writes down.
    """
    found = {}
    for pair in node.named_children if node is not None and node.type == "object" else []:
        key, value = pair.child_by_field_name("key"), pair.child_by_field_name("value")
        if pair.type == "pair" and value is not None:
            found[text_of(key).strip("'\"")] = value
        elif pair.type == "method_definition":
            found[text_of(pair.child_by_field_name("name"))] = pair
        elif pair.type == "shorthand_property_identifier":
            found[text_of(pair)] = pair
    return found


def span_of(node: Node) -> Span:
    """
    Where *node* begins and ends.
    """
    return node.start_byte, node.end_byte
