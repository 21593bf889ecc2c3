"""
The native dialect, outwards: no answer of an app can harm the envelope or be read as another.
"""

import json
from base64 import b64decode

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_batch._core.failures import Failure
from asgi_batch._core.models import Operation, Result, Summary
from asgi_batch.dialects import native
from dialects.documents import sources

SUMMARY = Summary(total=3, succeeded=1, failed=1, skipped=1)


def operation(name="op"):
    return Operation(0, name, "GET", "/", b"/", b"", (), frozenset(), b"", None)


def encode_result(result):
    """
    A result as a client gets it, with all headers that the tests use.
    """
    names = (b"allow", b"content-encoding", b"content-type", b"etag", b"link")
    return native.encode_result({name: name for name in names}, result)


def encode(body=b"", status=200, name="op", **headers):
    """
    The result of an app's answer, as text.
    """
    shown = [(key.replace("_", "-").encode(), value) for key, value in headers.items()]
    return encode_result(Result(operation(name), status, shown, body)).decode()


def body_text(body):
    """
    What stands for a JSON *body* in its result.
    """
    json_headers = [(b"content-type", b"application/json")]
    encoded = encode_result(Result(operation(), 200, json_headers, body))
    return bytes(msgspec.json.decode(encoded, type=dict[str, msgspec.Raw])["result"]).decode()


def body_of(result):
    """
    The app's body, as a client gets it back from *result*, whose members are JSON text.
    """
    is_error = int(result["status"]) >= 400
    value = result.get("error" if is_error else "result")
    assert ("result" if is_error else "error") not in result
    if value is None:
        return b""
    encoding = json.loads(result.get("encoding", b"null"))
    if encoding == "base64":
        return b64decode(json.loads(value), validate=True)
    headers = json.loads(result.get("headers", b"{}"))
    content_type = headers.get("content-type", "application/json")
    media_type = content_type.partition(";")[0].strip().lower()
    if encoding is None and (media_type.endswith("+json") or media_type == "application/json"):
        return bytes(value)
    assert encoding in (None, "text")
    return json.loads(value).encode()


class TestJSON:
    @pytest.mark.parametrize(
        "body",
        [
            b"{}",
            b"null",
            b' {"a" : 1.0 ,"a":12345678901234567890123}\n',
            b"1e300",
            b'"\\u003cb\\u003e"',
            "ä😀".encode().join([b'"', b'"']),
        ],
    )
    def test_t18_json_is_embedded_as_it_came(self, body):
        """
        T18: nothing is parsed and written again; the content type goes without saying.
        """
        shown = encode(body, content_type=b"application/json; charset=utf-8")

        assert shown == '{"id":"op","status":200,"result":' + body.decode() + "}"

    @pytest.mark.parametrize(
        ("status", "member"), [(100, "result"), (399, "result"), (400, "error"), (599, "error")]
    )
    def test_below_400_it_is_a_result(self, status, member):
        """
        The status decides which member holds the body.
        """
        plain = encode(b"1", status, content_type=b"application/json")
        other = encode(b"1", status, content_type=b"application/problem+json")
        text = encode(b"1", status, content_type=b"text/plain")

        assert plain == f'{{"id":"op","status":{status},"{member}":1}}'
        assert json.loads(other)[member] == 1
        assert json.loads(text)[member] == "1"

    def test_other_json_types_are_shown(self):
        """
        A client must be able to tell a problem document from a result.
        """
        shown = encode(b'{"a":1}', 422, content_type=b"application/problem+json")

        assert shown == (
            '{"id":"op","status":422,"error":{"a":1},'
            '"headers":{"content-type":"application/problem+json"}}'
        )

    def test_headers_beside_the_content_type(self):
        """
        Other headers are shown without the content type that goes without saying.
        """
        shown = encode(b"{}", allow=b"GET", content_type=b"application/json", etag=b"1")

        assert shown == (
            '{"id":"op","status":200,"result":{},"headers":{"allow":"GET","etag":"1"}}'
        )

    @pytest.mark.parametrize(
        "body",
        [
            b"1e999",
            b"{",
            b'{"a":NaN}',
            b"{} {}",
            b'"\\ud800"',
            b"[1,]",
            b"\xef\xbb\xbf{}",
            b" ",
            b"a\nb",
        ],
    )
    def test_t24_what_claims_to_be_json_and_is_not(self, body):
        """
        T24: it becomes a string that is marked as text, with its content type.
        """
        result = json.loads(encode(body, content_type=b"application/json"))

        assert result == {
            "id": "op",
            "status": 200,
            "result": body.decode(),
            "encoding": "text",
            "headers": {"content-type": "application/json"},
        }

    @pytest.mark.parametrize("body", [b'"\xff"', b"\xff", b'{"\xed\xa0\x80":1}'])
    def test_t25_what_claims_to_be_json_and_is_not_utf8(self, body):
        """
        T25: it becomes base64.
        """
        result = json.loads(encode(body, content_type=b"application/json"))

        assert b64decode(result["result"]) == body
        assert result["encoding"] == "base64"
        assert result["headers"] == {"content-type": "application/json"}

    def test_t22_json_that_is_too_deep_to_check(self):
        """
        T22: a depth bomb from an app is shown as text.
        """
        body = b"[" * 100_000 + b"]" * 100_000
        result = json.loads(encode(body, content_type=b"application/json"))

        assert result["result"] == body.decode()
        assert result["encoding"] == "text"

    @pytest.mark.parametrize(("start", "end"), [(b"[", b"]"), (b'{"[":', b"}")])
    def test_t22_depth_boundary(self, start, end):
        """
        T22: a reader's own parser can follow 500 levels of a result and the answer around it.
        """
        fits = start * 500 + b"1" + end * 500
        one_more = b"[" + fits + b"]"
        flat = b"[" + b"[],{}," * 1000 + b"1]"

        assert body_text(fits) == fits.decode()
        assert body_text(flat) == flat.decode()
        assert json.loads(body_text(one_more)) == one_more.decode()

    def test_compressed_json(self):
        """
        What an app has encoded is not looked into.
        """
        result = json.loads(encode(b"{}", content_type=b"application/json", content_encoding=b"br"))

        assert result["result"] == "e30="
        assert result["encoding"] == "base64"
        assert result["headers"] == {"content-type": "application/json", "content-encoding": "br"}


class TestText:
    @pytest.mark.parametrize(
        "content_type",
        [b"text/html", b"text/plain; charset=UTF-8", b"application/xml", b"image/svg+xml"],
    )
    def test_text_is_a_string(self, content_type):
        """
        Text in UTF-8 is a string; its type tells a client what it is.
        """
        result = json.loads(encode('<p>"ü"</p>\n'.encode(), content_type=content_type))

        assert result == {
            "id": "op",
            "status": 200,
            "result": '<p>"ü"</p>\n',
            "headers": {"content-type": content_type.decode()},
        }

    @pytest.mark.parametrize(
        ("body", "headers"),
        [
            (b"\xfc", {"content_type": b"text/plain"}),
            (b"abc", {"content_type": b"text/plain; charset=iso-8859-1"}),
            (b"abc", {"content_type": b"text/plain", "content_encoding": b"gzip"}),
            (b"abc", {"content_type": b"application/octet-stream"}),
            (b"abc", {"content_type": b"text/event-stream"}),
            (b"1", {"content_type": b"text/event-stream"}),
            (b"abc", {}),
        ],
    )
    def test_anything_else_is_base64(self, body, headers):
        """
        What may not be text is never guessed to be.
        """
        result = json.loads(encode(body, **headers))

        assert b64decode(result["result"]) == body
        assert result["encoding"] == "base64"


class TestNoBody:
    @pytest.mark.parametrize("status", [200, 204, 304, 404])
    def test_an_empty_body_is_no_value(self, status):
        """
        An empty body cannot be mistaken for JSON null.
        """
        assert encode(b"", status) == f'{{"id":"op","status":{status}}}'
        assert encode(b"", status, content_type=b"application/json") == (
            f'{{"id":"op","status":{status}}}'
        )

    def test_an_empty_body_of_any_other_type(self):
        """
        The type is shown, since it does not go without saying.
        """
        shown = encode(b"", content_type=b"text/event-stream")

        assert shown == '{"id":"op","status":200,"headers":{"content-type":"text/event-stream"}}'

    def test_an_empty_body_with_headers(self):
        """
        A 304 tells its headers.
        """
        shown = encode(b"", 304, content_type=b"text/html", etag=b"1")

        assert shown == (
            '{"id":"op","status":304,"headers":{"content-type":"text/html","etag":"1"}}'
        )


class TestFailures:
    @pytest.mark.parametrize("failure", Failure)
    def test_each_failure(self, failure):
        """
        A failure of the library's is marked as such and carries its code and a sentence.
        """
        result = Result.failed(operation(), failure)

        assert json.loads(encode_result(result)) == {
            "id": "op",
            "status": failure.status,
            "error": {"code": failure.code, "detail": failure.detail},
            "source": "batch",
        }
        assert result.is_skipped == failure.is_skip == (failure.status == 424)
        assert failure.is_skip == failure.detail.startswith(("Not executed", "Undone"))

    def test_t46_an_exception_has_an_id_and_nothing_else(self):
        """
        T46: what is in the log is found by its id.
        """
        result = Result.failed(operation(), Failure.APP_EXCEPTION, "c0ffee")

        assert json.loads(encode_result(result))["error"] == {
            "code": "app_exception",
            "detail": "The app raised an exception before it answered.",
            "errorId": "c0ffee",
        }

    def test_an_answer_is_not_skipped(self):
        """
        An app may answer 424 itself.
        """
        assert not Result(operation(), 424).is_skipped


class TestAnswer:
    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_results_and_summary(self, count):
        """
        Results stand in order, and the summary follows.
        """
        results = [encode(name=f"op{n}").encode() for n in range(count)]
        answer = b"".join(native.encode_answer(results, SUMMARY))

        assert answer == (
            b'{"results":[' + b",".join(results) + b'],"summary":'
            b'{"total":3,"succeeded":1,"failed":1,"skipped":1}}'
        )


content_types = st.one_of(
    st.none(),
    st.sampled_from(
        [
            b"application/json",
            b"Application/JSON; charset=latin-1",
            b"application/problem+json",
            b"text/json+json",
            b"text/html",
            b"text/html; charset=utf-8",
            b"text/html; charset=latin-1",
            b'text/xml; a="charset=utf-8"; charset=utf-16',
            b"image/svg+xml",
            b"application/octet-stream",
        ]
    ),
    st.binary(max_size=8),
)
bodies = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=20).map(str.encode),
    sources.map(str.encode),
    st.sampled_from([b'","summary":{', b"]}", b"{}}", b'"', b"\\", b"1,2", b'{"a":1},{"b":2}']),
)


@given(
    bodies,
    content_types,
    st.integers(100, 599),
    st.text(max_size=6),
    st.booleans(),
    st.binary(max_size=8),
)
@example(b"\xef\xbb\xbf1", b"application/json", 200, "x", False, b"\xff")
@example(b'"\xed\xa0\x80"', b"application/json", 200, "x", False, b"")
def test_t18_t24_t25_no_answer_can_corrupt_the_envelope(
    body, content_type, status, name, is_encoded, etag
):
    """
    T18, T24, T25: any body of any type and any header comes out as it was, between its neighbours.
    """
    headers = [(b"etag", etag)]
    if content_type is not None:
        headers.append((b"content-type", content_type))
    if is_encoded:
        headers.append((b"content-encoding", b"x"))
    encoded = encode_result(Result(operation(name), status, headers, body))
    answer = b"".join(native.encode_answer([b"{}", encoded, b"{}"], SUMMARY))
    # Strict, and keeps each member's own text; and the standard library agrees.
    parsed = msgspec.json.decode(answer, type=dict[str, msgspec.Raw])
    first, middle, last = msgspec.json.decode(parsed["results"], type=list[msgspec.Raw])
    members = msgspec.json.decode(middle, type=dict[str, msgspec.Raw])
    result = {member: bytes(value) for member, value in members.items()}
    shown = json.loads(result["headers"])

    assert len(json.loads(answer)["results"]) == 3
    assert (bytes(first), bytes(middle), bytes(last)) == (b"{}", encoded, b"{}")
    assert json.loads(result["id"]) == name
    assert json.loads(result["status"]) == status
    # White space around a JSON value belongs to the envelope.
    assert body_of(result) in (body, body.strip(b" \t\r\n"))
    assert shown["etag"].encode("latin-1") == etag
    assert shown.get("content-type", "").encode("latin-1") in (content_type or b"", b"")
