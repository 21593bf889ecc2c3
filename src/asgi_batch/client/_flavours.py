"""
Which library a client or a request is of: httpx, or its fork httpx2. Both are served alike.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from asgi_batch.errors import ConfigurationError

_NAMES: Final = ("httpx", "httpx2")


def flavour_of(thing: Any) -> Any:
    """
    The module, httpx or httpx2, whose class *thing* is an instance of.

    Raises:
        ConfigurationError: It is of neither.
    """
    return _flavour_of(type(thing))


def _flavour_of(kind: type) -> ModuleType:
    for each in kind.__mro__:
        root = each.__module__.partition(".")[0]
        if root in _NAMES:
            return sys.modules[root]
    raise ConfigurationError(f"{kind.__name__}: give a client or a transport of httpx or httpx2.")


def installed(names: tuple[str, ...] = _NAMES) -> list[ModuleType]:
    """
    Those of the libraries that there are; the same one only once.

    Raises:
        ModuleNotFoundError: There is none.
    """
    found = []
    for name in names:
        try:
            found.append(import_module(name))
        except ModuleNotFoundError:
            continue
    if not found:
        raise ModuleNotFoundError("asgi_batch.client needs httpx: pip install asgi-batch[client]")
    return list(dict.fromkeys(found))
