"""
Goes through access logs once, and counts what a batch would save.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol
from urllib.parse import urlsplit

from asgi_batch.cli.access.bursts import Bursts, Rules
from asgi_batch.cli.access.endpoints import Counts, Endpoint
from asgi_batch.cli.access.lines import Lines
from asgi_batch.cli.finding import LogFinding

#: What an operation may be; the others are no operations, or those of a browser's own.
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
# What a page loads, and no loop.
_ASSETS: Final = frozenset(
    "js mjs css map png jpg jpeg gif svg ico webp avif woff woff2 ttf otf eot mp4 webm wasm".split()
)
# Endpoints of paths that are remembered; then all are forgotten, which costs a moment.
_REMEMBERED: Final = 20_000
# What is longer is counted and not followed, so that memory stays bounded.
_LONGEST_TARGET: Final = 1024
_BAD_REQUEST: Final = 400
# A log without times: so many lines are a second.
_LINES_PER_SECOND: Final = 50


class Templates(Protocol):
    """
    Tells which endpoint a path belongs to.
    """

    version: int

    def endpoint(self, path: str, *, learn: bool) -> Endpoint | None:
        """
        The endpoint of *path*; None where it is not known.
        """
        ...

    def endpoints(self) -> list[Endpoint]:
        """
        All that are known.
        """
        ...


class Survey:
    """
    What is known of the logs so far.

    Args:
        templates: Tells endpoints apart.
        rules: What counts as a loop.
        batch_path: Where batches go; they are no candidates themselves.
    """

    def __init__(self, templates: Templates, rules: Rules, batch_path: str = "/batch") -> None:
        self.lines = 0
        self.requests = 0
        self.unreadable = 0
        self._templates = templates
        self._batch_path = batch_path
        self._bursts = Bursts(rules)
        self._reader = Lines()
        self._known: dict[str, Endpoint | None] = {}
        self._version = templates.version

    def read(self, lines: Iterable[str]) -> None:
        """
        Take *lines* into account.
        """
        read, add = self._reader.read, self._bursts.add
        for line in lines:
            if not line:
                continue
            self.lines += 1
            request = read(line)
            if request is None:
                self.unreadable += 1
                continue
            caller, time, method, target, status = request
            self.requests += 1
            counts = self._counts(method, target, status)
            if counts is not None:
                counts.requests += 1
                when = self.lines / _LINES_PER_SECOND if time is None else time
                add(caller, method, counts, when, target)

    def _counts(self, method: str, target: str, status: int) -> Counts | None:
        if method not in METHODS or len(target) > _LONGEST_TARGET:
            return None
        path = target.partition("?")[0]
        try:
            endpoint = self._known[path]
        except KeyError:
            endpoint = self._look_up(path, is_good=status < _BAD_REQUEST)
        return None if endpoint is None else endpoint.counts(method)

    def _look_up(self, path: str, *, is_good: bool) -> Endpoint | None:
        plain = path if path.startswith("/") else urlsplit(path).path or "/"
        is_left_out = (
            plain.rpartition(".")[2].lower() in _ASSETS
            or plain == self._batch_path
            or plain.startswith(f"{self._batch_path}/")
        )
        endpoint = None if is_left_out else self._templates.endpoint(plain, learn=is_good)
        if self._version != self._templates.version or len(self._known) >= _REMEMBERED:
            self._version = self._templates.version
            self._known.clear()
        if endpoint is not None or is_left_out:
            self._known[path] = endpoint
        return endpoint

    def findings(self) -> list[LogFinding]:
        """
        What is worth a batch, most requests saved first. Nothing can be read after that.
        """
        self._bursts.finish()
        found = [
            LogFinding(
                method=method,
                template=endpoint.template,
                requests=counts.requests,
                saved=counts.saved,
                bursts=counts.bursts,
                longest=counts.longest,
                targets=counts.examples,
            )
            for endpoint in self._templates.endpoints()
            for method, counts in endpoint.methods.items()
            if counts.saved
        ]
        return sorted(found, key=lambda each: (-each.saved, each.template, each.method))
