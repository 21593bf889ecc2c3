"""
The one door to all stores: from a URL to a `Store`. It imports only the plug that it needs.
"""

from __future__ import annotations

from asgi_batch.errors import ConfigurationError
from asgi_batch.ports import Store
from asgi_batch.stores.memory import MemoryStore

__all__ = ["open_store"]

_REDIS = frozenset(
    {
        *("redis", "rediss", "unix"),
        *("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"),
    }
)


def open_store(url: str) -> Store:
    """
    The store that *url* names.

    Args:
        url: ``"memory://"``, which lasts as long as the process; ``"redis://…"``,
            ``"rediss://…"`` (with TLS), ``"unix://…"`` (a socket file),
            ``"redis+sentinel://…"`` or ``"redis+cluster://…"``, which is shared by all processes
            that name it.

    Raises:
        ConfigurationError: There is no such store, or what it needs is not installed.
    """
    scheme, separator, _ = url.partition("://")
    if separator and scheme == "memory":
        return MemoryStore()
    if separator and scheme in _REDIS:
        return _redis_store(url)
    raise ConfigurationError(f'store={url!r:.100}: write "memory://" or "redis://host:6379/0".')


def _redis_store(url: str) -> Store:
    try:
        from asgi_batch.stores.redis import RedisStore  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            'store="redis://…" needs redis-py: pip install asgi-batch[redis]'
        ) from error
    return RedisStore(url)
