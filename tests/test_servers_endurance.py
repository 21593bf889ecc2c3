"""
Processes that are forced to end, held up, short of memory or started again, with work in hand.
"""

import json
import socket
import sys
from collections import Counter
from contextlib import ExitStack, contextmanager
from signal import SIGINT, SIGKILL, SIGTERM

import httpx
import pytest

from clients import wait_until
from redis_server import redis_server
from servers import HOST, command_for, free_port, kill, running

KIND = "uvicorn-h11-asyncio"
PATIENCE = 60
LATER = {"prefer": "respond-async"}
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """
    One Redis server for all servers of an app.
    """
    with redis_server(tmp_path_factory.mktemp("redis")) as proc:
        yield proc


class Service:
    """
    Servers of one app over one store, and what their operations have done.
    """

    def __init__(self, store, folder):
        self._store, self._folder = store, folder
        self._effects = folder / "effects.log"
        self._count = 0

    @contextmanager
    def server(self, kind=KIND, port=None, memory=0, **limits):
        """
        One more server.
        """
        self._count += 1
        port, folder = port or free_port(), self._folder / str(self._count)
        command = [sys.executable, *command_for(kind, port), "apps.enduring:app"]
        env = {"STORE": self._store, "EFFECTS": str(self._effects)}
        env |= {"MEMORY": str(memory), "LIMITS": json.dumps(limits)}
        with running(kind, command, port, folder, env) as server:
            yield server

    def put_up(self, sign):
        """
        Let all operations go on that wait for *sign*.
        """
        self._folder.joinpath(sign).touch()

    def noted(self, event, server=None):
        """
        Which operations have come to *event*, in all servers or in one, and how often.
        """
        return Counter(
            (method, int(index))
            for what, who, _, method, index in self._lines()
            if what == event and (server is None or int(who) == server.process.pid)
        )

    def batches(self):
        """
        The ids of all batches of which something has started.
        """
        return {line[2] for line in self._lines()}

    def _lines(self):
        text = self._effects.read_text() if self._effects.exists() else ""
        return [line.split() for line in text.splitlines()]


@pytest.fixture
def service(redis, tmp_path):
    """
    A service whose store is empty.
    """
    redis.client.flushall()
    return Service(redis.url, tmp_path)


def submit(server, operations):
    """
    Send a batch for later; where it is.
    """
    body = {"operations": operations}
    answer = httpx.post(f"{server.url}/batch", json=body, headers=LATER, timeout=PATIENCE)
    assert answer.status_code == 202
    return answer.json()


def status_of(server, batch):
    """
    How far *batch* is.
    """
    return httpx.get(server.url + batch["statusUrl"], timeout=PATIENCE).json()


def finished(server, batch):
    """
    The status of *batch* after its end, and its first hundred results.
    """
    wait_until(lambda: status_of(server, batch)["finishedAt"], PATIENCE)
    page = httpx.get(server.url + batch["resultsUrl"], timeout=PATIENCE)
    return status_of(server, batch), page.json()["results"]


def mixed(count, paths=None):
    """
    Reads and writes in turn, those of an index among *paths* to that path.
    """
    return [
        {"method": "POST" if n % 2 else "GET", "path": (paths or {}).get(n, "/work")}
        for n in range(count)
    ]


def assert_nothing_is_lost_or_repeated(service, status, results, failed=frozenset()):
    """
    But for those that *failed*, each has run well, or is a POST that may have run, and did so once.
    """
    unknown = {n for n, each in enumerate(results) if code_of(each) == "outcome_unknown"}
    starts = service.noted("start")

    assert (status["status"], status["completed"]) == ("completed", len(results))
    assert [result["id"] for result in results] == [str(n) for n in range(len(results))]
    assert {n for n, each in enumerate(results) if each["status"] != 200} == unknown | failed
    assert all(n % 2 for n in unknown)
    assert all(starts["POST", n] == 1 for n in range(1, len(results), 2) if n not in unknown)
    assert all(starts["POST", n] <= 1 for n in unknown)
    assert all(1 <= starts["GET", n] <= 3 for n in range(0, len(results), 2))


def code_of(result):
    """
    Why the library, and not the app, has answered; None where the app has.
    """
    return result["error"]["code"] if result.get("source") == "batch" else None


# What waits for ever when it runs for the first time, three reads and three writes.
STUCK = dict.fromkeys(range(20, 26), "/wait?sign=never")


@pytest.mark.parametrize(
    ("kind", "second"),
    [(KIND, SIGTERM), (KIND, SIGKILL), ("hypercorn-asyncio", SIGTERM), ("granian", SIGTERM)],
)
def test_f7_a_second_signal_to_a_process_that_stops_changes_no_promise(service, kind, second):
    """
    F7: whether it goes on to stop or is killed at once, another goes on, and no POST runs twice.
    """
    # Long enough that the second signal comes first where it is to kill.
    drain = {"drain_timeout": 60 if second == SIGKILL else 1}
    with service.server(kind, **drain) as first, service.server(kind, **drain) as other:
        batch = submit(first, mixed(60, STUCK))
        holder, other = holder_and_other(service, first, other)
        holder.process.send_signal(SIGTERM)
        wait_until(lambda: refuses_connections(holder))
        holder.process.send_signal(second)
        exit_status = holder.process.wait(PATIENCE)
        status, results = finished(other, batch)
        holder.process.returncode = 0

    assert second != SIGKILL or exit_status == -SIGKILL
    assert {code_of(results[n]) for n in (21, 23, 25)} == {"outcome_unknown"}
    assert {results[n]["result"]["server"] for n in (20, 22, 24)} == {other.process.pid}
    assert_nothing_is_lost_or_repeated(service, status, results)


def test_f7_a_forced_exit_is_like_a_death(service):
    """
    F7: a server that is not to wait for open requests any more leaves its batch to another.
    """
    with service.server() as first, service.server() as other, ExitStack() as stack:
        batch = submit(first, mixed(60, STUCK))
        holder, other = holder_and_other(service, first, other)
        client = stack.enter_context(socket.create_connection((HOST, holder.port)))
        client.sendall(b"GET /wait?sign=never HTTP/1.1\r\nHost: localhost\r\n\r\n")
        holder.process.send_signal(SIGTERM)
        wait_until(lambda: "Waiting for connections to close" in holder.log())
        holder.process.send_signal(SIGINT)
        holder.process.wait(PATIENCE)
        status, results = finished(other, batch)
        holder.process.returncode = 0

    assert "Application shutdown complete" not in holder.log()
    assert {code_of(results[n]) for n in (21, 23, 25)} == {"outcome_unknown"}
    assert_nothing_is_lost_or_repeated(service, status, results)


def holder_and_other(service, *servers):
    """
    Of two servers the one that carries the only batch out, once all that are stuck have started.
    """
    wait_until(lambda: STUCK.keys() <= {index for _, index in service.noted("start")})
    return sorted(servers, key=lambda server: not service.noted("start", server))


def refuses_connections(server):
    with socket.socket() as probe:
        return probe.connect_ex((HOST, server.port)) != 0


# Operation 0 waits in the first process until that goes on, and in the second until the end.
BLOCKING = {0: "/wait?sign=unblocked&sign=end", 1: "/block?sign=unblocked"}


def test_f9_a_process_that_is_blocked_changes_nothing_when_it_goes_on(service):
    """
    F9: its batch is taken over; it starts nothing more of it, and its late results are refused.
    """
    with service.server() as first:
        batch = submit(first, mixed(60, BLOCKING))
        wait_until(lambda: service.noted("start")["POST", 1])
        with service.server() as second:
            wait_until(lambda: service.noted("start", second)["GET", 0])
            before = service.noted("start", first)
            service.put_up("unblocked")
            wait_until(lambda: service.noted("end", first)["GET", 0])
            told = [status_of(first, batch)["finishedAt"] for _ in range(20)]
            first.process.send_signal(SIGTERM)
            first.process.wait(PATIENCE)
            after = service.noted("start", first)
            service.put_up("end")
            status, results = finished(second, batch)

    assert told == [None] * 20
    assert after == before
    assert service.noted("end", first)["POST", 1] == 1
    assert code_of(results[1]) == "outcome_unknown"
    assert results[0]["result"]["server"] == second.process.pid
    assert_nothing_is_lost_or_repeated(service, status, results)


def test_f10_an_operation_that_takes_too_much_memory_fails_alone(service):
    """
    F10: where there is no memory for it, that is its own exception, and the process goes on.
    """
    with service.server(memory=1024 * MIB) as server:
        batch = submit(server, mixed(60, {20: f"/take?bytes={2048 * MIB}"}))
        status, results = finished(server, batch)

    assert code_of(results[20]) == "app_exception"
    assert (status["succeeded"], status["failed"]) == (59, 1)
    assert set(service.noted("start").values()) == {1}


def test_f10_a_process_without_memory_keeps_its_batch_from_nobody(service):
    """
    F10: it need not even die; whatever it still does, another comes to the end of the batch.
    """
    with service.server(memory=512 * MIB) as first:
        batch = submit(first, mixed(60, {21: f"/keep?bytes={512 * MIB}"}))
        wait_until(lambda: service.noted("start")["POST", 21])
        with service.server() as second:
            status, results = finished(second, batch)
            kill(first.process)
            first.process.returncode = 0

    assert code_of(results[21]) in ("app_exception", "outcome_unknown")
    assert_nothing_is_lost_or_repeated(service, status, results, failed={21})


FACES = {"/status": "GET", "/results": "GET", "/events": "GET", "/retry": "POST", "": "DELETE"}


def test_f14_batches_in_memory_are_gone_after_a_restart(tmp_path):
    """
    F14: whether they ran or were finished, they are unknown then, as their 202 had announced.
    """
    service = Service("memory://", tmp_path)
    with service.server() as first:
        batches = [submit(first, mixed(4)), submit(first, mixed(4, {2: "/wait?sign=never"}))]
        finished(first, batches[0])
        kill(first.process)
        first.process.returncode = 0
    with service.server(port=first.port) as second:
        answers = [
            httpx.request(method, f"{second.url}/batch/{batch['batchId']}{face}")
            for batch in batches
            for face, method in FACES.items()
        ]
        again, _ = finished(second, submit(second, mixed(4)))

    assert [batch["durability"] for batch in batches] == ["process"] * 2
    assert {answer.status_code for answer in answers} == {404}
    assert {answer.json()["code"] for answer in answers} == {"batch_not_found"}
    assert again["succeeded"] == 4
