"""
What is kept of a batch request, as bytes: its operations and its caller. It keeps nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from asgi_batch._core.headers import inherited_headers
from asgi_batch._core.models import HeaderPairs, Operation
from asgi_batch._core.scope import ScopeTemplate, path_prefix
from asgi_batch.types import Scope

_CHUNK: Final = 64

_encode: Final = msgspec.msgpack.Encoder().encode


class _Packed(msgspec.Struct, array_like=True, gc=False):
    """
    An `Operation` whose body is plain bytes.
    """

    index: int
    id: str
    method: str
    path: str
    raw_path: bytes
    query_string: bytes
    headers: HeaderPairs
    replaces: frozenset[bytes]
    body: bytes
    timeout: float | None


class Caller(msgspec.Struct, array_like=True):
    """
    What is kept of the batch request: where it came in, and who sent it.
    """

    prefix: str
    root_path: str
    scheme: str
    server: tuple[Any, ...] | None
    client: tuple[Any, ...] | None
    headers: HeaderPairs


_decode_operations: Final = msgspec.msgpack.Decoder(list[_Packed]).decode
_decode_caller: Final = msgspec.msgpack.Decoder(Caller).decode


def pack_operations(operations: Sequence[Operation]) -> Iterator[bytes]:
    """
    The *operations* in chunks, in order; each is made when it is asked for.
    """
    for start in range(0, len(operations), _CHUNK):
        yield _encode([_packed(operation) for operation in operations[start : start + _CHUNK]])


def unpack_operations(chunks: Iterable[bytes]) -> Iterator[Operation]:
    """
    The operations that were packed, each chunk read when its first one is asked for.

    Raises:
        msgspec.DecodeError: *chunks* is not what `pack_operations` has made.
    """
    for chunk in chunks:
        for packed in _decode_operations(chunk):
            yield Operation(*msgspec.structs.astuple(packed))


def pack_caller(scope: Scope) -> bytes:
    """
    What operations need to know of the batch request with this *scope*, once it is over.
    """
    server, client = scope.get("server"), scope.get("client")
    caller = Caller(
        prefix=path_prefix(scope),
        root_path=scope.get("root_path", ""),
        scheme=scope.get("scheme", "http"),
        server=None if server is None else tuple(server),
        client=None if client is None else tuple(client),
        headers=inherited_headers(scope["headers"]),
    )
    return _encode(caller)


def template_of(caller: bytes, lifespan: Scope) -> ScopeTemplate:
    """
    What makes scopes for the operations of a packed *caller*.

    Args:
        caller: What `pack_caller` has made.
        lifespan: The scope of the app's lifespan: its state, and the app itself.

    Raises:
        msgspec.DecodeError: *caller* is something else.
    """
    kept = _decode_caller(caller)
    outer = {key: lifespan[key] for key in ("app", "litestar_app", "state") if key in lifespan}
    outer |= {key: getattr(kept, key) for key in ("root_path", "scheme", "server", "client")}
    return ScopeTemplate({**outer, "path": f"{kept.prefix}/", "headers": kept.headers})


def _packed(operation: Operation) -> _Packed:
    members = msgspec.structs.asdict(operation)
    return _Packed(**{**members, "body": bytes(operation.body)})
