"""
Where a store's URL leads: to a server, or to Sentinels that know one; it connects to nothing.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

#: Where Sentinels listen unless something else is written.
SENTINEL_PORT: Final = 26379
#: Seconds for one Sentinel to answer; there are others.
SENTINEL_WAIT: Final = 0.5

_SENTINEL: Final = "+sentinel"


class Address(msgspec.Struct, frozen=True):
    """
    What a URL says.

    Args:
        url: Of a server. Where there are Sentinels, its host stands for whichever they name.
        sentinels: Host and port of each.
        service: What they call the server.
    """

    url: str
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""


def address_of(url: str) -> Address:
    """
    What *url* says; only what has Sentinels in it is looked at.

    Raises:
        ValueError: It names no Sentinel or no service, or is no URL.
    """
    scheme, netloc, path, query, _ = urlsplit(url)
    if not scheme.endswith(_SENTINEL):
        return Address(url)
    user, at, hosts = netloc.rpartition("@")
    service, _, database = path.strip("/").partition("/")
    if not hosts or not service or (database and not database.isdecimal()):
        raise ValueError('With Sentinels, write "redis+sentinel://host:26379,host2/mymaster/0".')
    plain = urlunsplit((scheme.removesuffix(_SENTINEL), f"{user}{at}_", database, query, ""))
    return Address(plain, tuple(map(_sentinel, hosts.split(","))), unquote(service))


def taken_for_sentinels(settings: dict[str, Any]) -> dict[str, Any]:
    """
    How Sentinels are talked to; what concerns them alone is taken out of *settings*.

    Args:
        settings: Of the URL of `Address.url`.
    """
    del settings["host"]
    own = {name: settings.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    tls = {name: value for name, value in settings.items() if name.startswith("ssl_")}
    waits = {"socket_timeout": SENTINEL_WAIT, "socket_connect_timeout": SENTINEL_WAIT}
    return {**own, **tls, **waits, "protocol": 2}


def _sentinel(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("The host of a Sentinel is missing.")
    return unquote(parts.hostname), parts.port or SENTINEL_PORT
