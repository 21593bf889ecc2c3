"""
Whatever a client sends, the answer is a batch's or a sound refusal; nothing else ever happens.

Each example goes through the whole `BatchMiddleware`, in process. ``HYPOTHESIS_PROFILE=fuzz``
tries as many as ten minutes hold.
"""

import asyncio
import gc
import json
import logging
from pathlib import Path
from time import process_time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asgi_batch import BatchMiddleware, Limits
from dialects.documents import Members, Source, Writer, operations, seeds, sources
from support import Exchange, batch_scope, http_scope

EXAMPLES = max(settings.default.max_examples, 400)
STATUSES = {
    "invalid_json": 400,
    "invalid_unicode": 400,
    "json_too_deep": 400,
    "duplicate_key": 400,
    "method_not_allowed": 405,
    "payload_too_large": 413,
    "too_many_operations": 413,
    "unsupported_media_type": 415,
    "unsupported_content_encoding": 415,
    "invalid_batch": 422,
}
# What no request may take: seconds of the processor, and bytes of memory, of which the test itself
# takes some.
SECONDS = 1.0
BYTES = 16 * 1024 * 1024
LIMITS = Limits(max_operations=6, sync_operations=6, max_body_bytes=3000, max_json_depth=8)


class Records(logging.Handler):
    """
    Keeps what is logged.
    """

    def __init__(self):
        super().__init__()
        self.kept = []

    def emit(self, record):
        self.kept.append(record)


class Memory:
    """
    The most memory that the process has had since the beginning of a ``with`` block, by Linux.
    """

    def __enter__(self):
        Path("/proc/self/clear_refs").write_text("5")
        self._before = self._status("VmRSS")
        return self

    def __exit__(self, *_):
        self.growth = self._status("VmHWM") - self._before

    def _status(self, name):
        lines = Path("/proc/self/status").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith(name))
        return 1024 * int(line.split()[1])


class Fuzzer:
    """
    Sends one request after the other, and holds each answer against what is promised.
    """

    def __init__(self, runner, records):
        self._runner = runner
        self._records = records.kept
        self._calls = 0
        self._app = BatchMiddleware(self._answer, limits=LIMITS)

    async def _answer(self, scope, receive, send):
        self._calls += 1
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def _send(self, scope, chunks):
        exchange = Exchange(scope, chunks)
        await self._app(scope, exchange.receive, exchange.send)
        return exchange

    def send(self, *chunks, scope=None):
        """
        The status of the answer to a batch of *chunks*, which has been found to be sound.
        """
        self._calls = 0
        self._records.clear()
        # What the tests themselves have made by the ten thousand is not to be looked through now.
        gc.disable()
        start = process_time()
        try:
            with Memory() as memory:
                exchange = self._runner.run(self._send(scope or batch_scope(), list(chunks)))
        finally:
            gc.enable()
        assert process_time() - start < SECONDS
        assert memory.growth < BYTES
        self._check(exchange)
        return exchange.status

    def _check(self, exchange):
        assert [each for each in self._records if each.levelno >= logging.ERROR] == []
        assert exchange.headers["cache-control"] == "no-store"
        assert self._app.statistics().held_bytes == 0
        if exchange.scope["method"] == "OPTIONS":
            assert (exchange.status, self._calls) == (200, 0)
        elif exchange.status == 200:
            self._check_answer(exchange)
        else:
            self._check_refusal(exchange)

    def _check_answer(self, exchange):
        answer = exchange.json()
        count = answer["summary"]["total"]

        assert exchange.headers["content-type"] == "application/json"
        assert self._calls == count == len(answer["results"])
        assert 1 <= count <= LIMITS.sync_operations
        assert answer["summary"] == {"total": count, "succeeded": count, "failed": 0, "skipped": 0}

    def _check_refusal(self, exchange):
        problem = exchange.json()

        assert self._calls == 0
        assert exchange.headers["content-type"] == "application/problem+json"
        assert exchange.status == problem["status"] == STATUSES[problem["code"]]
        assert problem["type"] == "about:blank"
        assert problem["title"].lower() == problem["code"].replace("_", " ")
        assert problem["detail"].endswith(".")
        if problem["code"] == "invalid_batch":
            assert problem["errors"]
            for each in problem["errors"]:
                assert (
                    {"pointer", "code", "detail"}
                    <= set(each)
                    <= {
                        "pointer",
                        "code",
                        "detail",
                        "index",
                        "id",
                    }
                )


@pytest.fixture(scope="module")
def fuzzer():
    """
    A fuzzer with a loop of its own, and with its eye on the log.
    """
    records = Records()
    loggers = [logging.getLogger(name) for name in (None, "asgi_batch", "asyncio")]
    for logger in loggers:
        logger.addHandler(records)
    with asyncio.Runner() as runner:
        yield Fuzzer(runner, records)
    for logger in loggers:
        logger.removeHandler(records)


NAMES = [
    "operations",
    "onError",
    "method",
    "path",
    "id",
    "headers",
    "body",
    "bodyEncoding",
    "timeout",
]
WORDS = [
    *NAMES,
    "GET",
    "POST",
    "/",
    "/a",
    "/batch",
    "stop",
    "json",
    "text",
    "base64",
    "AA==",
    "accept",
]
words = st.one_of(st.sampled_from(WORDS), st.text(max_size=6))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    words,
    st.sampled_from(["1e999", "-0", "1" * 400, '"\\ud800"', '"\\u0061"']).map(Source),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.lists(st.tuples(words, inner), max_size=6).map(Members)
    ),
    max_leaves=15,
)
loose_operations = st.lists(
    st.one_of(
        values,
        st.lists(st.tuples(st.sampled_from(NAMES[2:]), st.one_of(words, values)), max_size=6).map(
            Members
        ),
    ),
    max_size=8,
)
headers = st.lists(
    st.tuples(
        st.sampled_from(
            [
                b"content-type",
                b"Content-Type",
                b"content-encoding",
                b"content-length",
                b"expect",
                b"x",
            ]
        ),
        st.one_of(
            st.sampled_from(
                [b"application/json", b"application/x+json", b"identity", b"gzip", b"7"]
            ),
            st.binary(max_size=12),
        ),
    ),
    max_size=4,
)


@settings(max_examples=EXAMPLES)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=3))
@example([b""])
@example([b"\x00"])
@example([b"[" * 3001])
@example([b"[" * 3000])
def test_any_bytes(fuzzer, chunks):
    """
    T19, T22, T24, T25: bytes in any number of messages are refused.
    """
    assert 400 <= fuzzer.send(*chunks) < 500


@settings(max_examples=EXAMPLES)
@given(st.one_of(values, loose_operations), seeds, st.booleans())
def test_any_json(fuzzer, value, seed, is_envelope):
    """
    T23, T27, T28: JSON values, some of them nearly batches.
    """
    if is_envelope:
        value = Members([("operations", value)])
    written = Writer(seed, plain_names=seed % 4 > 0).write(value)

    assert fuzzer.send(written.encode()) < 500


@settings(max_examples=EXAMPLES)
@given(operations, sources, seeds, st.data())
def test_mutated_batches(fuzzer, described, source, seed, data):
    """
    T10, T13, T18, T23, T24, T25, T27: valid batches with bytes taken out, put in or moved.
    """
    envelope = {"operations": [*described, {"method": "PUT", "path": "/", "body": source}]}
    document = bytearray(Writer(seed).write(envelope).encode())
    for _ in range(data.draw(st.integers(0, 3))):
        start = data.draw(st.integers(0, len(document)))
        stop = start + data.draw(st.integers(0, 4))
        piece = data.draw(
            st.one_of(
                st.sampled_from(
                    [b"", b'"', b"\\", b"{", b"]", b",", b":", b"\\ud800", b"\xff", b"0"]
                ),
                st.binary(max_size=3),
                st.just(bytes(document[start : stop + 8])),
                st.sampled_from([json.dumps(word).encode() for word in WORDS]),
            )
        )
        document[start:stop] = piece
    half = len(document) // 2

    assert fuzzer.send(bytes(document[:half]), bytes(document[half:])) < 500


@settings(max_examples=EXAMPLES)
@given(
    st.sampled_from(["POST", "POST", "POST", "GET", "HEAD", "OPTIONS", "PUT", "BREW", ""]),
    headers,
    st.sampled_from([b"", b"{", b'{"operations":[{"method":"GET","path":"/"}]}', b" " * 3001]),
    st.sampled_from(["1.0", "1.1", "2"]),
)
def test_any_method_and_headers(fuzzer, method, headers, body, version):
    """
    T19, T20, T21: what is said about the body is checked, not believed.
    """
    scope = http_scope(method, "/batch", headers=headers, http_version=version)

    assert fuzzer.send(body, scope=scope) < 500
