"""
What the batch endpoint takes and answers, as OpenAPI 3.1 has it; it looks at no request.

`document.json` is the one source. There, names in double braces stand for settings, a refusal is
the list of its codes, and what all answers have in common is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any, Final

import orjson

from asgi_batch.errors import BatchRefused, ConfigurationError

_SETTING: Final = re.compile(r'"\{\{(\w+)\}\}"|\{\{(\w+)\}\}')
_OF_ALL_ANSWERS: Final = {
    "Cache-Control": {"$ref": "#/components/headers/asgi_batch.CacheControl"},
    "X-Content-Type-Options": {"$ref": "#/components/headers/asgi_batch.NoSniff"},
    "Referrer-Policy": {"$ref": "#/components/headers/asgi_batch.NoReferrer"},
}
_PROBLEM: Final = {"$ref": "#/components/schemas/asgi_batch.Problem"}
_INVALID: Final = {"$ref": "#/components/schemas/asgi_batch.InvalidBatch"}


def described(settings: Mapping[str, str | float]) -> dict[str, Any]:
    """
    The whole document, of a batch endpoint with *settings*.
    """
    text = (files("asgi_batch.openapi") / "document.json").read_text("utf-8")
    document: dict[str, Any] = orjson.loads(
        _SETTING.sub(lambda found: _value(found, settings), text)
    )
    refusals = {each.code: each for each in BatchRefused.__subclasses__()}
    examples = {
        code: {"value": _problem(refusals[code], detail)}
        for code, detail in document.pop("refusals").items()
    }
    (invalid,) = document["components"]["schemas"]["asgi_batch.InvalidBatch"]["examples"]
    examples["invalid_batch"] = {"value": invalid}
    for response in _responses(document):
        codes = response.pop("codes", None)
        if codes is not None:
            content = {
                "schema": _refusal(codes, response.pop("properties", {})),
                "examples": {code: examples[code] for code in codes},
            }
            response["content"] = {"application/problem+json": content}
        response["headers"] = {**_OF_ALL_ANSWERS, **response.get("headers", {})}
    return document


def merged(document: Mapping[str, Any], addition: Mapping[str, Any]) -> dict[str, Any]:
    """
    The *document* of an app with *addition*, which describes its batch endpoint.

    Raises:
        ConfigurationError: The document is of another version of OpenAPI.
    """
    version = document.get("openapi")
    if not str(version).startswith("3.1."):
        raise ConfigurationError(
            f"openapi: {version!r:.100}: batches are described in OpenAPI 3.1."
        )
    components = dict(document.get("components", {}))
    for kind, named in addition["components"].items():
        components[kind] = {**components.get(kind, {}), **named}
    paths = {**document.get("paths", {}), **addition["paths"]}
    return {**document, "paths": paths, "components": components}


def _value(found: re.Match[str], settings: Mapping[str, str | float]) -> str:
    alone, within = found.groups()
    return orjson.dumps(settings[alone]).decode() if alone else str(settings[within])


def _responses(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        for method, operation in path.items():
            if method != "parameters":
                yield from operation["responses"].values()


def _problem(refusal: type[BatchRefused], detail: str) -> dict[str, Any]:
    made = refusal.__new__(refusal)
    # Some are made with more than a sentence, which goes into headers.
    BatchRefused.__init__(made, detail)
    return made.as_dict()


def _refusal(codes: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    """
    The schema of a problem document with one of *codes*.
    """
    plain = [code for code in codes if code != "invalid_batch"]
    problem = {
        "allOf": [_PROBLEM, {"properties": {"code": {"enum": plain}, **properties}}],
        "unevaluatedProperties": False,
    }
    return problem if plain == codes else {"oneOf": [_INVALID, problem]}
