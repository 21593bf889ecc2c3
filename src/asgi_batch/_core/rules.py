"""What a batch may contain, taken from the settings once, so that checks need nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from asgi_batch._core.routes import Routes

#: Which batches are atomic.
Atomic: TypeAlias = Literal["optional", "always", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """
    The bounds that dialects and checks apply; `Limits` explains each number.

    Args:
        batch_path: The endpoint's own path, which no operation may name.
        lenient_paths: Whether ``%2F``, ``;`` and ``//`` are let through.
        operation_headers: Lower-case names an operation may set.
        routes: What operations may reach; everything where None.
        atomic: Whether batches are atomic: none, those that say so, or all.
        root_path: What the app takes off the beginning of an operation's path, if it is there.
    """

    batch_path: str
    lenient_paths: bool
    operation_headers: frozenset[str]
    max_operations: int
    max_operation_bytes: int
    max_path_bytes: int
    max_query_bytes: int
    max_headers: int
    max_header_bytes: int
    max_json_depth: int
    max_problems: int
    operation_timeout: float
    routes: Routes | None = None
    atomic: Atomic = "never"
    root_path: str = ""
