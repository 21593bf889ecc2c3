"""
One operation and the outer request's scope make one new ASGI scope.

Nothing is handed on but what is named here: the ASGI keys, and what outer
middleware established about the same caller (RELIABILITY §4).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from asgi_batch._core.headers import inherited_headers
from asgi_batch._core.models import CurrentOperation, HeaderPairs, Operation
from asgi_batch.types import Scope

#: The key under which a scope tells that it is an operation's.
MARKER: Final = "asgi_batch"

# Set by frameworks and authentication middleware outside of us, for the caller and not for a route.
_FORWARDED_KEYS: Final = ("app", "litestar_app", "user", "auth")

_OWN_KEYS: Final = ("asgi", "method", "path", "raw_path", "query_string", "headers", "extensions")

# Litestar keeps the state of the outer request's own connection there.
_FOREIGN_STATE_PREFIX: Final = "_ls_"


def route_path(scope: Scope) -> str:
    """
    ``scope["path"]`` without the root path, whether or not the server put it in front.
    """
    path: str = scope["path"]
    return path[len(path_prefix(scope)) :]


def path_prefix(scope: Scope) -> str:
    """
    The root path, where the server put it in front of ``scope["path"]``; else nothing.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return root if path.startswith(root) and path[len(root) :].startswith("/") else ""


class ScopeTemplate:
    """
    Makes the scopes of all operations of one batch.

    Args:
        outer: The scope of the batch request.
        forward: Further keys of *outer* that operations get to see.

    Attributes:
        headers: What all operations take over from the batch request.
    """

    __slots__ = ("_common", "_prefix", "_raw_prefix", "_state", "_tls", "headers")

    def __init__(self, outer: Scope, forward: Iterable[str] = ()) -> None:
        self._prefix = path_prefix(outer)
        self._raw_prefix = quote(self._prefix).encode()
        self.headers = inherited_headers(outer["headers"])
        self._state = _shared_state(outer.get("state"))
        self._tls = _frozen((outer.get("extensions") or {}).get("tls"))
        self._common: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "root_path": outer.get("root_path", ""),
            "scheme": outer.get("scheme", "http"),
            "server": _address(outer.get("server")),
            "client": _address(outer.get("client")),
        }
        for key in (*_FORWARDED_KEYS, *forward):
            if key in outer:
                self._common[key] = outer[key]
        # Each operation has its own; they are here so that a copy has room for them.
        self._common |= dict.fromkeys(_OWN_KEYS)

    def scope_for(self, operation: Operation, current: CurrentOperation) -> Scope:
        """
        A scope that shares no mutable object with any other operation's.
        """
        scope = self._common.copy()
        scope["asgi"] = {"version": "3.0", "spec_version": "2.4"}
        scope["method"] = operation.method
        scope["path"] = self._prefix + operation.path
        scope["raw_path"] = self._raw_prefix + operation.raw_path
        scope["query_string"] = operation.query_string
        inherited = self._inherited(operation.replaces) if operation.replaces else self.headers
        scope["headers"] = [*inherited, *operation.headers]
        scope["extensions"] = {} if self._tls is None else {"tls": self._tls.copy()}
        scope[MARKER] = current
        if self._state is not None:
            scope["state"] = self._state.copy()
        return scope

    def _inherited(self, replaced: frozenset[bytes]) -> HeaderPairs:
        return tuple(pair for pair in self.headers if pair[0] not in replaced)


def _address(pair: Sequence[Any] | None) -> tuple[Any, ...] | None:
    # Some servers give a list, which one operation could change for all.
    return None if pair is None else tuple(pair)


def _frozen(tls: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if tls is None:
        return None
    return {key: tuple(value) if isinstance(value, list) else value for key, value in tls.items()}


def _shared_state(state: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if state is None:
        return None
    return {key: value for key, value in state.items() if not key.startswith(_FOREIGN_STATE_PREFIX)}
