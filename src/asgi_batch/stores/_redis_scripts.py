"""
The Lua scripts as they are sent to Redis, one for each verb of a store; it runs none of them.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

import msgspec

_LUA: Final = files("asgi_batch.stores") / "lua"


class Script(msgspec.Struct, frozen=True):
    """
    One script.

    Args:
        text: Its text.
        sha: The name under which Redis keeps it once it has seen it.
    """

    text: str
    sha: str


def _load(verb: str) -> Script:
    shebang, _, body = (_LUA / f"{verb}.lua").read_text("utf-8").partition("\n")
    text = "\n".join((shebang, (_LUA / "_record.lua").read_text("utf-8"), body))
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


CREATE: Final = _load("create")
CLAIM: Final = _load("claim")
SAVE: Final = _load("save")
RELEASE: Final = _load("release")
CANCEL: Final = _load("cancel")
FAIL: Final = _load("fail")
POSTPONE: Final = _load("postpone")
