"""
Which requests can travel as operations of one batch, and how they are written as operations.

Nothing is sent here, and nobody waits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import translate
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from asgi_batch._core.headers import OPERATION_HEADERS, inherited_headers
from asgi_batch.client._flavours import flavour_of
from asgi_batch.client._limits import ServerLimits
from asgi_batch.client._operations import body_of
from asgi_batch.errors import ConfigurationError

#: Methods after which nothing is different (RFC 9110 section 9.2.1).
SAFE: Final = frozenset(("GET", "HEAD"))
_KNOWN: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_REPEATABLE: Final = _KNOWN - {"POST", "PATCH"}

# The batch request has them as well; operations neither take them over nor miss them.
_OUTER: Final = frozenset((b"accept-encoding", b"connection"))
# Made anew for each operation.
_MADE: Final = frozenset((b"content-length",))

# How many sets of headers are remembered: few, as there are secrets in them.
_KINDS: Final = 16

# RFC 9110 section 5.5 field-content, printable ASCII only, no white space at the edges.
_VALUE: Final = re.compile(rb"(?:[!-~](?:[\t -~]*[!-~])?)?").fullmatch

_encode: Final = msgspec.json.Encoder().encode


class Key(NamedTuple):
    """
    What requests have in common that may travel together.

    Args:
        origin: Scheme, host and port.
        shared: Headers that only the batch request can have: who asks, and in which way.
        timeout: Time limits.
        loop: The event loop that they wait in; None in threads.
    """

    origin: tuple[str, str, int | None]
    shared: tuple[tuple[bytes, bytes], ...]
    timeout: tuple[tuple[str, Any], ...]
    loop: Any


class Call:
    """
    A request that can travel as an operation.

    Args:
        request: The request.
        key: What it has in common with those that it may travel with.
        path: Its path and query, as the batch endpoint counts them.
        headers: Those that an operation may set, in lower case.
    """

    __slots__ = ("headers", "is_gone", "key", "outcome", "path", "request", "size")

    def __init__(self, request: Any, key: Key, path: str, headers: dict[str, str]) -> None:
        self.request = request
        self.key = key
        self.path = path
        self.headers = headers
        # A redirect has its body, but has not read it.
        self.size = len(request.read())
        self.is_gone = False
        self.outcome: Any = None

    @property
    def is_repeatable(self) -> bool:
        """
        Whether sending it twice has the effect of sending it once.
        """
        return self.request.method in _REPEATABLE or "idempotency-key" in self.headers

    def as_operation(self, shared: frozenset[str]) -> dict[str, Any]:
        """
        The members of the operation; *shared* headers are those of the batch request.
        """
        members: dict[str, Any] = {"method": self.request.method, "path": self.path}
        headers = {name: value for name, value in self.headers.items() if name not in shared}
        if headers:
            members["headers"] = headers
        if self.size:
            members |= body_of(self.request.content)
        return members


class Boarding:
    """
    Decides which requests can travel, and with which others.

    Args:
        path: Of the batch endpoint, from the root of the server.
        root_path: Where the app is mounted that the endpoint belongs to.
        methods: Methods of requests that may travel.
        operation_headers: Headers that the server lets operations set, beside the usual ones.
        exclude: Patterns of paths that never travel.
    """

    def __init__(
        self,
        *,
        path: str,
        root_path: str,
        methods: Iterable[str],
        operation_headers: Iterable[str],
        exclude: Iterable[str],
    ) -> None:
        self.path = path
        self._root_path = root_path.rstrip("/")
        self._methods = frozenset(methods)
        if unknown := sorted(self._methods - _KNOWN):
            raise ConfigurationError(f"methods={unknown}: write some of {sorted(_KNOWN)}.")
        self._settable = OPERATION_HEADERS | {name.lower() for name in operation_headers}
        own = (path, f"{path}/*")
        self._is_excluded = re.compile("|".join(map(translate, (*own, *exclude)))).match
        # Requests of the same moment mostly have the same ones.
        self._split = lru_cache(maxsize=_KINDS)(self._split_anew)

    def admit(self, request: Any, loop: Any = None) -> Call | None:
        """
        *request*, ready to travel; None where it has to go out as it is.

        Args:
            request: Of httpx or httpx2.
            loop: The event loop that it waits in; None in a thread.
        """
        if request.method not in self._methods or request.extensions.keys() - {"timeout"}:
            return None
        flavour, url = flavour_of(request), request.url
        if url.scheme not in ("http", "https"):
            return None
        path = self._path_of(url.raw_path.decode("ascii"))
        if path is None or not isinstance(request.stream, flavour.ByteStream):
            return None
        split = self._split(tuple(request.headers.raw))
        if split is None:
            return None
        shared, headers = split
        timeout = tuple(request.extensions.get("timeout", {}).items())
        key = Key((url.scheme, url.host, url.port), shared, timeout, loop)
        return Call(request, key, path, headers)

    def _path_of(self, target: str) -> str | None:
        path = target.partition("?")[0]
        if self._is_excluded(path) or not target.startswith(f"{self._root_path}/"):
            return None
        return target[len(self._root_path) :]

    def _split_anew(
        self, headers: Iterable[tuple[bytes, bytes]]
    ) -> tuple[tuple[tuple[bytes, bytes], ...], dict[str, str]] | None:
        """
        *headers* that only the batch request can have, and those that an operation can set.
        """
        shared, settable = [], {}
        for raw, value in headers:
            name = raw.lower()
            text = name.decode("latin-1")
            if text in self._settable:
                if text in settable or _VALUE(value) is None or b"event-stream" in value:
                    return None
                settable[text] = value.decode("ascii")
            elif _is_inherited(name) or (name in _OUTER and value.lower() != b"upgrade"):
                shared.append((name, value))
            elif name not in _MADE:
                return None
        return tuple(shared), settable


@lru_cache(maxsize=256)
def _is_inherited(name: bytes) -> bool:
    return bool(inherited_headers(((name, b""),)))


def is_small_enough(call: Call, limits: ServerLimits) -> bool:
    """
    Whether the server takes *call* as an operation, however few others there are.
    """
    path, _, query = call.path.partition("?")
    return (
        len(path) <= limits.max_path_bytes
        and len(query) <= limits.max_query_bytes
        and call.size <= limits.max_operation_bytes
        and len(call.headers) <= limits.max_headers
        and sum(map(len, call.headers)) + sum(map(len, call.headers.values()))
        <= limits.max_header_bytes
    )


def batch_of(calls: list[Call]) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """
    Headers and body of the batch request that *calls* travel in.
    """
    shared = _shared_headers(calls)
    operations = [call.as_operation(frozenset(shared)) for call in calls]
    headers = [
        *calls[0].key.shared,
        *((name.encode(), value.encode()) for name, value in shared.items()),
        (b"content-type", b"application/json"),
    ]
    return headers, _encode({"operations": operations})


def _shared_headers(calls: list[Call]) -> dict[str, str]:
    """
    Headers that all *calls* have alike, and take over from the batch request.
    """
    first = calls[0].headers
    return {
        name: value
        for name, value in first.items()
        if _is_inherited(name.encode()) and all(call.headers.get(name) == value for call in calls)
    }


def parts_of(calls: list[Call], limits: ServerLimits, most: int) -> Iterator[list[Call]]:
    """
    *calls*, cut into what fits into one batch that is answered at once.
    """
    part: list[Call] = []
    size = 0
    for call in calls:
        # Base64 takes a third more, and an escaped character up to six times as much.
        needed = _OVERHEAD + 6 * call.size + len(call.path) + sum(map(len, call.headers.values()))
        if part and (size + needed > limits.max_body_bytes or len(part) >= most):
            yield part
            part, size = [], 0
        part.append(call)
        size += needed
    yield part


_OVERHEAD: Final = 256
