"""
The native dialect, inwards: a valid document becomes exactly the batch that it describes.
"""

import json
from base64 import b64encode

import pytest
from hypothesis import given

from asgi_batch.dialects import native
from dialects.documents import Members, Source, Writer, operations, seeds, shuffled, sources
from pure import RULES, refusal_of, with_rules


def decode(document, rules=RULES):
    if not isinstance(document, bytes):
        document = json.dumps(document).encode()
    return native.decode(document, rules)


def only(rules=RULES, **members):
    """
    The one operation of a batch with *members*.
    """
    batch = decode({"operations": [{"method": "GET", "path": "/", **members}]}, rules)
    return batch.operations[0]


class TestEnvelope:
    def test_an_operation_with_all_members(self):
        """
        Every member ends up where it belongs.
        """
        operation = only(
            id="op",
            method="PUT",
            path="/files/a%20b?x=1",
            headers={"Accept": "a"},
            body={"a": 1},
            bodyEncoding="json",
            timeout=2.5,
        )

        assert (operation.index, operation.id, operation.method) == (0, "op", "PUT")
        assert operation.path == "/files/a b"
        assert operation.raw_path == b"/files/a%20b"
        assert operation.query_string == b"x=1"
        assert operation.headers == (
            (b"accept", b"a"),
            (b"content-type", b"application/json"),
            (b"content-length", b"8"),
        )
        assert operation.replaces == {b"accept"}
        assert bytes(operation.body) == b'{"a": 1}'
        assert operation.timeout == 2.5

    def test_an_operation_with_the_least(self):
        """
        Method and path are enough; the id is the index.
        """
        operation = only()

        assert (operation.index, operation.id, operation.method) == (0, "0", "GET")
        assert (operation.path, operation.raw_path, operation.query_string) == ("/", b"/", b"")
        assert operation.headers == ()
        assert operation.replaces == frozenset()
        assert bytes(operation.body) == b""
        assert operation.timeout is None

    def test_operations_keep_their_order_and_index(self):
        """
        The index is the position, also behind ids of the client's own.
        """
        batch = decode(
            {"operations": [{"method": "GET", "path": f"/{n}", "id": f"op{n}"} for n in range(5)]}
        )

        assert [(each.index, each.id, each.path) for each in batch.operations] == [
            (n, f"op{n}", f"/{n}") for n in range(5)
        ]

    @pytest.mark.parametrize(
        ("members", "stops"),
        [({}, False), ({"onError": "continue"}, False), ({"onError": "stop"}, True)],
    )
    def test_on_error(self, members, stops):
        """
        A batch goes on after a failure unless told to stop.
        """
        batch = decode({"operations": [{"method": "GET", "path": "/"}], **members})

        assert batch.stop_on_error is stops

    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    def test_t6_methods(self, method):
        """
        T6: these seven and no others.
        """
        assert only(method=method).method == method

    @pytest.mark.parametrize("name", ["x", "ä", "a b", "x" * 128, "0", "日本", "😀"])
    def test_ids(self, name):
        """
        1 to 128 printable characters, whatever they mean.
        """
        assert only(id=name).id == name

    def test_t28_operations_boundary(self):
        """
        T28: exactly as many operations as allowed.
        """
        rules = with_rules(max_operations=3)
        operation = {"method": "GET", "path": "/"}

        assert len(decode({"operations": [operation] * 3}, rules).operations) == 3
        assert refusal_of(json.dumps({"operations": [operation] * 4}).encode(), rules) == {
            "type": "about:blank",
            "title": "Too many operations",
            "status": 413,
            "code": "too_many_operations",
            "detail": "The batch has 4 operations; send at most 3 in one request.",
            "maxOperations": 3,
        }

    def test_t28_the_default_boundary(self):
        """
        T28: 1000 operations pass and 1001 do not, valid or not.
        """
        operation = '{"method":"GET","path":"/"}'
        fits = f'{{"operations":[{",".join([operation] * 1000)}]}}'.encode()
        one_more = f'{{"operations":[{",".join([operation] * 1001)}]}}'.encode()
        many_faults = b'{"operations":[' + b",".join([b"7"] * 1001) + b"]}"

        one_fault = fits.replace(b'"GET"', b"7", 1)

        assert len(decode(fits).operations) == 1000
        assert refusal_of(one_fault)["code"] == "invalid_batch"
        assert refusal_of(one_more)["code"] == "too_many_operations"
        assert refusal_of(many_faults)["code"] == "too_many_operations"


class TestVeryManyObjects:
    """
    T26: a document with very many objects is counted before it is taken apart.
    """

    OPERATION = b'{"method":"PUT","path":"/","body":[%b]}'
    RULES = with_rules(max_operations=2)

    def document(self, *objects):
        """
        A batch with an operation for each number of *objects*.
        """
        bodies = [b",".join([b"{}"] * (number - 1)) for number in objects]
        return b'{"operations":[%b]}' % b",".join(self.OPERATION % body for body in bodies)

    @pytest.mark.parametrize("objects", [(7, 8), (8, 8), (1, 40), (99, 99), (99,)])
    def test_objects_in_bodies_are_no_operations(self, objects):
        """
        T28: the limit is on operations, however many objects they carry.
        """
        document = self.document(*objects)

        assert len(decode(document, self.RULES).operations) == len(objects)

    @pytest.mark.parametrize(
        ("objects", "count"),
        [
            ((1, 1, 13), "3"),
            ((1, 1, 14), "more than 2"),
            ((1,) * 15, "15"),
            ((1,) * 16, "more than 2"),
        ],
    )
    def test_too_many_operations_are_counted_no_further_than_needed(self, objects, count):
        """
        T26, T28: from eight objects per allowed operation on, the sentence knows the limit only.
        """
        refusal = refusal_of(self.document(*objects), self.RULES)

        assert refusal["code"] == "too_many_operations"
        assert refusal["detail"] == (
            f"The batch has {count} operations; send at most 2 in one request."
        )

    @pytest.mark.parametrize(
        ("document", "code"),
        [
            (b"{}" * 20, "invalid_json"),
            (b'{"operations":[{},%b' % (b"{" * 20), "invalid_json"),
            (b'{"operations":7,"x":[%b]}' % b",".join([b"{}"] * 20), "invalid_batch"),
            (b'{"operations":[%b{}%b]}' % (b'{"a":' * 20, b"}" * 20), "invalid_batch"),
            (b'{"operations":[%b' % (b'{"a":' * 5000), "json_too_deep"),
        ],
    )
    def test_other_faults_are_told_as_ever(self, document, code):
        """
        T24, T27: counting does not hide what is wrong.
        """
        assert refusal_of(document, self.RULES)["code"] == code


class TestTimeout:
    @pytest.mark.parametrize(
        ("written", "seconds"),
        [("30", 30), ("30.0", 30), ("3e1", 30), ("0.001", 0.001), ("1", 1), ("1e-300", 1e-300)],
    )
    def test_timeouts(self, written, seconds):
        """
        Any number above 0, up to the limit.
        """
        document = f'{{"operations":[{{"method":"GET","path":"/","timeout":{written}}}]}}'

        assert decode(document.encode()).operations[0].timeout == seconds


class TestBody:
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
    def test_methods_that_expect_a_body_and_have_none(self, method):
        """
        RFC 9110 8.6: the length is told even when it is zero.
        """
        assert only(method=method).headers == ((b"content-length", b"0"),)
        assert only(method=method, headers={"accept": "a"}).headers == (
            (b"accept", b"a"),
            (b"content-length", b"0"),
        )

    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
    def test_methods_that_expect_no_body(self, method):
        """
        Nothing is said of a body that nobody expects.
        """
        assert only(method=method).headers == ()

    @pytest.mark.parametrize(
        ("encoding", "body", "content", "media_type"),
        [
            ("text", "grüß dich\n", "grüß dich\n".encode(), b"text/plain; charset=utf-8"),
            ("text", "", b"", b"text/plain; charset=utf-8"),
            ("base64", "AAEC", b"\0\1\2", b"application/octet-stream"),
            ("base64", "", b"", b"application/octet-stream"),
            ("base64", "+/8=", b"\xfb\xff", b"application/octet-stream"),
            ("json", "text", b'"text"', b"application/json"),
            ("json", None, b"null", b"application/json"),
        ],
    )
    def test_encodings(self, encoding, body, content, media_type):
        """
        Each encoding has its media type, and the length is that of the decoded body.
        """
        operation = only(method="GET", body=body, bodyEncoding=encoding)

        assert bytes(operation.body) == content
        assert operation.headers == (
            (b"content-type", media_type),
            (b"content-length", b"%d" % len(content)),
        )

    @pytest.mark.parametrize("encoding", ["text", "base64", "json"])
    def test_an_operations_own_content_type_counts(self, encoding):
        """
        The media type of the encoding is only what is assumed.
        """
        operation = only(
            method="POST", body="AAEC", bodyEncoding=encoding, headers={"Content-Type": "a/b"}
        )

        assert operation.headers[0] == (b"content-type", b"a/b")
        assert [name for name, _ in operation.headers] == [b"content-type", b"content-length"]
        assert operation.replaces == {b"content-type"}

    @pytest.mark.parametrize("encoding", ["text", "base64", "json"])
    def test_size_boundary(self, encoding):
        """
        The decoded body may have as many bytes as allowed and not one more.
        """

        def body(size):
            if encoding == "base64":
                return b64encode(b"x" * size).decode()
            return "x" * (size if encoding == "text" else size - 2)

        rules = with_rules(max_operation_bytes=300)
        one_more = {"method": "PUT", "path": "/", "body": body(301), "bodyEncoding": encoding}
        refusal = refusal_of(json.dumps({"operations": [one_more]}).encode(), rules)

        assert len(only(rules, body=body(300), bodyEncoding=encoding).body) == 300
        assert refusal["errors"] == [
            {
                "index": 0,
                "id": "0",
                "pointer": "/operations/0/body",
                "code": "operation_too_large",
                "detail": "The body has 301 bytes; an operation may send 300.",
            }
        ]

    @pytest.mark.parametrize(
        "written",
        [
            "12345678901234567890123",
            "1.0",
            "1e999",
            "-0",
            '{"b":1,"a":2,"b":3}',
            '{ "b" : 1 ,\n\t"a":[ ] }',
            '"\\u0061\\/"',
            '"\\ud83d\\ude00"',
            "0." + "1" * 5000,
            "9" * 5000,
        ],
    )
    def test_t18_bodies_that_a_parser_would_change(self, written):
        """
        T18: big numbers, key order, repeated keys and escapes stay as they were written.
        """
        document = f'{{"operations":[{{"method":"POST","path":"/","body": {written} }}]}}'

        assert bytes(decode(document.encode()).operations[0].body) == written.encode()

    @given(sources, seeds)
    def test_t18_any_json_body_arrives_byte_for_byte(self, source, seed):
        """
        T18: the body is the slice of the document between the white space around it.
        """
        members = shuffled({"method": "POST", "path": "/", "body": source}, seed)
        document = Writer(seed).write({"operations": [members]}).encode()
        operation = decode(document).operations[0]

        assert bytes(operation.body) == source.encode()
        assert (b"content-length", b"%d" % len(source.encode())) in operation.headers


class TestSpelling:
    @given(operations, seeds)
    def test_t23_any_spelling_of_a_valid_batch_is_accepted(self, described, seed):
        """
        T23: white space, order of members and escaped values change nothing and are no fault.
        """
        envelope = shuffled(
            {
                "operations": [
                    shuffled(operation, seed + n) for n, operation in enumerate(described)
                ],
                "onError": "stop",
            },
            seed,
        )
        batch = decode(Writer(seed).write(envelope).encode())
        read = [
            (each.id, each.method, each.raw_path.decode(), each.timeout, bytes(each.body))
            for each in batch.operations
        ]

        assert read == [
            (
                operation.get("id", str(index)),
                operation["method"],
                operation["path"],
                float(operation["timeout"]) if "timeout" in operation else None,
                operation.get("body", "").encode(),
            )
            for index, operation in enumerate(described)
        ]
        for decoded, operation in zip(batch.operations, described, strict=True):
            custom = {k.lower(): v for k, v in operation.get("headers", {}).items()}
            assert {n.decode(): v.decode() for n, v in decoded.headers}.items() >= custom.items()
            assert {n.decode() for n in decoded.replaces} == set(custom)

    def test_t23_white_space_and_escapes_in_every_value(self):
        """
        T23: a document that spells its values with escapes is longer, and still valid.
        """
        document = (
            '{ "operations" : [ { "path" : "\\/\\u0061" , "method" : "G\\u0045T",'
            '"id":"\\ud83d\\ude00","headers":{"accept":"a\\tb\\"c\\\\"} } ]'
            ' , "onError":"st\\u006fp"}'
        )
        batch = decode(document.encode())
        operation = batch.operations[0]

        assert batch.stop_on_error
        assert (operation.method, operation.path, operation.id) == ("GET", "/a", "😀")
        assert operation.headers == ((b"accept", b'a\tb"c\\'),)

    def test_documents_are_written_as_described(self):
        """
        The writer of these tests can write what it must.
        """
        value = Members([("a", [1, Source("1.0")]), ("a", "\n/😀")])

        assert json.loads(Writer(1, plain_names=False).write(value)) == {"a": "\n/😀"}
