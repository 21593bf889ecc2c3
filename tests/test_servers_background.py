"""
Background batches under real servers, with real frameworks and a real Redis behind them.
"""

import json
import re
import signal
import sys
import time
from collections import Counter
from contextlib import contextmanager
from itertools import count

import httpx
import pytest

from redis_server import redis_server
from servers import command_for, free_port, kill, serving, start

PATIENCE = 60
LATER = {"prefer": "respond-async"}

UVLOOP, H11 = "uvicorn-httptools-uvloop", "uvicorn-h11-asyncio"
HYPERCORN, TRIO, GRANIAN = "hypercorn-asyncio", "hypercorn-trio", "granian"

ALL = ("starlette", "fastapi", "quart", "litestar", "django", "bare")
WITH_LIFESPAN = [name for name in ALL if name != "django"]
NOT_FOR_TRIO = ("quart", "django")

COMBINATIONS = [
    *((kind, f"{name}:app") for kind in (UVLOOP, HYPERCORN, GRANIAN) for name in ALL),
    *((TRIO, f"{name}:app") for name in ALL if name not in NOT_FOR_TRIO),
    # What docs/frameworks.md says works as well.
    (H11, "starlette:added"),
    (H11, "quart:outside"),
]


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """
    One Redis server with a database for each service.
    """
    with redis_server(tmp_path_factory.mktemp("redis"), "--databases", "100") as proc:
        yield proc


@pytest.fixture(scope="module")
def databases():
    """
    The numbers of databases that nobody has used.
    """
    return count()


class Service:
    """
    Servers that share a store, and what their operations have done.
    """

    def __init__(self, store, folder):
        self._folder = folder
        self._effects = folder / "effects.log"
        self.env = {"STORE": store, "EFFECTS": str(self._effects)}
        self._count = count()

    @contextmanager
    def server(self, kind, app):
        """
        One more server.
        """
        folder = self._folder / str(next(self._count))
        with serving(kind, f"apps.later_{app}", folder, env=self.env) as server:
            yield server

    def noted(self, group=None):
        """
        What has happened, as ``["start", batch, index]`` and the like, in all servers or in one.
        """
        text = self._effects.read_text() if self._effects.exists() else ""
        lines = [line.split() for line in text.splitlines()]
        return [what for who, *what in lines if group is None or int(who) == group]

    def starts(self, batch, group=None):
        """
        How often each operation of *batch* was started.
        """
        noted = self.noted(group)
        return Counter(int(what[2]) for what in noted if what[:2] == ["start", batch["batchId"]])


@pytest.fixture
def service(redis, databases, tmp_path):
    """
    A service of its own, without any server.
    """
    return Service(f"{redis.url.rpartition('/')[0]}/{next(databases)}", tmp_path)


class Started:
    """
    A server, the service that it is all of, and a client with one connection.
    """

    def __init__(self, server, service, client, framework):
        self.service = service
        self.client = client
        self.framework = framework
        self.durability = "store" if service.env["STORE"].startswith("redis") else "process"
        self.url = server.url

    def submit(self, operations, **headers):
        """
        Send a batch for later; what it was answered.
        """
        return self.client.post("/batch", json={"operations": operations}, headers=LATER | headers)

    def accepted(self, operations):
        """
        A batch that has been accepted.
        """
        answer = self.submit(operations)
        assert answer.status_code == 202, answer.text
        return answer.json()

    def wait_for(self, batch, condition):
        """
        The status of *batch* once *condition* holds for it.
        """
        return wait_for(self.client, batch, condition)

    def finished(self, batch):
        """
        The status of *batch* after its end.
        """
        return self.wait_for(batch, lambda status: status["finishedAt"])

    def results(self, batch):
        """
        All results of *batch*.
        """
        return self.client.get(batch["resultsUrl"], params={"limit": 1000}).json()["results"]


def wait_for(client, batch, condition):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        status = client.get(batch["statusUrl"]).json()
        if condition(status):
            return status
        time.sleep(0.01)
    raise AssertionError(status)


@pytest.fixture(scope="module", params=COMBINATIONS, ids="-".join)
def started(request, redis, databases, tmp_path_factory):
    """
    Every framework under every server; each app's own lifespan holds around its batches.
    """
    kind, app = request.param
    framework = app.partition(":")[0]
    url = f"{redis.url.rpartition('/')[0]}/{next(databases)}"
    service = Service("memory://" if kind == TRIO else url, tmp_path_factory.mktemp("service"))
    with service.server(kind, app) as server, httpx.Client(base_url=server.url) as client:
        yield Started(server, service, client, framework)
    noted = [what for what, *_ in service.noted()]
    if framework in WITH_LIFESPAN:
        assert (noted[0], noted[-1]) == ("startup", "shutdown")
        assert noted.count("startup") == noted.count("shutdown") == 1


def moments(number, method="GET"):
    """
    Operations that take a moment each.
    """
    return [{"method": method, "path": "/moment"}] * number


MIXED = [
    {"method": "GET", "path": "/greeting"},
    {"method": "POST", "path": "/echo", "body": {"n": 12345678901234567890123}},
    {"method": "GET", "path": "/echo?q=%C3%BC", "headers": {"accept-language": "de"}},
    {"method": "PUT", "path": "/echo", "body": "AAH/", "bodyEncoding": "base64"},
    {"method": "GET", "path": "/missing"},
    {"method": "GET", "path": "/crash"},
] * 10


def test_results_are_those_of_the_same_batch_answered_at_once(started):
    """
    Accepted, completed, and in all bytes of all results what a client that waits is answered.
    """
    now = started.client.post("/batch", json={"operations": MIXED})
    later = started.submit(MIXED)
    status = started.finished(later.json())
    page = started.client.get(later.json()["resultsUrl"], params={"limit": 1000})

    assert (now.status_code, later.status_code) == (200, 202)
    assert later.headers["preference-applied"] == "respond-async"
    assert later.json()["durability"] == started.durability
    assert {result["status"] for result in now.json()["results"]} == {200, 404, 500}
    assert results_in(now.content) == results_in(page.content)
    assert status["status"] == "completed"
    assert {name: status[name] for name in now.json()["summary"]} == now.json()["summary"]


def results_in(document):
    """
    The results as they are written, but for the ids of errors, which are random.
    """
    text = document.partition(b'"results":')[2]
    end = max(text.rfind(b',"summary":'), text.rfind(b',"next":'))
    return re.sub(rb'"errorId":"[0-9a-f]+"', b'"errorId":""', text[:end])


# How JSON is written depends on the framework, and on no server.
@pytest.mark.parametrize(
    "started", [(UVLOOP, f"{name}:app") for name in ALL], indirect=True, ids="-".join
)
def test_results_come_one_on_a_line(started):
    """
    However the framework writes JSON, each line of a page of NDJSON is one whole result.
    """
    batch = started.accepted(MIXED)
    started.finished(batch)
    headers = {"accept": "application/x-ndjson"}
    page = started.client.get(batch["resultsUrl"], params={"limit": 1000}, headers=headers)

    assert page.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in page.text.splitlines()] == started.results(batch)


def test_background_operations_see_the_app_and_what_its_startup_made(started):
    """
    Whatever the framework calls its app, and wherever it keeps state, a late operation finds it.
    """
    batch = started.accepted([{"method": "GET", "path": "/greeting"}] * 20)
    started.finished(batch)
    bodies = [result["result"] for result in started.results(batch)]

    assert bodies == [{"app": started.framework, "greeting": "Hello!"}] * 20


def test_f23_nothing_starts_after_the_answer_to_a_cancellation(started):
    """
    F23: what runs comes to its end, everything else is 424, and all of it has a result.
    """
    batch = started.accepted(moments(1000))
    started.wait_for(batch, lambda status: status["completed"])
    answer = started.client.delete(f"/batch/{batch['batchId']}")
    before = started.service.starts(batch)
    status = started.finished(batch)
    statuses = Counter(result["status"] for result in started.results(batch))

    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert started.service.starts(batch) == before
    assert (status["status"], status["completed"]) == ("cancelled", 1000)
    assert statuses == {200: len(before), 424: 1000 - len(before)}
    assert 0 < len(before) < 1000


def test_events_tell_of_progress_and_of_the_end(started):
    """
    The stream ends by itself, and its last event is the end of the batch.
    """
    batch = started.accepted(moments(60))
    with started.client.stream("GET", batch["eventsUrl"], timeout=PATIENCE) as answer:
        text = "".join(answer.iter_text())
    events = [
        dict(line.split(": ", 1) for line in each.split("\n")) for each in text.split("\n\n")[1:-1]
    ]
    told = [json.loads(event["data"])["completed"] for event in events]
    end = json.loads(events[-1]["data"])

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [event["event"] for event in events] == ["progress"] * (len(events) - 1) + ["end"]
    assert told == sorted(told)
    assert (end["status"], end["succeeded"]) == ("completed", 60)


def test_what_failed_is_tried_again_as_a_batch_of_its_own(started):
    """
    A retry takes the operations that failed, with their ids, and no others.
    """
    failing = [{"id": name, "method": "GET", "path": f"/flaky/{name}"} for name in ("a", "b")]
    first = started.accepted([failing[0], {"method": "GET", "path": "/greeting"}, failing[1]])
    status = started.finished(first)
    answer = started.client.post(f"/batch/{first['batchId']}/retry", headers=LATER)
    retried = started.finished(answer.json())
    results = started.results(answer.json())

    assert (status["succeeded"], status["failed"]) == (1, 2)
    assert answer.status_code == 202
    assert (retried["parent"], retried["total"]) == (first["batchId"], 2)
    assert [(result["id"], result["status"]) for result in results] == [("a", 200), ("b", 200)]


@pytest.mark.parametrize(
    ("kind", "app"),
    [
        (UVLOOP, "fastapi:app"),
        (H11, "django:app"),
        (HYPERCORN, "quart:app"),
        (GRANIAN, "litestar:app"),
    ],
)
def test_f6_a_server_that_is_told_to_stop_hands_its_batch_over(service, kind, app):
    """
    F6: it ends cleanly, what ran came to its end, and another goes on long before the lease ends.
    """
    with service.server(kind, app) as first, service.server(kind, app) as second:
        with httpx.Client(base_url=first.url) as client:
            answer = client.post("/batch", json={"operations": moments(600, "POST")}, headers=LATER)
            batch = answer.json()
            wait_for(client, batch, lambda status: status["progress"] > 0.1)
        holder, other = first, second
        if not service.starts(batch, first.process.pid):
            holder, other = second, first
        holder.process.send_signal(signal.SIGTERM)
        exit_status = holder.process.wait(PATIENCE)
        with httpx.Client(base_url=other.url) as client:
            status = wait_for(client, batch, lambda status: status["finishedAt"])
            page = client.get(batch["resultsUrl"], params={"limit": 1000}).json()
    noted = [what[0] for what in service.noted(holder.process.pid)]

    # uvicorn shuts down first and then ends by the signal that told it to.
    assert exit_status == (-signal.SIGTERM if "uvicorn" in kind else 0)
    assert noted.count("start") == noted.count("end") < 600
    assert noted[-1] == "end" if "django" in app else "shutdown"
    assert (status["status"], status["succeeded"]) == ("completed", 600)
    assert {result["status"] for result in page["results"]} == {200}
    assert service.starts(batch) == dict.fromkeys(range(600), 1)


def test_redis_on_trio_is_refused_at_the_start(service, tmp_path):
    """
    The server does not come up, and its log says why and what to do.
    """
    command = [sys.executable, *command_for(TRIO, free_port()), "apps.later_starlette:app"]
    process, log_file = start(command, tmp_path, service.env)
    try:
        process.wait(PATIENCE)
    finally:
        kill(process)

    assert (
        "The Redis store needs asyncio, and this server runs trio: start it on asyncio, or write"
        ' store="memory://".'
    ) in log_file.read_text()
    assert service.noted() == []
