"""
The flow of one batch that requests travel in: what is sent, and what each request gets of it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from copy import copy
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from asgi_batch.client._carriage import Boarding, Call, batch_of, is_small_enough, parts_of
from asgi_batch.client._effects import Reply
from asgi_batch.client._flavours import flavour_of
from asgi_batch.client._limits import ServerLimits, limits_of
from asgi_batch.client._refusals import refusal_of
from asgi_batch.client._results import WireResult, decode_page
from asgi_batch.errors import RequestRefused

# Statuses where there is no batch endpoint; then where gateways forbid what they do not know.
_NOWHERE: Final = frozenset((404, 405, 501))
_FORBIDDEN: Final = _NOWHERE | {403}
# Statuses that a request would have met by itself as well.
_LATER: Final = frozenset((429, 503))
_BODYLESS: Final = frozenset((204, 304))


class Alone(NamedTuple):
    """
    The request has to go out as it is.
    """


class Arrived(NamedTuple):
    """
    The request has been answered.

    Args:
        status: Of the answer.
        headers: Of the answer.
        content: Its body, as it is on the wire.
        extensions: Of the response.
    """

    status: int
    headers: list[tuple[str, str]]
    content: bytes
    extensions: dict[str, Any]


class Landed(NamedTuple):
    """
    The answer to a batch request, or why there is none.
    """

    reply: Reply
    http_version: bytes = b"HTTP/1.1"


Journey: TypeAlias = Generator[Any, Any, None]

ALONE: Final = Alone()


class Journeys:
    """
    What one transport knows of the servers that it talks to.

    Args:
        boarding: Knows the way to the endpoint.
        max_operations: Requests in one batch at most; None for as many as are answered at once.
    """

    def __init__(self, boarding: Boarding, max_operations: int | None) -> None:
        self._path = boarding.path.encode()
        self._max_operations = max_operations
        #: The limits of each origin; None where it has no batch endpoint.
        self._known: dict[tuple[str, str, int | None], ServerLimits | None] = {}

    def is_served(self, call: Call) -> bool:
        """
        Whether *call* may travel, as far as is known of its server.
        """
        limits = self._known.get(call.key.origin, _USUAL)
        return limits is not None and is_small_enough(call, limits)

    def most(self, call: Call) -> int:
        """
        How many requests may travel together with *call*.
        """
        limits = self._known.get(call.key.origin) or _USUAL
        return min(limits.sync_operations, self._max_operations or limits.sync_operations)

    def journey(self, calls: list[Call]) -> Journey:
        """
        Give each of *calls* its outcome; what is yielded are requests to be sent.
        """
        lead = calls[0]
        origin = lead.key.origin
        if len(calls) > 1 and origin not in self._known:
            yield from self._ask(lead)
        limits = self._known.get(origin, _USUAL)
        parts = [calls] if limits is None else parts_of(calls, limits, self.most(lead))
        for part in parts:
            if limits is None or len(part) == 1:
                _leave_alone(part)
            else:
                yield from self._travel(part)

    def _ask(self, call: Call) -> Journey:
        flavour = flavour_of(call.request)
        request = flavour.Request(
            "OPTIONS", self._url(call), headers=call.key.shared, extensions=_extensions(call)
        )
        landed = yield request
        if isinstance(landed, Exception):
            return
        limits = limits_of(landed.reply)
        status = landed.reply.status
        if limits is not None or status < _ERROR or status in _NOWHERE:
            self._known[call.key.origin] = limits

    def _travel(self, calls: list[Call]) -> Journey:
        for _ in range(_ATTEMPTS):
            landed = yield self._request(calls)
            if isinstance(landed, Exception):
                for call in calls:
                    call.outcome = _copy_of(landed)
                return
            if landed.reply.status < _REDIRECT and landed.reply.status != _ACCEPTED:
                self._arrive(calls, landed)
                return
            calls = self._after(calls, landed)
            if not calls:
                return
        _leave_alone(calls)

    def _arrive(self, calls: list[Call], landed: Landed) -> None:
        """
        Give each of *calls* its result.
        """
        try:
            results = decode_page(landed.reply.content).results
            outcomes: list[Alone | Arrived | Exception] = [
                _outcome(call, result, landed, len(calls))
                for call, result in zip(calls, results, strict=True)
            ]
        except (msgspec.DecodeError, ValueError) as error:
            # Something in between has answered, and what it has done with the batch is unknown.
            self._known.pop(calls[0].key.origin, None)
            kind = flavour_of(calls[0].request).RemoteProtocolError
            outcomes = [
                ALONE if call.is_repeatable else kind(f"This is no answer to a batch: {error}.")
                for call in calls
            ]
        for call, outcome in zip(calls, outcomes, strict=True):
            call.outcome = outcome

    def _request(self, calls: list[Call]) -> Any:
        flavour = flavour_of(calls[0].request)
        headers, content = batch_of(calls)
        return flavour.Request(
            "POST",
            self._url(calls[0]),
            headers=headers,
            content=content,
            extensions=_extensions(calls[0]),
        )

    def _url(self, call: Call) -> Any:
        return call.request.url.copy_with(raw_path=self._path)

    def _after(self, calls: list[Call], landed: Landed) -> list[Call]:
        """
        Give outcomes to those of *calls* that cannot travel; the others are left.
        """
        refusal = refusal_of(landed.reply)
        origin = calls[0].key.origin
        absent = _NOWHERE if origin in self._known else _FORBIDDEN
        if refusal.status == _ACCEPTED:
            # Its limits have changed.
            self._known.pop(origin, None)
        elif not refusal.code and refusal.status in absent:
            self._known[origin] = None
        if refusal.code == "invalid_batch":
            for problem in refusal.problems:
                if "index" in problem:
                    calls[problem["index"]].outcome = ALONE
            left = [call for call in calls if call.outcome is None]
            return [] if _gave_up(calls, left) else left
        limits = self._known.get(origin) or _USUAL
        size = len(self._request(calls).content)
        learnt = limits.after(refusal, operations=len(calls), size=size)
        if learnt is not None:
            self._known[origin] = learnt
        _share(calls, landed, refusal)
        return []


def _copy_of(error: Exception) -> Exception:
    """
    An exception for one request of those that have met with *error*.
    """
    try:
        return copy(error)
    except Exception:  # noqa: BLE001
        # Its class wants to be made in another way.
        return error


def _gave_up(calls: list[Call], left: list[Call]) -> bool:
    """
    Whether a refusal named none of *calls*, or only one is left, which can go by itself.
    """
    if len(left) == len(calls) or len(left) == 1:
        _leave_alone(left)
        return True
    return not left


def _share(calls: list[Call], landed: Landed, refusal: RequestRefused) -> None:
    """
    Let *calls* go by themselves, or meet with what the batch has met with.
    """
    has_run = not refusal.code and (refusal.status >= _SERVER_ERROR or refusal.status == _ACCEPTED)
    is_later = refusal.status in _LATER and (not refusal.code or refusal.retry_after is not None)
    reply = landed.reply
    for call in calls:
        if is_later or (has_run and not call.is_repeatable):
            headers = [
                (name, value)
                for name, value in reply.headers.items()
                if name not in ("content-encoding", "content-length", "transfer-encoding")
            ]
            call.outcome = _arrived(call, reply.status, headers, reply.content, landed, len(calls))
        else:
            call.outcome = ALONE


def _outcome(call: Call, result: WireResult, landed: Landed, count: int) -> Alone | Arrived:
    if result.source == "batch" and (call.is_repeatable or result.status == _SKIPPED):
        # The app's own answer is wanted, not that of the batch.
        return ALONE
    headers = list(result.headers.items())
    has_body = result.result is not msgspec.UNSET or result.error is not msgspec.UNSET
    if has_body and not result.encoding and "content-type" not in result.headers:
        headers.append(("content-type", "application/json"))
    return _arrived(call, result.status, headers, result.content, landed, count)


def _arrived(
    call: Call,
    status: int,
    headers: list[tuple[str, str]],
    content: bytes,
    landed: Landed,
    count: int,
) -> Arrived:
    if call.request.method != "HEAD" and status not in _BODYLESS:
        headers = [*headers, ("content-length", str(len(content)))]
    extensions = {"http_version": landed.http_version, "asgi_batch": {"operations": count}}
    return Arrived(status, headers, content, extensions)


def response_of(call: Call) -> Any:
    """
    The response to a request that has travelled.

    Raises:
        Exception: Whatever the batch request has met with.
    """
    outcome = call.outcome
    if isinstance(outcome, Exception):
        raise outcome
    flavour = flavour_of(call.request)
    return flavour.Response(
        outcome.status,
        headers=outcome.headers,
        stream=flavour.ByteStream(outcome.content),
        extensions=outcome.extensions,
    )


def _leave_alone(calls: Iterable[Call]) -> None:
    for call in calls:
        call.outcome = ALONE


def _extensions(call: Call) -> dict[str, Any]:
    return dict(call.request.extensions)


_USUAL: Final = ServerLimits()
_ATTEMPTS: Final = 3
_ACCEPTED: Final = 202
_REDIRECT: Final = 300
_ERROR: Final = 400
_SKIPPED: Final = 424
_SERVER_ERROR: Final = 500
