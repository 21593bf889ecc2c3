"""
The demo, run as ``make demo`` runs it, and as it runs where something is broken.
"""

import shutil
import sys

import pytest

from servers import ROOT, kill, living, start

EXAMPLES = ROOT / "examples"


def run(script, folder):
    """
    Run *script* to its end; its exit status and what it wrote.
    """
    process, log_file = start([sys.executable, str(script)], folder)
    try:
        status = process.wait(60)
        left = living(process.pid)
    finally:
        kill(process)

    assert left == []
    return status, log_file.read_text()


def test_demo_shows_request_results_and_summary(tmp_path):
    """
    The demo ends well, in plain text, and leaves no server behind.
    """
    status, output = run(EXAMPLES / "demo.py", tmp_path)

    assert status == 0, output
    assert '  create    201     {"id": 4, "name": "Barbara"}  location: /users/4\n' in output
    assert '  unknown   404     {"detail": "Not Found"}\n' in output
    assert '  crash     500     {"detail": "Internal Server Error"}\n' in output
    assert "  summary: total 8, succeeded 5, failed 3, skipped 0\n" in output
    assert "  4 problems in 3 of 4 operations; nothing was executed.\n" in output
    assert "\033" not in output


BROKEN = [
    pytest.param("raise ImportError('no such thing')", "the server did not start", id="no start"),
    pytest.param(
        "from fastapi import FastAPI\napp = FastAPI()",
        "status of the batch: 404 instead of 200",
        id="no batches",
    ),
]


@pytest.mark.parametrize(("app", "message"), BROKEN)
def test_demo_says_what_went_wrong(tmp_path, app, message):
    """
    Whatever goes otherwise than expected is named, and the exit status tells.
    """
    shutil.copy(EXAMPLES / "demo.py", tmp_path)
    (tmp_path / "fastapi_app.py").write_text(app)
    status, output = run(tmp_path / "demo.py", tmp_path)

    assert status == 1
    assert f"The demo did not go as expected: {message}" in output
    assert "Traceback" not in output.partition("did not start")[0]
