"""
Headers of an operation: what it may set, what it inherits, what its result shows.
"""

import string
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_batch._core.headers import (
    OPERATION_HEADERS,
    RESULT_HEADERS,
    check_headers,
    encode_headers,
    exposed_headers,
    inherited_headers,
    is_header_name,
    is_secret_header,
    why_forbidden,
)
from pure import RULES, with_rules

TOKEN = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^`|~")
CALLER = """
authorization cookie proxy-authorization host forwarded via x-real-ip true-client-ip
cf-connecting-ip x-original-url x-rewrite-url x-original-host x-forwarded-for x-forwarded-host
x-forwarded-proto x-forwarded-prefix x-forwarded-anything
""".split()
FRAMING = """
connection keep-alive proxy-connection te trailer transfer-encoding upgrade expect content-length
content-encoding
""".split()
OVERRIDES = "x-http-method-override x-http-method x-method-override".split()
OF_THE_OUTER_BODY = """
accept-encoding range if-match if-none-match if-modified-since if-unmodified-since if-range
content-type content-language content-location content-md5 content-digest repr-digest digest
want-content-digest want-repr-digest want-digest signature signature-input idempotency-key prefer
""".split()
ALLOWED = """
accept accept-language content-type content-language idempotency-key prefer if-match if-none-match
if-modified-since if-unmodified-since
""".split()


def faults(headers, rules=RULES):
    """
    Name, code and sentence of all that is wrong with *headers*.
    """
    errors = list(check_headers(headers, rules))
    assert [str(error) for error in errors] == [error.detail for error in errors]
    return [(error.name, error.code, error.detail) for error in errors]


def codes(headers, rules=RULES):
    return [code for _, code, _ in faults(headers, rules)]


class TestWhatAnOperationMaySet:
    @pytest.mark.parametrize("name", ALLOWED)
    @pytest.mark.parametrize("spell", [str.lower, str.upper, str.title])
    def test_t15_what_is_allowed_by_default(self, name, spell):
        """
        T15: the few headers that make sense for one operation, in any case.
        """
        assert faults({spell(name): "x"}) == []
        assert encode_headers({spell(name): "x"}) == ((name.encode(), b"x"),)

    def test_t15_the_allowed_names_are_these_and_no_others(self):
        """
        T15: a longer list must be a decision.
        """
        assert frozenset(ALLOWED) == OPERATION_HEADERS

    @pytest.mark.parametrize("name", CALLER)
    @pytest.mark.parametrize("spell", [str.lower, str.upper, str.title])
    def test_t4_t12_who_calls_from_where_is_not_an_operations_to_say(self, name, spell):
        """
        T4, T12: identity, host and forwarding come from the batch request only.
        """
        detail = f"{name} is set by the batch request, for all of its operations alike."

        assert faults({spell(name): "x"}) == [(spell(name), "header_not_allowed", detail)]
        assert why_forbidden(name) == detail

    @pytest.mark.parametrize("name", FRAMING)
    def test_t14_framing(self, name):
        """
        T14: nothing that frames or encodes a body can be set.
        """
        detail = f"{name} frames a message; it is made for each operation from its body."

        assert faults({name.upper(): "1"}) == [(name.upper(), "header_not_allowed", detail)]
        assert why_forbidden(name) == detail

    @pytest.mark.parametrize("name", OVERRIDES)
    def test_t6_method_overrides(self, name):
        """
        T6: a method that has been checked cannot be changed by a header.
        """
        detail = f"{name} would change a method that has been checked; set the operation's method."

        assert faults({name: "DELETE"}) == [(name, "header_not_allowed", detail)]
        assert why_forbidden(name) == detail

    @pytest.mark.parametrize(
        "name", ["range", "if-range", "accept-encoding", "origin", "x-tenant", "set-cookie"]
    )
    def test_t15_other_headers_need_a_setting(self, name):
        """
        T15: what is not on the list is refused until the settings add it.
        """
        detail = f"The server does not let an operation set {name}."
        rules = with_rules(operation_headers=OPERATION_HEADERS | {name})

        assert faults({name: "x"}) == [(name, "header_not_allowed", detail)]
        assert faults({name: "x"}, rules) == []
        assert why_forbidden(name) is None

    def test_t13_a_header_set_twice_in_different_case(self):
        """
        T13: names differ by more than case.
        """
        detail = "The header is set twice, in different case."

        assert faults({"Accept": "a", "prefer": "b", "accept": "c", "ACCEPT": "d"}) == [
            ("accept", "invalid_header", detail),
            ("ACCEPT", "invalid_header", detail),
        ]

    def test_all_faults_are_told(self):
        """
        The first fault does not hide the next; a sound header between them is no fault.
        """
        headers = {"x y": "", "cookie": "a=b", "accept": "a\nb", "prefer": "x", "x-tenant": "1"}

        assert codes(headers) == [
            "invalid_header",
            "header_not_allowed",
            "invalid_header",
            "header_not_allowed",
        ]

    def test_no_headers(self):
        """
        An empty object sets nothing.
        """
        assert faults({}) == []
        assert encode_headers({}) == ()


NAME = 'A header name may hold letters, digits and "-", but no "_", ":" or space.'
VALUE = "A header value must be printable ASCII without white space at its edges."


class TestSyntax:
    @pytest.mark.parametrize(
        "name",
        [
            "",
            ":path",
            ":authority",
            "x_forwarded_for",
            "X_Forwarded_For",
            "accept_language",
            "accept ",
            " accept",
            "accept:",
            "accept\r\nx",
            "accept\n",
            "accept\0",
            "accept\t",
            "äccept",
            "accept\u212a",
            'a"b',
            "a(b)",
            "a/b",
            "a,b",
            "a;b",
            "a=b",
            "a@b",
            "a[b]",
            "a\\b",
            "a{b}",
            "a\x7f",
        ],
    )
    def test_t13_names(self, name):
        """
        T13: a name is an RFC 9110 token without an underscore, no pseudo header, no line break.
        """
        assert faults({name: "x"}) == [(name, "invalid_header", NAME)]
        assert not is_header_name(name)

    @pytest.mark.parametrize(
        "value",
        [
            " x",
            "x ",
            "\tx",
            "x\t",
            " ",
            "\t",
            "a\r\nb: c",
            "a\nb",
            "a\rb",
            "a\r\n folded",
            "x\n",
            "a\0b",
            "a\x1fb",
            "a\x7f",
            "ä",
            "\x85",
            "\u2028",
            "a\xa0b",
        ],
    )
    def test_t13_values(self, value):
        """
        T13: a value is printable ASCII and tabs, with nothing at its edges, on one line.
        """
        assert faults({"accept": value}) == [("accept", "invalid_header", VALUE)]

    @pytest.mark.parametrize("value", ["", "x", "!", "~", "a b", "a\tb", "a  b", '"a", b;q=0.5'])
    def test_t13_sound_values(self, value):
        """
        T13: what RFC 9110 allows is allowed.
        """
        assert faults({"accept": value}) == []

    @given(st.binary(max_size=12), st.binary(max_size=12))
    def test_t13_any_bytes_in_name_and_value(self, raw_name, raw_value):
        """
        T13: of all bytes only a token and a clean value come through, and unchanged.
        """
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        rules = with_rules(operation_headers=frozenset({name.lower()}))
        is_sound_name = bool(name) and TOKEN.issuperset(name)
        is_sound_value = value == value.strip(" \t") and all(
            c == "\t" or " " <= c <= "~" for c in value
        )
        found = codes({name: value}, rules)

        assert found == ([] if is_sound_name and is_sound_value else ["invalid_header"])
        assert is_header_name(name) == is_sound_name
        if not found:
            assert encode_headers({name: value}) == ((raw_name.lower(), raw_value),)

    @given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4))
    def test_t13_whatever_is_accepted_cannot_split_a_message(self, headers):
        """
        T13: no line break, NUL, colon or underscore ever gets into a scope.
        """
        rules = with_rules(operation_headers=frozenset(name.lower() for name in headers))
        sound = {name: value for name, value in headers.items() if not codes({name: value}, rules)}

        for name, value in encode_headers(sound):
            assert not set(name) & set(b"\r\n\0:_ ")
            assert not set(value) & set(b"\r\n\0")


class TestFloods:
    def test_t16_number_boundary(self):
        """
        T16: 64 headers pass and 65 do not.
        """
        names = [f"x-{number}" for number in range(65)]
        rules = with_rules(operation_headers=frozenset(names))
        detail = "An operation may have 64 headers; this one has 65."

        assert faults(dict.fromkeys(names[:64], "x"), rules) == []
        assert faults(dict.fromkeys(names, "x"), rules) == [("", "headers_too_large", detail)]

    def test_t16_size_boundary(self):
        """
        T16: 8192 bytes of names and values pass and 8193 do not.
        """
        rest = 8192 - len("accept") - len("prefer") - 1
        detail = "An operation's headers may have 8192 bytes; these have 8193."

        assert faults({"accept": "x" * rest, "prefer": "y"}) == []
        assert faults({"accept": "x" * rest, "prefer": "yz"}) == [("", "headers_too_large", detail)]


class TestInherited:
    @pytest.mark.parametrize("name", FRAMING + OVERRIDES + OF_THE_OUTER_BODY)
    def test_t6_t14_t15_what_an_operation_does_not_inherit(self, name):
        """
        T6, T14, T15: framing, overrides and what speaks of the batch's own body stay outside.
        """
        assert inherited_headers([(name.title().encode(), b"x")]) == ()

    @pytest.mark.parametrize("name", [*CALLER, "origin", "accept", "user-agent", "x-tenant"])
    def test_t4_t12_t15_what_an_operation_inherits(self, name):
        """
        T4, T12, T15: the caller and its surroundings are those of the batch request.
        """
        assert inherited_headers([(name.title().encode(), b"x")]) == ((name.encode(), b"x"),)

    def test_order_and_repetition_are_kept(self):
        """
        Repeated headers stay repeated, and whatever holds the bytes becomes bytes.
        """
        outer = [
            [bytearray(b"Via"), memoryview(b"1.1 a")],
            (b"content-length", b"7"),
            (b"via", b"1.1 b"),
            (b"host", b"h"),
        ]

        assert inherited_headers(outer) == ((b"via", b"1.1 a"), (b"via", b"1.1 b"), (b"host", b"h"))


class TestExposed:
    EXPOSED = MappingProxyType({b"etag": b"etag", b"link": b"link"})

    def test_only_named_headers_are_shown(self):
        """
        T40, T49: everything else stays inside, whatever its case.
        """
        headers = [(b"Set-Cookie", b"a=b"), (b"ETag", b'"1"'), [b"x-debug", b"y"]]

        assert exposed_headers(headers, self.EXPOSED) == {b"etag": b'"1"'}

    def test_repeated_headers_are_joined(self):
        """
        RFC 9110 5.3: one line with commas says the same.
        """
        headers = [(b"link", b"a"), (b"etag", b"e"), (b"Link", b"b"), (b"LINK", b"c")]

        assert exposed_headers(headers, self.EXPOSED) == {b"link": b"a, b, c", b"etag": b"e"}

    def test_t40_cookies_are_secret(self):
        """
        T40: no setting can show a cookie.
        """
        assert is_secret_header("set-cookie")
        assert is_secret_header("set-cookie2")
        assert not is_secret_header("etag")
        assert not {"set-cookie", "set-cookie2", "authorization"} & RESULT_HEADERS
