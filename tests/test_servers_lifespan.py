"""
Lifespan under real servers: it is the app's own, with the background around it.
"""

import sys

import httpx
import pytest

from servers import SERVERS, command_for, free_port, kill, serving, start

BATCH = {"operations": [{"method": "GET", "path": "/hello"}]}


@pytest.mark.parametrize("kind", SERVERS)
def test_app_starts_before_the_first_batch_and_stops_at_the_end(kind, tmp_path):
    """
    Startup and shutdown reach the app, and operations see the state that its startup made.
    """
    with serving(kind, "apps.sockets:app", tmp_path) as server:
        answer = httpx.post(f"{server.url}/batch", json=BATCH).json()
        running_log = server.log()
    log = server.log()

    assert answer["results"][0]["result"] == "Hello!"
    assert running_log.count("lifespan startup") == 1
    assert running_log.count("lifespan shutdown") == 0
    assert log.count("lifespan startup") == 1
    assert log.count("lifespan shutdown") == 1


def run_to_its_end(kind, app, folder):
    """
    Start a server that will not come up; its exit status and what it wrote.
    """
    process, log_file = start([sys.executable, *command_for(kind, free_port()), app], folder)
    try:
        status = process.wait(30)
    finally:
        kill(process)
    return status, log_file.read_text()


@pytest.mark.parametrize("kind", SERVERS)
def test_f16_failed_startup_passes_on_verbatim(kind, tmp_path):
    """
    F16: an app that cannot start ends the server in the same way, and with the same words.
    """
    bare_status, bare_log = run_to_its_end(kind, "apps.failing:bare", tmp_path / "bare")
    status, log = run_to_its_end(kind, "apps.failing:wrapped", tmp_path / "wrapped")

    assert "ConnectionError: the database is away" in bare_log
    assert status == bare_status
    assert log.count("the database is away") == bare_log.count("the database is away")


@pytest.mark.parametrize("kind", [kind for kind in SERVERS if kind != "hypercorn-trio"])
def test_f16_app_without_lifespan_is_served(kind, tmp_path):
    """
    F16: Django raises an exception for lifespan; the background has one all the same.
    """
    with serving(kind, "examples.django_app:app", tmp_path) as server:
        now = httpx.post(f"{server.url}/batch", json=BATCH).json()
        headers = {"prefer": "respond-async"}
        later = httpx.post(f"{server.url}/batch", json=BATCH, headers=headers)
        log = server.log()

    assert now["results"][0]["result"] == "Hello!"
    assert later.status_code == 202
    assert "Traceback" not in log


@pytest.mark.parametrize("kind", SERVERS)
def test_a_batch_is_carried_out_after_its_request(kind, tmp_path):
    """
    On every server: accepted, carried out, its results fetched.
    """
    batch = {"operations": [{"method": "GET", "path": "/hello"}] * 150}
    with serving(kind, "apps.sockets:app", tmp_path) as server, httpx.Client() as client:
        accepted = client.post(f"{server.url}/batch", json=batch)
        status = finished(client, server.url + accepted.json()["statusUrl"])
        page = client.get(server.url + accepted.json()["resultsUrl"], params={"limit": 1000})
        log = server.log()

    assert (accepted.status_code, accepted.json()["durability"]) == (202, "process")
    assert (status["status"], status["succeeded"]) == ("completed", 150)
    assert [result["result"] for result in page.json()["results"]] == ["Hello!"] * 150
    assert page.json()["next"] is None
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("uvicorn-h11-asyncio", ["--lifespan", "off"]),
        ("granian", ["--interface", "asginl"]),
    ],
)
def test_f15_without_lifespan_batches_are_answered_at_once_or_refused(kind, options, tmp_path):
    """
    F15: there is nobody to carry a batch out later, and the answer says what to do.
    """
    with serving(kind, "examples.starlette_app:app", tmp_path, *options) as server:
        now = httpx.post(f"{server.url}/batch", json=BATCH)
        headers = {"prefer": "respond-async"}
        later = httpx.post(f"{server.url}/batch", json=BATCH, headers=headers)

    assert now.json()["results"][0]["result"] == "Hello!"
    assert (later.status_code, later.json()["code"]) == (503, "background_unavailable")
    assert "lifespan" in later.json()["detail"]


def finished(client, url):
    """
    The status of a batch once it is finished.
    """
    for _ in range(1000):
        status = client.get(url).json()
        if status["finishedAt"] is not None:
            return status
    raise AssertionError(status)
