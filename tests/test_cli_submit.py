"""
``asgi-batch submit`` and its siblings against real servers: results, exit codes, and going on.
"""

import json
import os
import re
import resource
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from importlib.metadata import version

import httpx
import pytest

from asgi_batch.cli.operations.source import Source
from asgi_batch.cli.problems import UsageProblem
from asgi_batch.cli.sink import Sink
from asgi_batch.cli.state import StateFile
from cli_support import run
from servers import HOST, free_port, kill
from terminal_support import COMMAND, lines_of, operations, target

PATIENCE = 10
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """
    One for all tests that only want answers.
    """
    with target(tmp_path_factory.mktemp("shared")) as made:
        yield made


@pytest.fixture
def own(tmp_path):
    """
    One for a test that counts what happens.
    """
    with target(tmp_path) as made:
        yield made


def submit(server, *arguments, **options):
    return run("submit", "--url", server.url, *arguments, **options)


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def interrupted(condition, number=signal.SIGINT):
    """
    Send this process a signal once *condition* holds.
    """

    def wait():
        wait_until(condition)
        signal.pthread_kill(threading.main_thread().ident, number)

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_results_come_in_order_on_standard_output(server):
    """
    Of several batches, each with its id; and a sentence on standard error.
    """
    file = server.write("order", operations(45))
    done = submit(server, file)

    assert done.code == 0
    assert [each["id"] for each in done.lines()] == [f"ok-{n}" for n in range(45)]
    assert done.lines()[7] == {"id": "ok-7", "status": 201, "result": {"name": "7"}}
    assert done.err.startswith("45 operations: 45 succeeded, 0 failed; 45 in ")


def test_a_bar_shows_how_far_it_is(server, monkeypatch):
    """
    On a terminal: how many of how many, how fast, and what has become of them.
    """
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    done = submit(server, server.write("bar", [*operations(43), *operations(2, "gone")]))
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", done.err)

    assert done.code == 1
    assert re.search(r"━ 45/45 [\d,]+/s 43 succeeded 2 failed .* ETA", text)


def test_a_pipe_that_is_closed_ends_it_quietly(server):
    """
    As with any other command before ``head``.
    """
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        done = run(
            "submit", "--url", server.url, server.write("pipe", operations(9)), stdout=stdout
        )
        # What it has not got rid of is not for the test to write either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)

    assert (done.code, done.err) == (1, "")


def test_standard_input_is_a_file(server):
    """
    Operations without an id are named by their number.
    """
    text = (
        b'{"method": "GET", "path": "/ok/a"}\n{"custom_id": "b", "method": "GET", "url": "/ok/b"}'
    )
    done = submit(server, "-", stdin=text)

    assert done.code == 0
    assert [each["id"] for each in done.lines()] == ["0", "b"]


def test_an_empty_file_is_done(server):
    """
    Nothing has failed.
    """
    assert submit(server, server.write("empty", []))[:2] == (0, "")


def test_csv_is_sent(own):
    """
    With its path, its method and its mapping.
    """
    file = own.folder / "users.csv"
    file.write_text("id,age\n1,36\n2,7\n")
    options = ("--path", "/ok/{id}", "--method", "put", "--map", "age:number=age", "--id", "id")
    done = submit(own, file, *options)

    assert (done.code, [each["id"] for each in done.lines()]) == (0, ["1", "2"])
    assert sorted(own.effects()) == ['PUT ok/1 {"age":36}', 'PUT ok/2 {"age":7}']


def test_headers_are_sent(server):
    """
    With each request, and so with each operation.
    """
    file = server.write("headers", [{"method": "GET", "path": "/ok/a"}])
    done = submit(server, file, "-H", "X-Team: blue", "--header", "x-op:1")

    assert done.lines()[0]["result"] == {"name": "a", "x-team": "blue", "x-op": "1"}
    assert submit(server, file, "-H", "nonsense").code == 2


def test_the_url_can_be_set_for_good(server, monkeypatch):
    """
    ``ASGI_BATCH_URL`` saves typing it.
    """
    file = server.write("env", operations(1))

    assert run("submit", file).code == 2
    monkeypatch.setenv("ASGI_BATCH_URL", server.url)
    assert run("submit", file).code == 0


def test_failures_are_told_by_the_exit_code(server):
    """
    1, and with ``--only-failed`` nothing else is written.
    """
    file = server.write("failures", [*operations(3), *operations(2, "gone")])
    done = submit(server, file, "--only-failed")

    assert done.code == 1
    assert [each["status"] for each in done.lines()] == [404, 404]
    assert done.lines()[0]["error"] == {"name": "0"}
    assert "3 succeeded, 2 failed" in done.err


def test_an_operation_that_is_not_valid_fails_alone(server):
    """
    The others of its batch are carried out.
    """
    file = server.write("invalid", [*operations(2), {"id": "x", "method": "GET", "path": "no"}])
    done = submit(server, file)

    assert done.code == 1
    assert [each["status"] for each in done.lines()] == [201, 201, 422]
    assert done.lines()[2]["error"]["code"] == "invalid_path"
    assert done.lines()[2]["source"] == "client"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pretty", {"result": {"a": 1.0, "b": "x\ny"}}),
        (
            "problem",
            {"result": {"title": "no"}, "headers": {"content-type": "application/problem+json"}},
        ),
        ("broken", {"result": "{oops", "encoding": "text", "headers": JSON}),
        ("worse", {"result": "/3s=", "encoding": "base64", "headers": JSON}),
        (
            "text",
            {"result": "hello\nworld", "headers": {"content-type": "text/plain; charset=utf-8"}},
        ),
        (
            "latin",
            {
                "result": "6Q==",
                "encoding": "base64",
                "headers": {"content-type": "text/plain; charset=utf-8"},
            },
        ),
        (
            "bytes",
            {
                "result": "AAE=",
                "encoding": "base64",
                "headers": {"content-type": "application/octet-stream"},
            },
        ),
        (
            "packed",
            {
                "result": "e30=",
                "encoding": "base64",
                "headers": {**JSON, "content-encoding": "gzip"},
            },
        ),
        ("empty", {}),
    ],
)
def test_results_look_as_in_an_answer(server, name, expected):
    """
    Bodies of every kind fit on a line, in the form of the wire contract.
    """
    file = server.write(name, [{"id": "a", "method": "GET", "path": f"/shown/{name}"}])
    done = submit(server, file)

    assert done.out.count("\n") == 1
    assert done.lines() == [{"id": "a", "status": 200, **expected}]


def test_what_has_failed_is_sent_once_more(own):
    """
    ``--retry-failed`` sends it after all others, and its second result is the one that counts.
    """
    file = own.write("retry", [*operations(30), *operations(3, "once"), *operations(2, "gone")])
    output = own.folder / "out"
    done = submit(own, file, "-o", output, "--retry-failed")
    statuses = [each["status"] for each in lines_of(output)]

    assert done.code == 1
    assert statuses == [201] * 30 + [201] * 3 + [404] * 2
    assert own.starts()["POST once/0"] == own.starts()["POST gone/1"] == 2
    assert own.starts()["POST ok/0"] == 1
    assert "35 operations: 33 succeeded, 2 failed" in done.err


def test_a_file_is_checked_before_anything_is_sent(own):
    """
    An error on its last line keeps the first one from being sent.
    """
    file = own.write("checked", operations(30))
    file.write_text(file.read_text() + "{oops\n")
    done = submit(own, file, "-o", own.folder / "out")

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: Line 31: ")
    assert own.effects() == []
    assert not (own.folder / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("-", "--resume", "-o", "{output}"), "Standard input cannot be read twice"),
        (("-", "--retry-failed"), "Standard input cannot be read twice"),
        (("{file}", "--resume"), "--resume goes with --output"),
        (("{file}", "--resume", "-o", "{output}"), "There is no run to go on with"),
        (("{file}", "--map", "a=b"), "--map and --id go with --path"),
        (("{file}", "-o", "{folder}/none/out"), "cannot be written: No such file"),
        (("{folder}/none",), "No such file"),
        (("{folder}/none", "-o", "{file}"), "No such file"),
        (("{file}", "-o", "{file}"), "has the operations: write results to another file"),
    ],
)
def test_wrong_usage_is_said(server, tmp_path, arguments, reason):
    """
    In a sentence, with exit code 2.
    """
    file = server.write("usage", operations(1))
    names = {"file": file, "folder": tmp_path, "output": tmp_path / "out"}
    done = submit(server, *(each.format(**names) for each in arguments))

    assert done.code == 2
    assert reason in done.err
    assert "Traceback" not in done.err
    assert len(lines_of(file)) == 1


def test_operations_are_not_written_over_either_where_they_come_from_standard_input(own):
    """
    The shell has opened the file under no name that the command line could know.
    """
    file = own.write("piped", operations(3))
    command = [*COMMAND, "submit", "--url", own.url, "-", "-o", str(file)]
    with file.open("rb") as operations_of:
        done = subprocess.run(command, stdin=operations_of, capture_output=True, check=False)

    assert done.returncode == 2
    assert b"has the operations: write results to another file" in done.stderr
    assert len(lines_of(file)) == 3
    assert own.starts() == {}


def test_a_server_that_cannot_be_reached(tmp_path):
    """
    Exit code 3, and what was to be gone on with.
    """
    file = tmp_path / "ops"
    file.write_text('{"method": "GET", "path": "/a"}\n')
    done = run(
        "submit", file, "--url", f"http://{HOST}:{free_port()}/batch", "-o", tmp_path / "out"
    )
    wrong = run("submit", file, "--url", "http://[/batch")
    scheme = run("submit", file, "--url", "ftp://localhost/batch")
    query = run("submit", file, "--url", "http://localhost/batch?key=1")

    assert query.code == 2
    assert (
        query.err
        == "Error: 'http://localhost/batch?key=1': the batch endpoint has no query, nor fragment.\n"
    )
    assert [done.code, wrong.code, scheme.code] == [3, 3, 3]
    assert done.err.startswith("Error: http://")
    assert "cannot be reached" in done.err
    assert "Traceback" not in done.err + wrong.err + scheme.err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["ops"]


def test_a_server_that_refuses(server, tmp_path):
    """
    Exit code 3 and its own words; and nothing is to be gone on with, since nothing ran.
    """
    file = server.write("refused", operations(1))
    elsewhere = server.url.replace("/batch", "/nothing/here/at/all")
    done = run("submit", file, "--url", elsewhere, "-o", tmp_path / "out")
    answered = run("submit", file, "--url", elsewhere)

    assert [done.code, answered.code] == [3, 3]
    assert done.err.startswith("Error: The server refuses: 404")
    assert not StateFile(tmp_path / "out").exists()


def test_a_server_that_talks_nonsense(tmp_path):
    """
    Exit code 3 for what is no answer to a batch.
    """
    file = tmp_path / "ops"
    file.write_text('{"method": "GET", "path": "/a"}\n')
    with socket.create_server((HOST, 0)) as listener:

        def answer():
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n"
                    connection.sendall(head + b"[]")

        thread = threading.Thread(target=answer)
        thread.start()
        done = run("submit", file, "--url", f"http://{HOST}:{listener.getsockname()[1]}/batch")
        thread.join()

    assert done.code == 3
    assert "answers nonsense" in done.err


def acknowledged(output):
    """
    How many results the run with that *output* has noted.
    """
    file = StateFile(output).path
    return json.loads(file.read_text())["acknowledged"] if file.exists() else 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on(own, number, monkeypatch):
    """
    Nothing is lost and nothing runs twice: in the middle of a batch, with results written before.
    """
    monkeypatch.setattr("asgi_batch.cli.sending._SAVED_EVERY", 0.0)
    all_of_them = [*operations(45), *operations(45, "held")]
    file = own.write("ops", all_of_them)
    output = own.folder / "out"
    # Of the third batch five have their result, ten are running, and five have not begun.
    with interrupted(lambda: acknowledged(output) == 45, number):
        stopped = submit(own, file, "-o", output)
    again = submit(own, file, "-o", output)
    written = lines_of(output)
    own.gate.touch()
    resumed = submit(own, file, "-o", output, "--resume")

    assert stopped.code == 130
    assert "Interrupted." in stopped.err
    assert "45 results are written. The same command with --resume goes on." in stopped.err
    assert again.code == 2
    assert "is of a run that was stopped" in again.err
    assert len(written) == 45
    assert resumed.code == 0
    assert "90 operations: 90 succeeded, 0 failed; 45 in " in resumed.err
    assert [each["id"] for each in lines_of(output)] == [each["id"] for each in all_of_them]
    assert set(own.starts().values()) == {1}
    assert not StateFile(output).exists()


def test_what_was_written_after_the_last_note_is_written_again(own):
    """
    A run that was killed has written lines that its note does not know of, and perhaps half of one.
    """
    all_of_them = [*operations(20), *operations(20, "held")]
    file = own.write("ops", all_of_them)
    output = own.folder / "out"
    with interrupted(lambda: own.starts()["POST held/0"] == 1):
        submit(own, file, "-o", output)
    with output.open("a") as lines:
        lines.write('{"id": "held-0"}\n{"id": "held-')
    own.gate.touch()
    done = submit(own, file, "-o", output, "--resume")

    assert done.code == 0
    assert [each["id"] for each in lines_of(output)] == [each["id"] for each in all_of_them]
    assert set(own.starts().values()) == {1}


def test_a_second_pass_goes_on_too(own):
    """
    A run that was interrupted while it sent again what had failed.
    """
    file = own.write("ops", [*operations(10, "once"), *operations(20), *operations(15, "later")])
    output = own.folder / "out"
    with interrupted(lambda: own.starts()["POST later/0"] == 2):
        stopped = submit(own, file, "-o", output, "--retry-failed")
    own.gate.touch()
    done = submit(own, file, "-o", output, "--retry-failed", "--resume")

    assert (stopped.code, done.code) == (130, 0)
    assert [each["id"] for each in lines_of(output)] == [
        *(f"ok-{n}" for n in range(20)),
        *(f"once-{n}" for n in range(10)),
        *(f"later-{n}" for n in range(15)),
    ]
    assert {each["status"] for each in lines_of(output)} == {201}
    assert own.starts() == {
        **{f"POST ok/{n}": 1 for n in range(20)},
        **{f"POST once/{n}": 2 for n in range(10)},
        **{f"POST later/{n}": 2 for n in range(15)},
    }


def test_only_the_same_run_goes_on(own, tmp_path):
    """
    Another file, another server, other results: then it is not the same run.
    """
    file = own.write("ops", [*operations(20), *operations(5, "held")])
    other = own.write("other", operations(3))
    output = own.folder / "out"
    with interrupted(lambda: own.starts()["POST held/0"] == 1):
        submit(own, file, "-o", output)
    own.gate.touch()
    arguments = ("-o", output, "--resume")
    told = [
        submit(own, other, *arguments).err,
        run("submit", file, "--url", f"{own.url}/", *arguments).err,
        submit(own, file, *arguments, "--only-failed").err,
        submit(own, file, *arguments, "--retry-failed").err,
    ]
    content = output.read_bytes()
    output.write_bytes(content[:10])
    told.append(submit(own, file, *arguments).err)
    output.unlink()
    told.append(submit(own, file, *arguments).err)
    StateFile(output).path.write_text("{")
    told.append(submit(own, file, *arguments).err)

    reasons = [
        "a file with other operations",
        "another --url",
        "--only-failed, or had it not",
        "--retry-failed, or had it not",
        "is shorter than the run has left it",
        "cannot be written: No such file",
        "is damaged",
    ]
    assert [reason in text for reason, text in zip(reasons, told, strict=True)] == [True] * 7


def test_an_interrupted_run_without_a_file_is_cancelled(own):
    """
    Nobody can go on with it, and so the server does not either.
    """
    file = own.write("ops", operations(20, "held"))
    with interrupted(lambda: own.starts()["POST held/0"] == 1):
        done = submit(own, file)
    own.gate.touch()
    started = len(own.effects())
    other = submit(own, own.write("more", operations(1)))

    assert (done.code, done.err) == (130, "Interrupted.\n")
    assert other.code == 0
    assert len(own.effects()) == started + 1 < 21


def test_a_server_that_keeps_nothing(tmp_path):
    """
    Results that were written stay; what was under way is sent again, and that is said.
    """
    with target(tmp_path, "--lifespan", "off") as own:
        all_of_them = [*operations(7), *operations(13, "held")]
        file = own.write("ops", all_of_them)
        output = own.folder / "out"
        with interrupted(lambda: own.starts()["POST held/0"] == 1):
            stopped = submit(own, file, "-o", output)
        own.gate.touch()
        done = submit(own, file, "-o", output, "--resume")
        starts = own.starts()

    assert stopped.code == 130
    assert "The server keeps no batches" in stopped.err
    assert done.code == 0
    assert [each["id"] for each in lines_of(output)] == [each["id"] for each in all_of_them]
    assert [starts[f"POST ok/{n}"] for n in range(5)] == [1] * 5


def test_a_server_that_dies(tmp_path):
    """
    Exit code 3, with what to do to go on.
    """
    with target(tmp_path) as own:
        file = own.write("ops", [*operations(20), *operations(20, "held")])
        output = own.folder / "out"
        killer = threading.Thread(
            target=lambda: (
                wait_until(lambda: own.starts()["POST held/0"] == 1),
                kill(own.process),
            )
        )
        killer.start()
        done = submit(own, file, "-o", output)
        killer.join()
        own.process.returncode = 0

    assert done.code == 3
    assert "cannot be reached" in done.err
    assert "20 results are written. The same command with --resume goes on." in done.err
    assert len(lines_of(output)) == 20


def test_a_place_that_takes_nothing(server):
    """
    A full disk is one sentence.
    """
    done = submit(server, server.write("full", operations(1)), "-o", "/dev/full")

    assert done.code == 2
    assert "/dev/full cannot be written" in done.err


def test_streams_that_are_closed_are_said(monkeypatch):
    """
    Python has none then, as under a service manager that gives none.
    """
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(UsageProblem, match="Standard input is closed: use a file"):
        list(Source("-", None).operations())
    with pytest.raises(UsageProblem, match="Standard output is closed: use --output"):
        Sink(None)


def test_a_folder_that_takes_no_notes(server, tmp_path):
    """
    Is told before anything is sent.
    """
    tmp_path.joinpath(".out.asgi-batch.new").mkdir()
    done = submit(server, server.write("noted", operations(1)), "-o", tmp_path / "out")

    assert done.code == 2
    assert ".out.asgi-batch cannot be written: Is a directory." in done.err
    assert lines_of(tmp_path / "out") == []


def test_a_disk_that_gets_full(own):
    """
    Is one sentence, and the run goes on once there is room.
    """
    output = own.folder / "out"
    arguments = [str(own.write("many", operations(200))), "-o", str(output)]

    def bound():
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    command = [*COMMAND, "submit", "--url", own.url, *arguments]
    full = subprocess.run(command, preexec_fn=bound, capture_output=True, text=True, check=False)
    done = submit(own, *arguments, "--resume")

    assert full.returncode == 2
    assert "Traceback" not in full.stderr
    assert "The same command with --resume goes on." in full.stderr
    assert full.stderr.endswith(f"Error: {output} cannot be written: File too large.\n")
    assert done.code == 0
    assert [each["id"] for each in lines_of(output)] == [f"ok-{n}" for n in range(200)]
    assert set(own.starts().values()) == {1}


@pytest.mark.parametrize("command", ["submit", "candidates"])
def test_ctrl_c_in_the_middle_of_reading(tmp_path, command):
    """
    Ends as a shell expects it, whatever is being done.
    """
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    url = ("--url", "http://localhost/batch") if command == "submit" else ()
    with interrupted(lambda: is_running("operations") or is_running("blocks_of")):
        done = run(command, pipe, *url)

    assert (done.code, done.out, done.err) == (130, "", "Interrupted.\n")


def accepted(server, operations):
    """
    The id of a batch that the server carries out in the background.
    """
    headers = {"prefer": "respond-async"}
    answer = httpx.post(server.url, json={"operations": operations}, headers=headers)
    return answer.json()["batchId"]


def about(server, command, *arguments):
    return run(command, "--url", server.url, *arguments)


def test_a_batch_is_watched_to_its_end(server):
    """
    Exit code 0 where all has succeeded, and 1 otherwise.
    """
    good, bad = accepted(server, operations(6)), accepted(server, operations(3, "gone"))
    done = [about(server, "watch", each) for each in (good, bad)]

    assert [each.code for each in done] == [0, 1]
    assert done[0].err == "completed: 6 of 6 operations; 6 succeeded, 0 failed, 0 skipped\n"
    assert done[1].err == "completed: 3 of 3 operations; 0 succeeded, 3 failed, 0 skipped\n"


def is_running(function):
    """
    Whether the main thread is in *function*.
    """
    frame = sys._current_frames()[threading.main_thread().ident]
    return any(each.f_code.co_name == function for each, _ in traceback.walk_stack(frame))


def test_whoever_stops_watching_stops_nothing(own):
    """
    The batch goes on.
    """
    batch = accepted(own, operations(6, "held"))
    # Between two looks, so that no connection is left half open.
    with interrupted(lambda: is_running("_watched") and not is_running("request")):
        done = about(own, "watch", batch)
    own.gate.touch()

    assert (done.code, done.err) == (130, "Interrupted; the batch goes on.\n")
    assert about(own, "watch", batch).code == 0


def test_results_of_a_batch_are_written(server, tmp_path):
    """
    All of them, or those that have failed, also into a file.
    """
    mixed = [*operations(4), *operations(2, "gone")]
    batch = accepted(server, [{**each, "id": str(n)} for n, each in enumerate(mixed)])
    every = about(server, "results", batch)
    failed = about(server, "results", batch, "--only-failed", "-o", tmp_path / "out")
    good = about(server, "results", accepted(server, operations(2)))

    assert (every.code, failed.code, good.code) == (1, 1, 0)
    assert [each["status"] for each in every.lines()] == [201] * 4 + [404] * 2
    assert [each["id"] for each in lines_of(tmp_path / "out")] == ["4", "5"]


def test_a_batch_is_cancelled_and_tried_again(own):
    """
    What was skipped runs in a new batch, whose id is what is printed.
    """
    batch = accepted(own, operations(20, "held"))
    wait_until(lambda: own.starts()["POST held/0"] == 1)
    cancelled = about(own, "cancel", batch)
    own.gate.touch()
    watched = about(own, "watch", batch)
    retried = about(own, "retry", batch)
    done = about(own, "watch", retried.out.strip())

    assert cancelled.code == 0
    assert cancelled.err.startswith("cancelled: ")
    assert watched.code == 1
    assert retried.code == 0
    assert "are tried again in a new batch" in retried.err
    assert done.code == 0
    assert set(own.starts().values()) == {1}


@pytest.mark.parametrize("command", ["watch", "results", "cancel", "retry"])
def test_a_batch_that_is_not_there(server, command):
    """
    Exit code 3, in the words of the server.
    """
    done = about(server, command, "x" * 32)

    assert done.code == 3
    assert done.err.startswith("Error: The server refuses: 404 batch_not_found")


def test_the_demo_serves_batches():
    """
    Until Ctrl-C, to operations of every kind.
    """
    port = free_port()
    answers = []
    sent = [
        {"method": "GET", "path": "/users/1"},
        {"method": "PUT", "path": "/users/1", "body": {"name": "Ada Lovelace"}},
        {"method": "POST", "path": "/users", "body": {"name": "Alan"}},
        {"method": "POST", "path": "/users", "body": {}},
        {"method": "GET", "path": "/users/99"},
        {"method": "GET", "path": "/users"},
        {"method": "GET", "path": "/elsewhere"},
    ]

    def is_answered():
        try:
            answers.append(httpx.post(f"http://{HOST}:{port}/batch", json={"operations": sent}))
        except httpx.ConnectError:
            return False
        return True

    with interrupted(is_answered):
        done = run("demo", "--port", port)
    results = answers[0].json()["results"]

    assert [each["status"] for each in results] == [200, 200, 201, 422, 404, 405, 404]
    assert done.code == 0
    assert f"http://{HOST}:{port}/batch" in done.err


def test_a_demo_that_cannot_be_served(monkeypatch):
    """
    The port is taken, or there is no uvicorn.
    """
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        taken = run("demo", "--port", port)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    missing = run("demo")

    assert (taken.code, missing.code) == (2, 2)
    assert taken.err == f"Error: Port {port} cannot be listened on: Address already in use.\n"
    assert missing.err == "Error: The demo needs uvicorn: pip install uvicorn\n"


def test_the_module_is_the_command(monkeypatch, capsys):
    """
    ``python -m asgi_batch.cli``.
    """
    monkeypatch.setattr(sys, "argv", ["asgi-batch", "--version"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("asgi_batch.cli", run_name="__main__")

    assert end.value.code == 0
    assert capsys.readouterr().out == f"asgi-batch, version {version('asgi-batch')}\n"
