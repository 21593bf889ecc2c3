"""What a content type says about how a body can be shown in a result; it looks at no body."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

# Kinds of content; plain numbers, because they are compared for every result.
OTHER: Final = 0
TEXT: Final = 1
JSON: Final = 2
PLAIN_JSON: Final = 3
ENDLESS: Final = 4

_ENDLESS: Final = frozenset(("text/event-stream", "multipart/x-mixed-replace"))
_TEXT: Final = frozenset(
    """
    application/javascript application/jsonl application/ndjson application/x-ndjson
    application/x-www-form-urlencoded application/yaml
    """.split()
)
_TEXT_CHARSETS: Final = frozenset(("", "utf-8", "us-ascii"))


@lru_cache(maxsize=256)
def kind_of(content_type: bytes) -> int:
    """
    The kind of content that *content_type* announces.

    ``PLAIN_JSON`` is ``application/json``; ``JSON`` is any other type that ends in ``+json``;
    ``TEXT`` is text in UTF-8; ``ENDLESS`` is a stream without an end; the rest is ``OTHER``.
    """
    media_type, _, parameters = content_type.decode("latin-1").lower().partition(";")
    media_type = media_type.strip()
    if media_type == "application/json":
        return PLAIN_JSON
    if media_type.endswith("+json"):
        return JSON
    if media_type in _ENDLESS:
        return ENDLESS
    is_text = (
        media_type.startswith("text/")
        or media_type.endswith(("/xml", "+xml"))
        or media_type in _TEXT
    )
    return TEXT if is_text and _charset(parameters) in _TEXT_CHARSETS else OTHER


def is_endless(name: bytes, value: bytes) -> bool:
    """
    Whether the header announces a stream without an end.
    """
    return name.lower() == b"content-type" and kind_of(value) == ENDLESS


def _charset(parameters: str) -> str:
    _, _, rest = parameters.partition("charset=")
    return rest.partition(";")[0].strip("\"' ")
