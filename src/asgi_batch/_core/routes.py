"""
Which routes operations may reach, by patterns of the path; it knows no routes of any app.

What is denied must not be reached under any spelling, so a path that could be read in several
ways is looked at in all of them (RELIABILITY T2, T10, T35).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from posixpath import normpath
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

Matches: TypeAlias = Callable[[str], Any]

_NAME: Final = "[A-Za-z0-9_~-][A-Za-z0-9_.~-]*+"
_NAMES: Final = f"(?:/{_NAME})*+"
#: What everybody reads the same way, and what breaks no rule for paths but that on length.
PLAIN: Final = f"(?:/{_NAME})++"

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_PATTERN: Final = re.compile(r"(?:([A-Z]+(?:\|[A-Z]+)*) +)?(/\S*)").fullmatch
# What no accepted path holds, and therefore stands for an encoded slash.
_ENCODED_SLASH: Final = "\x00"
_REST: Final = "(?:/[^/]*)*"
_ALL_THE_REST: Final = "(?:/.*)?"
_ALL: Final = ".*"
# An app decodes once, and some decode once more; nobody writes a path that needs many.
_MAX_DECODINGS: Final = 4
# One app takes the root path off once; a few may stand behind each other.
_MAX_ROOTS: Final = 3


class Routes:
    """
    What is allowed and what is denied.

    Args:
        allow: Patterns of what may be reached; everything where None.
        deny: Patterns of what may not, even if it is allowed.

    Attributes:
        plain: By method, what matches those `PLAIN` paths that may be reached.

    Raises:
        ValueError: A pattern cannot be read; the sentence says what to write.
    """

    __slots__ = ("_permitted", "plain")

    def __init__(self, allow: Iterable[str] | None, deny: Iterable[str]) -> None:
        # The end of "/users/" is a segment without a name to some apps and none to others: a star
        # that bars names it, and one that opens does not.
        allowed, plain = {each: [_ALL] for each in _METHODS}, {each: [PLAIN] for each in _METHODS}
        if allow is not None:
            allow = list(allow)
            allowed = _by_method(allow, partial(_expression, least="+"))
            plain = _by_method(allow, _plain_expression)
        denied = _by_method(deny, partial(_expression, least="*"))
        self._permitted = _matchers(allowed, denied)
        self.plain = _matchers(plain, denied)

    def permit(self, method: str, path: str, raw_path: bytes, root: str = "") -> bool:
        """
        Whether an operation may be sent.

        Args:
            method: Of the operation.
            path: The decoded path.
            raw_path: The same as it was written.
            root: What the app takes off the beginning of paths that have it.
        """
        permitted = self._permitted.get(method)
        if permitted is None:
            return False
        if not _is_ambiguous(path, raw_path, root):
            found = permitted(path) is not None
            # Some routers take a slash at the end off.
            return found and (path[-1] != "/" or permitted(path[:-1] or "/") is not None)
        decodings = _decodings(path)
        if len(decodings) > _MAX_DECODINGS:
            return False
        raw = raw_path.decode()
        kept = unquote(re.sub("%2[fF]", _ENCODED_SLASH, raw))
        # Some look for parameters before they decode or take dots out, others afterwards.
        bare = [*decodings, *map(_bare, decodings)]
        spellings = {kept, unquote(_bare(raw)), *bare, *map(_resolved, bare)}
        return all(map(permitted, set(_readings(spellings, root))))


def _is_ambiguous(path: str, raw_path: bytes, root: str) -> bool:
    if ";" in path or "//" in path or (root and root in path):
        return True
    # Of a path without escapes both forms are of one length.
    return len(raw_path) != len(path) and ("%" in path or path.count("/") != raw_path.count(b"/"))


def _decodings(path: str) -> list[str]:
    """
    The path, and what is left of it for whoever decodes more often; one too many where it could go
    on, as each costs a walk through the path.
    """
    found, again = [path], path
    while len(found) <= _MAX_DECODINGS and (decoded := unquote(again)) != again:
        again = decoded
        found.append(again)
    return found


def _bare(path: str) -> str:
    return re.sub(";[^/]*", "", path)


def _resolved(path: str) -> str:
    """
    For whoever takes dots and backslashes out after decoding.
    """
    return normpath(path.replace("\\", "/"))


def _readings(spellings: Iterable[str], root: str) -> Iterator[str]:
    """
    Whatever some server, proxy or router could take the path for.
    """
    for spelling in spellings:
        for form in _forms(spelling):
            yield form
            for behind in _behind(root, form):
                yield from _forms(behind)


def _forms(path: str) -> set[str]:
    """
    With and without parameters, empty segments, and a slash at the end.
    """
    found = {path, _bare(path)}
    found |= {re.sub("//+", "/", each) for each in found}
    return found | {each.rstrip("/") or "/" for each in found}


def _behind(root: str, path: str) -> Iterator[str]:
    """
    What may be left of *path* for an app that takes *root* off, which some do wherever it stands.
    """
    rest = path
    for _ in range(_MAX_ROOTS if root else 0):
        _, found, rest = rest.partition(root)
        if not found:
            return
        yield "/" + rest.removeprefix("/")


def _by_method(
    patterns: Iterable[str], express: Callable[[list[str]], str | None]
) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for pattern in patterns:
        methods, segments = _parse(pattern)
        if (expression := express(segments)) is not None:
            for method in methods:
                found.setdefault(method, []).append(expression)
    return found


def _matchers(allowed: dict[str, list[str]], denied: dict[str, list[str]]) -> dict[str, Matches]:
    return {
        method: re.compile(
            f"{_barrier(denied.get(method))}(?:{'|'.join(expressions)})", re.DOTALL
        ).fullmatch
        for method, expressions in allowed.items()
    }


def _barrier(denied: list[str] | None) -> str:
    return "" if denied is None else rf"(?!(?:{'|'.join(denied)})\Z)"


def _parse(pattern: str) -> tuple[frozenset[str], list[str]]:
    if (match := _PATTERN(pattern)) is None:
        raise ValueError(f'{pattern!r:.100}: write a path such as "/users/*" or "GET /users/**".')
    named, path = match.groups()
    methods = set(_METHODS if named is None else named.split("|"))
    if unknown := methods.difference(_METHODS):
        raise ValueError(f"{pattern!r:.100}: {min(unknown)} is not one of {', '.join(_METHODS)}.")
    if "GET" in methods:
        # Apps answer it from the same route.
        methods.add("HEAD")
    return frozenset(methods), _segments(pattern, path)


def _segments(pattern: str, path: str) -> list[str]:
    segments = path.rstrip("/").split("/")[1:]
    for each in segments:
        plain = unquote(each)
        if plain in ("", ".", "..") or re.search(r"[\\/?#;\x00-\x1f\x7f]", plain):
            raise ValueError(f"{pattern!r:.100}: leave {each!r:.100} out, no path has that.")
        if "**" in each and each != "**":
            raise ValueError(f'{pattern!r:.100}: write "**" between slashes, or "*" within them.')
    return segments


def _plain_expression(segments: list[str]) -> str | None:
    """
    What matches the same as `_expression`, as far as it is `PLAIN`; None for a pattern of which
    that cannot be told so easily.
    """
    is_open = segments[-1:] == ["**"]
    firsts = segments[:-1] if is_open else segments
    if not firsts:
        return PLAIN if is_open else None
    if not all(each == "*" or re.fullmatch(_NAME, each) for each in firsts):
        return None
    written = "".join("/" + (_NAME if each == "*" else re.escape(each)) for each in firsts)
    return written + (_NAMES if is_open else "")


def _expression(segments: list[str], *, least: str) -> str:
    blocks = _blocks(segments, least)
    *firsts, last = blocks
    if not firsts:
        return f"{last}/?"
    head, *middles = firsts
    # The first place where a block fits is as good as any later one, so none needs to be tried
    # again: what a pattern costs grows with the path and not with its powers.
    inner = "".join(f"(?>(?:/[^/]*+)*?{block}(?=/|$))" for block in middles)
    return f"{head}{inner}{_REST}{last}/?" if last else f"{head}{inner}{_ALL_THE_REST}"


def _blocks(segments: list[str], least: str) -> list[str]:
    """
    Regular expressions of what stands between the ``**`` of a pattern.
    """
    blocks = [""]
    for segment in segments:
        if segment == "**":
            blocks.append("")
        else:
            blocks[-1] += f"/[^/]{least}" if segment == "*" else f"/{_segment(segment)}"
    return [blocks[0], *(each for each in blocks[1:-1] if each), *blocks[1:][-1:]]


def _segment(glob: str) -> str:
    # Decoded only now, so that an encoded star is one.
    first, *rest = (re.escape(unquote(piece)) for piece in glob.split("*"))
    if not rest:
        return first
    *middles, last = rest
    inner = "".join(f"(?>[^/]*?{piece})" for piece in middles if piece)
    return f"{first}{inner}[^/]*{last}"
