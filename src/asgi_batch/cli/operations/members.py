"""
One operation as a person has written it: checked as far as can be without the server.

Bodies stay as they were written, byte for byte.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Raw, UnsetType

from asgi_batch.cli.problems import UsageProblem


class _Members(msgspec.Struct, forbid_unknown_fields=True):
    """
    What an operation may have; also in the form of OpenAI's batch files.
    """

    method: str
    path: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET
    body: Raw | UnsetType = UNSET
    bodyEncoding: str | UnsetType = UNSET  # noqa: N815
    timeout: float | UnsetType = UNSET
    custom_id: str | UnsetType = UNSET
    url: str | UnsetType = UNSET


_decode = msgspec.json.Decoder(_Members).decode


def operation_of(text: bytes, place: str) -> dict[str, Any]:
    """
    The operation in *text*, with its members as the wire contract has them.

    Args:
        text: A JSON object: ``method``, ``path`` and so on, or ``custom_id``, ``method``, ``url``
            and ``body``.
        place: Where it stands, for people.

    Raises:
        UsageProblem: It is none.
    """
    try:
        # A body goes out as it is, and the server would refuse all others together with it.
        text.decode()
        members = msgspec.structs.asdict(_decode(text))
        given = {name: value for name, value in members.items() if value is not UNSET}
        custom_id, url = given.pop("custom_id", None), given.pop("url", None)
        if custom_id is not None:
            given.setdefault("id", custom_id)
        if url is not None:
            parts = urlsplit(url)
            query = f"?{parts.query}" if parts.query else ""
            given.setdefault("path", f"{parts.path or '/'}{query}")
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UsageProblem(f"{place}: {error}.") from error
    if "path" not in given:
        raise UsageProblem(f"{place}: Object missing required field `path`, or `url`.")
    return given
