"""
The body of a batch request: what it must declare, how large it may be, how long it may take.
"""

import tracemalloc

import anyio
import pytest

from asgi_batch import BatchMiddleware, Limits
from asgi_batch._gate import Gate
from asgi_batch._request_body import BodyReader
from asgi_batch.errors import (
    Overloaded,
    PayloadTooLarge,
    RequestTimeout,
    UnsupportedContentEncoding,
    UnsupportedMediaType,
)
from support import Exchange, batch_body, batch_scope, call, http_scope, respond

MIB = 1024 * 1024


def declared(*headers):
    """
    The header list of a request with a media type and *headers*.
    """
    return [(b"Content-Type", b"application/json"), *headers]


def reader(headers=(), receive=None, *, gate=None, **limits):
    scope = {"headers": list(headers)}
    return BodyReader(scope, receive, Limits(**limits), gate or Gate(1))


def receiving(*chunks):
    """
    A ``receive()`` that hands over *chunks* and then waits for ever.
    """
    left = list(chunks)

    async def receive():
        if not left:
            await anyio.sleep_forever()
        chunk = left.pop(0)
        if chunk is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": bool(left)}

    receive.left = left
    return receive


class TestDeclaration:
    @pytest.mark.parametrize(
        "content_type",
        [
            b"application/json",
            b"Application/JSON",
            b" application/json ; charset=utf-8",
            b'application/json; charset="UTF-8"',
            b"application/json;charset=utf8",
            b"application/json; odata=verbose",
            b"application/json;",
            b"application/vnd.api+json",
            b"application/batch+json; charset=utf-8",
        ],
    )
    def test_t21_json(self, content_type):
        """
        T21: JSON in UTF-8, under its own name or as somebody's format.
        """
        reader([(b"Content-Type", content_type)]).check_declaration()

    @pytest.mark.parametrize(
        "headers",
        [
            [],
            [(b"content-type", b"")],
            [(b"content-type", b"text/plain")],
            [(b"content-type", b"text/json")],
            [(b"content-type", b"text/x+json")],
            [(b"content-type", b"text/plain; application/json")],
            [(b"content-type", b"application/x-www-form-urlencoded")],
            [(b"content-type", b"multipart/form-data; boundary=x")],
            [(b"content-type", b"application/jsonp")],
            [(b"content-type", b"application/json, text/plain")],
            [(b"content-type", b"application/json; charset=latin-1")],
            [(b"content-type", b"application/json; charset=utf-16")],
            [(b"content-type", b"application/json; charset=utf-8; charset=utf-7")],
            [(b"content-type", b"application/json; charset")],
            [(b"content-type", b"application/json"), (b"Content-Type", b"text/plain")],
            [(b"content-type", b"application/json"), (b"content-type", b"application/json")],
        ],
    )
    def test_t21_what_a_form_could_send(self, headers):
        """
        T21: no type, a simple type or an ambiguous one is refused, so that no form can post.
        """
        with pytest.raises(UnsupportedMediaType, match="Send the batch as application/json, in"):
            reader(headers).check_declaration()

    @pytest.mark.parametrize(
        "encoding", [b"gzip", b"br", b"zstd", b"deflate", b"identity, gzip", b"", b"x", b"GZIP"]
    )
    def test_t20_compressed_bodies(self, encoding):
        """
        T20: a decompression bomb is not let in.
        """
        with pytest.raises(UnsupportedContentEncoding, match="without Content-Encoding"):
            reader(declared((b"Content-Encoding", encoding))).check_declaration()

    def test_t20_identity_is_no_encoding(self):
        """
        T20: saying that nothing was done is fine, unless something else is said as well.
        """
        identity = (b"content-encoding", b" Identity ")
        reader(declared(identity)).check_declaration()

        with pytest.raises(UnsupportedContentEncoding):
            reader(declared(identity, (b"content-encoding", b"gzip"))).check_declaration()

    def test_t19_declared_length_boundary(self):
        """
        T19: a body that says it is too large is refused unread.
        """
        fits = reader(declared((b"Content-Length", b"100")), max_body_bytes=100)
        too_large = reader(declared((b"Content-Length", b"101")), max_body_bytes=100)
        fits.check_declaration()

        with pytest.raises(PayloadTooLarge) as refused:
            too_large.check_declaration()
        assert refused.value.as_dict() == {
            "type": "about:blank",
            "title": "Payload too large",
            "status": 413,
            "code": "payload_too_large",
            "detail": "The body is larger than 100 bytes; send fewer operations in one request.",
            "maxBodyBytes": 100,
        }

    @pytest.mark.parametrize(
        ("length", "is_refused"),
        [(b"9" * 5000, True), (b"1e9", False), (b"-1", False), (b"", False), (b"0", False)],
    )
    def test_t19_odd_lengths(self, length, is_refused):
        """
        T19: no length is relied on and none does harm.
        """
        body = reader(declared((b"content-length", length)))

        if is_refused:
            with pytest.raises(PayloadTooLarge):
                body.check_declaration()
        else:
            body.check_declaration()


class TestReading:
    @pytest.mark.parametrize(
        "chunks", [[b"abc"], [b"a", b"", b"bc"], [b""], [b"", b""], [b"abc", b""]]
    )
    async def test_a_body_in_any_number_of_messages(self, chunks):
        """
        The body is what all messages hold together, and the gate is told of it while it is held.
        """
        gate = Gate(1)
        body = reader(receive=receiving(*chunks), gate=gate)
        was_complete = body.is_complete
        with gate.counting(body):
            document = await body.read()
            held = gate.held_bytes

        assert document == b"".join(chunks)
        assert (was_complete, body.is_complete) == (False, True)
        assert (held, gate.held_bytes) == (len(document), 0)

    async def test_a_message_may_leave_everything_out(self):
        """
        §4: body and more_body have defaults.
        """

        async def receive():
            return {"type": "http.request"}

        assert await reader(receive=receive).read() == b""

    @pytest.mark.parametrize("chunks", [[None], [b"abc", None]])
    async def test_f19_a_client_that_has_gone(self, chunks):
        """
        F19: half a body is no body.
        """
        body = reader(receive=receiving(*chunks))

        assert await body.read() is None

    @pytest.mark.parametrize("sizes", [[101], [100, 1], [50, 51, 10**6], [1] * 101])
    async def test_t19_size_boundary(self, sizes):
        """
        T19: counted while it arrives; not one more message is read than it takes to know.
        """
        chunks = [b"x" * size for size in sizes]
        fits = reader(receive=receiving(b"x" * 40, b"x" * 60), max_body_bytes=100)
        receive = receiving(*chunks)
        body = reader(receive=receive, max_body_bytes=100)

        assert len(await fits.read()) == 100
        with pytest.raises(PayloadTooLarge):
            await body.read()
        assert len(receive.left) == (1 if sizes[-1] == 10**6 else 0)

    async def test_t26_bodies_that_all_batches_hold_boundary(self):
        """
        T26: a process holds so many bytes and not one more, whoever sent them.
        """
        gate = Gate(1)
        first = reader(receive=receiving(b"x" * 60), gate=gate, max_held_bytes=100)
        fits = reader(receive=receiving(b"x" * 40), gate=gate, max_held_bytes=100)
        one_more = reader(receive=receiving(b"x"), gate=gate, max_held_bytes=100)
        with gate.counting(first), gate.counting(fits):
            await first.read()
            await fits.read()
            with gate.counting(one_more):
                with pytest.raises(Overloaded, match="in memory; try again later"):
                    await one_more.read()
                assert gate.held_bytes == 101
            assert gate.held_bytes == 100
        assert gate.held_bytes == 0

    async def test_t32_a_slow_upload(self):
        """
        T32: a body that does not arrive in time is given up.
        """
        body = reader(receive=dripping, body_timeout=0.05)

        with pytest.raises(RequestTimeout) as refused:
            await body.read()
        assert str(refused.value) == "The body did not arrive within 0.05 seconds."
        assert refused.value.as_dict()["code"] == "request_timeout"


async def dripping():
    """
    A byte now and then, for ever.
    """
    await anyio.sleep(0.01)
    return {"type": "http.request", "body": b" ", "more_body": True}


class TestDraining:
    async def test_the_rest_is_read_and_dropped(self):
        """
        A client that is still sending gets to see its answer.
        """
        receive = receiving(b"a" * 60, b"b" * 60, b"c" * 60, b"d")
        body = reader(receive=receive, max_body_bytes=50)
        with pytest.raises(PayloadTooLarge):
            await body.read()
        # Twice as much again as a body may have is read, and then no more.
        await body.drain()

        assert receive.left == [b"d"]
        assert not body.is_complete

    async def test_until_the_end(self):
        """
        Reading stops where the body does.
        """
        body = reader(receive=receiving(b"a" * 40, b"b" * 40))
        await body.drain()

        assert body.is_complete

    async def test_until_the_client_has_gone(self):
        """
        F19: there is nobody to wait for.
        """
        body = reader(receive=receiving(b"a", None))
        await body.drain()

        assert body.is_complete

    @pytest.mark.parametrize("sent", [99, 100, 101])
    async def test_boundary(self, sent):
        """
        T19: what is dropped is bounded like what is kept.
        """
        receive = receiving(b"x" * sent, b"y", b"z")
        body = reader(receive=receive, max_body_bytes=50)
        await body.drain()

        assert receive.left == ([b"z"] if sent < 100 else [b"y", b"z"])

    async def test_a_client_that_waits_for_a_go_ahead(self):
        """
        RFC 9110 10.1.1: it has not begun to send, and is not asked to.
        """
        receive = receiving(b"x")
        await reader([(b"Expect", b"100-continue")], receive).drain()

        assert receive.left == [b"x"]

    async def test_t32_a_client_that_sends_nothing(self, monkeypatch):
        """
        T32: nor is it waited for for long.
        """
        monkeypatch.setattr("asgi_batch._request_body._DRAIN_SECONDS", 0.05)
        body = reader(receive=receiving())
        with anyio.fail_after(20):
            await body.drain()

        assert not body.is_complete


class TestThroughTheMiddleware:
    """
    The same from outside: the answer, and that no operation has run.
    """

    @staticmethod
    async def answer(scope, body, **limits):
        calls = []

        async def app(scope, receive, send):
            calls.append(scope)
            await respond(send)

        middleware = BatchMiddleware(app, limits=Limits(**limits))
        exchange = await call(middleware, Exchange(scope, body))
        assert calls == []
        assert middleware.statistics().held_bytes == 0
        return exchange

    async def test_t19_a_gibibyte_without_a_length(self):
        """
        T19: an endless upload costs no memory and is not read to its end.
        """
        chunk = b" " * MIB
        count = 0

        async def receive():
            nonlocal count
            count += 1
            return {"type": "http.request", "body": chunk, "more_body": count < 1024}

        exchange = Exchange(batch_scope())
        tracemalloc.start()
        try:
            await BatchMiddleware(respond)(exchange.scope, receive, exchange.send)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

        assert exchange.status == 413
        assert exchange.json()["code"] == "payload_too_large"
        assert count <= 11 + 20
        assert peak < MIB

    @pytest.mark.parametrize(("version", "closes"), [("1.0", True), ("1.1", True), ("2", False)])
    async def test_t19_the_connection_after_an_unread_body(self, version, closes):
        """
        T19: what is left of the body is not taken for the next request.
        """
        scope = batch_scope(http_version=version)
        exchange = await self.answer(scope, [b"x" * 20, b"y" * 20], max_body_bytes=10)

        assert exchange.status == 413
        assert (exchange.headers.get("connection") == "close") is closes

    @pytest.mark.parametrize(
        ("header", "is_read", "closes"),
        [
            ((b"Content-Length", b"7"), True, False),
            ((b"Content-Length", b"65536"), True, False),
            ((b"Content-Length", b"65537"), True, True),
            ((b"Transfer-Encoding", b"chunked"), True, True),
            ((b"content-type", b"text/plain"), True, True),
            ((b"content-length", b"x"), True, True),
            ((b"content-length", b"0"), False, False),
            ((b"accept", b"a"), False, False),
        ],
    )
    async def test_a_body_that_is_refused_unread(self, header, is_read, closes):
        """
        What is there is read and dropped; a short body is no reason to close the connection.
        """
        asked = []

        async def receive():
            asked.append(1)
            return {"type": "http.request", "body": b""}

        exchange = Exchange(http_scope("GET", "/batch", headers=[header]))
        await BatchMiddleware(respond)(exchange.scope, receive, exchange.send)

        assert exchange.status == 405
        assert (exchange.headers.get("connection") == "close") is closes
        assert bool(asked) is is_read

    async def test_t19_the_connection_after_a_body_that_was_read(self):
        """
        T19: a refusal of a whole body keeps the connection.
        """
        exchange = await self.answer(batch_scope(), b"x" * 20, max_body_bytes=10)

        assert exchange.status == 413
        assert "connection" not in exchange.headers

    @pytest.mark.parametrize(
        ("header", "status", "code"),
        [
            ((b"content-type", b"text/plain"), 415, "unsupported_media_type"),
            ((b"content-encoding", b"gzip"), 415, "unsupported_content_encoding"),
            ((b"content-length", b"99999999999"), 413, "payload_too_large"),
        ],
    )
    async def test_t19_t20_t21_declarations(self, header, status, code):
        """
        T19, T20, T21: refused on the strength of the headers.
        """
        exchange = await self.answer(batch_scope(headers=declared(header)), batch_body(["GET /"]))

        assert (exchange.status, exchange.json()["code"]) == (status, code)

    async def test_t26_overload(self):
        """
        T26: a process that holds too much says when to come back.
        """
        body = batch_body(["GET /"])
        exchange = await self.answer(batch_scope(), body, max_held_bytes=len(body) - 1)

        assert (exchange.status, exchange.json()["code"]) == (503, "overloaded")
        assert exchange.headers["retry-after"] == "5"

    async def test_t32_a_slow_upload(self):
        """
        T32: the answer is 408.
        """
        exchange = Exchange(batch_scope())
        app = BatchMiddleware(respond, limits=Limits(body_timeout=0.05))
        with anyio.move_on_after(20):
            await app(exchange.scope, dripping_for_a_while(), exchange.send)

        assert (exchange.status, exchange.json()["code"]) == (408, "request_timeout")

    async def test_f19_a_client_that_goes_while_it_sends(self):
        """
        F19: nobody is answered, and nothing is wrong.
        """
        exchange = Exchange(batch_scope())
        await BatchMiddleware(respond)(exchange.scope, receiving(b"{", None), exchange.send)

        assert exchange.sent == []


def dripping_for_a_while():
    """
    Like `dripping`, until there is no answer to wait for.
    """
    left = iter(range(20))

    async def receive():
        await anyio.sleep(0.01)
        return {"type": "http.request", "body": b" ", "more_body": next(left, None) is not None}

    return receive
