"""
Finds requests of JavaScript and TypeScript code that are sent in loops, by its syntax tree.

Knows `fetch` and axios: the library, the instances that it makes, and functions of the file that
send a request themselves.
"""

from __future__ import annotations

from typing import Final

import tree_sitter_javascript
import tree_sitter_typescript
from tree_sitter import Language, Parser

from asgi_batch.cli.code.js_calls import Walk
from asgi_batch.cli.code.js_scopes import scopes_of
from asgi_batch.cli.code.reach import Function

_JAVASCRIPT: Final = Language(tree_sitter_javascript.language())
_TYPESCRIPT: Final = Language(tree_sitter_typescript.language_typescript())
_LANGUAGES: Final = {
    **dict.fromkeys((".js", ".jsx", ".mjs", ".cjs"), _JAVASCRIPT),
    **dict.fromkeys((".ts", ".mts", ".cts"), _TYPESCRIPT),
    ".tsx": Language(tree_sitter_typescript.language_tsx()),
}
#: How the names of such files end.
SUFFIXES: Final = frozenset(_LANGUAGES)


def functions_of(source: bytes, suffix: str) -> tuple[dict[object, Function], bool]:
    """
    What the functions in *source* send and call, and whether all of it could be parsed.

    Args:
        source: What is in the file.
        suffix: One of `SUFFIXES`.
    """
    root = Parser(_LANGUAGES[suffix]).parse(source).root_node
    scopes = scopes_of(root)
    walk = Walk(scopes)
    return walk.functions, not root.has_error
