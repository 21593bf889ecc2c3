"""
The browser page: one document for each of its two views, and its policy; it answers nobody.

Style and scripts stand in the document itself, so that the policy can name them by their digests:
nothing else that the server hands out can become a script of this page (RELIABILITY T44).
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Final

from asgi_batch.errors import ConfigurationError

_FOLDER: Final = files("asgi_batch.console")
# In the order in which they stand on each other; together they are one module.
_SCRIPTS: Final = ("json", "dom", "server", "chart", "results", "compose", "batch", "page")

_STYLE: Final = "<style></style>"
_SCRIPT: Final = '<script type="module"></script>'
_COMPOSE: Final = '<body data-view="compose">'
_BATCH: Final = '<body data-view="batch">'


@dataclass(frozen=True, slots=True)
class Page:
    """
    One view.

    Args:
        document: HTML.
        tag: An entity tag of it.
        policy: What the document may load and do.
    """

    document: bytes
    tag: bytes
    policy: bytes


@dataclass(frozen=True, slots=True)
class Pages:
    """
    Both views.

    Args:
        compose: In which a batch is written and sent.
        batch: In which one batch is seen.
    """

    compose: Page
    batch: Page


def pages_of(console: object) -> Pages | None:
    """
    Both views, where *console* says that there are any.
    """
    if not isinstance(console, bool):
        raise ConfigurationError(f"console={console!r:.100}: write True or False.")
    return _load() if console else None


def _load() -> Pages:
    style = _read("console.css")
    script = "\n".join(_read(f"{name}.js") for name in _SCRIPTS)
    policy = _policy(style, script)
    compose = _read("console.html")
    views = (compose, compose.replace(_COMPOSE, _BATCH))
    return Pages(*(_page(_filled(view, style, script), policy) for view in views))


def _filled(view: str, style: str, script: str) -> bytes:
    return (
        view.replace(_STYLE, f"<style>{style}</style>")
        .replace(_SCRIPT, f'<script type="module">{script}</script>')
        .encode()
    )


def _read(name: str) -> str:
    return (_FOLDER / name).read_text("utf-8")


def _page(document: bytes, policy: bytes) -> Page:
    tag = f'"{sha256(document + policy).hexdigest()[:32]}"'.encode()
    return Page(document, tag, policy)


def _policy(style: str, script: str) -> bytes:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_digest(script)}'",
            f"style-src '{_digest(style)}'",
            # The picture on the tab.
            "img-src data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            # No text can become markup, not even by a mistake in the page.
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    ).encode()


def _digest(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
