"""
Request targets: what is accepted, what is refused, and that nothing is read in two ways.
"""

import string
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_batch._core.paths import TargetError, parse_target
from pure import LENIENT, RULES, with_rules

PATH_CHARACTERS = frozenset(string.ascii_letters + string.digits + "-._~!$&'()*+,=:@/;%")
HEX_DIGITS = frozenset(string.hexdigits)

quoted_paths = st.lists(st.text(max_size=4).map(quote), max_size=4).map("/".join).map("/".__add__)


def refused(target, rules=RULES):
    """
    Code and sentence of the refusal of *target*.
    """
    with pytest.raises(TargetError) as error:
        parse_target(target, rules)
    assert str(error.value) == error.value.detail
    return error.value.code, error.value.detail


def outcome_of(target, rules=RULES):
    """
    The parsed target, or the code of its refusal.
    """
    try:
        return parse_target(target, rules)
    except TargetError as error:
        return error.code


def escapes_are_whole(text):
    return all(len(rest) >= 2 and HEX_DIGITS.issuperset(rest[:2]) for rest in text.split("%")[1:])


def is_sound_path(raw_path, *, lenient):
    """
    The rules of T10, written once more and slowly.
    """
    if raw_path[:1] != "/" or not PATH_CHARACTERS.issuperset(raw_path):
        return False
    if not escapes_are_whole(raw_path):
        return False
    try:
        path = unquote_to_bytes(raw_path).decode("utf-8")
    except UnicodeDecodeError:
        return False
    if "\\" in path or any(ord(c) < 32 or 127 <= ord(c) <= 159 for c in path):
        return False
    if any(segment.split(";")[0] in (".", "..") for segment in path.split("/")):
        return False
    return lenient or not ("%2f" in raw_path.lower() or ";" in path or "//" in path)


def is_sound_query(query):
    return all("!" <= c <= "~" for c in query) and "#" not in query and escapes_are_whole(query)


TRICKS = """
/ // . .. ... /./ /../ %2e %2E %2e%2e .%2e %2f %2F %5c %5C \\ ; ;x= %3b %00 %0a %0d %09 %1f %20 %7f
%c2%80 %c2%9f %c2%a0 %252e %252f %25 % %z %1 %zz %g0 %0g %ff %c3 %c3%a4 %ed%a0%80 %c0%ae %e2%82%ac
ä # ? ?? & = + @ : ~ ! $ ' ( ) * , - _ a A 7 admin batch public [ ] { } | ^ ` < > " http:// //evil
""".split()
targets = st.lists(
    st.one_of(st.sampled_from(TRICKS), st.sampled_from([" ", "\t", "\r\n", "\0", "\x7f", "\x85"])),
    max_size=8,
).map("".join)


class TestAccepted:
    @pytest.mark.parametrize(
        ("target", "expected"),
        [
            ("/", ("/", b"/", b"")),
            ("/?", ("/", b"/", b"")),
            ("/users/7", ("/users/7", b"/users/7", b"")),
            ("/users/", ("/users/", b"/users/", b"")),
            ("/users?", ("/users", b"/users", b"")),
            ("/users?full=1&x=/a,b:c", ("/users", b"/users", b"full=1&x=/a,b:c")),
            ("/a?b?c", ("/a", b"/a", b"b?c")),
            ("/a?x=%20%C3%A4", ("/a", b"/a", b"x=%20%C3%A4")),
            ("/a?x[]={1}|2", ("/a", b"/a", b"x[]={1}|2")),
            ("/a?!~", ("/a", b"/a", b"!~")),
            ("/caf%C3%A9", ("/café", b"/caf%C3%A9", b"")),
            ("/a%20b", ("/a b", b"/a%20b", b"")),
            ("/a%23b%3Fc", ("/a#b?c", b"/a%23b%3Fc", b"")),
            (
                "/v1.2/.well-known/x..y/...",
                ("/v1.2/.well-known/x..y/...", b"/v1.2/.well-known/x..y/...", b""),
            ),
            (
                "/~ada/@me/a+b/(1)/$x,y!/it's*=",
                ("/~ada/@me/a+b/(1)/$x,y!/it's*=", b"/~ada/@me/a+b/(1)/$x,y!/it's*=", b""),
            ),
            ("/a:b", ("/a:b", b"/a:b", b"")),
            ("/ADMIN/x", ("/ADMIN/x", b"/ADMIN/x", b"")),
            ("/a%C2%A0b", ("/a\xa0b", b"/a%C2%A0b", b"")),
        ],
    )
    def test_a_target_is_split_and_decoded_once(self, target, expected):
        """
        The path is decoded, its raw form and the query stay as written; case is left alone.
        """
        assert parse_target(target, RULES) == expected

    @pytest.mark.parametrize(
        ("target", "path"),
        [("/%252e%252e/x", "/%2e%2e/x"), ("/a%252fb", "/a%2fb"), ("/%25", "/%")],
    )
    def test_t10_double_encoding_stays_literal(self, target, path):
        """
        T10: a target is decoded once and never twice.
        """
        assert parse_target(target, RULES)[0] == path

    @pytest.mark.parametrize(
        ("target", "path"),
        [
            ("/a%2Fb", "/a/b"),
            ("/a;v=1/b", "/a;v=1/b"),
            ("/a%3bb", "/a;b"),
            ("/a//b", "/a//b"),
            ("//host/x", "//host/x"),
        ],
    )
    def test_t10_lenient_rules_let_three_things_through(self, target, path):
        """
        T10: an encoded slash, a parameter and an empty segment may be allowed, nothing else.
        """
        assert parse_target(target, LENIENT)[0] == path
        assert refused(target)[0] == "invalid_path"


START = 'The path must start with "/"; a scheme or host is not allowed.'
CHARACTER = "The path holds a character that must be percent-encoded or left out."
ESCAPE = 'Each "%" in a path must be followed by two hex digits.'
UTF8 = "The percent-encoded bytes of the path must be UTF-8."
CONTROL = "The path encodes a control character."
BACKSLASH = "The path encodes a backslash."
DOTS = 'The path has a "." or ".." segment.'
SLASH = "The path encodes a slash."
PARAMETER = 'The path has a ";" parameter.'
EMPTY = "The path has an empty segment."


class TestRefused:
    @pytest.mark.parametrize(
        ("target", "detail"),
        [
            ("//admin/x", EMPTY),
            ("/public//admin", EMPTY),
            ("/a//", EMPTY),
            ("/./admin/x", DOTS),
            ("/.", DOTS),
            ("/..", DOTS),
            ("/a/.", DOTS),
            ("/a/..", DOTS),
            ("/public/../admin/x", DOTS),
            ("/public/..%2fadmin/x", DOTS),
            ("/public%2f..%2fadmin", DOTS),
            ("/%2e%2e/admin/x", DOTS),
            ("/%2E/admin", DOTS),
            ("/.%2e/admin", DOTS),
            ("/public/..;/admin", DOTS),
            ("/public/.;x=1/admin", DOTS),
            ("/;/admin/x", PARAMETER),
            ("/admin;jsessionid=1", PARAMETER),
            ("/admin%3bx", PARAMETER),
            ("/a%2fb", SLASH),
            ("/a%2Fb", SLASH),
            ("/a%5cb", BACKSLASH),
            ("/a%5Cb", BACKSLASH),
            ("/a\\b", CHARACTER),
            ("/a%00", CONTROL),
            ("/a%0a", CONTROL),
            ("/a%0D%0Ab", CONTROL),
            ("/a%1f", CONTROL),
            ("/a%7F", CONTROL),
            ("/a%C2%80", CONTROL),
            ("/a%C2%9F", CONTROL),
            ("/a%", ESCAPE),
            ("/a%2", ESCAPE),
            ("/a%zz", ESCAPE),
            ("/a%2x", ESCAPE),
            ("/a%x2", ESCAPE),
            ("/%FF", UTF8),
            ("/%C0%AE%C0%AE/x", UTF8),
            ("/%ED%A0%80", UTF8),
            ("/a#b", CHARACTER),
            ("/a b", CHARACTER),
            ("/a\tb", CHARACTER),
            ("/a\r\nb", CHARACTER),
            ("/a\n", CHARACTER),
            ("/a\0", CHARACTER),
            ("/ä", CHARACTER),
            ("/a|b", CHARACTER),
            ("/a[b]", CHARACTER),
        ],
    )
    def test_t10_path_tricks(self, target, detail):
        """
        T10: no path that a proxy, a router or a framework might read as another one.
        """
        assert refused(target) == ("invalid_path", detail)

    @pytest.mark.parametrize(
        "target", ["/./x", "/a/..", "/%2e%2e/x", "/..;/x", "/a%5cb", "/a%00", "/%FF", "/a%", "/a b"]
    )
    def test_t10_lenient_rules_refuse_the_rest(self, target):
        """
        T10: what no policy allows.
        """
        assert refused(target, LENIENT) == refused(target)

    @pytest.mark.parametrize(
        "target",
        [
            "",
            "?a=1",
            "users",
            "*",
            "http://evil/x",
            "HTTPS://evil",
            "@evil/x",
            "evil:80",
            "./x",
            " /x",
        ],
    )
    def test_t11_absolute_and_authority_forms(self, target):
        """
        T11: a target never names a scheme or a host.
        """
        assert refused(target) == ("invalid_path", START)

    def test_t11_scheme_relative_form(self):
        """
        T11: two slashes would name a host.
        """
        assert refused("//evil/x") == ("invalid_path", EMPTY)

    @pytest.mark.parametrize(
        "query", ["a b", "a\rb", "a\nb", "a\n", "a#b", "#", "ä", "a\0", "a\x7f", "\x80", "\t"]
    )
    def test_t17_query_injection(self, query):
        """
        T17: a query is printable ASCII without a fragment.
        """
        detail = "The query holds a character that must be percent-encoded or left out."

        assert refused(f"/a?{query}") == ("invalid_query", detail)

    @pytest.mark.parametrize("query", ["%", "a=%2", "%zz", "%0g", "%g0"])
    def test_t17_broken_escapes_in_a_query(self, query):
        """
        T17: each percent sign starts an escape.
        """
        detail = 'Each "%" in a query must be followed by two hex digits.'

        assert refused(f"/a?{query}") == ("invalid_query", detail)

    @pytest.mark.parametrize(
        "target", ["/batch", "/batch/", "/batch/x/y", "/batch?x=1", "/%62atch", "/batch/%20"]
    )
    def test_t7_the_batch_endpoint_itself(self, target):
        """
        T7: no operation names the batch endpoint or anything below it, in whatever spelling.
        """
        detail = "An operation cannot address the batch endpoint itself."

        assert refused(target) == ("nested_batch", detail)

    @pytest.mark.parametrize("target", ["/batches", "/batch-2", "/v1/batch", "/bat", "/BATCH", "/"])
    def test_t7_neighbours_of_the_batch_endpoint(self, target):
        """
        T7: only whole segments count.
        """
        assert parse_target(target, RULES)[0] == target

    def test_t7_a_batch_endpoint_elsewhere(self):
        """
        T7: the path is that of the settings.
        """
        rules = with_rules(batch_path="/api/bulk")

        assert refused("/api/bulk/1", rules)[0] == "nested_batch"
        assert parse_target("/batch", rules)[0] == "/batch"


class TestLength:
    @pytest.mark.parametrize("filler", ["a", "%41"])
    def test_t10_path_boundary(self, filler):
        """
        T10: 2048 bytes of raw path pass and 2049 do not, the query not counted.
        """
        path = "/" + filler * (2046 // len(filler)) + "b"
        assert len(path) == 2048

        assert parse_target(f"{path}?q=1", RULES)[1] == path.encode()
        assert refused(f"{path}c") == ("invalid_path", "The path is longer than 2048 bytes.")

    @pytest.mark.parametrize("filler", ["a", "!"])
    def test_t17_query_boundary(self, filler):
        """
        T17: 8192 bytes of query pass and 8193 do not.
        """
        query = filler * 8192

        assert parse_target(f"/?{query}", RULES)[2] == query.encode()
        assert refused(f"/?{query}a") == (
            "invalid_query",
            "The query is longer than 8192 bytes.",
        )


class TestProperties:
    @given(st.one_of(targets, targets.map("/".__add__), st.text(max_size=20).map("/".__add__)))
    @example("/a/b.c/~d?x=1&y=%2f")
    @example("/a/.b")
    def test_t10_t17_a_target_is_accepted_exactly_when_the_rules_say_so(self, target):
        """
        T10, T17: the fast way and the slow way agree, under both policies.
        """
        raw_path, _, query = target.partition("?")
        for rules in (RULES, LENIENT):
            outcome = outcome_of(target, rules)
            sound_path = is_sound_path(raw_path, lenient=rules.lenient_paths)

            if outcome == "nested_batch":
                assert (unquote_to_bytes(raw_path) + b"/").startswith(b"/batch/")
            elif outcome == "invalid_path":
                assert not sound_path
            elif outcome == "invalid_query":
                assert not is_sound_query(query)
            else:
                assert sound_path
                assert is_sound_query(query)
                assert outcome == (
                    unquote_to_bytes(raw_path).decode(),
                    raw_path.encode(),
                    query.encode(),
                )

    @given(st.one_of(targets.map("/".__add__), quoted_paths))
    def test_t10_an_accepted_path_is_harmless_and_round_trips(self, target):
        """
        T10: what is accepted decodes to a path without tricks, and quoting it gives it back.
        """
        outcome = outcome_of(target)
        if isinstance(outcome, str):
            return
        path = outcome[0]
        first, *segments = path.split("/")

        assert first == ""
        assert not {".", ".."} & set(segments)
        assert "" not in segments[:-1]
        assert not set(path) & {"\\", ";", "\0", "\r", "\n", "\x7f"}
        assert outcome_of(quote(path)) == (path, quote(path).encode(), b"")

    @given(st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/\\;")))
    def test_t10_ordinary_names_are_accepted(self, name):
        """
        T10: any name without separators and control characters can be a segment.
        """
        expected = (f"/files/{name}", f"/files/{quote(name)}".encode(), b"")

        if name not in (".", ".."):
            assert outcome_of(f"/files/{quote(name)}") == expected
