"""
A root path, as it is set for a proxy in front, under real servers.
"""

import sys

import httpx
import pytest

from servers import SERVERS, command_for, free_port, running

BATCH = {"operations": [{"method": "GET", "path": "/hello"}, {"method": "GET", "path": "/status"}]}


@pytest.mark.parametrize("kind", SERVERS)
def test_batch_below_a_root_path(kind, tmp_path):
    """
    The proxy takes the root path away; operations are named without it, as the endpoint is.
    """
    port = free_port()
    option = "--url-path-prefix" if kind == "granian" else "--root-path"
    command = [sys.executable, *command_for(kind, port), option, "/api", "apps.sockets:app"]
    with running(kind, command, port, tmp_path) as server:
        stripped = httpx.post(f"{server.url}/batch", json=BATCH)
        whole = httpx.post(f"{server.url}/api/batch", json=BATCH)

    assert stripped.status_code == 200
    assert stripped.json()["summary"]["succeeded"] == 2
    # uvicorn puts the root path in front of whatever comes.
    assert whole.status_code == (404 if kind.startswith("uvicorn") else 200)
