"""
One reason why a batch is refused; an `InvalidBatch` lists them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """
    One reason why a batch is refused.

    Args:
        code: Stable name of the reason.
        detail: A sentence that says what to change.
        pointer: JSON pointer (RFC 6901) to the member at fault.
        index: Index of the operation; None where the batch itself is at fault.
        id: The operation's id, where it has a usable one.
    """

    code: str
    detail: str
    pointer: str
    index: int | None = None
    id: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """
        The wire form; members that are None are left out.
        """
        names = ("index", "id", "pointer", "code", "detail")
        members = {name: getattr(self, name) for name in names}
        return {name: value for name, value in members.items() if value is not None}
