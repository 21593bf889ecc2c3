"""
Every bound of the library with its reason, and the settings of rate limits; it enforces none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final, Literal, NamedTuple

from asgi_batch.errors import ConfigurationError
from asgi_batch.types import Scope

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB

_MAY_BE_ZERO: Final = frozenset({"retry_ttl"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    All numbers of the library. Every default is meant for production.

    Args:
        max_operations: Operations in one batch. MS Graph takes 20, OData services often 1000;
            a thousand keeps validation below some ten milliseconds.
        sync_operations: Operations in a batch that is answered at once. A hundred of 30 ms each
            take a third of a second at the default *concurrency*.
        concurrency: Operations of one batch that run at a time. Well below the 40 threads that
            anyio shares among all sync endpoints, so that one batch cannot take them all.
        total_concurrency: Operations of all batches that run at a time in this process. As many
            as those threads.
        max_body_bytes: Size of a batch request. Ten KiB for each of a thousand operations.
        max_operation_bytes: Size of one operation's body, as the app receives it.
        max_result_bytes: Size of one operation's answer; what is larger should be fetched alone.
        max_response_bytes: Size of the answer to a batch. It is held in memory until all results
            are in, so it is what one client can make a process hold.
        max_held_bytes: Bodies and results of all batches that a process holds at a time; above
            it new batches are refused.
        max_messages: Messages in one operation's answer. Stops an app that sends empty chunks
            for ever, which no size limit would.
        max_abandoned: Operations that were given up but have not stopped, in this process; from
            there on new batches are refused. They hold threads that nobody can take back.
        max_path_bytes: Length of an operation's path.
        max_query_bytes: Length of an operation's query.
        max_headers: Headers of one operation. Servers allow about a hundred per request.
        max_header_bytes: Names and values of one operation's headers together.
        max_json_depth: Arrays and objects within one another in an operation's body. Python's
            own parser gives up at about a thousand.
        max_problems: Problems that a refusal lists.
        operation_timeout: Seconds for one operation.
        batch_timeout: Seconds for all operations of a batch that is answered at once. Proxies
            commonly give up after 60.
        body_timeout: Seconds in which the body of a batch must arrive.
        background_batches: Batches that this process carries out in the background at a time.
        max_background_batches: Unfinished batches that the store holds; from there on new ones are
            refused.
        owner_batches: Unfinished batches that one owner may have in the store, where batches have
            owners; from there on new ones are refused.
        chunk_operations: Operations that one worker of a queue takes at a time of a larger batch.
            Fifty of 20 ms each take a tenth of a second at the default *concurrency*: enough to
            pay for the message, few enough for others to take their part.
        resend_interval: Seconds after which a queue is told again of what no worker has claimed;
            what has waited for longer is told of after as long again.
        max_attempts: How often an operation is started whose process dies each time.
        max_queue_age: Seconds that a batch may wait for a process to carry it out, since something
            last changed; from there on nothing of it starts. What the caller was allowed to do
            then may no longer be so, and nobody expects it any more.
        lease: Seconds after which a batch whose process is silent is taken over by another.
        scan_interval: Seconds between two looks for batches that nobody holds.
        cancel_interval: Seconds in which each process hears of a cancellation.
        drain_timeout: Seconds that running operations of background batches get when the process
            stops. Process managers commonly kill after 30.
        result_ttl: Seconds for which the results of a background batch are kept after its end.
        retry_ttl: Seconds for which the operations are kept after the end of a batch of which some
            have not succeeded, so that these can be tried again; 0 erases them at once.
        max_event_streams: Clients that follow the events of batches at a time in this process.

    Raises:
        ConfigurationError: A number is not positive, or two do not fit together.
    """

    max_operations: int = 1000
    sync_operations: int = 100
    concurrency: int = 10
    total_concurrency: int = 40
    max_body_bytes: int = 10 * _MIB
    max_operation_bytes: int = 1 * _MIB
    max_result_bytes: int = 1 * _MIB
    max_response_bytes: int = 64 * _MIB
    max_held_bytes: int = 256 * _MIB
    max_messages: int = 100_000
    max_abandoned: int = 16
    max_path_bytes: int = 2048
    max_query_bytes: int = 8192
    max_headers: int = 64
    max_header_bytes: int = 8192
    max_json_depth: int = 128
    max_problems: int = 100
    operation_timeout: float = 30.0
    batch_timeout: float = 60.0
    body_timeout: float = 30.0
    background_batches: int = 4
    max_background_batches: int = 1000
    owner_batches: int = 10
    chunk_operations: int = 50
    resend_interval: float = 30.0
    max_attempts: int = 3
    max_queue_age: float = 3600.0
    lease: float = 30.0
    scan_interval: float = 5.0
    cancel_interval: float = 1.0
    drain_timeout: float = 20.0
    result_ttl: float = 86_400.0
    retry_ttl: float = 3600.0
    max_event_streams: int = 100

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_number(field.name, getattr(self, field.name), whole=field.type == "int")
        _check_order("sync_operations", self.sync_operations, "max_operations", self.max_operations)
        _check_order("concurrency", self.concurrency, "total_concurrency", self.total_concurrency)


def _check_number(name: str, value: object, *, whole: bool) -> None:
    kinds = int if whole else (int, float)
    if not isinstance(value, kinds) or isinstance(value, bool):
        kind = "a whole number" if whole else "a number of seconds"
        raise ConfigurationError(f"Limits({name}={value!r}): write {kind} above 0.")
    if value == 0 and name in _MAY_BE_ZERO:
        return
    if not (value > 0 and (whole or _fits_a_clock(value))):
        raise ConfigurationError(f"Limits({name}={value!r}): write a finite number above 0.")


def _fits_a_clock(seconds: float) -> bool:
    try:
        return math.isfinite(seconds)
    except OverflowError:
        return False


def _check_order(small: str, less: int, large: str, more: int) -> None:
    if less > more:
        raise ConfigurationError(
            f"Limits({small}={less}, {large}={more}): write a {small} of at most {large}."
        )


_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_RATE: Final = re.compile(rf"([0-9]{{1,9}})/(?:([0-9]{{1,4}}) )?({'|'.join(_SECONDS)})s?").fullmatch


class Quota(NamedTuple):
    """
    So many operations in so many *seconds*.
    """

    name: str
    operations: int
    seconds: int


def client_address(scope: Scope) -> str:
    """
    The address that a request came from, as the server tells it; all that have none are one.
    """
    client = scope.get("client")
    return str(client[0]) if client else ""


@dataclass(frozen=True, slots=True, init=False)
class RateLimit:
    """
    How many operations one caller may send in a time, in batches and by themselves.

    Args:
        rates: Such as ``"1000/minute"`` or ``"50/10 seconds"``; each of several must be kept.
        key: What tells callers apart, made from the ASGI scope; the client's address where left
            out. All that have the same key share what is allowed.
        direct: Whether requests outside of batches count, each as one operation.
        storage: Where it is counted: ``"memory://"``, which each process does for itself, or
            ``"redis://…"``; where left out, as the store of the middleware says.
        on_error: What happens while *storage* does not answer: ``"deny"`` refuses, ``"allow"``
            counts nothing.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    quotas: tuple[Quota, ...]
    key: Callable[[Scope], str]
    direct: bool
    storage: str | None
    on_error: Literal["deny", "allow"]

    def __init__(
        self,
        *rates: str,
        key: Callable[[Scope], str] = client_address,
        direct: bool = True,
        storage: str | None = None,
        on_error: Literal["deny", "allow"] = "deny",
    ) -> None:
        if not rates:
            raise ConfigurationError('RateLimit(): write a rate, such as "1000/minute".')
        quotas = tuple(map(_quota, rates))
        if len({each.seconds for each in quotas}) < len(quotas):
            raise ConfigurationError(
                f"RateLimit({', '.join(map(repr, rates)):.100}): write one rate for each time, the"
                " lowest."
            )
        if not callable(key):
            raise ConfigurationError(f"RateLimit(key={key!r:.100}): pass a function of the scope.")
        if on_error not in ("deny", "allow"):
            raise ConfigurationError(
                f"RateLimit(on_error={on_error!r:.100}): write 'deny' or 'allow'."
            )
        for name, value in (
            ("quotas", quotas),
            ("key", key),
            ("direct", bool(direct)),
            ("storage", storage),
            ("on_error", on_error),
        ):
            object.__setattr__(self, name, value)


def _quota(rate: object) -> Quota:
    match = _RATE(rate) if isinstance(rate, str) else None
    if match is None or int(match[1]) == 0 or match[2] in ("0", "00", "000", "0000"):
        raise ConfigurationError(
            f'RateLimit({rate!r:.100}): write a rate such as "1000/minute" or "50/10 seconds".'
        )
    seconds = int(match[2] or 1) * _SECONDS[match[3]]
    return Quota(f"{match[2] or ''}{match[3]}", int(match[1]), seconds)
