"""
Requests that a page of another site has made a browser send.
"""

import pytest

from asgi_batch._core.origins import is_foreign, is_origin

PAGE = (b"origin", b"https://app.example")
CROSS = (b"sec-fetch-site", b"cross-site")


@pytest.mark.parametrize(
    ("headers", "allowed", "expected"),
    [
        ([CROSS, PAGE], [], True),
        ([CROSS], [], True),
        ([(b"Sec-Fetch-Site", b" Cross-Site "), PAGE], [], True),
        ([(b"sec-fetch-site", b"same-origin"), CROSS], [], True),
        ([CROSS, PAGE], ["https://app.example"], False),
        ([CROSS, (b"Origin", b"https://app.example")], ["https://app.example"], False),
        ([CROSS, PAGE], ["*"], False),
        ([CROSS, PAGE], ["https://other.example"], True),
        ([CROSS, PAGE, (b"origin", b"https://evil.example")], ["https://app.example"], True),
        ([CROSS, (b"origin", b"null")], ["https://app.example"], True),
        ([CROSS], ["https://app.example"], True),
        ([CROSS, (b"origin", b"\xff")], ["https://app.example"], True),
        ([(b"sec-fetch-site", b"same-site"), PAGE], [], False),
        ([(b"sec-fetch-site", b"same-origin")], [], False),
        ([(b"sec-fetch-site", b"none")], [], False),
        ([PAGE], [], False),
        ([], [], False),
    ],
)
def test_t21_t38_who_is_foreign(headers, allowed, expected):
    """
    Only a browser says where a request comes from; its word against an origin counts.
    """
    assert is_foreign(headers, frozenset(allowed)) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://app.example", True),
        ("http://localhost:3000", True),
        ("https://[::1]:8000", True),
        ("chrome-extension://abcdef", True),
        ("https://app.example/", False),
        ("https://App.example", False),
        ("app.example", False),
        ("null", False),
        ("", False),
    ],
)
def test_origins_as_browsers_write_them(text, expected):
    """
    Scheme, host and port, in lower case, and nothing else.
    """
    assert is_origin(text) is expected
