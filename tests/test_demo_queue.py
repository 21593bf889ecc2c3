"""
The demo of workers runs as it is shown, and what the pages show of queues is what the tests run.
"""

import sys

from servers import ROOT, kill, living, start


def test_four_processes_share_a_batch(tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "demo_queue.py")]
    process, log = start(command, tmp_path)
    try:
        status = process.wait(120)
        left = living(process.pid)
    finally:
        kill(process)
    lines = log.read_text().splitlines()

    assert status == 0, lines
    assert left == []
    assert any("100%  1000 of 1000" in line for line in lines)
    assert lines[-1] == "All servers have stopped. All went as expected."


def test_the_page_shows_the_queue_of_the_example():
    _, _, example = (ROOT / "examples" / "taskiq_queue.py").read_text().partition("from taskiq")

    assert example in (ROOT / "docs" / "queues.md").read_text()
