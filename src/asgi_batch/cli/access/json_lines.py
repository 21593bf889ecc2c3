"""
One line of JSON from an access log: the fields that many loggers agree on, whatever they call them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

# In the order in which they are looked for; those of an object inside are joined with a dot.
_METHOD: Final = (
    "method request_method http_method verb http.request.method request.method"
    " httpRequest.requestMethod req.method http.method requestMethod"
).split()
_TARGET: Final = (
    "path uri url request_uri request_path target request.uri url.original httpRequest.requestUrl"
    " req.url url.path http.target http.path http.url full_path requestUrl requestPath"
).split()
_STATUS: Final = (
    "status status_code response_code http.response.status_code response.status statusCode"
    " httpRequest.status res.statusCode http.status_code code"
).split()
_TIME: Final = (
    "time timestamp ts @timestamp asctime datetime time_local time_iso8601 date msec"
    " start_time event_time"
).split()
_HOST: Final = (
    "remote_addr client_ip remote_ip ip client client_addr remote_host clientip source.ip"
    " request.remote_ip request.client_ip httpRequest.remoteIp client.ip req.remoteAddress"
    " client_host remoteAddr host"
).split()
_OTHERS: Final = (
    "user remote_user user_id http_user_agent user_agent user_agent.original"
    " httpRequest.userAgent agent"
).split()
_REQUEST_LINE = re.compile(r"([A-Z]+) (\S+)")
_decode = msgspec.json.Decoder().decode


class Fields(NamedTuple):
    """
    What of a line is needed; the time is as it stands there.
    """

    caller: object
    time: object
    method: str
    target: str
    status: int


def json_request(line: str) -> Fields | None:
    """
    The fields of *line*; None where it is no JSON object, or says nothing of a request.
    """
    if not line.lstrip().startswith("{"):
        return None
    try:
        fields = _decode(line)
    except msgspec.DecodeError:
        return None
    method, target = _first(fields, _METHOD), _first(fields, _TARGET)
    if not isinstance(method, str) or not isinstance(target, str):
        method, target = _from_request_line(fields)
    status = _status(_first(fields, _STATUS))
    if method is None or target is None or status is None:
        return None
    caller = (_without_port(_first(fields, _HOST)), *(_first(fields, [name]) for name in _OTHERS))
    return Fields(str(caller), _first(fields, _TIME), method.upper(), target, status)


def _first(fields: dict[str, Any], names: Iterable[str]) -> Any:
    for name in names:
        value = fields.get(name)
        if value is None and "." in name:
            outer, _, inner = name.partition(".")
            value = _inside(fields.get(outer), inner)
        if value is not None and not isinstance(value, dict | list):
            return value
    return None


def _inside(value: Any, name: str) -> Any:
    """
    The field of *value* that is called *name*, with a dot for each level.
    """
    for part in name.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def _from_request_line(fields: dict[str, Any]) -> tuple[str | None, str | None]:
    line = fields.get("request")
    found = _REQUEST_LINE.match(line) if isinstance(line, str) else None
    return (found[1], found[2]) if found else (None, None)


def _status(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _without_port(host: Any) -> Any:
    if isinstance(host, str) and host.count(":") == 1:
        return host.partition(":")[0]
    return host
