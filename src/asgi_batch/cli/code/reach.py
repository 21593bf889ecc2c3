"""
What is sent in loops, also through functions of the same file; for all languages alike.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field

from asgi_batch.cli.code.loops import Loop


@dataclass(slots=True, eq=False)
class Send:
    """
    A call that sends a request.

    Args:
        line: Where it stands, from 1.
        client: Which library sends it.
        method: In upper case.
        template: Its path.
        loops: Those that make it one of many, outermost first.
    """

    line: int
    client: str
    method: str
    template: str
    loops: list[Loop]


@dataclass(slots=True, eq=False)
class Call:
    """
    A call of a function of the same file.

    Args:
        line: Where it stands, from 1.
        called: The function.
        name: What it is called there.
        loops: As for `Send`.
    """

    line: int
    called: Hashable
    name: str
    loops: list[Loop]


@dataclass(slots=True, eq=False)
class Function:
    """
    What one function does.
    """

    sends: list[Send] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)


def in_loops(
    functions: Mapping[Hashable, Function],
) -> Iterator[tuple[Send, Call | None, list[Loop]]]:
    """
    Each request that is one of many, the call through which it is, and the loops around it.
    """
    for key, function in functions.items():
        for send in function.sends:
            if send.loops:
                yield send, None, send.loops
        for call in function.calls:
            if call.loops:
                for send in _sent_once(call.called, functions, {key}):
                    yield send, call, call.loops


def _sent_once(
    key: Hashable, functions: Mapping[Hashable, Function], seen: set[Hashable]
) -> Iterator[Send]:
    """
    What a call of the function *key* sends: itself, or through others.

    What it sends in a loop of its own is found there.
    """
    if key in seen:
        return
    yield from (send for send in functions[key].sends if not send.loops)
    for call in functions[key].calls:
        if not call.loops:
            yield from _sent_once(call.called, functions, {*seen, key})
