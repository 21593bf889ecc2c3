"""
What is kept of a batch request, as bytes: its operations and its caller. It keeps nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Literal, TypeVar

import msgspec

from asgi_batch._core.headers import inherited_headers
from asgi_batch._core.models import HeaderPairs, Operation
from asgi_batch._core.scope import ScopeTemplate, path_prefix
from asgi_batch.types import Scope

T = TypeVar("T")

_CHUNK: Final = 64

_encode: Final = msgspec.msgpack.Encoder().encode


class _Packed(msgspec.Struct, array_like=True, gc=False):
    """
    An `Operation` whose body is plain bytes.
    """

    index: int
    id: str
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
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


def pack_operations(operations: Sequence[Operation], size: int = 0) -> Iterator[bytes]:
    """
    The *operations* in chunks of *size*, in order; each is made when it is asked for.
    """
    size = size or _CHUNK
    for start in range(0, len(operations), size):
        yield _encode([_packed(operation) for operation in operations[start : start + size]])


def unpack_operations(chunks: Iterable[bytes]) -> Iterator[Operation]:
    """
    The operations that were packed, each chunk read when its first one is asked for.

    Raises:
        msgspec.DecodeError: *chunks* is not what `pack_operations` has made.
    """
    for chunk in chunks:
        for packed in _decoded(_decode_operations, chunk):
            yield Operation(*msgspec.structs.astuple(packed))


def check_whole(operations: Sequence[Operation], indexes: range) -> None:
    """
    See that *operations* are those of these *indexes*, each of them once and in order.

    Raises:
        msgspec.DecodeError: They are not.
    """
    if [each.index for each in operations] != list(indexes):
        raise msgspec.DecodeError("These are not the operations of this batch.")


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
    kept = _decoded(_decode_caller, caller)
    outer = {key: lifespan[key] for key in ("app", "litestar_app", "state") if key in lifespan}
    outer |= {key: getattr(kept, key) for key in ("root_path", "scheme", "server", "client")}
    return ScopeTemplate({**outer, "path": f"{kept.prefix}/", "headers": kept.headers})


def _decoded(decode: Callable[[bytes], T], value: bytes) -> T:
    try:
        return decode(value)
    except (TypeError, UnicodeDecodeError) as error:
        # Broken text, and keys that cannot be ones, which msgspec does not call a DecodeError.
        raise msgspec.DecodeError(str(error)) from error


def _packed(operation: Operation) -> _Packed:
    members = msgspec.structs.asdict(operation)
    return _Packed(**{**members, "body": bytes(operation.body)})
