"""
The demo, as ``make demo`` runs it with Redis and without, and as it runs where something is broken.
"""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time

import pytest

from servers import ROOT, kill, living, start

PATIENCE = 120
SCRIPTS = ("demo.py", "demo_background.py", "import_service.py")
BAR = re.compile(r"\[(#*)(\.*)\] +(\d+)%  (\d+) of 500  \d+ per second")


def run(command, folder, **env):
    """
    Run *command* to its end; its exit status and what it wrote.
    """
    process, log_file, temporary = begin(command, folder, env)
    try:
        status = process.wait(PATIENCE)
        left = living(process.pid)
    finally:
        kill(process)

    assert left == []
    assert list(temporary.iterdir()) == []
    return status, log_file.read_text()


def begin(command, folder, env):
    """
    Start *command*, with a folder for temporary files that can be looked into.
    """
    temporary = folder / "temporary"
    temporary.mkdir()
    process, log_file = start(command, folder, {"TMPDIR": str(temporary), **env})
    return process, log_file, temporary


def run_on_terminal(command, folder, env):
    """
    The same on a terminal, and with nothing but *env* in its environment.
    """
    temporary = folder / "temporary"
    temporary.mkdir()
    mine, its = pty.openpty()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={"TMPDIR": str(temporary), **env},
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=its,
        start_new_session=True,
    )
    os.close(its)
    try:
        output = b"".join(written_to(mine))
        status = process.wait(PATIENCE)
        left = living(process.pid)
    finally:
        kill(process)
        os.close(mine)

    assert left == []
    assert list(temporary.iterdir()) == []
    return status, output.decode()


def written_to(terminal):
    """
    What comes until nobody holds the other end.
    """
    while select.select([terminal], [], [], PATIENCE)[0]:
        try:
            yield os.read(terminal, 65536)
        except OSError:
            return


def bars(output):
    """
    The operations that had their result, for each picture of the bar of the large batch.
    """
    return [int(completed) for _, _, _, completed in BAR.findall(output)]


def number(pattern, output):
    """
    The number that *pattern* stands around, and that comes once.
    """
    (found,) = re.findall(pattern, output)
    return int(found)


def clone(folder):
    """
    What of the repository `make demo` works with, and an environment that is installed already.
    """
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for name in ("examples", "scripts"):
        shutil.copytree(ROOT / name, folder / name)
    folder.joinpath(".venv", "bin").mkdir(parents=True)
    executable(folder / ".venv" / "bin" / "python", f'exec "{sys.executable}" "$@"')
    folder.joinpath(".venv", "bin", ".installed-examples").touch()
    return folder


def executable(path, script):
    """
    A command of one line.
    """
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def path_with(folder, *commands):
    """
    A PATH where *commands* are all that can be found.
    """
    folder.mkdir()
    for command in commands:
        folder.joinpath(command).symlink_to(shutil.which(command))
    return folder


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """
    How ``make demo`` ends, and what it writes into a file.
    """
    folder = tmp_path_factory.mktemp("demo")
    return run(["make", "-C", str(clone(folder / "clone")), "demo"], folder)


@pytest.fixture(scope="module")
def demo_without_redis(tmp_path_factory):
    """
    The same on a terminal, where there is no redis-server and nothing to install it with.
    """
    folder = tmp_path_factory.mktemp("without")
    path = path_with(folder / "bin", "bash", "id")
    command = [shutil.which("make"), "-C", str(clone(folder / "clone")), "demo"]
    return run_on_terminal(command, folder, {"PATH": str(path), "TERM": "xterm"})


def test_demo_shows_request_results_and_summary(demo):
    """
    The demo ends well, in plain text, and leaves no server behind.
    """
    status, output = demo

    assert status == 0, output
    assert '  create    201     {"id": 4, "name": "Barbara"}  location: /users/4\n' in output
    assert '  unknown   404     {"detail": "Not Found"}\n' in output
    assert '  crash     500     {"detail": "Internal Server Error"}\n' in output
    assert "  summary: total 8, succeeded 5, failed 3, skipped 0\n" in output
    assert "  4 problems in 3 of 4 operations; nothing was executed.\n" in output
    assert "\033" not in output
    assert "\r" not in output


def test_demo_shows_the_answer_to_a_large_batch(demo):
    """
    A batch of 500 operations is answered 202, with its headers and where to look.
    """
    _, output = demo

    assert "The answer, at once: 202\n" in output
    assert re.search(r"\n  location: (/batch/[\w-]+/status)\n  retry-after: 1\n", output)
    assert '    "total": 500,\n' in output
    assert '    "durability": "store"\n' in output


def test_demo_shows_progress_that_goes_on_after_the_kill(demo):
    """
    The bar stops below the end, and goes on from there to the end, without a step back.
    """
    _, output = demo
    before, killed, after = output.partition("\nkill -9 ")

    assert killed
    assert 200 <= bars(before)[-1] < 500
    assert bars(before)[-1] <= bars(after)[0] < 500
    assert bars(output) == sorted(bars(output))
    assert bars(after)[-1] == 500
    assert len(bars(output)) >= 6


def test_f1_f2_demo_shows_what_became_of_each_operation(demo):
    """
    F1, F2: no result is lost, no POST has started twice, and what is unknown is counted.
    """
    _, output = demo
    succeeded = number(r"total 500, succeeded (\d+), failed \d+, skipped 0\n", output)
    failed = number(r"total 500, succeeded \d+, failed (\d+), skipped 0\n", output)
    unknown = number(r"(\d+) are outcome_unknown: POSTs that may have been running", output)

    assert succeeded + failed == 500
    assert unknown == failed > 0
    assert number(r"The (\d+) results .* before the kill are there, unchanged\.\n", output) > 100
    assert number(r"(\d+) PUTs have started", output) == 250
    assert 250 - unknown <= number(r"(\d+) POSTs have started, 0 of them more than", output) <= 250


def test_demo_shows_a_retry_of_what_did_not_succeed(demo):
    """
    The operations of unknown outcome are sent once more, and then all are done.
    """
    _, output = demo
    unknown = number(r"(\d+) are outcome_unknown", output)
    had_created = number(r"POSTs of unknown outcome (\d+) had created their contact", output)

    assert number(r"/retry: 202, (\d+) operations in a new batch\n", output) == unknown
    assert f"total {unknown}, succeeded {unknown}, failed 0, skipped 0\n" in output
    assert number(r"(\d+) were there already \(200\)", output) == had_created
    assert number(r"(\d+) contacts have been created now", output) == unknown - had_created
    assert "The database has 250 contacts and 250 products: all 500 are done.\n" in output


def test_demo_shows_a_thousand_users_and_how_few_statements_insert_them(demo):
    """
    Two statements, also where two of the users are refused.
    """
    _, output = demo

    assert "  total 1000, succeeded 1000, failed 0, skipped 0; INSERT statements: 2\n" in output
    assert "  total 1000, succeeded 998, failed 2, skipped 0; INSERT statements: 2\n" in output
    assert '  second-333  409     {"detail": "This address is taken."}\n' in output
    assert '  second-617  409     {"detail": "This address is taken."}\n' in output


def test_demo_shows_orders_that_happen_together_or_not(demo):
    """
    An atomic batch that fails leaves the database as it was, and one that succeeds does not.
    """
    _, output = demo
    failed, _, done = output.partition("orders of 4, 8, 2, and the stock is 10\n")[2].partition(
        "orders of 4, 4, 2, and the stock is 10\n"
    )

    assert re.findall(r"order-\d +(\d+)", failed) == ["424", "409", "424"]
    assert "In the database: 0 new orders, and the stock is 10.\n" in failed
    assert re.findall(r"order-\d +(\d+)", done) == ["201"] * 3
    assert "In the database: 3 new orders, and the stock is 0.\n" in done


def test_demo_without_redis_shows_the_memory_store(demo_without_redis):
    """
    Where Redis is missing and cannot be installed, the demo says how, and shows what goes without.
    """
    status, output = demo_without_redis

    assert status == 0, output
    assert "The demo goes on without it." in output
    assert "redis-server is not installed: this batch is kept in memory" in output
    assert '"apt-get install redis-server" or "brew install redis"' in output
    assert '"durability": "process"' in output
    assert "total 500, succeeded 500, failed 0, skipped 0" in output
    assert "250 POSTs have started, 0 of them more than once." in output
    assert re.search(r"kill -9 \d", output) is None


def test_demo_draws_its_bar_in_one_line_of_a_terminal(demo_without_redis):
    """
    On a terminal each picture of the bar takes the place of the one before.
    """
    _, output = demo_without_redis
    (line,) = (line for line in output.split("\n") if BAR.search(line))

    assert bars(line)[-1] == 500
    assert bars(line) == sorted(bars(line))
    assert line.count("\r  [") == len(bars(line)) > 10


def test_demo_does_without_a_redis_that_is_too_old(tmp_path):
    """
    A Redis that the store would refuse is not used, and the demo says which is needed.
    """
    path = path_with(tmp_path / "bin")
    executable(path / "redis-server", "echo Redis server v=6.0.16 sha=00000000:0")
    command = [sys.executable, str(ROOT / "examples" / "demo_background.py")]
    status, output = run(command, tmp_path, PATH=str(path))

    assert status == 0, output
    assert "redis-server 6.0.16 is too old: this batch is kept in memory" in output
    assert "Install Redis 7 or later" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_that_is_stopped_leaves_nothing_behind(tmp_path, number):
    """
    Whoever stops the demo in the middle stops its servers and removes its files.
    """
    command = [sys.executable, "-u", str(ROOT / "examples" / "demo_background.py")]
    process, log_file, temporary = begin(command, tmp_path, {})
    try:
        deadline = time.monotonic() + PATIENCE
        while "of 500" not in log_file.read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        running = living(process.pid)
        process.send_signal(number)
        status = process.wait(PATIENCE)
        left = living(process.pid)
    finally:
        kill(process)

    assert len(running) == 3
    assert status == 130
    assert "The demo has been stopped, and its servers with it.\n" in log_file.read_text()
    assert left == []
    assert list(temporary.iterdir()) == []


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
    shutil.copy(ROOT / "examples" / "demo.py", tmp_path)
    (tmp_path / "fastapi_app.py").write_text(app)
    status, output = run([sys.executable, str(tmp_path / "demo.py")], tmp_path)

    assert status == 1
    assert f"The demo did not go as expected: {message}" in output
    assert "Traceback" not in output.partition("did not start")[0]


WRONG = [
    pytest.param(
        "app = BatchMiddleware(",
        "raise ImportError(",
        "the server did not start",
        id="no start",
    ),
    pytest.param(
        'os.environ.get("REDIS_URL", "memory://")',
        '"memory://"',
        "durability: 'process' instead of 'store'",
        id="another store",
    ),
    pytest.param(
        "database = sqlite3",
        'import redis\nredis.from_url(os.environ["REDIS_URL"]).flushall()\ndatabase = sqlite3',
        "status of the status: 404 instead of 200",
        id="batch lost",
    ),
    pytest.param(
        "VALUES (?, ?, ?, ?)",
        "SELECT ?1, ?2, ?3, ?4 UNION ALL SELECT ?1, ?2, ?3, ?4",
        "POSTs that have started more than once: ",
        id="run twice",
    ),
    pytest.param(
        "INSERT INTO contacts VALUES (?, ?) ON CONFLICT DO NOTHING",
        "SELECT ?, ?",
        "contacts: 0 instead of 2",
        id="effect lost",
    ),
]


@pytest.mark.parametrize(("right", "wrong", "message"), WRONG)
def test_demo_of_the_background_says_what_went_wrong(tmp_path, right, wrong, message):
    """
    The demo notices what breaks a promise, says which, and its exit status tells.
    """
    for name in SCRIPTS:
        shutil.copy(ROOT / "examples" / name, tmp_path)
    service = tmp_path / "import_service.py"
    assert right in service.read_text()
    service.write_text(service.read_text().replace(right, wrong))
    status, output = run([sys.executable, str(tmp_path / "demo_background.py")], tmp_path)

    assert status == 1
    assert f"The demo did not go as expected: {message}" in output
    assert "All went as expected" not in output
    assert "Traceback" not in output.partition("did not start")[0]


WRONG_SHOP = [
    pytest.param(
        "app.py",
        "app = BatchMiddleware(",
        "raise ImportError(",
        "the server did not start",
        id="no start",
    ),
    pytest.param(
        "users.py",
        "@bulk(max_size=500)",
        "@bulk(max_size=1)",
        "INSERT statements: 1000 instead of 2",
        id="one by one",
    ),
    pytest.param(
        "users.py",
        "insert(User).on_conflict_do_nothing()",
        "insert(User)",
        "failed: [",
        id="conflicts",
    ),
    pytest.param(
        "app.py",
        "    transaction=database,\n",
        "",
        "status of POST /batch: 422 instead of 200",
        id="not atomic",
    ),
    pytest.param(
        "app.py",
        "transaction=database",
        "transaction=__import__('contextlib').nullcontext",
        "new orders: 1 instead of 0",
        id="not rolled back",
    ),
    pytest.param(
        "orders.py",
        "session.add(order := Order(**new.model_dump()))",
        "order = Order(**new.model_dump(), id=1)",
        "new orders: 0 instead of 3",
        id="effect lost",
    ),
]


@pytest.mark.parametrize(("file", "right", "wrong", "message"), WRONG_SHOP)
def test_demo_of_the_shop_says_what_went_wrong(tmp_path, file, right, wrong, message):
    """
    The demo notices what makes of one statement many, or of all orders some.
    """
    for name in ("demo.py", "demo_shop.py"):
        shutil.copy(ROOT / "examples" / name, tmp_path)
    shutil.copytree(ROOT / "examples" / "shop", tmp_path / "shop")
    module = tmp_path / "shop" / file
    assert right in module.read_text()
    module.write_text(module.read_text().replace(right, wrong))
    status, output = run([sys.executable, str(tmp_path / "demo_shop.py")], tmp_path)

    assert status == 1
    assert f"The demo did not go as expected: {message}" in output
    assert "All went as expected" not in output
    assert "Traceback" not in output.partition("did not start")[0]


def test_demo_says_that_redis_does_not_start(tmp_path):
    """
    What Redis has to say is shown where it ends at once.
    """
    path = path_with(tmp_path / "bin")
    executable(
        path / "redis-server", '[ "$1" = --version ] && echo v=7.0.15 || { echo No luck.; exit 1; }'
    )
    command = [sys.executable, str(ROOT / "examples" / "demo_background.py")]
    status, output = run(command, tmp_path, PATH=str(path))

    assert status == 1
    assert "The demo did not go as expected: the server did not start:\nNo luck.\n" in output
