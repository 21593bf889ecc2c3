"""
The threats of RELIABILITY §5 that a request can show, tried on real servers through real sockets.
"""

import json
import socket
import threading
import time

import httpx
import pytest

from apps.threatened import MAX_BODY_BYTES, SECRET
from clients import PATIENCE, post_head, read_response, wait_until
from servers import HOST, serving

KINDS = ["uvicorn-h11-asyncio", "uvicorn-httptools-uvloop", "hypercorn-asyncio", "granian"]
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module", params=KINDS)
def server(request, tmp_path_factory):
    """
    The threatened app under every server.
    """
    folder = tmp_path_factory.mktemp(request.param)
    with serving(request.param, "apps.threatened:app", folder) as server:
        yield server


def send(server, *operations, **headers):
    return httpx.post(
        f"{server.url}/batch", json={"operations": operations}, headers=headers, timeout=PATIENCE
    )


def get(path, **members):
    return {"method": "GET", "path": path, **members}


def results(server, *operations, **headers):
    answer = send(server, *operations, **headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


BAD_OPERATIONS = {
    "t2-denied": (get("/admin/x"), "path_not_allowed"),
    "t2-t10-denied-encoded": (get("/%61dmin/x"), "path_not_allowed"),
    "t4-authorization": (get("/seen", headers={"authorization": "x"}), "header_not_allowed"),
    "t4-cookie": (get("/seen", headers={"Cookie": "x"}), "header_not_allowed"),
    "t4-host": (get("/seen", headers={"host": "x"}), "header_not_allowed"),
    "t6-method": (get("/seen") | {"method": "TRACE"}, "method_not_allowed"),
    "t6-small": (get("/seen") | {"method": "get"}, "method_not_allowed"),
    "t6-override": (
        get("/seen", headers={"x-http-method-override": "PUT"}),
        "header_not_allowed",
    ),
    "t7-nested": (get("/batch"), "nested_batch"),
    "t7-nested-below": (get("/%62atch/x/status"), "nested_batch"),
    "t10-dots": (get("/seen/../admin/x"), "invalid_path"),
    "t10-encoded-dots": (get("/%2e%2e/admin"), "invalid_path"),
    "t10-encoded-slash": (get("/a%2Fb"), "invalid_path"),
    "t10-parameter": (get("/a;b/c"), "invalid_path"),
    "t10-empty-segment": (get("/a//b"), "invalid_path"),
    "t10-backslash": (get("/a%5Cb"), "invalid_path"),
    "t10-nul": (get("/a%00"), "invalid_path"),
    "t11-absolute": (get("http://127.0.0.1:1/x"), "invalid_path"),
    "t11-authority": (get("//127.0.0.1:1/x"), "invalid_path"),
    "t12-forwarded": (get("/seen", headers={"forwarded": "for=1"}), "header_not_allowed"),
    "t12-x-forwarded": (get("/seen", headers={"X-Forwarded-For": "1"}), "header_not_allowed"),
    "t13-split-value": (get("/seen", headers={"x-tenant": "a\r\nb: c"}), "invalid_header"),
    "t13-colon": (get("/seen", headers={"x-tenant: a": "c"}), "invalid_header"),
    "t13-underscore": (get("/seen", headers={"x_tenant": "c"}), "invalid_header"),
    "t14-chunked": (get("/seen", headers={"transfer-encoding": "chunked"}), "header_not_allowed"),
    "t14-length": (get("/seen", headers={"content-length": "7"}), "header_not_allowed"),
    "t16-size": (get("/seen", headers={"x-tenant": "x" * 9000}), "headers_too_large"),
    "t17-line-break": (get("/seen?a=\r\nb"), "invalid_query"),
    "t17-fragment": (get("/seen#b"), "invalid_path"),
    "t27-unknown": (get("/seen", url="/x"), "unknown_field"),
    "t27-type": (get("/seen", timeout="1"), "invalid_operation"),
}


@pytest.mark.parametrize("name", BAD_OPERATIONS)
def test_what_no_operation_may_be(server, name):
    """
    T2, T4, T6, T7, T10 to T14, T16, T17, T27: one such operation refuses the whole batch.
    """
    operation, code = BAD_OPERATIONS[name]
    answer = send(server, get("/seen"), operation)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [(each["index"], each["code"]) for each in answer.json()["errors"]] == [(1, code)]


def batch_of(text):
    return b'{"operations":[%b]}' % text


ONE = b'{"method":"GET","path":"/seen"}'

BAD_REQUESTS = {
    "t13-split-name": (
        JSON,
        batch_of(b'{"method":"GET","path":"/seen","headers":{"x-tenant: a\\r\\nb":"c"}}'),
        400,
        "duplicate_key",
    ),
    "t20-compressed": (
        {**JSON, "content-encoding": "gzip"},
        b"x",
        415,
        "unsupported_content_encoding",
    ),
    "t21-form": ({"content-type": "text/plain"}, batch_of(ONE), 415, "unsupported_media_type"),
    "t21-no-type": ({}, batch_of(ONE), 415, "unsupported_media_type"),
    "t21-t38-cross-site": (
        {**JSON, "sec-fetch-site": "cross-site"},
        batch_of(ONE),
        403,
        "cross_site_request",
    ),
    "t22-deep": (JSON, b"[" * 100_000, 400, "json_too_deep"),
    "t22-deep-body": (
        JSON,
        batch_of(b'{"method":"POST","path":"/seen","body":%b%b}' % (b"[" * 50_000, b"]" * 50_000)),
        400,
        "json_too_deep",
    ),
    "t23-twice": (JSON, batch_of(b'{"method":"GET","path":"/seen","path":"/x"}'), 400, None),
    "t23-hidden": (JSON, batch_of(b'{"method":"GET","path":"/seen","p\\u0061th":"/x"}'), 400, None),
    "t24-nan": (JSON, batch_of(b'{"method":"POST","path":"/seen","body":NaN}'), 400, None),
    "t24-trailing": (JSON, batch_of(ONE) + b"{}", 400, "invalid_json"),
    "t24-bom": (JSON, b"\xef\xbb\xbf" + batch_of(ONE), 400, "invalid_json"),
    "t24-utf-16": (JSON, batch_of(ONE).decode().encode("utf-16"), 400, "invalid_unicode"),
    "t25-surrogate": (JSON, batch_of(b'{"method":"GET","path":"/\\ud800"}'), 400, None),
    "t25-broken": (JSON, batch_of(b'{"method":"GET","path":"/\xff"}'), 400, "invalid_unicode"),
    "t26-t28-too-many": (JSON, batch_of(b",".join([b"{}"] * 60_000)), 413, "too_many_operations"),
    "t27-empty": (JSON, b'{"operations":[]}', 422, "invalid_batch"),
    "t28-one-too-many": (JSON, batch_of(b",".join([ONE] * 51)), 413, "too_many_operations"),
    "t29-same-id": (
        JSON,
        batch_of(b",".join([ONE[:-1] + b',"id":"a"}'] * 2)),
        422,
        "invalid_batch",
    ),
    "t35-unknown-members": (
        JSON,
        batch_of(b"{%b}" % b",".join(b'"m%d":0' % each for each in range(15_000))),
        422,
        "invalid_batch",
    ),
    "t19-large": (JSON, b" " * (MAX_BODY_BYTES + 1), 413, "payload_too_large"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_what_no_batch_may_be(server, name):
    """
    T13, T19 to T29, T35, T38: each is refused with its own code, in no time worth speaking of.
    """
    headers, body, status, code = BAD_REQUESTS[name]
    answer = httpx.post(f"{server.url}/batch", content=body, headers=headers, timeout=PATIENCE)

    assert answer.status_code == status, answer.text
    assert code in (None, answer.json()["code"])
    assert answer.headers["content-type"] == "application/problem+json"


def test_t19_a_body_without_a_length(server):
    """
    T19: it is counted while it arrives, and refused long before its end.
    """
    sent = 0

    def chunks():
        nonlocal sent
        for _ in range(10_000):
            sent += 10_000
            yield b" " * 10_000

    try:
        answer = httpx.post(f"{server.url}/batch", content=chunks(), headers=JSON, timeout=PATIENCE)
        assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
    except httpx.NetworkError:
        # The server hung up while the client was still sending.
        assert sent < 100_000_000


def test_t32_a_slow_upload(server):
    """
    T32: half a body, and then nothing.
    """
    with socket.create_connection((HOST, server.port), timeout=PATIENCE) as client:
        client.sendall(post_head("Content-Length: 100") + b'{"operations":')
        answer = read_response(client)
        code = json.loads(answer.read())["code"]

    assert (answer.status, code) == (408, "request_timeout")


def test_t3_t15_t18_an_operation_is_a_request(server):
    """
    T3, T15, T18: the app sees the caller's own headers and address, and the body byte for byte.
    """
    body = '{"n": 12345678901234567890.10, "n": [1.0,  2e400]}'
    headers = {"authorization": "Bearer a", "x-request-id": "7", "accept-encoding": "gzip"}
    direct = httpx.post(
        f"{server.url}/seen?a=%20b", content=body, headers={**JSON, **headers}
    ).json()
    document = f'{{"operations":[{{"method":"POST","path":"/seen?a=%20b","body":{body}}}]}}'
    answer = httpx.post(f"{server.url}/batch", content=document, headers={**JSON, **headers})
    seen = answer.json()["results"][0]["result"]

    for name in ("accept-encoding", "connection"):
        direct["headers"].pop(name, None)
        seen["headers"].pop(name, None)
    assert seen == direct
    assert seen["body"] == body
    assert seen["headers"]["authorization"] == "Bearer a"


def test_t5_nothing_passes_between_operations(server):
    """
    T5: neither by context variables nor by the state, nor to direct requests.
    """
    left = [each["result"] for each in results(server, *[get("/leave")] * 20)]

    assert left == [[None, None]] * 20
    assert httpx.get(f"{server.url}/leave").json() == [None, None]


def test_t8_t30_t31_t40_t46_t48_t49_what_an_app_answers(server):
    """
    T8, T30, T31, T40, T46, T48, T49: it stays that operation's result, within bounds and without
    secrets.
    """
    paths = ["/redirect", "/huge", "/endless", "/cookie", "/crash", "/file", "/split"]
    answer = send(server, *map(get, paths))
    redirect, huge, endless, cookie, crash, file, _ = answer.json()["results"]

    assert answer.status_code == 200
    assert not {"set-cookie", "x-outer", "location"} & set(answer.headers)
    assert "content-encoding" not in answer.headers
    assert (redirect["status"], redirect["headers"]["location"]) == (307, "/seen")
    assert (huge["status"], huge["error"]["code"]) == (502, "response_too_large")
    assert (endless["status"], endless["error"]["code"]) == (502, "response_too_large")
    assert cookie["status"] == 418
    assert (crash["status"], crash["error"]) == (500, "Internal Server Error")
    assert (file["status"], file["error"]["code"]) == (502, "app_protocol_error")
    assert SECRET not in answer.text
    assert "root:" not in answer.text


def test_t39_t45_every_answer_says_what_it_is(server):
    """
    T39, T44, T45: no cache keeps it and nobody guesses at its type; other paths are the app's.
    """
    url = f"{server.url}/batch"
    good = send(server, get("/seen"))
    answers = [
        good,
        httpx.get(url),
        httpx.options(url),
        httpx.post(url, content=b"{"),
        httpx.get(f"{url}/{'x' * 32}/status"),
    ]

    for answer in answers:
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "json" in answer.headers["content-type"]
    for path in ("/batch/", "/Batch", "/batchx"):
        assert httpx.get(f"{server.url}{path}").status_code == 404


def test_t34_t36_t37_t38_t47_t50_batches_of_the_background(server):
    """
    T34, T36, T37, T38, T47, T50: each owner has its own, so many at a time, and only POST and
    DELETE change one.
    """
    user = f"user-{time.monotonic_ns()}"
    slow = [get("/slower")] * 45
    first = send(server, *slow, **{"x-user": user, "idempotency-key": "k"}).json()
    again = send(server, *slow, **{"x-user": user, "idempotency-key": "k"}).json()
    other_body = send(server, *slow[1:], **{"x-user": user, "idempotency-key": "k"})
    others = send(server, *slow, **{"x-user": f"{user}-2", "idempotency-key": "k"}).json()
    send(server, *slow, **{"x-user": user})
    third = send(server, *slow, **{"x-user": user})
    url = f"{server.url}/batch/{first['batchId']}"
    foreign = httpx.get(f"{url}/status", headers={"x-user": "eve"})
    unknown = httpx.get(f"{server.url}/batch/{'x' * 32}/status", headers={"x-user": "eve"})
    no_ids = ["*", "%00", "..%2f", "a" * 500, "{x}:lease", "%0d%0aDEL"]
    strange = [httpx.get(f"{server.url}/batch/{each}/status").status_code for each in no_ids]
    verbs = [
        httpx.request(verb, f"{url}/retry", headers={"x-user": user}).status_code
        for verb in ("GET", "PUT", "PATCH")
    ]
    before = httpx.get(f"{url}/status", headers={"x-user": user}).json()["status"]
    httpx.delete(url, headers={"x-user": user})
    after = httpx.get(f"{url}/status", headers={"x-user": user}).json()["status"]

    assert first["batchId"] == again["batchId"] != others["batchId"]
    assert len(first["batchId"]) >= 32
    assert (other_body.status_code, other_body.json()["code"]) == (422, "idempotency_key_reused")
    assert (third.status_code, third.json()["code"]) == (429, "too_many_batches")
    assert (foreign.status_code, foreign.content) == (unknown.status_code, unknown.content)
    assert set(strange) == {404}
    assert verbs == [405] * 3
    assert (before, after) == ("processing", "cancelled")
    # Others can have places again.
    for name in (user, f"{user}-2"):
        wait_until(lambda name=name: send(server, get("/slow"), **{"x-user": name}).is_success)


def test_t33_a_direct_request_does_not_wait_for_batches(server):
    """
    T33: while several batches wait for slow operations, others are answered.
    """
    with_batches = [
        threading.Thread(target=send, args=(server, *[get("/slow")] * 20)) for _ in range(4)
    ]
    for thread in with_batches:
        thread.start()
    direct = httpx.get(f"{server.url}/seen", timeout=PATIENCE)
    are_running = all(thread.is_alive() for thread in with_batches)
    for thread in with_batches:
        thread.join()

    assert direct.status_code == 200
    assert are_running


def test_t46_the_log_holds_no_secret_of_a_request(server):
    """
    T46: whatever has been sent, headers, bodies and paths are not in the library's own log records.
    """
    start = server.log_size()
    operation = {"method": "POST", "path": f"/seen?{SECRET}", "body": SECRET}
    send(server, operation, authorization=SECRET)
    send(server, operation | {"path": f"/admin/{SECRET}"}, authorization=SECRET)

    assert SECRET not in server.log(start)
