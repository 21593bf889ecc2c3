"""
The benchmarks run, each for a moment, as they are run from the command line.
"""

import json
import shutil
import sys

import pytest

from servers import ROOT, kill, living, start


def run(name, folder, *options, **env):
    """
    Run a benchmark to its end: its exit status and the lines it wrote.
    """
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *options]
    process, log_file = start(command, folder, env)
    try:
        status = process.wait(300)
        left = living(process.pid)
    finally:
        kill(process)

    assert left == []
    return status, log_file.read_text().splitlines()


def test_http_measures_both_ways_with_all_clients_there_are(tmp_path):
    """
    Every client that is installed sends singles and batches, to both apps.
    """
    clients = {"httpx", "wrk"} if shutil.which("wrk") else {"httpx"}
    status, lines = run("http", tmp_path, "--quick")

    assert status == 0, lines
    rates = json.loads(lines[-1])["operations_per_second"]
    assert set(rates) == {"starlette", "fastapi"}
    assert [set(of_app) for of_app in rates.values()] == [clients, clients]


def test_http_without_wrk_leaves_it_out_when_it_is_quick(tmp_path):
    """
    Trying it out needs no wrk, and the exit status of a check says whether all bars hold.
    """
    status, lines = run("http", tmp_path, "--quick", "--check", PATH="")

    assert lines[0].startswith("wrk is missing.")
    assert lines[1] == "Left out: what the server can do."
    figures = json.loads(lines[-1])
    held = [bar["holds"] for bar in figures["bars"]]
    assert figures["passed"] is all(held)
    assert status == int(not all(held))


def test_http_without_wrk_says_what_to_install(tmp_path):
    """
    A run that counts needs wrk, and says how to get it.
    """
    status, lines = run("http", tmp_path, PATH="")

    assert status == 1
    assert lines == ["wrk is missing. Install it: apt-get install wrk, or brew install wrk."]


def test_background_without_redis_says_what_to_install(tmp_path):
    """
    It needs a Redis of its own, and says how to get it.
    """
    status, lines = run("background", tmp_path, PATH="")

    assert status == 1
    assert lines == [
        "redis-server is missing. Install it: apt-get install redis-server, or brew install redis."
    ]


@pytest.mark.parametrize(
    "name", ["overhead", "steps", "background", "queues", "client", "candidates"]
)
def test_the_others_can_be_tried_out(name, tmp_path):
    """
    Their last line is one JSON object.
    """
    status, lines = run(name, tmp_path, "--quick")

    assert status == 0, lines
    assert json.loads(lines[-1])["benchmark"] == name
