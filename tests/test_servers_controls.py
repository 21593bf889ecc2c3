"""
The controls of a batch, on real servers and through a real client.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from redis_server import redis_server
from servers import serving

APP = "apps.guarded:app"
KINDS = ["uvicorn-httptools-uvloop", "uvicorn-h11-asyncio", "hypercorn-asyncio", "granian"]

FACES = [
    ("DELETE", ""),
    ("POST", "/retry"),
    ("GET", "/status"),
    ("GET", "/results"),
    ("GET", "/events"),
]


@contextmanager
def guarded(kind, folder, *options, rate="1000/minute"):
    """
    The app on a server, and the Redis behind it.
    """
    with redis_server(folder / "redis") as redis:
        env = {"REDIS": redis.url, "RATE": rate}
        with serving(kind, APP, folder / "server", *options, env=env) as server:
            yield server, redis


def send(url, *targets, **headers):
    operations = [{"method": "GET", "path": target} for target in targets]
    return httpx.post(f"{url}/batch", json={"operations": operations}, headers=headers, timeout=30)


@pytest.mark.parametrize("kind", KINDS)
def test_t1_t2_t21_each_control_holds(kind, tmp_path):
    """
    T1, T2, T21: routes, foreign pages and rates, with their answers; a request is charged once.
    """
    with guarded(kind, tmp_path, rate="12/minute") as (server, redis):
        url = server.url
        denied = send(url, "/open/a", "/%61dmin/x")
        foreign = send(url, "/open/a", **{"sec-fetch-site": "cross-site", "origin": "https://x"})
        trusted = send(
            url, "/open/a", **{"sec-fetch-site": "cross-site", "origin": "https://app.example"}
        )
        limits = httpx.options(f"{url}/batch").json()["limits"]
        direct = httpx.get(f"{url}/open/a")
        batch = send(url, *["/open/a"] * 10)
        over = [send(url, "/open/a"), httpx.get(f"{url}/open/a")]
        calls = int(redis.client.get("calls:/open/a"))
        admin = redis.client.get("calls:/admin/x")

    assert denied.json()["errors"][0]["code"] == "path_not_allowed"
    assert (foreign.status_code, foreign.json()["code"]) == (403, "cross_site_request")
    assert (trusted.status_code, direct.status_code, batch.status_code) == (200, 200, 200)
    assert limits["maxOperations"] == 1000
    assert direct.headers["ratelimit-policy"] == '"minute";q=12;w=60'
    assert batch.headers["ratelimit"].startswith('"minute";r=0;t=')
    assert [each.status_code for each in over] == [429, 429]
    assert all(0 < int(each.headers["retry-after"]) <= 120 for each in over)
    assert (calls, admin) == (12, None)


@pytest.mark.parametrize("kind", KINDS)
def test_t36_t47_a_batch_is_its_owners(kind, tmp_path):
    """
    T36, T47: nobody else sees it, changes it or gets it by its key, or can tell it is there.
    """
    with guarded(kind, tmp_path) as (server, _):
        ada, eve = [
            send(server.url, "/open/a", **{"x-user": name, "idempotency-key": "k"})
            for name in ("ada", "eve")
        ]
        later = send(server.url, "/open/b", **{"x-user": "ada", "prefer": "respond-async"})
        batch_id = later.json()["batchId"]

        def said(face, batch_id, name):
            answer = httpx.request(
                *(face[0], f"{server.url}/batch/{batch_id}{face[1]}"),
                headers={"x-user": name} if name else {},
                timeout=30,
            )
            headers = {key: value for key, value in answer.headers.items() if key != "date"}
            return answer.status_code, answer.content, headers

        foreign = [said(face, batch_id, name) for face in FACES for name in ("eve", "")]
        unknown = [said(face, "x" * 32, name) for face in FACES for name in ("eve", "")]
        status, content, headers = said(FACES[2], batch_id, "ada")

    assert (ada.status_code, eve.status_code) == (200, 200)
    assert ada.json() != eve.json()
    assert foreign == unknown
    assert {each[0] for each in foreign} == {404}
    assert status == 200
    assert b"cancelled" not in content
    assert headers["referrer-policy"] == "no-referrer"


def test_t1_four_processes_admit_exactly_as_many_as_they_may(tmp_path):
    """
    T1: of batches and direct requests that come at the same time, whoever gets them.
    """
    with guarded("uvicorn-h11-asyncio", tmp_path, "--workers", "4", rate="100/minute") as (
        server,
        redis,
    ):

        def one(number):
            if number % 2:
                return httpx.get(f"{server.url}/open/a", timeout=30)
            return send(server.url, *["/open/a"] * 7)

        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(one, range(80)))
            # What is left is too little for a batch, but not for single requests.
            rest = [one(1) for _ in range(7)]
        calls = int(redis.client.get("calls:/open/a"))

    assert {each.status_code for each in answers} == {200, 429}
    assert {each.status_code for each in rest} <= {200, 429}
    assert calls == 100


def test_t1_a_thousand_operations_from_four_processes_stay_within_the_limit(tmp_path):
    """
    T1: large batches are charged before they are accepted for later.
    """
    with guarded("uvicorn-h11-asyncio", tmp_path, "--workers", "4", rate="2500/minute") as (
        server,
        redis,
    ):
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: send(server.url, *["/open/a"] * 1000), range(8)))
        redis.client.flushall()

    assert sorted(each.status_code for each in answers) == [202] * 2 + [429] * 6
    assert all(int(each.headers["batch-operations"]) == 1000 for each in answers)
