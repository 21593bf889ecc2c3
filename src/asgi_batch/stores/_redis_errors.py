"""
What Redis says when something is wrong, as errors of ours, and what of it passes by itself.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from asgi_batch.errors import ConfigurationError, StoreFull, StoreUnavailable

_REFUSED: Final = (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
)
_PASSING: Final = (AskError, BusyLoadingError, ClusterDownError, ReadOnlyError, TryAgainError)
_PASSING_CODES: Final = ("BUSY ", "MISCONF ", "NOREPLICAS ")

#: What uvloop says of a connection that was found dead, where others raise an OSError.
_DEAD: Final = "the handler is closed"

_UNANSWERED: Final = "The store does not answer; try again later."
_UNKNOWN: Final = "No Sentinel knows a server of the name in the store's URL that is up."


@contextmanager
def mapped_errors(*, is_opening: bool = False) -> Iterator[None]:
    """
    The one place where errors of Redis become ours.

    Args:
        is_opening: Whether an error may be one of the settings.
    """
    try:
        yield
    except OutOfMemoryError as error:
        raise StoreFull("The store is full; try again later.") from error
    except (RedisError, RedisClusterException, TimeoutError) as error:
        if is_opening and (reason := _wrong_setting(error)):
            raise ConfigurationError(reason) from error
        is_unknown = is_opening and isinstance(error, MasterNotFoundError)
        raise StoreUnavailable(_UNKNOWN if is_unknown else _UNANSWERED) from error


def _wrong_setting(error: Exception) -> str | None:
    if isinstance(error, NoPermissionError):
        return f"Redis lets this user do too little: {error}. Allow INFO, scripts and the keys."
    if isinstance(error, _REFUSED):
        return f"Redis refuses the user or password of the store's URL: {error}."
    if isinstance(error, ResponseError) and not is_passing(error):
        return f"Redis refuses what the store asks of it: {error}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return f"Redis cannot be reached by TLS: {cause}. Check the store's URL."
        cause = cause.__cause__ or cause.__context__
    return None


def is_of_a_script(error: StoreUnavailable) -> bool:
    """
    Whether the server is there, and a script of ours has failed over what it has found.
    """
    cause = error.__cause__
    is_answer = isinstance(cause, ResponseError) and not is_passing(cause)
    return is_answer and "user_script" in str(cause)


def is_passing(error: Exception) -> bool:
    """
    Whether the same call may well succeed a moment later.
    """
    if isinstance(error, RuntimeError):
        return _DEAD in str(error)
    return isinstance(error, _PASSING) or str(error).startswith(_PASSING_CODES)
