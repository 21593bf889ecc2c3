"""
The ``Idempotency-Key``: how it is read, and what makes two submissions of one key the same.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_batch._core.idempotency import idempotency_of

PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
BARE = "".join(each for each in PRINTABLE if each not in ' "\\')
CONTENT = b"content"


def key_of(*values):
    return idempotency_of([(b"idempotency-key", value) for value in values], CONTENT).key


def fingerprint_of(*headers, content=CONTENT):
    headers = [(b"idempotency-key", b"key"), *headers]
    return idempotency_of(headers, content).fingerprint


def quoted(key):
    return b'"%b"' % key.replace("\\", "\\\\").replace('"', '\\"').encode()


@pytest.mark.parametrize("headers", [[], [(b"x-idempotency-key", b"a"), (b"authorization", b"b")]])
def test_no_key(headers):
    """
    Most submissions have none, and are all different.
    """
    assert idempotency_of(headers, CONTENT) is None


@pytest.mark.parametrize(
    "value",
    [
        b"8e03978e-40d5-43e8-bc93-6894a57f9324",
        b'"8e03978e-40d5-43e8-bc93-6894a57f9324"',
        b' \t"8e03978e-40d5-43e8-bc93-6894a57f9324" ',
    ],
)
def test_quotes_may_be_left_out(value):
    """
    The draft wants a string in quotes, many clients send none: both mean the same.
    """
    assert key_of(value) == "8e03978e-40d5-43e8-bc93-6894a57f9324"


@given(st.text(PRINTABLE, min_size=1, max_size=255))
def test_key_in_quotes(key):
    """
    RFC 8941 3.3.3: anything printable, with two characters escaped.
    """
    assert key_of(quoted(key)) == key


@given(st.text(BARE, min_size=1, max_size=255))
def test_key_without_quotes(key):
    """
    Anything printable but blanks, quotes and backslashes, of which one could not tell the end.
    """
    assert key_of(key.encode()) == key == key_of(quoted(key))


@pytest.mark.parametrize("length", [1, 255])
def test_length_of_a_key(length):
    """
    Up to 255 characters, however many bytes it takes to escape them.
    """
    assert key_of(b"k" * length) == "k" * length
    assert key_of(b'"%b"' % (b'\\"' * length)) == '"' * length


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b'"',
        b'""',
        b'"a',
        b'a"',
        b'a"b',
        b'"a"b"',
        b'"a" "b"',
        b'"a", "b"',
        b"a b",
        b"a\\",
        b'"\\a"',
        b'"a\\"',
        b"a\tb",
        b'"a\tb"',
        b'"a\n"',
        b"a\n",
        b"\xc3\xa4",
        b'"\xc3\xa4"',
        b"a\x7f",
        b"k" * 256,
        b'"%b"' % (b"k" * 256),
    ],
)
def test_what_is_no_key(value):
    """
    A mistake is told, not guessed at: a key that is read otherwise than it was meant helps nobody.
    """
    with pytest.raises(ValueError):  # noqa: PT011
        key_of(value)


def test_two_keys():
    """
    Nobody knows which one is meant, even where they are equal.
    """
    with pytest.raises(ValueError):  # noqa: PT011
        key_of(b"a", b"a")


def test_name_of_the_header_in_any_case():
    """
    Servers of HTTP/1.1 may hand it over as the client has written it.
    """
    assert idempotency_of([(b"Idempotency-Key", b"a")], CONTENT).key == "a"


def test_the_same_is_the_same():
    """
    Also with other headers that say nothing of who has sent it.
    """
    credentials = (b"authorization", b"Bearer x")

    assert fingerprint_of() == fingerprint_of((b"user-agent", b"other"), (b"prefer", b"wait=1"))
    assert fingerprint_of(credentials) == fingerprint_of((b"Authorization", b"Bearer x"))


@pytest.mark.parametrize("name", [b"authorization", b"cookie", b"proxy-authorization"])
def test_t47_other_credentials_are_another_caller(name):
    """
    T47: who has them is told apart from who has none, and from who has others.
    """
    prints = {fingerprint_of(), fingerprint_of((name, b"a")), fingerprint_of((name, b"b"))}

    assert len(prints) == 3


def test_t47_credentials_cannot_be_shifted():
    """
    T47: neither from one header to another, nor from one to two.
    """
    prints = {
        fingerprint_of((b"authorization", b"a"), (b"cookie", b"b")),
        fingerprint_of((b"authorization", b"b"), (b"cookie", b"a")),
        fingerprint_of((b"authorization", b"ab")),
        fingerprint_of((b"authorization", b"a\ncookie: 1 b")),
        fingerprint_of((b"authorization", b"a"), (b"authorization", b"b")),
        fingerprint_of((b"cookie", b"a")),
    }

    assert len(prints) == 6


def test_other_content_is_another_submission():
    """
    Every byte counts.
    """
    assert len({fingerprint_of(content=each) for each in (b"", b"a", b"b", b"a ")}) == 4


def test_t47_fingerprint_tells_nothing():
    """
    T47: it is kept, and must not be a way back to the credentials.
    """
    fingerprint = fingerprint_of((b"authorization", b"secret"), content=b"content")

    assert len(fingerprint) == 64
    assert set(fingerprint) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "name", [b"authorization", b"Cookie", b"x-api-key", b"x-tenant", b"x-amzn-oidc-data"]
)
def test_t47_what_may_tell_callers_apart_makes_another_request(name):
    """
    T47: credentials stand in headers of many names, and any may be one.
    """
    first, second = ([(name, value), (b"idempotency-key", b"k")] for value in (b"a", b"b"))
    swapped = [(b"Idempotency-Key", b"k"), (name.upper(), b"a")]

    assert idempotency_of(first, CONTENT) != idempotency_of(second, CONTENT)
    assert idempotency_of(first, CONTENT) == idempotency_of(swapped, CONTENT)


@pytest.mark.parametrize(
    "name",
    [
        b"Traceparent",
        b"x-request-id",
        b"user-agent",
        b"Accept-Encoding",
        b"x-forwarded-for",
        b"host",
    ],
)
def test_what_differs_between_attempts_does_not_count(name):
    """
    The same request sent again is the same, whatever traces and proxies add to it.
    """
    first, second = ([(name, value), (b"idempotency-key", b"k")] for value in (b"a", b"b"))

    assert idempotency_of(first, CONTENT) == idempotency_of(second, CONTENT)
