"""
Learns the routes of an app from the paths that were asked for: ``/users/17`` is ``/users/{id}``.

What looks like an id is one. Any other segment is taken for a name, until so many different ones
have been seen at its place that they must be values too.
"""

from __future__ import annotations

import re
from typing import Final

from asgi_batch.cli.access.endpoints import Endpoint

#: So many names at one place of a path, and they are values.
MANY: Final = 50
# So many nodes in the tree, and each new name counts as a value: 10,000 take some 10 MB.
_MOST_NODES: Final = 10_000
# What lies deeper is left out.
_DEEPEST: Final = 16

_NUMBER = re.compile(r"-?\d+$")
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}$", re.IGNORECASE)
_HEX = re.compile(r"(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{7,}$", re.IGNORECASE)
_DIGITS = re.compile(r"\d")
_LONG_TOKEN = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w.~=-]{20,}$")
_EXTENSION = re.compile(r"(.+?)(\.[A-Za-z][A-Za-z0-9]{1,4})$")


class LearntTemplates:
    """
    The routes as far as they are known. Takes bounded memory, however many paths it is shown.
    """

    def __init__(self) -> None:
        self._root = _Node("")
        self._nodes = 1
        #: Counts up whenever what was said of a path before may no longer be true.
        self.version = 0

    def endpoint(self, path: str, *, learn: bool) -> Endpoint | None:
        """
        The endpoint that *path* belongs to.

        Args:
            path: Without its query.
            learn: Whether *path* is known to be there. What is not is matched with what is known,
                so that whoever tries paths at random teaches nothing.
        """
        node: _Node | None = self._root
        for segment in path.split("/")[1:_DEEPEST]:
            assert node is not None
            node = self._step(node, segment, learn=learn)
            if node is None:
                return None
        assert node is not None
        if node.endpoint is None and learn:
            node.endpoint = Endpoint(node.template or "/")
        return node.endpoint

    def _step(self, node: _Node, segment: str, *, learn: bool) -> _Node | None:
        value = _value_of(segment)
        if value is None and node.names is not None:
            known = node.names.get(segment)
            if known is not None or not learn:
                return known
            if len(node.names) < MANY and self._nodes < _MOST_NODES:
                return self._add(node.names, segment, f"{node.template}/{segment}")
            if len(node.names) >= MANY:
                self._merge_names(node)
        name = value or "{id}"
        known = node.values.get(name)
        if known is not None or not learn:
            return known
        return self._add(node.values, name, f"{node.template}/{name}")

    def _add(self, children: dict[str, _Node], key: str, template: str) -> _Node:
        self._nodes += 1
        children[key] = _Node(template)
        return children[key]

    def _merge_names(self, node: _Node) -> None:
        """
        Make values of all names below *node*, with what has been counted for them.
        """
        names = list((node.names or {}).values())
        node.names = None
        self.version += 1
        value = node.values.get("{id}") or self._add(node.values, "{id}", f"{node.template}/{{id}}")
        for name in names:
            self._merge(name, value)

    def _merge(self, source: _Node, target: _Node) -> None:
        """
        Put everything below *source* under *target*.
        """
        self._nodes -= 1
        if source.endpoint is not None:
            if target.endpoint is None:
                target.endpoint = Endpoint(target.template)
            source.endpoint.merge_into(target.endpoint)
        for name, child in source.values.items():
            if name not in target.values:
                self._add(target.values, name, f"{target.template}/{name}")
            self._merge(child, target.values[name])
        for name, child in (source.names or {}).items():
            found = self._step(target, name, learn=True)
            assert found is not None
            self._merge(child, found)

    def endpoints(self) -> list[Endpoint]:
        """
        All that have been asked for.
        """
        found = []
        nodes = [self._root]
        while nodes:
            node = nodes.pop()
            nodes.extend(node.values.values())
            nodes.extend((node.names or {}).values())
            if node.endpoint is not None:
                found.append(node.endpoint)
        return found


class _Node:
    """
    A place in the tree of paths.
    """

    __slots__ = ("endpoint", "names", "template", "values")

    def __init__(self, template: str) -> None:
        self.template = template
        self.endpoint: Endpoint | None = None
        self.values: dict[str, _Node] = {}
        #: None once they have turned out to be values.
        self.names: dict[str, _Node] | None = {}


def _value_of(segment: str) -> str | None:
    """
    How *segment* stands in a template where it looks like an id; None where it is a name.
    """
    if _looks_like_id(segment):
        return "{id}"
    extension = _EXTENSION.match(segment)
    if extension and _looks_like_id(extension[1]):
        return "{id}" + extension[2]
    return None


def _looks_like_id(segment: str) -> bool:
    return bool(
        _NUMBER.match(segment)
        or _UUID.match(segment)
        or _HEX.match(segment)
        or "@" in segment
        or len(_DIGITS.findall(segment)) >= 4
        or _LONG_TOKEN.match(segment)
    )
