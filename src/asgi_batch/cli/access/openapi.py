"""
The routes of an app as its OpenAPI document tells them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from asgi_batch.cli.access.endpoints import Endpoint
from asgi_batch.cli.problems import UsageProblem

_PARAMETER = re.compile(r"\{[^{}/]*\}")


class DocumentedTemplates:
    """
    The paths of a document, those with the fewest parameters first.

    Args:
        document: As it was parsed.

    Raises:
        UsageProblem: It has no paths.
    """

    #: What is said of a path stays true.
    version = 0

    def __init__(self, document: object) -> None:
        paths = document.get("paths") if isinstance(document, dict) else None
        if not isinstance(paths, dict) or not paths:
            raise UsageProblem('The OpenAPI document has no "paths".')
        self._endpoints = [Endpoint(str(path)) for path in sorted(paths, key=_from_plain)]
        prefixes = "|".join(map(re.escape, _prefixes(document)))
        self._patterns = [
            (re.compile(f"(?:{prefixes}){_pattern_of(endpoint.template)}$"), endpoint)
            for endpoint in self._endpoints
        ]

    def endpoint(self, path: str, *, learn: bool) -> Endpoint | None:
        """
        The endpoint that *path* belongs to; None where the document does not tell of it.
        """
        for pattern, endpoint in self._patterns:
            if pattern.match(path):
                return endpoint
        return None

    def endpoints(self) -> list[Endpoint]:
        """
        All of them.
        """
        return self._endpoints


def read_openapi(file: Path) -> DocumentedTemplates:
    """
    The routes in *file*.

    Raises:
        UsageProblem: It is not an OpenAPI document in JSON.
    """
    try:
        document = msgspec.json.decode(file.read_bytes())
    except msgspec.DecodeError as error:
        raise UsageProblem(f"{file} is not JSON ({error}); write the document as JSON.") from error
    return DocumentedTemplates(document)


def _from_plain(path: str) -> tuple[int, int]:
    return len(_PARAMETER.findall(path)), -len(path)


def _pattern_of(template: str) -> str:
    plain = _PARAMETER.split(template)
    return "[^/]+".join(map(re.escape, plain))


def _prefixes(document: Any) -> list[str]:
    """
    What the servers of *document* put before each path, and nothing, as behind a proxy.
    """
    servers = document.get("servers")
    urls = [each.get("url") for each in servers or [] if isinstance(each, dict)]
    paths = {urlsplit(url).path.rstrip("/") for url in urls if isinstance(url, str)}
    return sorted({*paths, ""}, key=len, reverse=True)
