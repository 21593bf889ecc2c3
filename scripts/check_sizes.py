"""
Holds the size gates: no module or script of src above 300 lines, no function above 40.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40
# Its signature has a line for each setting of the library, so its body alone is counted.
SETTINGS = {("middleware.py", "__init__")}
SOURCE = Path(__file__).resolve().parent.parent / "src"


def oversized(path: Path) -> Iterator[str]:
    """
    One sentence for each thing in *path* that is too long.
    """
    text = path.read_text(encoding="utf-8")
    place = path.relative_to(SOURCE.parent)
    if (lines := len(text.splitlines())) > MAX_FILE_LINES:
        yield f"{place}: {lines} lines; a file may have {MAX_FILE_LINES}."
    if path.suffix != ".py":
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if (place.name, node.name) in SETTINGS else node
            lines = (node.end_lineno or node.lineno) - first.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield (
                    f"{place}:{node.lineno}: {node.name} has {lines} lines; "
                    f"a function may have {MAX_FUNCTION_LINES}."
                )


def main() -> int:
    """
    Print everything that is too long; 1 where there is something.
    """
    paths = [*sorted(SOURCE.rglob("*.py")), *sorted(SOURCE.rglob("*.js"))]
    complaints = [line for path in paths for line in oversized(path)]
    print("\n".join(complaints) or "All files and functions are short enough.")
    return int(bool(complaints))


if __name__ == "__main__":
    sys.exit(main())
