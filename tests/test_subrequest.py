"""
The ASGI contract that a wrapped app is promised (RELIABILITY §4), one test per promise.

Every app is tried under the three spec_versions that servers announce today, because frameworks
listen for the client's disconnect in different ways under each.
"""

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from asgi_batch import BatchMiddleware, Limits, OperationAborted
from support import Exchange, batch_scope, respond, settled, submit


@pytest.fixture(params=["2.1", "2.3", "2.4"])
def spec_version(request):
    """
    What the server announces, and what the wrapped app is made to see.
    """
    return request.param


@pytest.fixture
def batch(spec_version):
    """
    Sends operations to an app that believes to speak *spec_version*, and returns the answer.
    """

    async def send_batch(app, *operations, limits=None):
        async def told(scope, receive, send):
            scope["asgi"]["spec_version"] = spec_version
            await app(scope, receive, send)

        outer = batch_scope(asgi={"version": "3.0", "spec_version": spec_version})
        return await submit(BatchMiddleware(told, limits=limits), *operations, scope=outer)

    return send_batch


# --- receive


async def test_receive_gives_the_whole_body_at_once(batch):
    """
    The first message holds the body as the client wrote it, and says that there is no more.
    """
    received = []

    async def app(scope, receive, send):
        received.append(await receive())
        await respond(send)

    await batch(app, {"method": "POST", "path": "/", "body": {"a": [1.0, 2]}}, "GET /")

    assert received == [
        {"type": "http.request", "body": b'{"a": [1.0, 2]}', "more_body": False},
        {"type": "http.request", "body": b"", "more_body": False},
    ]
    assert [type(message["body"]) for message in received] == [bytes, bytes]


async def test_receive_blocks_until_the_answer_is_complete(batch):
    """
    After the body nobody hears anything before the last message of the answer (finding 1).
    """
    heard = []

    async def listen(receive, name):
        message = await receive()
        heard.append((name, message["type"]))

    async def app(scope, receive, send):
        await receive()
        async with anyio.create_task_group() as tasks:
            for name in "abc":
                tasks.start_soon(listen, receive, name)
            await settled()
            before_start = list(heard)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await settled()
            await send({"type": "http.response.body", "body": b"some", "more_body": True})
            await settled()
            before_end = list(heard)
            await send({"type": "http.response.body", "body": b"thing"})
        stages.extend([before_start, before_end, sorted(heard)])

    stages = []
    await batch(app, "GET /")

    everybody = [(name, "http.disconnect") for name in "abc"]
    assert stages == [[], [], everybody]


async def test_receive_gives_disconnect_for_ever_after_the_answer(batch):
    """
    An app that goes on listening is told the same again and again, and never waits.
    """
    heard = []

    async def app(scope, receive, send):
        await receive()
        await respond(send, b"ok")
        heard.extend([await receive() for _ in range(5)])

    await batch(app, "GET /")

    assert heard == [{"type": "http.disconnect"}] * 5


async def test_receive_gives_no_body_once_the_answer_is_complete(batch):
    """
    An app that did not want the body is not given it as a surprise at the end.
    """
    heard = []

    async def app(scope, receive, send):
        await respond(send, b"ok")
        heard.append(await receive())

    await batch(app, {"method": "POST", "path": "/", "body": 1})

    assert heard == [{"type": "http.disconnect"}]


async def test_receive_after_the_answer_lets_other_tasks_run(batch):
    """
    A loop over receive() after the answer cannot keep the event loop to itself.
    """
    turns = []

    async def count_turns():
        while True:
            await anyio.lowlevel.checkpoint()
            turns.append(1)

    async def app(scope, receive, send):
        await respond(send, b"ok")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count_turns)
            for _ in range(50):
                await receive()
            tasks.cancel_scope.cancel()

    await batch(app, "GET /")

    assert len(turns) >= 25


async def test_each_operation_has_a_receive_of_its_own(batch):
    """
    The end of one operation is no disconnect for another that is still at work.
    """
    first_is_done = anyio.Event()
    heard = []

    async def listen(receive):
        heard.append((await receive())["type"])

    async def app(scope, receive, send):
        if scope["path"] == "/first":
            await respond(send)
            first_is_done.set()
            return
        await receive()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen, receive)
            await first_is_done.wait()
            await settled()
            heard.append("still at work")
            await respond(send)

    await batch(app, "GET /second", "GET /first")

    assert heard == ["still at work", "http.disconnect"]


# --- send: what real apps do


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_send_takes_every_kind_of_bytes(batch, kind):
    """
    A body is bytes, or what some frameworks send in their place.
    """

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
        await send({"type": "http.response.body", "body": kind(b"one "), "more_body": True})
        await send({"type": "http.response.body", "body": kind(b"two")})

    answer = await batch(app, "GET /")

    assert answer.bodies == ["one two"]


async def test_send_takes_a_memoryview_of_anything(batch):
    """
    A view of numbers counts by its bytes, not by its elements.
    """

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
        await send({"type": "http.response.body", "body": memoryview(b"abcdefgh").cast("I")})

    answer = await batch(app, "GET /", limits=Limits(max_result_bytes=8))
    too_large = await batch(app, "GET /", limits=Limits(max_result_bytes=7))

    assert answer.bodies == ["abcdefgh"]
    assert too_large.bodies == ["response_too_large"]


TEXT = (b"content-type", b"text/plain")


@pytest.mark.parametrize(
    "headers",
    [
        [(b"ETag", b'"1"'), (b"CONTENT-TYPE", b"text/plain")],
        ((b"etag", b'"1"'), TEXT),
        [[b"Etag", b'"1"'], [b"Content-Type", b"text/plain"]],
    ],
    ids=["list of tuples", "tuple of tuples", "list of lists"],
)
async def test_send_takes_headers_in_every_shape_and_case(batch, headers):
    """
    Headers may come as lists or tuples, and named in any case.
    """

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x"})

    answer = await batch(app, "GET /")

    assert answer.results[0]["headers"] == {"etag": '"1"', "content-type": "text/plain"}


async def test_send_takes_headers_that_can_be_read_once(batch):
    """
    The specification asks for an iterable, which a generator is.
    """

    async def app(scope, receive, send):
        headers = (pair for pair in [TEXT])
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x"})

    answer = await batch(app, "GET /")

    assert answer.bodies == ["x"]


async def test_send_needs_no_more_than_the_specification_asks_for(batch):
    """
    Headers, body and more_body may be left out.
    """

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 201})
        await send({"type": "http.response.body", "more_body": True})
        await send({"type": "http.response.body"})

    answer = await batch(app, "GET /")

    assert answer.results == [{"id": "0", "status": 201}]


async def test_send_keeps_its_own_copy_of_what_it_is_given(batch):
    """
    An app may use its list of headers and its buffer again (Starlette's raw_headers are changed).
    """

    async def app(scope, receive, send):
        headers = [TEXT]
        buffer = bytearray(b"before")
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        headers[0] = (b"content-type", b"text/html")
        await send({"type": "http.response.body", "body": buffer, "more_body": True})
        buffer[:] = b"behind"
        await send({"type": "http.response.body", "body": b"!"})

    answer = await batch(app, "GET /")

    assert answer.bodies == ["before!"]
    assert answer.results[0]["headers"] == {"content-type": "text/plain"}


async def test_send_ignores_debug_messages_before_the_start(batch):
    """
    Frameworks add them for their test clients.
    """

    async def app(scope, receive, send):
        await send({"type": "http.response.debug", "info": {"template": "x"}})
        await respond(send, b"x")

    answer = await batch(app, "GET /")

    assert answer.bodies == ["x"]


@pytest.mark.parametrize(
    "message",
    [
        {"type": "http.response.start", "status": 500, "headers": []},
        {"type": "http.response.body", "body": b"more"},
        {"type": "http.response.trailers", "headers": []},
        {"type": "nonsense"},
    ],
    ids=lambda message: message["type"],
)
async def test_send_ignores_messages_after_the_end(batch, message):
    """
    The result is fixed by the last body message; what follows changes nothing and raises nothing.
    """
    finished = []

    async def app(scope, receive, send):
        await respond(send, b"x")
        await send(message)
        finished.append(True)

    answer = await batch(app, "GET /")

    assert (answer.statuses, answer.bodies, finished) == ([200], ["x"], [True])


async def test_send_lets_other_tasks_run(batch):
    """
    An app that does nothing but send cannot keep the event loop to itself (finding 22, F33).
    """
    turns = []

    async def count_turns():
        while True:
            await anyio.lowlevel.checkpoint()
            turns.append(1)

    async def app(scope, receive, send):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count_turns)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(50):
                await send({"type": "http.response.body", "body": b"", "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            during.append(len(turns))
            for _ in range(50):
                await send({"type": "http.response.body", "body": b""})
            after.append(len(turns))
            tasks.cancel_scope.cancel()

    during, after = [], []
    await batch(app, "GET /")

    assert during[0] >= 25
    assert after[0] - during[0] >= 25


async def test_send_keeps_its_own_copy_of_pairs_that_are_lists():
    """
    What the app does to a header afterwards changes no result.
    """
    header = [b"etag", b'"1"']

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [header]})
        header[1] = b'"2"'
        await send({"type": "http.response.body", "body": b""})

    answer = await submit(BatchMiddleware(app), "GET /")

    assert answer.results == [{"id": "0", "status": 200, "headers": {"etag": '"1"'}}]


@pytest.mark.parametrize("status", [100, 199, 200, 599])
async def test_every_status_of_http_is_an_answer(status):
    """
    From 100 to 599, the first and the last included.
    """

    async def app(scope, receive, send):
        await respond(send, b"x", status=status)

    answer = await submit(BatchMiddleware(app), "GET /")

    assert answer.statuses == [status]


async def test_the_last_part_of_an_answer_gives_way_to_nobody():
    """
    An answer in parts is over with its last part; no other task runs in between.
    """
    turns = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(note)
            await send({"type": "http.response.body", "body": b"b"})
            turns.append("app")

    async def note():
        turns.append("other")

    answer = await submit(BatchMiddleware(app), "GET /")

    assert answer.statuses == [200]
    assert turns == ["app", "other"]


# --- send: what no app may do

START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"x", "more_body": True}
BROKEN = {
    "body before start": [{"type": "http.response.body", "body": b""}],
    "second start": [START, START],
    "second start in the body": [START, BODY, START],
    "debug after start": [START, {"type": "http.response.debug", "info": {}}],
    "unknown type": [{"type": "http.response.nonsense"}],
    "unknown type with a status": [{**START, "type": "http.response.stop"}],
    "unknown type in the body": [START, BODY, {"type": "http.request"}],
    "websocket message": [{"type": "websocket.accept"}],
    "no type": [{"status": 200}],
    "type of another type": [{"type": ["http.response.start"]}],
    "not a message": [None],
    "a list": [["type", "http.response.start"]],
    "no status": [{"type": "http.response.start", "headers": []}],
    "status as text": [{**START, "status": "200"}],
    "status as float": [{**START, "status": 200.0}],
    "status too small": [{**START, "status": 99}],
    "status too large": [{**START, "status": 600}],
    "status true": [{**START, "status": True}],
    "no status value": [{**START, "status": None}],
    "header name as text": [{**START, "headers": [("content-type", b"text/plain")]}],
    "header value as text": [{**START, "headers": [(b"content-type", "text/plain")]}],
    "hidden header value as text": [{**START, "headers": [(b"x-hidden", "text")]}],
    "header of one part": [{**START, "headers": [(b"content-type",)]}],
    "header of three parts": [{**START, "headers": [(b"a", b"b", b"c")]}],
    "headers as a mapping": [{**START, "headers": {"content-type": "text/plain"}}],
    "headers as a number": [{**START, "headers": 5}],
    "body as text": [START, {"type": "http.response.body", "body": "text"}],
    "body as a number": [START, {"type": "http.response.body", "body": 5}],
    "body as a list": [START, {"type": "http.response.body", "body": [104, 105]}],
    "no body value": [START, {"type": "http.response.body", "body": None}],
    "trailers before the end": [START, {"type": "http.response.trailers", "headers": []}],
    "push": [{"type": "http.response.push", "path": "/x", "headers": []}],
    "early hint": [{"type": "http.response.early_hint", "links": []}],
}


@pytest.mark.parametrize("messages", BROKEN.values(), ids=BROKEN.keys())
async def test_f28_a_broken_protocol_is_that_operations_502(batch, messages):
    """
    F28: a wrong message raises into the app, fails its operation, and touches no other.
    """
    raised = []

    async def app(scope, receive, send):
        if scope["path"] != "/broken":
            await respond(send, b"fine")
            return
        try:
            for message in messages:
                await send(message)
        except OSError as error:
            raised.append(type(error))
            raise

    answer = await batch(app, "GET /a", "GET /broken", "GET /b")

    assert answer.statuses == [200, 502, 200]
    assert answer.bodies == ["fine", "app_protocol_error", "fine"]
    assert raised == [OperationAborted]


async def test_f28_an_app_cannot_answer_after_it_broke_the_protocol(batch):
    """
    F28: further messages raise again, and receive() says that nobody is there.
    """
    seen = []
    done = anyio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/neighbour":
            await done.wait()  # an operation that has failed is only left alone during the batch
            await respond(send, b"fine")
            return
        for message in ({"type": "nonsense"}, START, BODY, {"type": "http.response.body"}):
            try:
                await send(message)
            except OSError:
                seen.append("raised")
        seen.append((await receive())["type"])
        done.set()

    answer = await batch(app, {"method": "POST", "path": "/", "body": 1}, "GET /neighbour")

    assert answer.bodies == ["app_protocol_error", "fine"]
    assert seen == ["raised"] * 4 + ["http.disconnect"]


@pytest.mark.parametrize("extension", ["pathsend", "zerocopysend"])
async def test_t48_a_file_is_never_opened_for_an_app(batch, extension, tmp_path):
    """
    T48: an app that sends a path or a descriptor, although nobody offered to take it, gets a 502.
    """
    secret = tmp_path / "secret.txt"
    secret.write_text("top secret")

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
        with secret.open("rb") as file:
            await send(
                {"type": f"http.response.{extension}", "path": str(secret), "file": file.fileno()}
            )

    answer = await batch(app, "GET /")

    assert answer.bodies == ["app_protocol_error"]
    assert b"top secret" not in answer.body
    assert str(secret).encode() not in answer.body


async def test_f27_no_answer_is_a_502(batch):
    """
    F27: an app that returns without an answer.
    """

    async def app(scope, receive, send):
        if scope["path"] == "/pauses":
            await anyio.lowlevel.checkpoint()

    answer = await batch(app, "GET /", "GET /pauses")

    assert answer.statuses == [502, 502]
    assert answer.bodies == ["app_no_response", "app_no_response"]


async def test_f26_half_an_answer_is_a_502(batch):
    """
    F26: an app that returns or raises in the middle; what it had sent is dropped.
    """

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
        if scope["path"] != "/start":
            await send({"type": "http.response.body", "body": b"partial", "more_body": True})
        if scope["path"] == "/raises":
            raise ValueError("boom")

    answer = await batch(app, "GET /start", "GET /returns", "GET /raises")

    assert answer.statuses == [502] * 3
    assert answer.bodies == ["app_incomplete_response"] * 3
    assert b"partial" not in answer.body
    assert b"boom" not in answer.body


# --- bodies that are dropped, and bodies that are too much


@pytest.mark.parametrize(
    ("method", "status"),
    [
        ("HEAD", 200),
        ("HEAD", 404),
        ("GET", 100),
        ("GET", 103),
        ("GET", 199),
        ("GET", 204),
        ("POST", 204),
        ("GET", 304),
    ],
)
async def test_a_body_that_http_forbids_is_dropped(batch, method, status):
    """
    After HEAD, and with 1xx, 204 and 304, the headers count and the body does not.
    """

    async def app(scope, receive, send):
        headers = [(b"etag", b'"1"'), (b"content-length", b"8")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"more", "more_body": True})
        await send({"type": "http.response.body", "body": b"body"})

    answer = await batch(app, f"{method} /", limits=Limits(max_result_bytes=3))

    assert answer.results == [{"id": "0", "status": status, "headers": {"etag": '"1"'}}]


@pytest.mark.parametrize("chunks", [[b"12345678"], [b"1234", b"5678"], [b"", b"12345678", b""]])
async def test_t30_an_answer_may_be_as_large_as_the_limit(batch, chunks):
    """
    T30: exactly max_result_bytes pass, one more does not, in one message or in several.
    """

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    fits = await batch(app, "GET /", limits=Limits(max_result_bytes=8))
    does_not = await batch(app, "GET /", limits=Limits(max_result_bytes=7))

    assert fits.bodies == ["12345678"]
    assert (does_not.statuses, does_not.bodies) == ([502], ["response_too_large"])


async def test_t30_a_huge_answer_is_cut_while_it_is_sent(batch):
    """
    T30: an app that streams ten GiB is stopped by an OSError at the limit, not at the end.
    """
    sent, raised = [], []

    async def app(scope, receive, send):
        chunk = bytes(1024)
        await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
        try:
            for number in range(10 * 1024 * 1024):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                sent.append(number)
        except OSError as error:
            raised.append(type(error))
            raise

    answer = await batch(app, "GET /", "GET /", limits=Limits(max_result_bytes=8 * 1024))

    assert answer.bodies == ["response_too_large"] * 2
    assert raised == [OperationAborted] * 2
    assert len(sent) == 16


async def test_t31_an_answer_may_have_as_many_messages_as_the_limit(batch):
    """
    T31: max_messages counts them all, the last one too.
    """

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
        for _ in range(int(scope["path"][1:]) - 1):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body", "body": b"x"})

    answer = await batch(app, "GET /1", "GET /3", "GET /4", limits=Limits(max_messages=3))

    assert answer.bodies == ["x", "xxx", "response_too_large"]


@pytest.mark.parametrize("path", ["/empty", "/head"])
async def test_t31_endless_empty_chunks_are_cut(batch, path):
    """
    T31, F33: messages without content escape every bound on bytes, but not the one on messages.
    """

    async def app(scope, receive, send):
        chunk = b"" if scope["path"] == "/empty" else b"dropped"
        await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
        while True:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

    method = "GET" if path == "/empty" else "HEAD"
    answer = await batch(app, f"{method} {path}", limits=Limits(max_messages=500))

    assert (answer.statuses, answer.bodies) == ([502], ["response_too_large"])


@pytest.mark.parametrize(
    "content_type",
    [
        b"text/event-stream",
        b"text/event-stream; charset=utf-8",
        b"Text/Event-Stream",
        b"multipart/x-mixed-replace; boundary=frame",
    ],
)
async def test_t31_an_endless_stream_is_refused_at_its_start(batch, content_type):
    """
    T31: server-sent events and the like are named as what they are, before they send anything.
    """
    seen = []

    async def app(scope, receive, send):
        headers = [(b"content-type", content_type)]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        except OSError:
            seen.append((await receive())["type"])
            raise
        seen.append("sent")

    answer = await batch(app, "GET /events")

    assert (answer.statuses, answer.bodies) == ([502], ["streaming_not_supported"])
    assert seen == ["http.disconnect"]


async def test_t31_an_endless_starlette_stream_is_stopped(batch):
    """
    T31: the generator behind server-sent events is left, so that what it holds is given back.
    """
    left = []

    async def events(request):
        async def generate():
            try:
                yield "data: x\n\n"
                await anyio.sleep_forever()
            finally:
                left.append(request.url.path)

        return StreamingResponse(generate(), media_type=request.query_params["type"])

    app = Starlette(routes=[Route("/{name}", events)])
    answer = await batch(
        app,
        "GET /endless?type=text/plain",
        "GET /fine?type=text/event-stream",
        limits=Limits(operation_timeout=0.2),
    )

    assert answer.bodies == ["operation_timeout", "streaming_not_supported"]
    assert "/endless" in left


# --- whole frameworks


class PassThrough(BaseHTTPMiddleware):
    """
    Does nothing, in the way that cut answers short when receive() spoke too early.
    """

    async def dispatch(self, request, call_next):
        """
        Hand the request on.
        """
        return await call_next(request)


@pytest.fixture
def starlette_app(tmp_path):
    """
    An app with the kinds of answers that depend on receive() and send().
    """
    file = tmp_path / "file.txt"
    file.write_text("from a file " * 1000)

    async def stream(request):
        async def generate():
            for number in range(20):
                yield f"{number} "
                await anyio.lowlevel.checkpoint()

        return StreamingResponse(generate(), media_type="text/plain")

    def sync_stream(request):
        return StreamingResponse((f"{number} " for number in range(20)), media_type="text/plain")

    async def echo(request: Request):
        return JSONResponse({"got": await request.json(), "gone": await request.is_disconnected()})

    async def in_file(request):
        return FileResponse(file)

    async def fails(request):
        raise LookupError("boom")

    routes = [
        Route("/stream", stream),
        Route("/sync-stream", sync_stream),
        Route("/echo", echo, methods=["POST"]),
        Route("/file", in_file),
        Route("/fails", fails),
    ]
    return Starlette(routes=routes, middleware=[Middleware(PassThrough), Middleware(PassThrough)])


async def test_finding_1_a_streamed_answer_is_whole(batch, starlette_app):
    """
    Finding 1: behind two BaseHTTPMiddleware, an early disconnect empties a streamed answer.
    """
    whole = "".join(f"{number} " for number in range(20))

    answer = await batch(starlette_app, "GET /stream", "GET /sync-stream", "GET /stream")

    assert answer.statuses == [200] * 3
    assert answer.bodies == [whole] * 3


async def test_starlette_reads_bodies_and_sends_files(batch, starlette_app):
    """
    The request body arrives, nobody is said to have gone, and a file comes as its bytes.
    """
    answer = await batch(
        starlette_app, {"method": "POST", "path": "/echo", "body": {"n": 1}}, "GET /file"
    )

    assert answer.bodies == [{"got": {"n": 1}, "gone": False}, "from a file " * 1000]


async def test_a_starlette_error_is_the_apps_own_500(batch, starlette_app):
    """
    Starlette answers 500 and then raises: the answer counts, and the exception stays inside.
    """
    answer = await batch(starlette_app, "GET /fails", "GET /stream")

    assert answer.statuses == [500, 200]
    assert answer.bodies[0] == "Internal Server Error"


async def test_a_batch_works_behind_base_http_middleware(spec_version):
    """
    Middleware outside of the batch endpoint wraps receive() and send() too.
    """

    async def hello(request):
        return PlainTextResponse("hello")

    app = Starlette(
        routes=[Route("/hello", hello)],
        middleware=[Middleware(PassThrough), Middleware(PassThrough), Middleware(BatchMiddleware)],
    )
    outer = batch_scope(asgi={"version": "3.0", "spec_version": spec_version})
    answer = await submit(app, "GET /hello", "GET /unknown", scope=outer)

    assert answer.statuses == [200, 404]
    assert answer.bodies == ["hello", "Not Found"]


# --- the scope


async def scopes_of(outer, *operations, **settings):
    """
    The scopes that an app is given for *operations*.
    """
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)
        await respond(send)

    answer = await submit(BatchMiddleware(app, **settings), *operations, scope=outer)
    assert answer.status == 200, answer.body
    return seen


ASGI_KEYS = set(
    """
    type asgi http_version method path raw_path query_string root_path headers scheme server client
    state extensions asgi_batch
    """.split()
)


async def test_the_scope_is_built_from_an_allow_list(spec_version):
    """
    What belongs to the batch request's own route never reaches an operation.
    """
    foreign = {
        "path_params": {"a": 1},
        "endpoint": object(),
        "route": object(),
        "router": object(),
        "fastapi_inner_astack": object(),
        "fastapi_function_astack": object(),
        "session": {"user": 1},
        "http.request.pathsend": object(),
        "unknown": object(),
    }
    outer = batch_scope(asgi={"version": "3.0", "spec_version": spec_version}, **foreign)

    (scope,) = await scopes_of(outer, "GET /users?q=1")

    assert set(scope) == ASGI_KEYS
    assert scope["type"] == "http"
    assert scope["http_version"] == "1.1"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.4"}
    assert scope["method"] == "GET"
    assert (scope["path"], scope["raw_path"]) == ("/users", b"/users")
    assert scope["query_string"] == b"q=1"
    assert scope["scheme"] == "http"
    assert scope["server"] == ("testserver", 80)
    assert scope["client"] == ("192.0.2.7", 50_000)


async def test_the_scope_holds_what_is_known_about_the_caller():
    """
    The app, the user and what the settings name go along, the same objects for all operations.
    """
    known = {key: object() for key in ("app", "litestar_app", "user", "auth", "session", "tenant")}

    scopes = await scopes_of(
        batch_scope(**known, other=1), "GET /a", "GET /b", forward_scope_keys=["session", "tenant"]
    )

    assert [{key: scope.get(key) for key in known} for scope in scopes] == [known, known]
    assert [set(scope) - ASGI_KEYS for scope in scopes] == [set(known)] * 2


@pytest.mark.parametrize(
    ("outer_path", "path", "raw_path"),
    [
        ("/api v1/batch", "/api v1/users/a b", b"/api%20v1/users/a%20b"),
        ("/batch", "/users/a b", b"/users/a%20b"),
    ],
    ids=["server puts the root path in front", "server does not"],
)
async def test_the_path_looks_as_the_servers_own_paths_do(outer_path, path, raw_path):
    """
    Some servers put root_path in front of path, others do not; operations follow the request.
    """
    outer = batch_scope(path=outer_path, root_path="/api v1")

    (scope,) = await scopes_of(outer, "GET /users/a%20b?x=%20")

    assert scope["root_path"] == "/api v1"
    assert (scope["path"], scope["raw_path"]) == (path, raw_path)
    assert scope["query_string"] == b"x=%20"


async def test_extensions_are_left_out():
    """
    Nothing is offered that a batch cannot carry; who the client is over TLS goes along.
    """
    names = "pathsend zerocopysend push early_hint trailers debug".split()
    extensions = {f"http.response.{name}": {} for name in names}
    tls = {"tls_version": 0x0304, "client_cert_name": "CN=client"}

    (without,) = await scopes_of(batch_scope(extensions=extensions), "GET /")
    (secure,) = await scopes_of(batch_scope(extensions={**extensions, "tls": tls}), "GET /")
    (none,) = await scopes_of(batch_scope(extensions=None), "GET /")

    assert without["extensions"] == {}
    assert secure["extensions"] == {"tls": tls}
    assert none["extensions"] == {}


async def test_the_state_is_copied_without_what_litestar_keeps_there():
    """
    Lifespan state goes along, the outer request's connection state does not.
    """
    pool = object()
    outer = batch_scope(state={"pool": pool, "_ls_connection_state": object()})

    first, second = await scopes_of(outer, "GET /a", "GET /b")

    assert [first["state"], second["state"]] == [{"pool": pool}, {"pool": pool}]
    assert first["state"] is not second["state"]
    assert set(outer["state"]) == {"pool", "_ls_connection_state"}


async def test_a_server_without_lifespan_state_gives_none():
    """
    Where the server has no state, operations have none either.
    """
    outer = batch_scope()
    del outer["state"]

    (scope,) = await scopes_of(outer, "GET /")

    assert "state" not in scope


async def test_headers_are_the_callers_and_the_operations():
    """
    Who the caller is comes from the batch request, what is asked for from the operation.
    """
    outer = batch_scope(
        headers=[
            (b"Host", b"example.org"),
            (b"authorization", b"Bearer x"),
            (b"accept", b"text/html"),
            (b"accept-encoding", b"gzip"),
            (b"content-type", b"application/json"),
            (b"content-length", b"999"),
        ]
    )
    operation = {
        "method": "POST",
        "path": "/",
        "headers": {"Accept": "application/json"},
        "body": [1],
    }

    (scope,) = await scopes_of(outer, operation)

    assert sorted(map(tuple, scope["headers"])) == [
        (b"accept", b"application/json"),
        (b"authorization", b"Bearer x"),
        (b"content-length", b"3"),
        (b"content-type", b"application/json"),
        (b"host", b"example.org"),
    ]


async def test_the_marker_says_which_operation_it_is():
    """
    scope["asgi_batch"] names the batch and the operation.
    """
    first, second = await scopes_of(
        batch_scope(), {"id": "one", "method": "GET", "path": "/"}, "GET /"
    )
    marks = [scope["asgi_batch"] for scope in (first, second)]

    assert [(mark.operation_id, mark.index, mark.total) for mark in marks] == [
        ("one", 0, 2),
        ("1", 1, 2),
    ]
    assert [(mark.attempt, mark.atomic) for mark in marks] == [(1, False)] * 2
    assert marks[0].batch_id == marks[1].batch_id
    assert len(marks[0].batch_id) >= 22


# --- what is not an operation


@pytest.mark.parametrize("kind", ["websocket", "something new"])
async def test_other_scopes_pass_through_untouched(kind, spec_version):
    """
    Websockets reach the app as they are: the same scope, receive() and send().
    """
    given = []

    async def app(*arguments):
        given.append(arguments)

    scope = {"type": kind, "asgi": {"spec_version": spec_version}}
    if kind == "websocket":
        scope |= {"path": "/batch", "root_path": "", "headers": []}
    before = dict(scope)
    exchange = Exchange(scope)
    await BatchMiddleware(app)(scope, exchange.receive, exchange.send)

    assert len(given) == 1
    assert given[0][0] is scope
    assert given[0][1:] == (exchange.receive, exchange.send)
    assert scope == before


@pytest.mark.parametrize("path", ["/", "/batch/", "/batch/x/y", "/batches", "/Batch", "/x/batch"])
async def test_other_paths_pass_through_untouched(path):
    """
    Only the endpoint's own path is answered here; direct requests are not even looked into.
    """
    given = []

    async def app(*arguments):
        given.append(arguments)

    scope = batch_scope(path=path)
    exchange = Exchange(scope)
    await BatchMiddleware(app)(scope, exchange.receive, exchange.send)

    assert given[0][0] is scope
    assert given[0][1:] == (exchange.receive, exchange.send)
