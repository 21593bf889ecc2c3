"""
What `BatchMiddleware` is given, checked and put into the shapes that the rooms below it want.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from inspect import iscoroutinefunction
from typing import Final, TypeAlias

from asgi_batch._core.headers import is_header_name, is_secret_header, why_forbidden
from asgi_batch._core.origins import ANY, is_origin
from asgi_batch._core.routes import Routes
from asgi_batch._core.rules import Atomic
from asgi_batch._rate import Counter, Limiter
from asgi_batch.errors import ConfigurationError
from asgi_batch.limits import Limits, RateLimit
from asgi_batch.ports import Queue, Store
from asgi_batch.stores import open_store
from asgi_batch.types import Scope

#: Tells from a scope whose a request is.
OwnerOf: TypeAlias = Callable[[Scope], str | None]

# What a scope must not hand on: it belongs to the route of the batch request.
_ROUTE_KEYS: Final = frozenset(
    """
    type asgi http_version method path raw_path query_string root_path headers state extensions
    path_params endpoint route router asgi_batch
    """.split()
)
_PLAIN_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+").fullmatch


def checked_atomic(wish: Atomic, transaction: object) -> Atomic:
    """
    Which batches are atomic.
    """
    check_choice("atomic", wish, ("optional", "always", "never"))
    if not (transaction is None or callable(transaction)):
        raise ConfigurationError(
            f"transaction={transaction!r:.100}: pass a function that returns an async context"
            " manager."
        )
    if transaction is None and wish == "always":
        raise ConfigurationError("atomic='always': pass a transaction as well.")
    return "never" if transaction is None else wish


def check_hooks(on_end: object, tracer: object) -> None:
    """
    See that both can be called as they will be.
    """
    if not (on_end is None or callable(on_end)):
        raise ConfigurationError(f"on_end={on_end!r:.100}: pass a function that takes a report.")
    if not (tracer is None or hasattr(tracer, "wrap")):
        raise ConfigurationError(
            f"tracer={tracer!r:.100}: pass a Tracer, such as OpenTelemetry() of"
            " asgi_batch.contrib.opentelemetry."
        )


def check_app(app: object) -> None:
    """
    See that *app* can be called.
    """
    if not callable(app):
        raise ConfigurationError(f"BatchMiddleware({app!r:.100}): pass an ASGI app.")


def checked_limits(limits: Limits | None) -> Limits:
    """
    The bounds that are given, or the usual ones.
    """
    if limits is None:
        return Limits()
    if not isinstance(limits, Limits):
        raise ConfigurationError(f"limits={limits!r:.100}: pass Limits(…).")
    return limits


def checked_store(store: str | Store) -> Store:
    """
    The store that is named or given.
    """
    if isinstance(store, str):
        return open_store(store)
    if not hasattr(store, "claim"):
        raise ConfigurationError(f'store={store!r:.100}: write a URL such as "redis://localhost".')
    return store


def checked_queue(queue: Queue | None, store: Store) -> Queue | None:
    """
    The queue that is given, if one is; other processes have to see the *store*.
    """
    if queue is None:
        return None
    if not isinstance(queue, Queue):
        raise ConfigurationError(f"queue={queue!r:.100}: give an object with send and receive.")
    if store.durability != "store":
        raise ConfigurationError('With a queue, give a store too: store="redis://localhost".')
    return queue


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """
    See that *value* is one of *choices*.
    """
    if value not in choices:
        raise ConfigurationError(f"{name}={value!r:.100}: write {' or '.join(map(repr, choices))}.")


def routes_of(allow: object, deny: object) -> Routes | None:
    """
    What operations may reach; None where that is everything.
    """
    allowed = None if allow is None else _checked_strings("allow", allow)
    denied = _checked_strings("deny", deny)
    if allowed is None and not denied:
        return None
    for setting, patterns in (("allow", allowed or ()), ("deny", denied)):
        try:
            Routes(patterns, ())
        except ValueError as error:
            raise ConfigurationError(f"{setting}: {error}") from None
    return Routes(allowed, denied)


def limiter_for(rate_limit: str | RateLimit | None, store: str | Store) -> Limiter | None:
    """
    What counts operations, where *rate_limit* says so.
    """
    if rate_limit is None:
        return None
    settings = RateLimit(rate_limit) if isinstance(rate_limit, str) else rate_limit
    if not isinstance(settings, RateLimit):
        raise ConfigurationError(
            f'rate_limit={rate_limit!r:.100}: write a rate, such as "1000/minute", or RateLimit(…).'
        )
    storage = settings.storage
    if storage is None:
        storage = store if isinstance(store, str) else getattr(store, "url", "memory://")
    if storage != "memory://":
        # It is a store's URL, and wrong where that would be.
        open_store(storage)
    return Limiter(settings, _counter_in(storage))


def _counter_in(storage: str) -> Counter:
    try:
        if storage == "memory://":
            from asgi_batch._rate_memory import MemoryCounter  # noqa: PLC0415

            return MemoryCounter()
        from asgi_batch._rate_redis import RedisCounter  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "rate_limit needs the limits library: pip install asgi-batch[rate-limit]"
        ) from error
    return RedisCounter(storage)


def checked_path(path: object) -> str:
    """
    A path that every server and router reads the same way.
    """
    if not isinstance(path, str) or _PLAIN_PATH(path) is None:
        raise ConfigurationError(
            f'path={path!r:.100}: write a path such as "/batch", that starts with "/", does not end'
            ' with it, and holds letters, digits, "-", "_", "." and "/" only.'
        )
    return path


def checked_names(setting: str, names: object) -> frozenset[str]:
    """
    Names of headers, in lower case, that *setting* may list.
    """
    listed = _checked_strings(setting, names)
    for name in listed:
        if not is_header_name(name):
            raise ConfigurationError(f"{setting}: {name!r:.100} is not the name of a header.")
        reason = why_forbidden(name.lower()) if setting == "operation_headers" else None
        if setting == "expose_headers" and is_secret_header(name.lower()):
            reason = f"{name} would hand cookies to scripts."
        if reason is not None:
            raise ConfigurationError(f"{setting}: leave {name!r} out. {reason}")
    return frozenset(name.lower() for name in listed)


def checked_origins(origins: object) -> frozenset[str]:
    """
    Origins whose pages are trusted.
    """
    listed = _checked_strings("allowed_origins", origins)
    for origin in listed:
        if origin != ANY and not is_origin(origin):
            raise ConfigurationError(
                f"allowed_origins: {origin!r:.100} is not an origin; write it as browsers do, as in"
                ' "https://app.example", or "*" for all.'
            )
    return frozenset(listed)


def checked_owner(owner: OwnerOf | None) -> OwnerOf | None:
    """
    What tells whose a request is.
    """
    if owner is None:
        return None
    if callable(owner) and not any(map(iscoroutinefunction, (owner, type(owner).__call__))):
        return owner
    raise ConfigurationError(
        f"owner={owner!r:.100}: pass a plain function of the scope, not an async one. What has to"
        " be waited for is the affair of middleware outside, which puts the user into the scope."
    )


def checked_scope_keys(keys: object) -> tuple[str, ...]:
    """
    Keys of a scope that may be handed on.
    """
    listed = _checked_strings("forward_scope_keys", keys)
    for key in listed:
        if key in _ROUTE_KEYS:
            raise ConfigurationError(
                f"forward_scope_keys: leave {key!r} out; it is made for each operation."
            )
    return listed


def _checked_strings(setting: str, values: object) -> tuple[str, ...]:
    if isinstance(values, Iterable) and not isinstance(values, (str, bytes)):
        listed = tuple(values)
        if all(isinstance(value, str) for value in listed):
            return listed
    raise ConfigurationError(f'{setting}={values!r:.100}: write a list of names, ["…", "…"].')
