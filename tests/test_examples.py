"""
The examples, wrapped as the README wraps them: six frameworks, one answer.
"""

import sys

import httpx
import pytest

from servers import ROOT, SERVERS, free_port, running, serving

FRAMEWORKS = ("starlette", "fastapi", "quart", "litestar", "django", "bare")
ON_TRIO = ("starlette", "fastapi", "litestar", "bare")

JSON = {"content-type": "application/json"}
BATCH = {
    "operations": [
        {"id": "greet", "method": "GET", "path": "/hello"},
        {"id": "read", "method": "GET", "path": "/users/1"},
        {"id": "create", "method": "POST", "path": "/users", "body": {"name": "Barbara"}},
        {"id": "rename", "method": "PUT", "path": "/users/2", "body": {"name": "Grace Hopper"}},
        {"id": "delete", "method": "DELETE", "path": "/users/3"},
        {"id": "unknown", "method": "GET", "path": "/users/99"},
        {"id": "no-number", "method": "GET", "path": "/users/ada"},
        {"id": "no-route", "method": "GET", "path": "/nowhere?a=b"},
        {"id": "no-name", "method": "POST", "path": "/users", "body": {"name": ""}},
        {"id": "no-body", "method": "POST", "path": "/users"},
        {
            "id": "no-json",
            "method": "POST",
            "path": "/users",
            "headers": JSON,
            "body": "{oops",
            "bodyEncoding": "text",
        },
        {"id": "crash", "method": "GET", "path": "/crash"},
    ]
}

TEXT = {"content-type": "text/plain; charset=utf-8"}
NOT_FOUND = {"detail": "Not Found"}
NO_NAME = {"detail": "A user needs a name."}
ANSWER = {
    "results": [
        {"id": "greet", "status": 200, "result": "Hello!", "headers": TEXT},
        {"id": "read", "status": 200, "result": {"id": 1, "name": "Ada"}},
        {
            "id": "create",
            "status": 201,
            "result": {"id": 4, "name": "Barbara"},
            "headers": {"location": "/users/4"},
        },
        {"id": "rename", "status": 200, "result": {"id": 2, "name": "Grace Hopper"}},
        {"id": "delete", "status": 204},
        {"id": "unknown", "status": 404, "error": NOT_FOUND},
        {"id": "no-number", "status": 404, "error": NOT_FOUND},
        {"id": "no-route", "status": 404, "error": NOT_FOUND},
        {"id": "no-name", "status": 422, "error": NO_NAME},
        {"id": "no-body", "status": 422, "error": NO_NAME},
        {"id": "no-json", "status": 422, "error": NO_NAME},
        {"id": "crash", "status": 500, "error": {"detail": "Internal Server Error"}},
    ],
    "summary": {"total": 12, "succeeded": 5, "failed": 7, "skipped": 0},
}


def post_batch(server):
    return httpx.post(f"{server.url}/batch", json=BATCH, timeout=30)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_example_runs_as_a_script(framework, tmp_path):
    """
    ``python examples/…_app.py`` serves the app, and every framework gives the same answer.
    """
    script = ROOT / "examples" / f"{framework}_app.py"
    port = free_port()
    command = [sys.executable, str(script)]
    with running("uvicorn", command, port, tmp_path, {"PORT": str(port)}) as server:
        response = post_batch(server)
        crash = httpx.get(f"{server.url}/crash")

    assert response.status_code == 200
    assert response.json() == ANSWER
    assert (crash.status_code, crash.json()) == (500, {"detail": "Internal Server Error"})


MATRIX = [
    pytest.param(framework, kind, id=f"{framework}-{kind}")
    for framework in FRAMEWORKS
    for kind in SERVERS
    if kind != "hypercorn-trio" or framework in ON_TRIO
]


@pytest.mark.parametrize(("framework", "kind"), MATRIX)
def test_example_answers_alike_under_every_server(framework, kind, tmp_path):
    """
    ``uvicorn examples.…_app:app``, and the same for the other servers.
    """
    with serving(kind, f"examples.{framework}_app:app", tmp_path) as server:
        response = post_batch(server)

    assert response.status_code == 200
    assert response.json() == ANSWER
