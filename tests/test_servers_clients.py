"""
Clients that read slowly, ask a thousand at a time, or send again what they got no answer to.
"""

import asyncio
import json
import socket
import time
from collections import Counter
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from clients import post_head, read_response, wait_until
from fault_proxy import FaultProxy
from redis_server import redis_server
from servers import HOST
from test_servers_endurance import LATER, MIB, PATIENCE, Service, finished, submit


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """
    One Redis server for all servers of an app.
    """
    with redis_server(tmp_path_factory.mktemp("redis")) as proc:
        yield proc


@pytest.fixture
def service(redis, tmp_path):
    """
    A service whose store is empty.
    """
    redis.client.flushall()
    return Service(redis.url, tmp_path)


# Answers of eight MiB altogether.
LARGE = [{"method": "GET", "path": f"/large?bytes={MIB * 4 // 5}"}] * 10


def peak_of(server):
    """
    The most memory, in MiB, that *server* has had.
    """
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


@contextmanager
def slow_reader(server, request):
    """
    A connection over which *request* was sent, and nothing is read yet but that it is answered.
    """
    with socket.socket() as client:
        # As little of the answer as can be waits outside of the server.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(PATIENCE)
        client.connect((HOST, server.port))
        client.sendall(request)
        client.recv(1, socket.MSG_PEEK)
        yield client


def batch_request(operations):
    body = json.dumps({"operations": operations}).encode()
    return post_head(f"Content-Length: {len(body)}", "Connection: close") + body


def page_request(server, operations):
    batch = submit(server, operations)
    finished(server, batch)
    lines = [f"GET {batch['resultsUrl']} HTTP/1.1", "Host: localhost", "Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode()


def test_f20_answers_that_nobody_reads_stay_within_the_bound_of_memory(service):
    """
    F20: beyond it batches are refused, other requests are not; and all of it is given back.
    """
    request = batch_request(LARGE)
    with service.server(max_held_bytes=32 * MIB) as server:
        url, batch = f"{server.url}/batch", {"operations": LARGE}
        httpx.post(url, json=batch, timeout=PATIENCE)
        before = peak_of(server)
        with ExitStack() as stack:
            clients = [stack.enter_context(slow_reader(server, request)) for _ in range(24)]
            answers = Counter(read_response(client).status for client in clients)
            direct = httpx.get(f"{server.url}/work", timeout=PATIENCE)
        wait_until(lambda: httpx.post(url, json=batch, timeout=PATIENCE).status_code == 200)
        grown = peak_of(server) - before

    assert answers.keys() == {200, 503}
    assert answers[200] >= 4
    assert direct.status_code == 200
    # All answers together are 192 MiB.
    assert grown < 96


@pytest.mark.parametrize("kind", ["answer", "page"])
def test_f20_a_slow_reader_delays_nobody_and_gets_all(service, kind):
    """
    F20: while it reads byte by byte others are served, and memory holds few times what it reads.
    """
    with service.server() as server, ExitStack() as stack:
        request = batch_request(LARGE) if kind == "answer" else page_request(server, LARGE)
        before = peak_of(server)
        clients = [stack.enter_context(slow_reader(server, request)) for _ in range(3)]
        first = b""
        for _ in range(3):
            first += b"".join(clients[0].recv(1) for _ in range(100))
            now = httpx.post(f"{server.url}/batch", json={"operations": WRITES}, timeout=PATIENCE)
            later, _ = finished(server, submit(server, WRITES))

            assert now.json()["summary"]["succeeded"] == later["succeeded"] == len(WRITES)
        grown = peak_of(server) - before
        answer = first + b"".join(iter(lambda: clients[0].recv(MIB), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    results = json.loads(body)["results"]

    assert head.startswith(b"HTTP/1.1 200 ")
    assert [len(result["result"]) for result in results] == [MIB * 4 // 5] * 10
    # Three answers are 24 MiB.
    assert grown < 4 * 24


WRITES = [{"method": "POST", "path": "/work"}] * 20
KEY = {"idempotency-key": "8f14e45f-ceea-467f-a0e6-9d1b8c2f7a34"}


def test_f21_fifty_at_once_with_one_key_are_one_batch(service):
    """
    F21: whichever server they come to, each is told of the same batch, and it runs once.
    """

    async def send_all(servers):
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=PATIENCE, limits=limits) as client:
            requests = [
                client.post(f"{server.url}/batch", json={"operations": WRITES}, headers=LATER | KEY)
                for server in servers * 25
            ]
            return await asyncio.gather(*requests)

    with service.server() as first, service.server() as second:
        answers = asyncio.run(send_all([first, second]))
        batches = [answer.json() for answer in answers]
        status, _ = finished(first, batches[0])

    assert [answer.status_code for answer in answers] == [202] * 50
    assert len({batch["batchId"] for batch in batches}) == 1
    assert (status["status"], status["succeeded"]) == ("completed", 20)
    assert service.noted("start") == {("POST", n): 1 for n in range(20)}
    assert len(service.batches()) == 1


@pytest.mark.parametrize("prefer", [LATER, {}], ids=["later", "at once"])
def test_f22_a_client_that_got_no_answer_sends_again(service, prefer):
    """
    F22: with its key it is told of the batch that it did not know was accepted; that runs once.
    """

    async def send_twice(server):
        async with FaultProxy(server.port).running() as proxy:
            url = f"http://{HOST}:{proxy.port}/batch"
            proxy.drop_reply_to(KEY["idempotency-key"].encode())
            async with httpx.AsyncClient(timeout=PATIENCE) as client:
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.post(url, json={"operations": WRITES}, headers=prefer | KEY)
                again = await client.post(url, json={"operations": WRITES}, headers=prefer | KEY)
            return again, proxy.dropped

    with service.server() as server:
        again, dropped = asyncio.run(send_twice(server))
        if again.status_code == 202:
            finished(server, again.json())

    assert dropped == 1
    assert again.status_code == (202 if prefer else 200)
    assert prefer or again.json()["summary"]["succeeded"] == 20
    assert service.noted("start") == {("POST", n): 1 for n in range(20)}
    assert len(service.batches()) == 1


POLLERS = 1000
# What Redis is told over a new connection, and by this test itself.
ASIDE = {"select", "client|setinfo", "hello", "ping", "info", "config|resetstat"}


@asynccontextmanager
async def pollers(server, batch, at_once):
    """
    For each of many clients what asks how far *batch* is; they all have a connection open, and up
    to *at_once* of them ask at the same moment.
    """
    opened = [asyncio.open_connection(HOST, server.port) for _ in range(POLLERS)]
    connections, turn = await asyncio.gather(*opened), asyncio.Semaphore(at_once)
    try:
        yield [partial(ask, turn, batch["statusUrl"], *each) for each in connections]
    finally:
        for _, writer in connections:
            writer.close()


async def ask(turn, path, reader, writer, *headers):
    """
    The status of an answer, its headers and its document.
    """
    async with turn:
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
        writer.write("\r\n".join(lines).encode())
        start, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        given = dict(field.lower().split(": ", 1) for field in fields)
        body = await reader.readexactly(int(given.get("content-length", 0)))
    return int(start.split()[1]), given, json.loads(body or "{}")


def calls_of(redis):
    """
    How often Redis was asked for what since its statistics were reset.
    """
    stats = redis.client.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}
    return {name: count for name, count in calls.items() if name not in ASIDE}


def test_f24_each_of_a_thousand_polls_is_one_command(service, redis):
    """
    F24: all are answered, those that know it already with 304, and each is told when to come back.
    """

    async def ask_twice(server, batch):
        async with pollers(server, batch, 50) as asking:
            fresh = await asyncio.gather(*(each() for each in asking))
            tag = f"If-None-Match: {fresh[0][1]['etag']}"
            known = await asyncio.gather(*(each(tag) for each in asking))
        return fresh, known

    def is_quiet():
        redis.client.config_resetstat()
        time.sleep(0.3)
        return not calls_of(redis)

    # The process itself says and looks for nothing, once it has begun.
    with service.server(lease=600, scan_interval=600, cancel_interval=600) as server:
        batch = submit(server, [{"method": "GET", "path": "/wait?sign=end"}])
        wait_until(lambda: service.noted("start") and is_quiet())
        fresh, known = asyncio.run(ask_twice(server, batch))
        calls = calls_of(redis)
        service.put_up("end")

    assert {status for status, _, _ in fresh} == {200}
    assert {document["status"] for _, _, document in fresh} == {"processing"}
    assert {status for status, _, _ in known} == {304}
    assert {headers["retry-after"] for _, headers, _ in [*fresh, *known]} == {"1"}
    assert calls == {"hmget": 2 * POLLERS}


def test_f24_a_thousand_pollers_do_not_keep_a_batch_from_its_end(service):
    """
    F24: they ask all at once, and again as soon as they are answered; who is one too many is told
    to come back, the batch goes on, and each hears of its end.
    """
    # As many as run at a time, so that nothing else starts before the clients are there.
    held_back = [{"method": "GET", "path": "/wait?sign=go"}] * 10

    async def follow(poll):
        seen = [await poll()]
        while not seen[-1][2].get("finishedAt"):
            seen.append(await poll())
        return seen

    async def follow_all(server, batch):
        async with asyncio.timeout(PATIENCE), pollers(server, batch, POLLERS) as asking:
            first = await asyncio.gather(*(poll() for poll in asking))
            service.put_up("go")
            others = await asyncio.gather(*map(follow, asking))
            return [[one, *more] for one, more in zip(first, others, strict=True)]

    with service.server(lease=30) as server:
        batch = submit(server, held_back + WRITES * 10)
        seen = asyncio.run(follow_all(server, batch))

    assert {status for each in seen for status, _, _ in each} <= {200, 503}
    assert {each[-1][2]["succeeded"] for each in seen} == {210}
    assert all("retry-after" not in each[-1][1] for each in seen)
    assert not any(each[0][2].get("finishedAt") for each in seen)
    assert set(service.noted("start").values()) == {1}
