"""
Where a store's URL leads: to a server, to Sentinels that know one, or to a cluster; it connects to
nothing.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import msgspec

#: Where servers listen unless something else is written.
PORT: Final = 6379
#: Where Sentinels listen unless something else is written.
SENTINEL_PORT: Final = 26379
#: Seconds for one Sentinel to answer; there are others.
SENTINEL_WAIT: Final = 0.5

_SENTINEL: Final = "+sentinel"
_CLUSTER: Final = "+cluster"


class Address(msgspec.Struct, frozen=True):
    """
    What a URL says.

    Args:
        url: Of a server. Where there are Sentinels or nodes, its host stands for any of theirs.
        sentinels: Host and port of each.
        service: What they call the server.
        nodes: Host and port of those nodes of a cluster that are asked for all of them.
    """

    url: str
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    nodes: tuple[tuple[str, int], ...] = ()

    def at(self, host: str, port: int) -> Address:
        """
        Of one server that is reached as the others are.
        """
        scheme, netloc, _, query, _ = urlsplit(self.url)
        user, at, _ = netloc.rpartition("@")
        name = f"[{host}]" if ":" in host else quote(host)
        return Address(urlunsplit((scheme, f"{user}{at}{name}:{port}", "", query, "")))


def address_of(url: str) -> Address:
    """
    What *url* says; only what has Sentinels or nodes in it is looked at.

    Raises:
        ValueError: It names no Sentinel, no service or no node, or is no URL.
    """
    scheme, netloc, path, query, _ = urlsplit(url)
    if scheme.endswith(_CLUSTER):
        return _cluster(scheme.removesuffix(_CLUSTER), netloc, path.strip("/"), query)
    if not scheme.endswith(_SENTINEL):
        return Address(url)
    user, at, hosts = netloc.rpartition("@")
    service, _, database = path.strip("/").partition("/")
    if not hosts or not service or (database and not database.isdecimal()):
        raise ValueError('With Sentinels, write "redis+sentinel://host:26379,host2/mymaster/0".')
    plain = urlunsplit((scheme.removesuffix(_SENTINEL), f"{user}{at}_", database, query, ""))
    return Address(plain, _places(hosts, "Sentinel", SENTINEL_PORT), unquote(service))


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


def _cluster(scheme: str, netloc: str, database: str, query: str) -> Address:
    user, at, hosts = netloc.rpartition("@")
    if not hosts or database not in ("", "0"):
        raise ValueError(
            'For a cluster, which has no databases, write "redis+cluster://host:6379,host2".'
        )
    plain = urlunsplit((scheme, f"{user}{at}_", "", query, ""))
    return Address(plain, nodes=_places(hosts, "node", PORT))


def _places(hosts: str, kind: str, port: int) -> tuple[tuple[str, int], ...]:
    found = []
    for text in hosts.split(","):
        parts = urlsplit(f"//{text}")
        if not parts.hostname:
            raise ValueError(f"The host of a {kind} is missing.")
        found.append((unquote(parts.hostname), parts.port or port))
    return tuple(found)
