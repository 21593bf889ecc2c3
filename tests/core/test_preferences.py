"""
What a client prefers: how the ``Prefer`` header is read, and what is ignored.
"""

from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_batch._core.preferences import Preferences, preferences_of

PREFER = b"prefer"

# What makes a pattern go back over what it has read, given in any number.
HOSTILE = {
    "a name that ends badly": lambda size: b"a" * size + b'"',
    "many values": lambda size: b"a=" * size + b'"',
    "quoted texts": lambda size: b'a"b"' * size + b'"',
    "escapes without end": lambda size: b'a="' + b"\\" * size,
    "quotes without end": lambda size: b'"' * (2 * size + 1),
    "blanks": lambda size: b"a" + b" " * size + b"b",
    "blanks around an equals sign": lambda size: b"a" + b" " * size + b"=" + b" " * size + b'"',
    "commas": lambda size: b"," * size + b"a",
    "semicolons": lambda size: b"a" + b";" * size + b'"',
    "parameters": lambda size: b"a" + b'; b="c"' * size + b'"',
    "preferences": lambda size: b"wait=1x," * size,
    "blanks and commas": lambda size: b" ,\t" * size + b'"',
}


def preferred(*values):
    return preferences_of([(PREFER, value) for value in values])


@pytest.mark.parametrize(
    "value",
    [
        b"respond-async",
        b"Respond-Async",
        b"  respond-async\t",
        b"handling=lenient, respond-async",
        b"respond-async; x=1, a",
        b'respond-async;x="y"',
        b'a="b, c", respond-async',
        b",,respond-async,,",
    ],
)
def test_whoever_would_rather_not_wait(value):
    """
    RFC 7240: a name in any case, among others, with parameters that nobody knows.
    """
    assert preferred(value) == Preferences(later=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"wait=5", 5),
        (b"Wait=5", 5),
        (b"wait = 5", 5),
        (b'wait="5"', 5),
        (b"wait=0", 0),
        (b"wait=007", 7),
        (b"wait=999999999", 999_999_999),
        (b"wait=5; x=y", 5),
        (b"handling=lenient,wait=5", 5),
        (b'a="b, wait=1", wait=5', 5),
        (b'a="\\", wait=1", wait=5', 5),
        (b'a; b=", wait=1", wait=5', 5),
    ],
)
def test_how_long_a_client_waits(value, seconds):
    """
    Whole seconds, quoted or not; what stands in a quoted text is no preference.
    """
    assert preferred(value) == Preferences(wait=seconds)


def test_both_wishes():
    """
    RFC 7240 4.3: to wait for a while, and then go on without the results.
    """
    assert preferred(b"respond-async, wait=10") == Preferences(later=True, wait=10)
    assert preferred(b"wait=10", b"respond-async") == Preferences(later=True, wait=10)


def test_name_of_the_header_in_any_case():
    """
    Other headers say nothing here.
    """
    headers = [(b"x-prefer", b"wait=1"), (b"Prefer", b"wait=2"), (b"wait", b"3")]

    assert preferences_of(headers) == Preferences(wait=2)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b",",
        b"wait",
        b"wait=",
        b'wait=""',
        b"wait=-1",
        b"wait=+1",
        b"wait=1.5",
        b"wait=1e3",
        b"wait=soon",
        b"wait=5x",
        b"wait=5 x",
        b"wait=5=5",
        b"wait==5",
        b"wait:5",
        b"wait=\xb2",
        b"wait=9999999999",
        b"await=5",
        b"wait-=5",
        b'wait="5',
        b'wait=5"',
        b'wait="5"x',
        b"x; wait=5",
        b"@wait=5",
        b"respond-asynchronous",
        b"x=respond-async",
        b'x="a, respond-async, wait=5',
        b'"respond-async"',
        b"(respond-async)",
        b"respond-async foo",
        b"foo respond-async",
    ],
)
def test_what_cannot_be_read_is_ignored(value):
    """
    RFC 7240: a wish that is not understood is none, and no error.
    """
    assert preferred(value) == Preferences()


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([b"wait=5, wait=6"], 5),
        ([b"wait=5", b"wait=6"], 5),
        ([b"wait=5, WAIT=6"], 5),
        ([b"wait=soon, wait=6"], None),
        ([b"(wait=4), wait=6"], 6),
    ],
)
def test_first_of_two_counts(values, seconds):
    """
    RFC 7240: also where the first one has a value that cannot be read.
    """
    assert preferred(*values).wait == seconds


@pytest.mark.parametrize(
    ("preferences", "header"),
    [
        (Preferences(), b""),
        (Preferences(later=True), b"respond-async"),
        (Preferences(wait=0), b"wait=0"),
        (Preferences(later=True, wait=10), b"respond-async, wait=10"),
    ],
)
def test_what_the_client_is_told(preferences, header):
    """
    The answer names what was heard, in words that the request could have had.
    """
    assert preferences.applied == header
    assert preferred(header) == preferences


@given(st.binary(max_size=200) | st.text('aw=;," \\\t', max_size=60).map(str.encode))
def test_no_header_is_an_error(value):
    """
    Whatever comes, there is an answer, and it can be told.
    """
    preferences = preferred(value)

    assert preferred(preferences.applied) == preferences


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_hostile_headers_cost_no_more_than_others(hostile):
    """
    Linear time: some 100 kB of anything are read in a moment.
    """
    for size in (1000, 4000, 16_000, 64_000, 256_000):
        start = perf_counter()
        preferences = preferred(hostile(size))

        assert perf_counter() - start < 4, f"{size} took too long"
        assert preferences == Preferences()


@pytest.mark.parametrize("name", [b"accept", b"x-prefer", b"preference", b"cookie"])
def test_other_headers_say_nothing_of_it(name):
    """
    Whatever stands in them.
    """
    assert preferences_of([(name, b"respond-async, wait=5")]) == Preferences()
