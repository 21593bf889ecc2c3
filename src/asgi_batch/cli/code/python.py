"""
Finds requests of Python code that are sent in loops, by its syntax tree.

Knows requests, httpx and aiohttp: their functions, their clients and sessions wherever those come
from inside of the file, and functions of the file that send one themselves.
"""

from __future__ import annotations

import ast

from asgi_batch.cli.code.python_calls import Walk
from asgi_batch.cli.code.python_scopes import scopes_of
from asgi_batch.cli.code.reach import Function


def functions_of(source: bytes) -> dict[object, Function]:
    """
    What the functions in *source* send and call, and the module itself.

    Raises:
        SyntaxError: It is not Python.
    """
    return {scope: Walk(scope).function for scope in scopes_of(ast.parse(source))}
