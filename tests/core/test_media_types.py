"""
Content types: which bodies a result can show as JSON or as text.
"""

import pytest

from asgi_batch._core.media_types import ENDLESS, JSON, OTHER, PLAIN_JSON, TEXT, is_endless, kind_of


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        (b"application/json", PLAIN_JSON),
        (b" Application/JSON ; charset=utf-8", PLAIN_JSON),
        (b"application/problem+json", JSON),
        (b"application/vnd.api+JSON; x=y", JSON),
        (b"application/jsonp", OTHER),
        (b"application/json-seq", OTHER),
        (b"text/event-stream", ENDLESS),
        (b"Text/Event-Stream; charset=utf-8", ENDLESS),
        (b"multipart/x-mixed-replace; boundary=x", ENDLESS),
        (b"multipart/mixed", OTHER),
        (b"text/plain", TEXT),
        (b"text/html; charset=UTF-8", TEXT),
        (b'text/html; charset="utf-8"', TEXT),
        (b"text/html; charset=us-ascii; x=y", TEXT),
        (b"text/html; charset=iso-8859-1", OTHER),
        (b"text/html; charset=utf-16", OTHER),
        (b"application/xml", TEXT),
        (b"image/svg+xml", TEXT),
        (b"application/javascript", TEXT),
        (b"application/x-www-form-urlencoded", TEXT),
        (b"application/x-ndjson", TEXT),
        (b"application/yaml", TEXT),
        (b"application/octet-stream", OTHER),
        (b"image/png", OTHER),
        (b"", OTHER),
        (b"\xff\xfe", OTHER),
        (b"textual/plain", OTHER),
    ],
)
def test_kinds_of_content(content_type, kind):
    """
    The media type decides, in any case and with any parameters; text must be UTF-8.
    """
    assert kind_of(content_type) == kind


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (b"content-type", b"text/event-stream", True),
        (b"Content-Type", b"multipart/x-mixed-replace; boundary=b", True),
        (b"content-type", b"text/plain", False),
        (b"content-type", b"application/json", False),
        (b"content-type", b"application/x-unknown", False),
        (b"accept", b"text/event-stream", False),
        (b"x-type", b"text/event-stream", False),
    ],
)
def test_streams_without_an_end(name, value, expected):
    """
    Only what the app says of its own content counts.
    """
    assert is_endless(name, value) is expected
