"""
What is worth a batch: in a log, or in a source tree. Nothing here prints or reads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")
# What an operation's path may hold; all else is written in percent.
_EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFinding:
    """
    An endpoint that callers call in loops.

    Args:
        method: In upper case.
        template: Its path.
        requests: All that there were.
        saved: Those that batches would have saved.
        bursts: Loops that were seen.
        longest: Requests in the longest one.
        targets: A few paths of that one, with their queries.
    """

    method: str
    template: str
    requests: int
    saved: int
    bursts: int
    longest: int
    targets: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """
        The finding as it stands in the output.
        """
        return {
            "method": self.method,
            "template": self.template,
            "requests": self.requests,
            "saved": self.saved,
            "bursts": self.bursts,
            "longest": self.longest,
            "example": self.example(),
        }

    def example(self) -> dict[str, Any]:
        """
        A batch to be sent in place of a loop.
        """
        return _batch(self.method, self.targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeFinding:
    """
    A request that source code sends in a loop.

    Args:
        file: Where, from the root of the tree.
        line: Of the call.
        method: In upper case.
        template: The path as far as the source tells it, with names in braces for the rest.
        client: Which library sends it.
        loop: What kind of loop.
        depth: Loops around the call.
        through: The function through which it is called in the loop; None where it stands there.
        source: The line.
    """

    file: str
    line: int
    method: str
    template: str
    client: str
    loop: str
    depth: int = 1
    through: str | None = None
    source: str

    def as_json(self) -> dict[str, Any]:
        """
        The finding as it stands in the output.
        """
        return {
            "file": self.file,
            "line": self.line,
            "method": self.method,
            "template": self.template,
            "client": self.client,
            "loop": self.loop,
            "depth": self.depth,
            "through": self.through,
            "source": self.source,
            "example": self.example(),
        }

    def example(self) -> dict[str, Any]:
        """
        A batch to be sent in place of the loop, with numbers for what only the program knows.
        """
        has_parameter = _PLACEHOLDER.search(self.template) is not None
        count = _EXAMPLES if has_parameter or self.method in _WITH_BODY else 1
        paths = tuple(
            _PLACEHOLDER.sub(str(number), self.template) for number in range(1, count + 1)
        )
        return _batch(self.method, paths)


def _batch(method: str, paths: tuple[str, ...]) -> dict[str, Any]:
    body: dict[str, Any] = {"body": {}} if method in _WITH_BODY else {}
    return {"operations": [{"method": method, "path": path, **body} for path in paths]}
