"""
One line of an access log: who has asked for what, and when.

Knows the common and the combined form, that of uvicorn, and JSON. A log has one form as a rule, so
the one that fitted last is tried first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from asgi_batch.cli.access.json_lines import json_request
from asgi_batch.cli.access.times import Times


class Request(NamedTuple):
    """
    What one line says.

    Args:
        caller: Tells callers apart: their address, and what else the line says of them.
        time: Seconds since 1970; None where the line has no time.
        method: In upper case.
        target: Path and query.
        status: Of the answer.
    """

    caller: object
    time: float | None
    method: str
    target: str
    status: int


_Form: TypeAlias = Callable[[str, Times], Request | None]

_COMMON = re.compile(
    r"(?<!\S)(\S+) \S+ (\S+) \[([^\]]{1,40})\] "
    r'"([A-Z]+) (\S+)[^"]*" (\d{3}) \S+'
    r'(?: "[^"]*" "([^"]*)")?'
)
_UVICORN = re.compile(r'(?<!\S)(\S+?)(?::\d+)? - "([A-Z]+) (\S+) HTTP/[\d.]+" (\d{3})')
_TIME = re.compile(r"\W{0,2}(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?)")
_COLOURS = re.compile(r"\x1b\[[\d;]*m")


class Lines:
    """
    Reads the lines of one log.
    """

    def __init__(self) -> None:
        self._times = Times()
        self._forms: list[_Form] = [_common, _uvicorn, _json]

    def read(self, line: str) -> Request | None:
        """
        What *line* says; None where it is in no form that is known.
        """
        for form in self._forms:
            request = form(line, self._times)
            if request is not None:
                if form is not self._forms[0]:
                    self._forms.remove(form)
                    self._forms.insert(0, form)
                return request
        return None


def _common(line: str, times: Times) -> Request | None:
    found = _COMMON.search(line)
    if found is None:
        return None
    host, user, time, method, target, status, agent = found.groups()
    when = times.common(time)
    return None if when is None else Request((host, user, agent), when, method, target, int(status))


def _uvicorn(line: str, times: Times) -> Request | None:
    if "\x1b" in line:
        line = _COLOURS.sub("", line)
    found = _UVICORN.search(line)
    if found is None:
        return None
    host, method, target, status = found.groups()
    time = _TIME.match(line)
    return Request(host, times.iso(time[1]) if time else None, method, target, int(status))


def _json(line: str, times: Times) -> Request | None:
    """
    What a line of JSON says.
    """
    fields = json_request(line)
    if fields is None:
        return None
    return Request(
        fields.caller, times.any(fields.time), fields.method, fields.target, fields.status
    )
