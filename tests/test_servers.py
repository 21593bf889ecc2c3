"""
Batches end to end: real servers, real sockets, real clients.
"""

import json
import re
import secrets
import select
import socket

import httpx
import pytest

from apps.sockets import MAX_BODY_BYTES
from clients import (
    PATIENCE,
    connected,
    post_batch,
    post_head,
    read_response,
    send_batch,
    talk_websocket,
    wait_until,
)
from servers import HOST, SERVERS, serving

JSON = {"content-type": "application/json"}

COMPLAINT = re.compile("WARN|ERROR|CRITICAL|Traceback|never|ignored").search


@pytest.fixture(scope="module", params=SERVERS)
def started(request, tmp_path_factory):
    """
    The app of these tests under every server.
    """
    folder = tmp_path_factory.mktemp(request.param)
    with serving(request.param, "apps.sockets:app", folder) as server:
        yield server


@pytest.fixture
def noisy_server(started):
    """
    A server whose log may say anything.
    """
    return started


@pytest.fixture
def server(started):
    """
    A server whose log must stay free of complaints during the test.
    """
    start = started.log_size()
    yield started
    assert [line for line in started.log(start).splitlines() if COMPLAINT(line)] == []


def status_of(server):
    return httpx.get(f"{server.url}/status").json()


def wait_for(server, event):
    httpx.get(f"{server.url}/events/{event}", timeout=20)


def make_happen(server, event):
    httpx.post(f"{server.url}/events/{event}")


def test_batch_is_answered_in_the_order_of_its_operations(noisy_server):
    """
    Successes, an error of the app and a crash come back as results, with their summary.
    """
    operations = [
        {"id": "hello", "method": "GET", "path": "/hello"},
        {"id": "echo", "method": "POST", "path": "/echo", "body": {"n": 12345678901234567890123}},
        {"id": "missing", "method": "GET", "path": "/missing"},
        {"id": "crash", "method": "GET", "path": "/crash"},
    ]
    with connected(noisy_server) as connection:
        status, answer = post_batch(connection, operations)

    text = {"content-type": "text/plain; charset=utf-8"}
    assert status == 200
    assert answer == {
        "results": [
            {"id": "hello", "status": 200, "result": "Hello!", "headers": text},
            {"id": "echo", "status": 200, "result": {"n": 12345678901234567890123}},
            {"id": "missing", "status": 404, "error": {"detail": "Not Found"}},
            {"id": "crash", "status": 500, "error": "Internal Server Error", "headers": text},
        ],
        "summary": {"total": 4, "succeeded": 2, "failed": 2, "skipped": 0},
    }


def test_large_answer_arrives_whole(server):
    """
    An answer of several megabytes is not cut, and its length is what it says it is.
    """
    text = "x" * 50_000
    body = json.dumps(text)
    operation = {"method": "POST", "path": "/echo", "body": text}
    with connected(server) as connection:
        for _ in range(20):
            status, answer = post_batch(connection, [operation])

            assert status == 200
            assert answer["results"] == [{"id": "0", "status": 200, "result": text}]
    assert len(body) < MAX_BODY_BYTES


REFUSALS = [
    pytest.param("POST", "{", JSON, 400, "invalid_json", id="400"),
    pytest.param("GET", "", {}, 405, "method_not_allowed", id="405"),
    pytest.param("POST", json.dumps({"operations": [{}] * 1001}), JSON, 413, "too_many_operations"),
    pytest.param("POST", "{}", {"content-type": "text/plain"}, 415, "unsupported_media_type"),
    pytest.param(
        "POST",
        "{}",
        {**JSON, "content-encoding": "gzip"},
        415,
        "unsupported_content_encoding",
    ),
    pytest.param("POST", '{"operations": []}', JSON, 422, "invalid_batch", id="422"),
]


@pytest.mark.parametrize(("method", "body", "headers", "status", "code"), REFUSALS)
def test_refusal_leaves_the_connection_usable(server, method, body, headers, status, code):
    """
    A refused batch is a problem document, and the next request goes over the same connection.
    """
    with connected(server) as connection:
        connection.request(method, "/batch", body, headers)
        response = connection.getresponse()
        problem = json.loads(response.read())

        assert response.status == status
        assert response.headers["content-type"] == "application/problem+json"
        assert problem["status"] == status
        assert problem["code"] == code
        assert post_batch(connection, [{"method": "GET", "path": "/hello"}])[0] == 200


def test_all_problems_come_back_at_once(server):
    """
    A batch with several mistakes is refused as a whole and runs nothing.
    """
    operations = [
        {"method": "POST", "path": "/events/refused"},
        {"method": "FETCH", "path": "/hello"},
        {"method": "GET", "path": "hello", "headers": {"host": "elsewhere"}},
    ]
    with connected(server) as connection:
        status, problem = post_batch(connection, operations)

    assert status == 422
    assert [(error["index"], error["code"]) for error in problem["errors"]] == [
        (1, "method_not_allowed"),
        (2, "invalid_path"),
        (2, "header_not_allowed"),
    ]
    assert "refused" not in status_of(server)["events"]


def framed(size, *, is_chunked):
    """
    The header and the body of a request with *size* bytes of white space.
    """
    if is_chunked:
        return "Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (size, b" " * size)
    return f"Content-Length: {size}", b" " * size


@pytest.mark.parametrize("is_chunked", [False, True], ids=["content-length", "chunked"])
def test_t19_client_that_sends_all_before_it_looks_sees_the_413(server, is_chunked):
    """
    T19: a body half as large again as the limit is read to its end, so that nothing is reset.
    """
    header, body = framed(MAX_BODY_BYTES * 3 // 2, is_chunked=is_chunked)
    with socket.create_connection((HOST, server.port)) as client:
        client.sendall(post_head(header) + body[:-4096])
        select.select([client], [], [], PATIENCE)
        for index in range(-4096, 0, 8):
            client.sendall(body[index : index + 8 or None])
        response = read_response(client)
        problem = json.loads(response.read())

    assert response.status == 413
    assert problem["code"] == "payload_too_large"
    assert problem["maxBodyBytes"] == MAX_BODY_BYTES


@pytest.mark.parametrize("is_chunked", [False, True], ids=["content-length", "chunked"])
def test_t19_client_that_is_still_sending_sees_the_413(server, is_chunked):
    """
    T19: the answer comes before the client has sent all, and announces that it is the last.
    """
    header, body = framed(10_000_000, is_chunked=is_chunked)
    with socket.create_connection((HOST, server.port)) as client:
        client.sendall(post_head(header) + body[: MAX_BODY_BYTES + 8192])
        response = read_response(client)
        problem = json.loads(response.read1())

    assert response.status == 413
    assert response.headers["connection"] == "close"
    assert problem["code"] == "payload_too_large"


# hypercorn asks for the body before the app has seen the request.
@pytest.mark.parametrize(
    "started", [kind for kind in SERVERS if "hypercorn" not in kind], indirect=True
)
def test_t19_client_that_waits_to_be_asked_is_not_asked(server):
    """
    T19: with ``Expect: 100-continue`` a body that is too large need not be sent at all.
    """
    with socket.create_connection((HOST, server.port)) as client:
        client.sendall(post_head("Content-Length: 10000000", "Expect: 100-continue"))
        status_line = client.makefile("rb").readline()

    assert status_line.split()[1] == b"413"


def test_t32_slow_body_is_408(server):
    """
    T32: a body that does not arrive in time is refused while the client is still sending.
    """
    with socket.create_connection((HOST, server.port)) as client:
        client.sendall(post_head("Content-Length: 100", path="/hasty") + b"{")
        response = read_response(client)
        problem = json.loads(response.read1())

    assert response.status == 408
    assert problem["code"] == "request_timeout"


def test_client_that_leaves_within_its_body_is_no_error(server):
    """
    A connection that ends in the middle of the body leaves nothing behind but silence.
    """
    with socket.create_connection((HOST, server.port)) as client:
        client.sendall(post_head("Content-Length: 100") + b'{"operations": [')

    wait_until(lambda: status_of(server)["held_bytes"] == 0)


@pytest.fixture
def name():
    """
    Names this test's events, which the server keeps from test to test.
    """
    return secrets.token_hex(8)


def test_f19_disconnect_ends_the_operations(server, name):
    """
    F19: when the client goes, running operations end and the others never start.
    """
    with socket.create_connection((HOST, server.port)) as client:
        send_batch(client, [{"method": "GET", "path": f"/hang/{name}"}] * 30)
        wait_until(lambda: status_of(server)["events"].get(f"{name}-started") == 10)

        assert status_of(server)["running"] == 10
    wait_until(lambda: status_of(server)["running"] == 0, seconds=5)
    status = status_of(server)

    assert status["events"][f"{name}-started"] == 10
    assert status["events"][f"{name}-ended"] == 10
    assert (status["waiting"], status["abandoned"], status["held_bytes"]) == (0, 0, 0)


def test_f30_thread_beyond_its_deadline_does_not_delay_the_answer(server, name):
    """
    F30: a sync endpoint that is late is a 504 while its thread still runs.
    """
    operations = [
        {"method": "GET", "path": f"/block/{name}", "timeout": 0.2},
        {"method": "GET", "path": "/hello"},
    ]
    with connected(server) as connection:
        status, answer = post_batch(connection, operations)

        assert status == 200
        assert [result["status"] for result in answer["results"]] == [504, 200]
        assert answer["results"][0]["error"]["code"] == "operation_timeout"
        assert status_of(server)["abandoned"] == 1
        wait_until(lambda: status_of(server)["running"] == 1)

        make_happen(server, f"{name}-released")
        wait_until(lambda: status_of(server)["abandoned"] == 0)

        assert status_of(server)["running"] == 0
        assert post_batch(connection, [{"method": "GET", "path": "/hello"}])[0] == 200


def test_f32_background_task_does_not_delay_the_answer(server, name):
    """
    F32: Starlette's background tasks run on after the answer, to their end.
    """
    with connected(server) as connection:
        status, answer = post_batch(connection, [{"method": "GET", "path": f"/background/{name}"}])

        assert status == 200
        assert answer["results"][0]["result"] == "answered"
        assert f"{name}-done" not in status_of(server)["events"]

        make_happen(server, f"{name}-released")
        wait_for(server, f"{name}-done")

        assert status_of(server)["events"][f"{name}-done"] == 1


def test_t31_endless_stream_is_cut(server):
    """
    T31: server-sent events are that operation's error, and the others are answered.
    """
    operations = [{"method": "GET", "path": "/stream"}, {"method": "GET", "path": "/hello"}]
    with connected(server) as connection:
        status, answer = post_batch(connection, operations)

    assert status == 200
    assert answer["results"][0]["status"] == 502
    assert answer["results"][0]["error"]["code"] == "streaming_not_supported"
    assert answer["results"][1]["status"] == 200


@pytest.mark.parametrize("path", ["/ws", "/batch"])
def test_websocket_passes_through(server, path):
    """
    A websocket reaches the app, even where it asks for the path of the batch endpoint.
    """
    reply = talk_websocket(server, path, "hello")

    assert reply == f"{path} hello"


@pytest.mark.parametrize(
    "started", [kind for kind in SERVERS if "uvicorn" not in kind], indirect=True
)
def test_http2_carries_batches_and_refusals(server):
    """
    Over HTTP/2, where no header may speak of the connection, everything is as over HTTP/1.1.
    """
    url = f"{server.url}/batch"
    with httpx.Client(http1=False, http2=True) as client:
        answer = client.post(url, json={"operations": [{"method": "GET", "path": "/hello"}]})
        too_large = client.post(url, content=b" " * (MAX_BODY_BYTES + 1), headers=JSON)
        not_json = client.post(url, content=b"{}", headers={"content-type": "text/plain"})

    assert [response.http_version for response in (answer, too_large, not_json)] == ["HTTP/2"] * 3
    assert answer.json()["results"][0]["result"] == "Hello!"
    assert (too_large.status_code, too_large.headers.get("connection")) == (413, None)
    assert (not_json.status_code, not_json.headers.get("connection")) == (415, None)
