"""
Loops in access logs: read in every form, told from single requests, and counted in bounded memory.
"""

import gzip
import json
import re
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_batch.cli.access.bursts import Bursts, Rules
from asgi_batch.cli.access.endpoints import Counts
from asgi_batch.cli.access.lines import Lines
from asgi_batch.cli.access.reading import blocks_of
from asgi_batch.cli.access.survey import Survey
from asgi_batch.cli.access.templates import MANY, LearntTemplates
from cli_support import run

NOON = 1_700_049_600
CLF = '{host} - - [15/Nov/2023:12:00:{second:02} +0000] "{method} {target} HTTP/1.1" {status} 12'


def common(target, *, host="10.0.0.1", second=0, method="GET", status=200):
    """
    A line of the common form.
    """
    return CLF.format(host=host, second=second, method=method, target=target, status=status)


def survey(lines, rules=None):
    """
    What is found in *lines*.
    """
    told = Survey(LearntTemplates(), rules or Rules())
    told.read(lines)
    return told


def saved(lines, rules=None):
    """
    Requests that batches save, by method and template.
    """
    found = survey(lines, rules).findings()
    return {f"{each.method} {each.template}": each.saved for each in found}


AGENT = '"-" "Mozilla/5.0 (X11)"'
FORMS = {
    "common": (common("/a?b=c"), NOON),
    "common west": (common("/a?b=c").replace("12:00:00 +0000", "07:00:00 -0500"), NOON),
    "combined": (f"{common('/a?b=c')} {AGENT}", NOON),
    "with a host before": (f"example.com:80 {common('/a?b=c')} {AGENT}", NOON),
    "with a user": (common("/a?b=c").replace("- -", "- ada"), NOON),
    "uvicorn": ('INFO:     10.0.0.1:4321 - "GET /a?b=c HTTP/1.1" 200 OK', None),
    "uvicorn in colour": (
        '\x1b[32mINFO\x1b[0m:     10.0.0.1:4321 - "\x1b[1mGET /a?b=c HTTP/1.1\x1b[0m" \x1b[32m200',
        None,
    ),
    "uvicorn with a time": (
        '2023-11-15 12:00:00,000 INFO: 10.0.0.1:4321 - "GET /a?b=c HTTP/1.1" 200',
        NOON,
    ),
    "granian": ('[2023-11-15 12:00:00 +0000] 10.0.0.1 - "GET /a?b=c HTTP/1.1" 200 1.2', NOON),
    "json": (
        (
            '{"time": "2023-11-15T12:00:00Z", "remote_addr": "10.0.0.1", "method": "get", "path":'
            ' "/a?b=c", "status": 200}'
        ),
        NOON,
    ),
    "json, nginx": (
        (
            '{"time_local": "15/Nov/2023:12:00:00 +0000", "remote_addr": "10.0.0.1",'
            ' "request": "GET /a?b=c HTTP/1.1", "status": "200"}'
        ),
        NOON,
    ),
    "json, Caddy": (
        (
            f'{{"ts": {NOON}.5, "request": {{"remote_ip": "10.0.0.1", "method": "GET",'
            ' "uri": "/a?b=c"}, "status": 200}'
        ),
        NOON + 0.5,
    ),
    "json, in milliseconds": (
        (
            f'{{"timestamp": {NOON}000, "client": "10.0.0.1:80", "method": "GET", "url": "/a?b=c",'
            ' "status": 200}'
        ),
        NOON,
    ),
    "json, ECS": (
        (
            '{"@timestamp": "2023-11-15T12:00:00.000Z", "http": {"request": {"method": "GET"},'
            ' "response": {"status_code": 200}}, "url": {"original": "/a?b=c"},'
            ' "source": {"ip": "10.0.0.1"}}'
        ),
        NOON,
    ),
    "json, seconds as text": (
        f'{{"msec": "{NOON}.000", "method": "GET", "uri": "/a?b=c", "status": 200}}',
        NOON,
    ),
    "json without a time": ('{"method": "GET", "path": "/a?b=c", "status": 200}', None),
    "json with nonsense for a time": (
        '{"time": "noon", "method": "GET", "path": "/a?b=c", "status": 200}',
        None,
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_line_is_read_in_every_form(name):
    """
    Caller, time, method, target and status are found, whatever the logger.
    """
    line, time = FORMS[name]
    request = Lines().read(line)

    assert request[1:] == (time, "GET", "/a?b=c", 200)
    assert request.caller


def test_a_time_that_is_there_again_is_read_again():
    """
    As it was, in each form; and another one of the same day is another one.
    """
    reader = Lines()
    iso = FORMS["uvicorn with a time"][0]
    lines = [common("/a"), common("/b"), common("/c", second=7), iso, iso]

    assert [reader.read(line).time - NOON for line in lines] == [0, 0, 7, 0, 0]


@pytest.mark.parametrize(
    "line",
    [
        "Started server process [1]",
        "{not json}",
        '{"message": "hello"}',
        '{"method": "GET", "path": "/a"}',
        '{"method": "GET", "path": "/a", "status": "fine"}',
        '{"method": ["GET"], "path": "/a", "status": 200}',
        '{"http": {"request": "GET"}, "status": 200}',
        "[1, 2]",
        common("/a").replace("Nov", "Nev"),
        common("/a").replace("12:00", "12:xx"),
    ],
)
def test_other_lines_are_no_requests(line):
    """
    What is in no known form is counted as that.
    """
    assert Lines().read(line) is None
    assert survey([line]).unreadable == 1


def test_forms_may_change_within_a_log():
    """
    Each line is read in the form that it has.
    """
    lines = [line for line, _ in FORMS.values()] * 2

    assert survey(lines).requests == len(lines)


@pytest.mark.parametrize("piece", ["a", "a ", "a a a [", "1:", '" - "', 'a - - [x] "GET / '])
def test_a_line_of_garbage_takes_no_time(piece):
    """
    A line of 64 KiB is looked at once, not once from each of its bytes.
    """
    reader = Lines()

    assert reader.read(piece * (65_536 // len(piece))) is None


@pytest.mark.parametrize(
    ("segment", "value"),
    [
        ("17", "{id}"),
        ("-3", "{id}"),
        ("550e8400-e29b-41d4-a716-446655440000", "{id}"),
        ("5f2a9c1", "{id}"),
        ("507f1f77bcf86cd799439011", "{id}"),
        ("2024-01-31", "{id}"),
        ("INV-2024-0001", "{id}"),
        ("ada@example.com", "{id}"),
        ("eyJhbGciOiJIUzI1NiJ9abc", "{id}"),
        ("17.json", "{id}.json"),
        ("v1", "v1"),
        ("oauth2", "oauth2"),
        ("deadbeef", "deadbeef"),
        ("users", "users"),
        ("users.json", "users.json"),
        ("a-rather-long-name-of-a-route", "a-rather-long-name-of-a-route"),
    ],
)
def test_what_looks_like_an_id_is_one(segment, value):
    """
    Numbers, UUIDs, hex, dates, tokens and addresses are values; names are names.
    """
    endpoint = LearntTemplates().endpoint(f"/api/{segment}/x", learn=True)

    assert endpoint.template == f"/api/{value}/x"


def test_many_names_at_one_place_are_values():
    """
    What was counted for them before counts for the template from then on, at every depth.
    """
    lines = [
        common(f"/by/name-{chr(97 + n % 26)}{chr(97 + n // 26)}/{part}", second=n // 10)
        for n in range(MANY + 10)
        for part in ("", "posts/1", "posts/all", "likes")
    ]
    found = survey(lines)
    counts = {
        endpoint.template: endpoint.methods["GET"].requests
        for endpoint in found._templates.endpoints()
    }

    assert counts == {
        "/by/{id}/": 60,
        "/by/{id}/posts/{id}": 60,
        "/by/{id}/posts/all": 60,
        "/by/{id}/likes": 60,
    }
    assert sum(each.saved for each in found.findings()) > 0


def test_loops_go_on_when_names_become_values():
    """
    One that is over and one that is not count for the template that both then have.
    """
    over = [common(f"/by/over?{n}") for n in range(7)]
    lasting = [common(f"/by/lasting?{n}", host="10.0.0.2", second=30) for n in range(5)]
    names = [f"n{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(MANY)]
    others = [common(f"/by/{name}", host=name, second=30) for name in names]
    again = [common("/by/over", second=30)]
    (finding,) = survey([*over, *again, *lasting, *others]).findings()

    assert (finding.template, finding.saved, finding.longest) == ("/by/{id}", 10, 7)
    assert finding.targets[0] == "/by/over?0"


def test_names_join_ids_at_the_same_place():
    """
    Where there are ids already, many names become the same template as they.
    """
    paths = ["/x/1", *(f"/x/n{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(MANY + 1))]
    templates = LearntTemplates()
    for path in paths:
        templates.endpoint(path, learn=True).counts("GET").requests += 1
    (endpoint,) = templates.endpoints()

    assert endpoint.template == "/x/{id}"
    assert endpoint.methods["GET"].requests == len(paths)


def test_what_is_not_there_teaches_nothing():
    """
    Whoever tries paths at random makes no templates; where there is one, errors count.
    """
    scan = [common(f"/wp-{n}-admin", status=404) for n in range(200)]
    known = [common("/users/1"), common("/users/2", status=404), common("/users/3", status=500)]

    assert saved([*scan, *known]) == {"GET /users/{id}": 2}


def test_the_tree_of_paths_is_bounded():
    """
    Paths without end make no more than so many nodes; what is deeper than any route is left out.
    """
    templates = LearntTemplates()
    names = [f"n{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(MANY)]
    for first in names:
        for second in names:
            for third in names[:5]:
                templates.endpoint(f"/{first}/{second}/{third}", learn=True)
    deep = templates.endpoint("/deep" * 100, learn=True)

    assert len(templates.endpoints()) < 10_000
    assert deep.template.count("/") < 20
    assert templates.endpoint("/never/seen/1", learn=False) is None
    assert templates.endpoint("/naa/{id}/1", learn=False) is None
    assert LearntTemplates().endpoint("/", learn=True).template == "/"


def burst(count, **line):
    return [common(f"/users/{n}", **line) for n in range(count)]


def test_a_loop_saves_all_requests_but_one():
    """
    Requests of one caller for one endpoint within a short time are one batch.
    """
    assert saved(burst(10)) == {"GET /users/{id}": 9}
    assert saved(burst(10, method="POST")) == {"POST /users/{id}": 9}


@pytest.mark.parametrize(
    "lines",
    [
        burst(2),
        [common(f"/users/{n}", second=n * 3) for n in range(10)],
        [common(f"/users/{n}", host=f"10.0.0.{n}") for n in range(10)],
        [common("/users/1") for _ in range(10)],
        [common(f"/assets/{n}.js") for n in range(10)],
        [common(f"/batch/{n}/status") for n in range(10)],
        [common("/batch", method="POST") for _ in range(10)],
        [common(f"/users/{n}", method="OPTIONS") for n in range(10)],
        [common(f"/users/{n}?{'x' * 2000}") for n in range(10)],
        ["", *(common(f"/{name}") for name in ("users", "orders", "tags", "carts"))],
    ],
    ids="few slow callers polling assets batches batch preflight long several".split(),
)
def test_other_requests_are_no_loop(lines):
    """
    Few, slow or of several callers; asked for again; or nothing that a batch could take over.
    """
    assert saved(lines) == {}


def test_posts_that_look_alike_are_a_loop():
    """
    What is created is in the body, which no log tells.
    """
    assert saved([common("/users", method="POST") for _ in range(5)]) == {"POST /users": 4}


def test_a_loop_ends_with_a_gap():
    """
    Two loops of the same caller are two batches.
    """
    lines = [*burst(5, second=0), *burst(5, second=30)]
    (finding,) = survey(lines).findings()

    assert (finding.saved, finding.bursts, finding.longest) == (8, 2, 5)


def test_callers_behind_one_address_are_told_apart():
    """
    By what they call themselves, where the log has that.
    """
    lines = [f'{line} "-" "agent-{n % 4}"' for n, line in enumerate(burst(8))]

    assert saved(lines) == {}


def test_a_loop_larger_than_a_batch_is_several():
    """
    A batch has so many operations at most.
    """
    assert saved(burst(2500)) == {"GET /users/{id}": 2497}


def test_a_log_without_times_goes_by_its_lines():
    """
    What is a hundred lines apart belongs together no more.
    """
    line = 'INFO:     10.0.0.{}:1 - "GET /users/{} HTTP/1.1" 200 OK'
    near = [line.format(n % 3, n) for n in range(30)]
    far = [line.format(n % 250, n) for n in range(1000)]

    assert saved(near) == {"GET /users/{id}": 27}
    assert saved(far) == {}


def test_a_query_makes_no_other_endpoint():
    """
    And a request for the whole URL is one for its path.
    """
    lines = [common(f"/search?q={n}") for n in range(5)]
    lines += [common(f"http://example.com/search?q={n}") for n in range(5)]

    assert saved(lines) == {"GET /search": 9}


def test_forgotten_bursts_are_counted():
    """
    With more callers at a time than are remembered, too little is found, and never too much.
    """
    counts = Counts()
    for others in (20, 1):
        bursts = Bursts(Rules(), generation=4)
        for n in range(10):
            for caller in ("loops", *(f"once-{n}-{k}" for k in range(others))):
                bursts.add(caller, "GET", counts, 0.0, f"/{n}")
        bursts.finish()

    assert (counts.bursts, counts.saved) == (1, 9)


def by_hand(requests):
    """
    Requests that batches save, counted by looking at each caller alone.
    """
    found = Counter()
    for caller in sorted({caller for caller, _, _, _ in requests}):
        for method in ("GET", "POST"):
            own = [
                (second, target) for c, second, m, target in requests if (c, m) == (caller, method)
            ]
            length, last = 0, None
            for second, target in [*own, (10**6, 0)]:
                if last is not None and second - last[0] > 2:
                    found[method] += length - 1 if length >= 3 else 0
                    length = 0
                is_same = length and method == "GET" and target == last[1]
                length += not is_same
                last = second, target
    return {method: count for method, count in found.items() if count}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["10.0.0.1", "10.0.0.2"]),
            st.integers(0, 59),
            st.sampled_from(["GET", "POST"]),
            st.integers(1, 3),
        ),
        max_size=60,
    )
)
def test_what_is_saved_is_what_is_counted_by_hand(requests):
    """
    No loop is missed and none is invented, whatever comes between its requests.
    """
    requests = sorted(requests, key=lambda each: each[1])
    lines = [
        common(f"/x/{target}", host=host, second=second, method=method)
        for host, second, method, target in requests
    ]

    assert saved(lines) == {f"{m} /x/{{id}}": n for m, n in by_hand(requests).items()}


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_log_is_read_in_blocks(tmp_path, is_packed):
    """
    Also one that is compressed, and one whose last line has no end.
    """
    lines = [f"line {n} {'ü' * 40}" for n in range(20_000)]
    content = "\n".join(lines).encode()
    file = tmp_path / "access.log"
    file.write_bytes(gzip.compress(content) if is_packed else content)

    assert [line for block, _ in blocks_of(str(file)) for line in block] == lines


def test_a_line_without_an_end_is_left_out(tmp_path):
    """
    It is not held, however long it is; what comes after it is read.
    """
    file = tmp_path / "access.log"
    file.write_bytes(b"first\n" + b"x" * 3_000_000 + b"\nlast\n" + b"y" * 3_000_000)
    blocks = [block for block, _ in blocks_of(str(file))]

    assert [line for block in blocks for line in block] == ["first", "last"]


def test_what_cannot_be_read_is_said(tmp_path):
    """
    A file that is not there, a folder, and one that is compressed and damaged.
    """
    damaged = tmp_path / "damaged.gz"
    damaged.write_bytes(gzip.compress(b"x" * 1000)[:-5])
    files = (tmp_path / "none", tmp_path, damaged)
    done = [run("candidates", file) for file in files]

    assert [each.code for each in done] == [2, 2, 2]
    assert "No such file or directory" in done[0].err
    assert "Is a directory" in done[1].err
    assert "damaged.gz cannot be read" in done[2].err


def write(file, lines):
    file.write_text("\n".join(lines))
    return file


def test_json_has_all_figures_and_examples(tmp_path):
    """
    ``--json`` prints what a program needs, and ``--top`` how much of it.
    """
    lines = ["nonsense", *burst(5), *(common("/events", method="POST") for _ in range(9))]
    file = write(tmp_path / "access.log", lines)
    done = run("candidates", file, "--json")
    log = json.loads(done.out)["log"]

    assert done.code == 0
    assert (log["lines"], log["requests"], log["unreadable"]) == (15, 14, 1)
    assert log["findings"][0] == {
        "method": "POST",
        "template": "/events",
        "requests": 9,
        "saved": 8,
        "bursts": 1,
        "longest": 9,
        "example": {"operations": [{"method": "POST", "path": "/events", "body": {}}] * 3},
    }
    assert log["findings"][1]["example"]["operations"][0] == {"method": "GET", "path": "/users/0"}
    assert (
        len(json.loads(run("candidates", file, "--json", "--top", 1).out)["log"]["findings"]) == 1
    )


@pytest.mark.parametrize(("columns", "lengths"), [("80", [8, 1]), ("100", [24, 3])])
def test_a_table_has_bars_and_examples(tmp_path, monkeypatch, columns, lengths):
    """
    The endpoint that saves most has the longest bar, and each has a batch to be copied.
    """
    monkeypatch.setenv("COLUMNS", columns)
    lines = ["nonsense", *burst(5), *(common("/events", method="POST") for _ in range(41))]
    file = write(tmp_path / "access.log", lines)
    text = run("candidates", file, "--top", 2).out
    bars = [len(each) for each in re.findall("[█▉▊▋▌▍▎▏]+", text)]
    examples = [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    assert bars == lengths
    assert "│ GET /users/{id} " in text
    assert len(examples) == 2
    assert examples[1]["operations"][0]["path"] == "/users/0"
    assert "Batches in their place save 44 of 46 requests." in text
    assert "1 of 47 lines are in no known form." in text
    assert "1 more are not shown" in run("candidates", file, "--top", 1).out


def test_standard_input_is_a_log(tmp_path):
    """
    "-" reads it, and several logs are one.
    """
    file = write(tmp_path / "access.log", burst(5))
    text = "\n".join(burst(4)).encode()
    done = run("candidates", "-", file, "--json", stdin=text)

    assert json.loads(done.out)["log"]["findings"][0]["saved"] == 8


def test_nothing_to_find_is_said(tmp_path):
    """
    A log without loops is no error; one without requests is.
    """
    quiet = run("candidates", write(tmp_path / "quiet.log", burst(1)))
    wrong = run("candidates", write(tmp_path / "wrong.log", ["hello"] * 3))
    code = run("candidates", "--code", tmp_path)

    assert (quiet.code, quiet.out) == (0, "No loops in 1 requests.\n")
    assert (wrong.code, wrong.out) == (2, "")
    assert "No request found in 3 lines" in wrong.err
    assert (code.code, code.out) == (0, "No requests in loops in 0 files.\n")
    assert run("candidates").code == 2


def test_code_is_shown_in_a_table_too(tmp_path):
    """
    Where, what, by which library, in which loop; and what cannot be parsed.
    """
    source = "import httpx\ndef f(i): httpx.get(f'/x/{i}')\nfor i in y:\n    f(i)\n"
    (tmp_path / "job.py").write_text(source)
    (tmp_path / "bad.py").write_text("import httpx (")
    done = run("candidates", "--code", tmp_path)

    assert done.code == 0
    assert "job.py:4" in done.out
    assert "through f" in done.out
    assert '"path": "/x/3"' in done.out
    assert "bad.py can be parsed in part only, or not at all." in done.out
    assert json.loads(run("candidates", "--code", tmp_path, "--json").out)["code"]["files"] == 2


DOCUMENT = {
    "servers": [{"url": "https://example.com/v1/"}],
    "paths": {"/users/{user_id}": {}, "/users/me": {}, "/files/{name}.{kind}": {}},
}


def test_templates_of_an_openapi_document(tmp_path):
    """
    They are taken as they stand, with what the servers put before them; others are left out.
    """
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(DOCUMENT))
    paths = [f"/v1/users/{name}" for name in ("me", "ada", "bob", "eve", "joe")]
    paths += ["/v1/users/me?a", "/users/me?b", "/nothing/1", "/nothing/2", "/nothing/3"]
    paths += [f"/files/a.{kind}" for kind in ("txt", "pdf", "xml")]
    file = write(tmp_path / "access.log", map(common, paths))
    done = run("candidates", file, "--openapi", document, "--json")
    found = {each["template"]: each["saved"] for each in json.loads(done.out)["log"]["findings"]}

    assert found == {"/users/{user_id}": 3, "/users/me": 2, "/files/{name}.{kind}": 2}


@pytest.mark.parametrize(
    ("text", "reason"),
    [("paths:\n  /users:", "is not JSON"), ("{}", 'has no "paths"'), ("[]", 'has no "paths"')],
)
def test_other_documents_are_refused(tmp_path, text, reason):
    """
    With a sentence that says what is wrong.
    """
    document = tmp_path / "openapi.yaml"
    document.write_text(text)
    done = run("candidates", write(tmp_path / "access.log", burst(3)), "--openapi", document)

    assert done.code == 2
    assert reason in done.err


def test_a_missing_library_is_named(monkeypatch):
    """
    Without the extra the command says what to install; an error of our own is none of that.
    """
    monkeypatch.setitem(sys.modules, "rich.console", None)
    for name in [name for name in sys.modules if name.startswith("asgi_batch.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    missing = run()
    monkeypatch.setitem(sys.modules, "asgi_batch.cli.commands", None)

    assert (missing.code, missing.out) == (2, "")
    assert missing.err == "asgi-batch needs rich: pip install 'asgi-batch[cli]'\n"
    with pytest.raises(ModuleNotFoundError):
        run()
