"""
What a refusal says, and whether and when it is worth asking again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from asgi_batch.client._effects import Reply
from asgi_batch.errors import RequestRefused

# Statuses with which a server says that nothing has been done, and when to come back.
_LATER: Final = frozenset((429, 503))
# Statuses of something in between that may be over soon; what it has kept from whom is unknown.
_GATEWAY: Final = frozenset((502, 503, 504))
_FIRST: Final = 0.2
_LONGEST: Final = 10.0


class _Problem(msgspec.Struct):
    code: str = ""
    detail: str = ""
    errors: list[dict[str, Any]] = msgspec.field(default_factory=list)
    maxOperations: int | None = None  # noqa: N815
    maxBodyBytes: int | None = None  # noqa: N815


def refusal_of(reply: Reply) -> RequestRefused:
    """
    What *reply*, whose status is 300 or above, says.
    """
    problem = _problem_of(reply)
    named = {"maxOperations": problem.maxOperations, "maxBodyBytes": problem.maxBodyBytes}
    return RequestRefused(
        reply.status,
        problem.code,
        problem.detail,
        problems=problem.errors,
        retry_after=retry_after_of(reply.headers),
        limits={name: value for name, value in named.items() if value is not None},
    )


def _problem_of(reply: Reply) -> _Problem:
    try:
        return msgspec.json.decode(reply.content, type=_Problem)
    except msgspec.DecodeError:
        return _Problem(detail=reply.content[:200].decode(errors="replace"))


def is_worth_repeating(refusal: RequestRefused, *, is_repeatable: bool) -> bool:
    """
    Whether the request that met with *refusal* may be sent again, and may do better then.

    Args:
        refusal: What it met with.
        is_repeatable: Whether sending it twice has the effect of sending it once.
    """
    if refusal.code and refusal.status in _LATER and refusal.retry_after is not None:
        # Only the store leaves it open whether a batch was accepted.
        return is_repeatable or refusal.code != "store_unavailable"
    return is_repeatable and not refusal.code and refusal.status in _GATEWAY


def delay_before(attempt: int, asked: float | None = None) -> float:
    """
    Seconds before the repetition that follows *attempt*; as *asked*, where the server has asked.
    """
    if asked is not None:
        return asked
    # At different moments, so that clients which were cut off together do not come back together.
    return min(_FIRST * 2.0**attempt, _LONGEST) * (0.5 + random.random() / 2)  # noqa: S311


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """
    The seconds that ``Retry-After`` tells (RFC 9110 10.2.3); None where it tells none.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
