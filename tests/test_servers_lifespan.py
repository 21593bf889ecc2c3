"""
Lifespan under real servers: it is the app's own, and the batch endpoint adds nothing to it.
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
    F16: Django raises an exception for lifespan; the server says so and serves on.
    """
    with serving(kind, "examples.django_app:app", tmp_path) as server:
        answer = httpx.post(f"{server.url}/batch", json=BATCH).json()
        log = server.log()

    assert answer["results"][0]["result"] == "Hello!"
    assert "lifespan" in log.lower()
    assert "Traceback" not in log
