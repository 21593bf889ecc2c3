"""
What README and tutorial show of a server: their commands, sent to a real one, print the same.

A transcript is a block of ``console``: one command after ``$``, and below it what was printed.
The server serves the page's first block of Python.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from http.client import HTTPConnection

import pytest

from clients import PATIENCE
from pages import DOCS, README, section
from servers import HOST, serving

TUTORIAL = DOCS / "tutorial.md"
_BASE = "localhost:8000"
_JSON = {"content-type": "application/json"}


def _blocks(page, language):
    return re.findall(
        rf"^```{language}.*?\n(.*?)^```$",
        page.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )


def _split(transcript):
    """
    The words of a transcript's command, and what it printed.
    """
    assert transcript.startswith("$ ")
    for end in [match.end() for match in re.finditer(r"\n", transcript)]:
        try:
            return shlex.split(transcript[2:end]), transcript[end:]
        except ValueError:
            # A quote is open: the command goes on in the next line.
            continue
    raise AssertionError(f"This command does not end:\n{transcript}")


def _request(words):
    """
    What a command sends, and whether it prints the answer readably.
    """
    match words:
        case ["batch", body]:
            return "POST", "/batch", body, True
        case ["curl", "-s", url]:
            return "GET", url.removeprefix(_BASE), None, False
        case ["curl", "-s", url, "-H", "content-type: application/json", "-d", body, *pipe]:
            return (
                "POST",
                url.removeprefix(_BASE),
                body,
                pipe == shlex.split("| python3 -m json.tool"),
            )
    raise AssertionError(f"This test cannot run {words}.")


def _printed(server, words):
    """
    What a command prints when it asks *server*.
    """
    method, path, body, is_readable = _request(words)
    connection = HTTPConnection(HOST, server.port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, _JSON if body else {})
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    return f"{json.dumps(json.loads(text), indent=4) if is_readable else text}\n"


@pytest.mark.parametrize("page", [README, TUTORIAL], ids=lambda page: page.name)
def test_a_transcript_prints_what_the_page_shows(page, tmp_path):
    """
    A reader who follows the page sees what it shows, command after command.
    """
    (tmp_path / "main.py").write_text(_blocks(page, "python")[0], encoding="utf-8")
    transcripts = [_split(transcript) for transcript in _blocks(page, "console")]

    with serving("uvicorn-httptools-uvloop", "main:app", tmp_path) as server:
        printed = [(words, _printed(server, words)) for words, _ in transcripts]

    assert printed == transcripts
    assert len(transcripts) >= 2


def test_the_readme_shows_bulk_and_atomic_in_few_lines(tmp_path):
    """
    The app of less than 30 lines inserts three users by one statement, and refuses those whose
    names are taken: alone, or with the whole batch where that is atomic.
    """
    (code,) = re.findall(
        r"^```python\n(.*?)^```$",
        section(README, "## One statement, one transaction"),
        re.MULTILINE | re.DOTALL,
    )
    echoing = code.replace('aiosqlite:///users.db"', 'aiosqlite:///users.db", echo=True')
    (tmp_path / "main.py").write_text(echoing, encoding="utf-8")

    with serving("uvicorn-httptools-uvloop", "main:app", tmp_path) as server:
        created = _created(server, ["Ada", "Bob", "Cleo"])
        inserts = server.log().count(" INSERT INTO users ")
        refused = _created(server, ["Dora", "Ada", "Dora"])
        undone = _created(server, ["Elsa", "Ada"], is_atomic=True)
        done = _created(server, ["Elsa", "Fay"], is_atomic=True)

    assert len(code.splitlines()) < 30
    assert (created, inserts) == ([201] * 3, 1)
    assert refused == [201, 409, 409]
    assert undone == [424, 409]
    assert done == [201, 201]


def _created(server, names, *, is_atomic=False):
    """
    The statuses of a batch that creates users.
    """
    operations = [{"method": "POST", "path": "/users", "body": {"name": name}} for name in names]
    body = json.dumps({"atomic": is_atomic, "operations": operations})
    answer = json.loads(_printed(server, ["batch", body]))
    return [result["status"] for result in answer["results"]]


def test_the_tutorial_s_test_passes(tmp_path):
    """
    The test that the tutorial writes for its own app passes.
    """
    app, settings, test = _blocks(TUTORIAL, "python")
    (tmp_path / "main.py").write_text(app + settings, encoding="utf-8")
    (tmp_path / "test_main.py").write_text(f"from main import app\n{test}", encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_main.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["create.py", "read.py"])
def test_the_readme_s_client_code_runs_as_it_stands(name, tmp_path):
    """
    In less than 15 lines that are not empty, against the app at the top of the page.
    """
    (tmp_path / "main.py").write_text(_blocks(README, "python")[0], encoding="utf-8")
    text = section(README, "## From Python")
    (code,) = re.findall(rf'^```python title="{name}"\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)

    with serving("uvicorn-httptools-uvloop", "main:app", tmp_path, "--access-log") as server:
        done = subprocess.run(
            [sys.executable, "-c", code.replace(_BASE, f"{HOST}:{server.port}")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        log = server.log()

    assert done.returncode == 0, done.stderr
    assert len([line for line in code.splitlines() if line]) < 15
    if name == "create.py":
        assert done.stdout == "{'id': 2, 'name': 'Grace'} 404\n2500\n"
    else:
        assert log.count('"POST /batch') == 1
        assert "/users/1" not in log
