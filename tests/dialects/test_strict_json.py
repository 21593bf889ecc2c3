"""
Strict JSON: what is no document of RFC 8259 is refused, and what is one is not refused for that.
"""

import json
import sys
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_batch.dialects import native
from asgi_batch.dialects._strict_json import depth, is_utf8
from asgi_batch.errors import BatchRefused
from dialects.documents import (
    Members,
    Source,
    Writer,
    escaped,
    is_valid,
    operations,
    repeats_a_member,
    seeds,
    shuffled,
    sources,
)
from pure import RULES, refusal_of, with_rules

VALID = b'{"operations":[{"method":"POST","path":"/x","body":{"a":[1,"b"]},"timeout":1.5}]}'
SYNTAX = ("invalid_json", "invalid_unicode", "json_too_deep")


def with_body(body):
    return b'{"operations":[{"method":"POST","path":"/","body":%b}]}' % body


def code_of(document, rules=RULES):
    """
    The code of the refusal of *document*; None where it is a batch.
    """
    try:
        native.decode(document, rules)
    except BatchRefused as refusal:
        return refusal.code
    return None


class TestSyntax:
    @pytest.mark.parametrize(
        "document",
        [
            b"",
            b" ",
            b"{",
            b"}",
            b"[",
            b"nul",
            b"NaN",
            b"Infinity",
            b"-Infinity",
            b"'a'",
            b"{'operations': []}",
            b'{"operations":[],}',
            b'{"operations":[{},]}',
            b'{"operations" []}',
            b"{operations:[]}",
            b'{"operations":[]} x',
            b'{"operations":[]}{}',
            b'{"operations":[]}\0',
            b"// c\n{}",
            b"/* c */{}",
            b'"a\nb"',
            b'"a\tb"',
            b'"\\u12"',
            b'"\\u12g4"',
            b'"open',
            with_body(b"NaN"),
            with_body(b"[Infinity]"),
            with_body(b"-Infinity"),
            with_body(b"01"),
            with_body(b"1."),
            with_body(b".5"),
            with_body(b"+1"),
            with_body(b"0x1"),
            with_body(b"1e"),
            with_body(b"-"),
            with_body(b"True"),
            with_body(b'"a\x1fb"'),
            with_body(b'"\\a"'),
            with_body(b"{a:1}"),
            with_body(b"[1,]"),
            with_body(b"[1 2]"),
            with_body(b"\x0c1"),
            with_body(b""),
        ],
    )
    def test_t24_what_is_not_json(self, document):
        """
        T24: constants, comments, trailing data, control characters and odd numbers, anywhere.
        """
        refusal = refusal_of(document)

        assert not is_valid(document)
        assert (refusal["status"], refusal["code"]) == (400, "invalid_json")
        assert refusal["detail"].startswith("The body is not valid JSON: ")
        assert refusal["detail"].endswith(".")

    def test_a_refusal_says_where(self):
        """
        The sentence names the byte at which the document stops being JSON.
        """
        assert refusal_of(b'{"operations":[01]}')["detail"] == (
            "The body is not valid JSON: invalid number (byte 16)."
        )

    def test_t24_byte_order_mark(self):
        """
        T24: RFC 8259 8.1: no byte order mark.
        """
        refusal = refusal_of(b"\xef\xbb\xbf" + VALID)

        assert (refusal["status"], refusal["code"]) == (400, "invalid_json")
        assert refusal["detail"] == (
            "The body starts with a byte order mark; send UTF-8 without one."
        )

    @pytest.mark.parametrize(
        "encoding",
        ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"],
    )
    def test_t24_other_encodings(self, encoding):
        """
        T24: UTF-16 and UTF-32, with and without a mark.
        """
        refusal = refusal_of(VALID.decode().encode(encoding))

        assert (refusal["status"], refusal["code"]) == (400, "invalid_unicode")
        assert refusal["detail"] == "The body is not UTF-8; other encodings are not accepted."

    @pytest.mark.parametrize(
        "broken",
        [
            b"\xff",
            b"\x80",
            b"\xc3",
            b"\xc0\xaf",
            b"\xe0\x80\xaf",
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"\xf0\x9f\x98",
            b"\xe9",
        ],
    )
    @pytest.mark.parametrize("place", ["body", "path", "unknown", "name"])
    def test_t25_broken_utf8(self, broken, place):
        """
        T25: bytes that are not UTF-8 are refused wherever they stand, also inside a body.
        """
        member = {
            "body": b'"body":"%b"',
            "path": b'"path":"/%b"',
            "unknown": b'"x":"%b"',
            "name": b'"%b":1',
        }[place]
        document = b'{"operations":[{"method":"POST",%b}]}' % (member % broken)

        assert not is_valid(document)
        assert refusal_of(document)["code"] == "invalid_unicode"

    @pytest.mark.parametrize("cut", [65_535, 65_536, 65_537, 131_071, 131_072])
    def test_t25_utf8_is_checked_across_chunks(self, cut):
        """
        T25: a character on the edge of a chunk is whole, and half a character at the end is not.
        """
        data = b"x" * (cut - 1) + "😀ä".encode() + b"y"

        assert is_utf8(data)
        assert not is_utf8(data[:cut])
        assert not is_utf8(b"x" * cut + b"\xff" + b"y" * cut)

    @given(st.binary(max_size=40))
    def test_t25_utf8_is_what_the_standard_library_says(self, data):
        """
        T25: the check in chunks agrees with a plain decoder.
        """
        try:
            data.decode("utf-8")
            expected = True
        except UnicodeDecodeError:
            expected = False

        assert is_utf8(data) is expected

    @pytest.mark.parametrize(
        "text",
        ["\\ud800", "\\uDFFF", "\\udc00\\ud800", "a\\ud83dz", "\\\\\\ud83d", "\\ud83d\\u0041"],
    )
    @pytest.mark.parametrize(
        "member",
        [
            '"method":"{}"',
            '"path":"/{}"',
            '"id":"{}"',
            '"headers":{{"accept":"{}"}}',
            '"headers":{{"{}":"x"}}',
            '"body":"{}"',
            '"body":{{"{}":[]}}',
            '"bodyEncoding":"{}"',
            '"timeout":"{}"',
            '"{}":1',
        ],
    )
    def test_t25_half_a_surrogate_pair(self, text, member):
        """
        T25: stored poison for whoever encodes it later, in every place that holds a string.
        """
        document = f'{{"operations":[{{{member.format(text)}}}]}}'.encode()
        refusal = refusal_of(document)

        assert not is_valid(document)
        assert (refusal["status"], refusal["code"]) == (400, "invalid_unicode")
        assert refusal["detail"] == "A string escapes half of a surrogate pair."

    def test_t25_whole_pairs_and_escaped_backslashes_are_fine(self):
        """
        T25: only a half is at fault, and only where it is an escape.
        """
        body = b'"\\ud83d\\ude00 \\\\ud800 \\u0000 \\\\\\\\ud83d"'

        assert bytes(native.decode(with_body(body), RULES).operations[0].body) == body

    def test_t24_a_zero_among_the_first_four_bytes(self):
        """
        T24: that is how UTF-16 and UTF-32 begin; further on it is a character like any other.
        """
        assert code_of(b'"ab\0"') == "invalid_unicode"
        assert code_of(b'"abc\0"') == "invalid_json"

    def test_t25_t35_how_far_a_half_pair_is_looked_for(self):
        """
        T25, T35: within the first MiB the code tells why; beyond, the document is just no JSON.
        """
        half = b"\\ud800"
        within = b'"' + b"x" * (1024 * 1024 - len(half) - 1) + half + b'"'
        beyond = b'"x' + within[1:]

        assert code_of(within) == "invalid_unicode"
        assert code_of(beyond) == "invalid_json"

    @pytest.mark.parametrize("number", ["1e999", "-1e999", "1E400", "9" * 400, "9" * 5000])
    def test_t24_a_timeout_out_of_range(self, number):
        """
        T24: a number that no float can hold is refused, never rounded to infinity.
        """
        document = f'{{"operations":[{{"method":"GET","path":"/","timeout":{number}}}]}}'
        refusal = refusal_of(document.encode())

        assert (refusal["status"], refusal["code"]) == (400, "invalid_json")
        assert refusal["detail"] == "The timeout of operation 0 is a number out of range."


class TestAgainstTheStandardLibrary:
    @given(st.binary(max_size=30))
    def test_t24_any_bytes(self, document):
        """
        T24: bytes are refused as no JSON exactly when they are none.
        """
        assert (code_of(document) in SYNTAX) is not is_valid(document)

    @given(
        st.lists(
            st.sampled_from(
                [
                    *'{}[]:,"\\ \n\t0-1.eE+',
                    "true",
                    "null",
                    "NaN",
                    "\\u00",
                    "\\ud83d",
                    "\\ude00",
                    "a",
                ]
            ),
            max_size=14,
        ).map("".join)
    )
    @example('"\\ud83d\\ude00"')
    def test_t24_pieces_of_json_as_a_body(self, text):
        """
        T24: the same for what stands inside an operation's body, which nobody decodes.
        """
        document = with_body(text.encode())

        assert (code_of(document) in SYNTAX) is not is_valid(document)

    @given(operations, seeds, st.data())
    def test_t24_valid_documents_with_one_change(self, described, seed, data):
        """
        T24: one byte taken out, doubled or replaced.
        """
        document = Writer(seed).write({"operations": described}).encode()
        at = data.draw(st.integers(0, len(document) - 1))
        piece = data.draw(
            st.sampled_from(
                [b"", document[at : at + 1] * 2, b'"', b"\\", b"0", b",", b"\xff", b" "]
            )
        )
        changed = document[:at] + piece + document[at + 1 :]
        code = code_of(changed)

        if code != "invalid_json" or "out of range" not in refusal_of(changed)["detail"]:
            assert (code in SYNTAX) is not is_valid(changed)
        if code is None:
            assert not repeats_a_member(changed)


class TestDepth:
    @pytest.mark.parametrize(
        ("start", "end"), [(b"[", b"]"), (b'{"a":', b"}"), (b' [ {"\\"":', b"} ] ")]
    )
    def test_t22_boundary(self, start, end):
        """
        T22: 128 levels pass and 129 do not; brackets in strings do not count.
        """
        levels = start.count(b"[") + start.count(b"{")
        fits = start * (128 // levels) + b'"[[{{\\"[["' + end * (128 // levels)
        too_deep = b"[" + fits + b"]"
        refusal = refusal_of(with_body(too_deep))

        assert bytes(native.decode(with_body(fits), RULES).operations[0].body) == fits.strip()
        assert (refusal["status"], refusal["code"]) == (400, "json_too_deep")
        assert refusal["detail"] == (
            "The body of operation 0 nests more than 128 arrays and objects."
        )

    def test_t22_the_limit_is_that_of_the_rules(self):
        """
        T22: also where it is very small, and for the right operation.
        """
        document = (
            b'{"operations":[{"method":"PUT","path":"/","body":[]},'
            b'{"method":"PUT","path":"/","body":%b}]}'
        )
        rules = with_rules(max_json_depth=1)

        assert code_of(document % b"[1,{}]", rules) == "json_too_deep"
        assert code_of(document % b"[1,2]", rules) is None
        assert refusal_of(document % b"[[]]", rules)["detail"] == (
            "The body of operation 1 nests more than 1 arrays and objects."
        )

    @pytest.mark.parametrize(
        "document",
        [
            b"[" * 1_000_000,
            b"[" * 500_000 + b"]" * 500_000,
            b'{"a":' * 200_000,
            with_body(b"[" * 500_000 + b"]" * 500_000),
            with_body(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
            b'{"operations":%b}' % (b"[" * 500_000 + b"]" * 500_000),
            b'{"x":%b,"operations":[]}' % (b"[" * 500_000 + b"]" * 500_000),
        ],
    )
    def test_t22_a_million_brackets(self, document):
        """
        T22: a depth bomb is refused at once and without a RecursionError.
        """
        started = time.thread_time()
        refusal = refusal_of(document)
        took = time.thread_time() - started

        assert (refusal["status"], refusal["code"]) == (400, "json_too_deep")
        assert refusal["detail"].endswith("nests more than 128 arrays and objects.")
        assert took < 0.5

    @pytest.mark.parametrize(
        "document",
        [
            b'{"operations":[{"method":"POST","path":1,"body":%b}]}',
            b'{"operations":[{"method":"POST","path":"/","path":"/","body":%b}]}',
            b'{"operations":[{"method":"POST","path":"/","body":%b}]}',
            b'{"operations":[{"method":"GET","path":"/"}],"x":%b}',
            b'{"operations":%b}',
            b"%b",
        ],
    )
    def test_t22_no_depth_escapes_as_a_recursion_error(self, document):
        """
        T22: around the depth at which the parser itself gives up, each refusal is a refusal.
        """
        limit = sys.getrecursionlimit()
        codes = {
            code_of(document % (b"[" * levels + b"]" * levels))
            for levels in range(limit - 200, limit + 20)
        }

        assert codes <= {"json_too_deep", "invalid_batch", "duplicate_key"}

    def test_t22_a_big_body_full_of_brackets_is_quick(self):
        """
        T22, T35: looking for the depth of a body takes a time in proportion to its size.
        """
        body = b'"' + b"[" * 900_000 + b'"'
        started = time.thread_time()
        native.decode(with_body(body), RULES)
        took = time.thread_time() - started

        assert took < 0.15

    @given(sources)
    @example(Source("[[[[[[]]]],[]]]"))
    @example(Source("[[],[[]]]"))
    def test_t22_depth_is_exact(self, source):
        """
        T22: the quick count agrees with a walk through the value.
        """

        def levels(value):
            if isinstance(value, dict):
                value = list(value.values())
            if isinstance(value, list):
                return 1 + max(map(levels, value), default=0)
            return 0

        # Names are made unique, so that the standard library keeps every member.
        counter = iter(range(1_000_000))
        value = json.loads(
            source, object_pairs_hook=lambda pairs: {next(counter): v for _, v in pairs}
        )

        assert depth(source.encode()) == levels(value)

    @pytest.mark.parametrize("levels", range(12))
    def test_t22_depth_of_nests(self, levels):
        """
        T22: every small depth, alone and beside shallow neighbours.
        """
        nest = b"[" * levels + b"]" * levels if levels else b"1"

        assert depth(nest) == levels
        assert depth(b'[[],%b,{"]":"[["}]' % nest) == max(levels, 1) + 1


class TestDuplicates:
    @pytest.mark.parametrize(
        ("document", "where", "name"),
        [
            ('{"operations":[],"operations":[{"method":"GET"}]}', "the body", "operations"),
            ('{"onError":"stop","operations":[],"onError":"stop"}', "the body", "onError"),
            ('{"operations":7,"operations":8}', "the body", "operations"),
        ],
    )
    def test_t23_repeated_members_of_the_envelope(self, document, where, name):
        """
        T23: the same for the envelope.
        """
        assert refusal_of(document.encode())["detail"] == f'In {where}, "{name}" is there twice.'

    @pytest.mark.parametrize(
        ("members", "where", "name"),
        [
            ('"path":"/a","path":"/b"', "", "path"),
            ('"path":"/","method":"PUT"', "", "method"),
            ('"path":"/","id":"","id" :"a"', "", "id"),
            ('"path":"/","body":1,"id":"a","body":2', "", "body"),
            ('"path":"/","headers":{},"headers":{}', "", "headers"),
            ('"path":"/","headers":{"accept":"a","accept":"b"}', "/headers", "accept"),
            ('"path":"/","timeout":1,"timeout":1', "", "timeout"),
            ('"path":"/","body":1,"bodyEncoding":"json","bodyEncoding":"json"', "", "bodyEncoding"),
            ('"path":"/","x":1,"x":2', "", "x"),
            ('"path":7,"headers":{"accept":"a","accept":"b"}', "/headers", "accept"),
        ],
    )
    def test_t23_repeated_members(self, members, where, name):
        """
        T23: a firewall may see the one and we the other, so that neither is taken.
        """
        operations = f'[{{"method":"GET","path":"/"}},{{"method":"PUT",{members}}}]'
        refusal = refusal_of(f'{{"operations":{operations}}}'.encode())

        assert (refusal["status"], refusal["code"]) == (400, "duplicate_key")
        assert refusal["detail"] == (f'In /operations/1{where}, "{name}" is there twice.')

    @pytest.mark.parametrize(
        ("document", "where"),
        [
            ('{"operations":[{"method":"GET","path":"/a","p\\u0061th":"/b"}]}', "/operations/0"),
            ('{"operations":[{"method":"GET","p\\u0061th":"/b"}]}', "/operations/0"),
            ('{"\\u006fperations":[{"method":"GET","path":"/b"}]}', "the body"),
            (
                '{"operations":[{"method":"GET","path":"/","headers":{"\\u0061ccept":"a"}}]}',
                "/operations/0/headers",
            ),
        ],
    )
    def test_t23_names_spelled_with_escapes(self, document, where):
        """
        T23: a name that is spelled with escapes hides what it is, repeated or not.
        """
        refusal = refusal_of(document.encode())

        assert (refusal["status"], refusal["code"]) == (400, "duplicate_key")
        assert refusal["detail"] == (
            f"In {where}, a name is there twice or spelled with escapes; write each once, plainly."
        )

    def test_t23_t35_how_far_a_repeated_name_is_looked_for(self):
        """
        T23, T35: within the first 64 KiB it is named; beyond, it is refused all the same.
        """
        start, end = b'{"onError":"stop","operations":[{"method":"PUT","path":"/","body":"', b'"}],'
        again = b'"onError":'
        filler = b"x" * (64 * 1024 - len(start + end + again))
        within = refusal_of(start + filler + end + again + b'"stop"}')
        beyond = refusal_of(start + filler + b"x" + end + again + b'"stop"}')

        assert within["detail"] == 'In the body, "onError" is there twice.'
        assert beyond["code"] == "duplicate_key"
        assert "onError" not in beyond["detail"]

    def test_t23_a_body_may_repeat_its_members(self):
        """
        T23: a body is the app's affair.
        """
        assert code_of(with_body(b'{"a":1,"a":2,"\\u0061":3}')) is None

    @given(operations, seeds, st.data())
    def test_t23_a_repeated_member_is_always_found(self, described, seed, data):
        """
        T23: in the envelope, an operation or its headers, escaped or not, in any order.
        """
        envelope = Members([("operations", described), ("onError", "stop")])
        index = data.draw(st.integers(0, len(described) - 1))
        operation = Members(described[index].items())
        place = data.draw(st.sampled_from(["envelope", "operation", "headers"]))
        spelling = data.draw(st.sampled_from([None, "first", "whole"]))
        names = Members(described[index].get("headers", {}).items())
        target = {"envelope": envelope, "operation": operation, "headers": names}[place]
        if not target:
            return
        name, value = data.draw(st.sampled_from(target))
        spelled = {
            None: name,
            "first": Source(f'"{escaped(name[0])}{name[1:]}"'),
            "whole": Source(f'"{escaped(name)}"'),
        }[spelling]
        target.append((spelled, data.draw(st.sampled_from([value, value, "", "/"]))))
        if place == "headers":
            operation = Members((k, v) for k, v in operation if k != "headers")
            operation.append(("headers", shuffled(names, seed)))
        described = [*described[:index], shuffled(operation, seed), *described[index + 1 :]]
        envelope[0] = ("operations", described)
        if place == "envelope" and name == "operations":
            envelope[-1] = (spelled, described)
        document = Writer(seed).write(shuffled(envelope, seed)).encode()

        assert repeats_a_member(document)
        assert code_of(document) == "duplicate_key"

    @given(operations, seeds)
    def test_t23_without_a_repeated_member_there_is_no_such_refusal(self, described, seed):
        """
        T23: the check by counting bytes agrees with an exact one.
        """
        document = Writer(seed).write({"operations": described}).encode()

        assert not repeats_a_member(document)
        assert code_of(document) is None

    @pytest.mark.parametrize("unknown", ["headers", "operation"])
    def test_t23_t35_many_names_are_looked_through_once(self, unknown):
        """
        T23, T35: a refusal takes a time in proportion to the size of the document.
        """
        many = ",".join(f'"{number:06}":""' for number in range(30_000))
        members = (
            f'"headers":{{{many},"\\u0061":""}}' if unknown == "headers" else f'{many},"\\u0061":1'
        )
        document = f'{{"operations":[{{"method":"GET","path":"/",{members}}}]}}'.encode()
        started = time.thread_time()
        refusal = refusal_of(document)
        took = time.thread_time() - started

        assert refusal["code"] == "duplicate_key"
        assert took < 1
