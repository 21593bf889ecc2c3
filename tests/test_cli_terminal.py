"""
The command line in a terminal: what a person sees, and what Ctrl-C leaves behind.
"""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from contextlib import contextmanager

from servers import kill, start
from terminal_support import COMMAND, lines_of, operations, target

PATIENCE = 30
COUNT = re.compile(r"(\d+)/(\d+)")
ESCAPE = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


class Terminal:
    """
    A terminal, and the command that runs in it.
    """

    def __init__(self, process, mine):
        self.process = process
        self.text = ""
        self._mine = mine

    def read_until(self, pattern):
        """
        Read until *pattern* has been on the screen.
        """
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.text)):
            ready = select.select([self._mine], [], [], deadline - time.monotonic())[0]
            assert ready, self.text
            try:
                self.text += ESCAPE.sub("", os.read(self._mine, 65536).decode())
            except OSError:
                found = re.search(pattern, self.text)
                assert found, self.text
                break
        return found

    def press_ctrl_c(self):
        """
        The terminal sends the signal, to whatever runs in it.
        """
        os.write(self._mine, b"\x03")


@contextmanager
def in_terminal(folder, *arguments):
    """
    Run ``asgi-batch`` with *arguments* in a terminal of its own; results go into a file.
    """
    mine, its = pty.openpty()
    with folder.joinpath("stdout").open("wb") as out:
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            cwd=folder,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "110"},
            stdin=its,
            stdout=out,
            stderr=its,
            start_new_session=True,
            preexec_fn=take_terminal,  # noqa: PLW1509
        )
    os.close(its)
    try:
        yield Terminal(process, mine)
    finally:
        kill(process)
        os.close(mine)


def take_terminal():
    """
    Make standard input the terminal that this process is controlled by.
    """
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_bar_moves_and_ctrl_c_loses_nothing(tmp_path):
    """
    The bar shows rate, time left and outcomes; Ctrl-C says how to go on, and going on ends it.
    """
    with target(tmp_path) as server:
        file = server.write(
            "ops", [*operations(38), *operations(2, "gone"), *operations(20, "held")]
        )
        output = tmp_path / "out.ndjson"
        arguments = ("submit", file, "--url", server.url, "-o", output)
        with in_terminal(tmp_path, *arguments) as terminal:
            terminal.read_until(r"40/60.*38 succeeded.*2 failed.*ETA")
            terminal.press_ctrl_c()
            terminal.read_until("with --resume goes on")
            code = terminal.process.wait(PATIENCE)
            seen = terminal.text
        server.gate.touch()
        with in_terminal(tmp_path, *arguments, "--resume") as terminal:
            terminal.read_until("60 operations: 58 succeeded, 2 failed; 20 in")
            resumed = terminal.process.wait(PATIENCE)
        starts = server.starts()

    assert (code, resumed) == (130, 1)
    assert next(done for done, _ in COUNT.findall(seen)) == "0"
    assert re.search(r"[\d,]+/s", seen)
    assert "Traceback" not in seen
    assert len({each["id"] for each in lines_of(output)}) == len(lines_of(output)) == 60
    assert set(starts.values()) == {1}


def test_results_can_be_piped_while_the_bar_moves(tmp_path):
    """
    The bar is on standard error, and what is on standard output is results alone.
    """
    with target(tmp_path) as server:
        file = server.write("ops", operations(45))
        with in_terminal(tmp_path, "submit", file, "--url", server.url) as terminal:
            terminal.read_until("45 operations: 45 succeeded")
            code = terminal.process.wait(PATIENCE)

    assert code == 0
    assert len(lines_of(tmp_path / "stdout")) == 45


def test_whoever_reads_results_may_stop_to(tmp_path):
    """
    A pipe that is closed ends the command without a word.
    """
    with target(tmp_path) as server:
        file = server.write("ops", operations(200))
        process = subprocess.Popen(
            [*COMMAND, "submit", str(file), "--url", server.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read().decode()
        process.stderr.close()
        process.wait(PATIENCE)

    assert "Traceback" not in said


def test_kill_loses_nothing_either(tmp_path):
    """
    A run that was killed goes on from its last note, and no operation runs twice.
    """
    with target(tmp_path) as server:
        file = server.write("ops", [*operations(40), *operations(20, "held")])
        output = tmp_path / "out.ndjson"
        arguments = [*COMMAND, "submit", str(file), "--url", server.url, "-o", str(output)]
        process, _ = start(arguments, tmp_path / "killed")
        deadline = time.monotonic() + PATIENCE
        while server.starts()["POST held/0"] == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        kill(process)
        server.gate.touch()
        done = subprocess.run(
            [*arguments, "--resume"], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        starts = server.starts()

    assert (process.returncode, done.returncode) == (-signal.SIGKILL, 0), done.stderr
    assert [each["id"] for each in lines_of(output)] == [
        *(f"ok-{n}" for n in range(40)),
        *(f"held-{n}" for n in range(20)),
    ]
    assert set(starts.values()) == {1}


def tmux(socket, *arguments):
    """
    What the tmux server at *socket* answers.
    """
    command = ["tmux", "-S", str(socket), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


@contextmanager
def screen(folder):
    """
    A terminal of tmux with a shell in it: type there, and wait for what is on its screen.
    """
    # Its name has to be short.
    socket = folder / "s"
    size = ("-x", "120", "-y", "30")
    shell = "env -i PS1='$ ' TERM=screen PATH=/usr/bin:/bin sh"
    begun = tmux(socket, "-f", "/dev/null", "new-session", "-d", *size, shell)
    assert begun.returncode == 0, begun.stderr

    def wait_for(pattern):
        deadline = time.monotonic() + PATIENCE
        text = ""
        while time.monotonic() < deadline:
            text = tmux(socket, "capture-pane", "-p").stdout
            if re.search(pattern, text):
                return text
            time.sleep(0.05)
        raise AssertionError(text)

    try:
        yield lambda *keys: tmux(socket, "send-keys", *keys), wait_for
    finally:
        tmux(socket, "kill-server")


def test_in_a_real_terminal(tmp_path):
    """
    Typed into a shell in tmux: the bar is on one line, Ctrl-C stops, and the same goes on.
    """
    folder = tmp_path / "t"
    folder.mkdir()
    with target(folder) as server, screen(folder) as (press, wait_for):
        server.write("ops", [*operations(40), *operations(20, "held")])
        line = f"{' '.join(COMMAND)} submit {folder}/ops --url {server.url} -o {folder}/out"
        # What is typed before the shell is ready has its prompt after it.
        wait_for(r"^\$")
        press(line, "Enter")
        drawn = wait_for(r"━+.*40/60.*/s.*40 succeeded.*0 failed.*ETA")
        press("C-c")
        stopped = wait_for("with --resume goes on")
        server.gate.touch()
        press(f"clear; {line} --resume; echo ended with $?", "Enter")
        ended = wait_for(r"ended with \d")
        starts = server.starts()

    assert len(re.findall(r"\d+/60", drawn)) == 1
    assert "40 results are written." in stopped
    assert "Traceback" not in stopped + ended
    assert "ended with 0" in ended
    assert len(lines_of(folder / "out")) == 60
    assert set(starts.values()) == {1}


def test_the_bar_of_a_log_is_on_the_terminal(tmp_path):
    """
    How far the reading is; what is found goes to standard output.
    """
    line = '10.0.0.1 - - [15/Nov/2023:12:00:00 +0000] "GET /users/{} HTTP/1.1" 200 12\n'
    log = tmp_path / "access.log"
    log.write_text("".join(map(line.format, range(60_000))))
    with in_terminal(tmp_path, "candidates", log, "--json") as terminal:
        terminal.read_until("access.log")
        code = terminal.process.wait(PATIENCE)

    assert code == 0
    assert '"saved": 59940' in (tmp_path / "stdout").read_text()
