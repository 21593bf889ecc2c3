"""What a client prefers to happen with its batch: the ``Prefer`` header (RFC 7240)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

# What stands between two commas: a quoted text may hold commas, and one that is not closed goes on
# to the end. Nothing here tries twice, so that hostile headers cost no more than others.
_PARTS: Final = re.compile(rb'(?:[^,"]++|"(?:[^"\\]|\\.)*+(?:"|\\?\Z))++', re.DOTALL).findall
# One preference: its name, and its value, quoted or not; parameters may follow.
_PREFERENCE: Final = re.compile(
    rb"[ \t]*+([!#$%&'*+.^_`|~0-9A-Za-z-]++)[ \t]*+"
    rb'(?:=[ \t]*+("(?:[^"\\]|\\.)*+"|[^ \t;"]*+))?[ \t]*+(?:;|\Z)',
    re.DOTALL,
).match
_SECONDS: Final = re.compile(rb'"?([0-9]{1,9})"?').fullmatch


class Preferences(NamedTuple):
    """
    How long a client would wait.

    Args:
        later: Whether it would rather be answered at once than wait for the results.
        wait: Seconds for which it waits for the results all the same; None where it does not say.
    """

    later: bool = False
    wait: int | None = None

    @property
    def applied(self) -> bytes:
        """
        The same as a header, which tells the client that it has been heard.
        """
        named = (b"respond-async",) if self.later else ()
        return b", ".join(named if self.wait is None else (*named, b"wait=%d" % self.wait))


_NONE: Final = Preferences()


def preferences_of(headers: Iterable[tuple[bytes, bytes]]) -> Preferences:
    """
    What the *headers* of a request say; what cannot be read is ignored, as the RFC wants it.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name.lower() == b"prefer":
            for match in filter(None, map(_PREFERENCE, _PARTS(value))):
                # Of two preferences of one name the first counts.
                found.setdefault(match[1].lower(), match[2] or b"")
    if not found:
        return _NONE
    seconds = _SECONDS(found.get(b"wait", b""))
    return Preferences(b"respond-async" in found, None if seconds is None else int(seconds[1]))
