"""
The page in a browser: what people do with it, and that no text becomes more than text.
"""

import json
import re
import sys
from contextlib import contextmanager
from shutil import which

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from apps.console import MARKUP
from later_support import UNKNOWN
from servers import command_for, kill, running, serving

# Milliseconds; the machine may be busy.
PATIENCE = 15_000
expect.set_options(timeout=PATIENCE)

# What a page says of its own failings; that an answer was a refusal is none of them.
_HARMLESS = "Failed to load resource"
_LISTEN = """
addEventListener("securitypolicyviolation", (event) => tellViolation(event.violatedDirective));
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(
        "uvicorn-httptools-uvloop", "apps.console:app", tmp_path_factory.mktemp("console")
    ) as running:
        yield running
        assert "Traceback" not in running.log()


@pytest.fixture(scope="module")
def browser():
    """
    Debian's Chromium, which a sandbox would keep root from starting.
    """
    options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=which("chromium"), args=options)
        yield running
        running.close()


@contextmanager
def opened(browser, server, path="/batch", **settings):
    """
    A page that must neither break its policy, nor fail, nor ask for anything from elsewhere.
    """
    with browser.new_context(**settings) as context:
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        wrong = []
        page.expose_function("tellViolation", lambda directive: wrong.append(f"CSP: {directive}"))
        page.add_init_script(_LISTEN)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: wrong.append(request.url))
        page.goto(server.url + path)
        yield page
        own = (f"{server.url}/batch", f"blob:{server.url}", _HARMLESS)
        assert [each for each in wrong if not each.startswith(own)] == []


@pytest.fixture
def page(browser, server):
    with opened(browser, server) as page:
        yield page


def document(*operations, **envelope):
    """
    A batch as it is typed; an operation may be written as ``"GET /path"``.
    """
    members = [dict(zip(("method", "path"), each.split(), strict=True)) for each in operations]
    return json.dumps({"operations": members, **envelope})


def send(page, text, button="Send"):
    page.get_by_label("Operations").fill(text)
    page.get_by_role("button", name=button, exact=True).click()


def finished(page):
    expect(page.locator("#state")).to_have_text(re.compile("completed|cancelled"))
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "100")
    # The last results are fetched after that.
    expect(page.locator("#shown")).to_have_text(re.compile(rf"\b{sum(numbers(page))} results?"))


def ids(page):
    """
    The operations in the table.
    """
    return page.locator("#rows .id").all_inner_texts()


def numbers(page):
    """
    How many have succeeded, failed, and were skipped.
    """
    return [int(text) for text in page.locator(".legend dd").all_inner_texts()]


def batch_id(page):
    return page.locator("#permalink").inner_text()


# --- compose


TYPED = [
    ("", "Line 1, column 1: Write the operations of a batch."),
    ('{"operations": [\n  {"method": "GET",}\n]}', "Line 2, column 20: There is a comma too many"),
    ('{"operations": [\n  {"method": "GET"\n   "path": "/"}]}', 'Line 3, column 4: Here is “"”'),
    ('{"operations": [{}', 'Line 1, column 19: The text ends where "," or "]" is expected.'),
    ("[{'method': 1}]", "Line 1, column 3: Strings are written in double quotes."),
    ('[\n{"method": "GET', "Line 2, column 12: This string has no end."),
    ('[\n{"method": "G\nET"}]', "Line 2, column 12: This string has no end on its line."),
    ('["\\x"]', "Line 1, column 3: This is no escape of JSON."),
    ("[01]", "Line 1, column 3: Here is “1”"),
    ("[] 1", "Line 1, column 4: There is something after the end."),
    ("[" * 2000, "Line 1, column 1002: This is nested too deeply."),
    ("[]", "Line 1, column 1: There is no operation yet."),
    ('{"operation": []}', 'Line 1, column 1: Write {"operations": […]}'),
    ('[\n  {"path": "/"}\n]', "Line 2, column 3: Operation 0 needs a method, a string."),
    ('[\n  {"method": "GET", "path": 1}\n]', "Line 2, column 3: Operation 0 needs a path"),
    (f"[{document('GET /a')[16:-2]}]", "1 operation, 33 bytes"),
    (document("GET /a", "GET /ä"), "2 operations, "),
]


def test_json_is_checked_as_it_is_typed(page):
    """
    The line of what is wrong, and the way there.
    """
    editor, to_fault = page.get_by_label("Operations"), page.get_by_role("button", name="Go there")
    for text, said in TYPED:
        is_wrong = said.startswith("Line")
        editor.fill(text)

        expect(page.locator("#check")).to_contain_text(said)
        expect(editor).to_have_attribute("aria-invalid", str(is_wrong).lower())
        expect(to_fault).to_be_visible(visible=is_wrong)
        if is_wrong:
            to_fault.click()
            expect(editor).to_be_focused()
            assert caret(editor) == re.search(r"Line (\d+), column (\d+)", said).groups()


def caret(editor):
    """
    Line and column in which it stands.
    """
    before = editor.evaluate("(element) => element.value.slice(0, element.selectionStart)")
    lines = before.split("\n")
    return str(len(lines)), str(len(lines[-1]) + 1)


def test_operations_are_added_with_a_form(page):
    """
    Behind those that are there, which stay as they were typed.
    """
    editor = page.get_by_label("Operations")
    page.get_by_text("Add an operation").click()
    editor.fill("")
    page.get_by_label("Path").fill('/a"b')
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_label("Method").select_option("PUT")
    page.get_by_label("Path").fill("/users/7")
    page.get_by_label("Body").fill('{"price": 1.0}')
    page.get_by_role("button", name="Add", exact=True).click()
    text = editor.input_value()
    page.get_by_label("Body").fill("{\n1")
    page.get_by_role("button", name="Add", exact=True).click()

    expect(page.locator("#add-note")).to_contain_text("Body, line 2: Here is “1”")
    assert (
        editor.input_value()
        == text
        == (
            '{"operations": [\n  {"method": "GET", "path": "/a\\"b"},\n'
            '  {"method": "PUT", "path": "/users/7", "body": {"price": 1.0}}\n]}'
        )
    )
    editor.fill("[{]")
    page.get_by_label("Body").fill("")
    page.get_by_role("button", name="Add", exact=True).click()

    expect(page.locator("#add-note")).to_have_text("Correct the operations first.")
    assert editor.input_value() == "[{]"


def test_a_batch_is_sent_as_it_was_typed(page):
    """
    To the last byte, and an array within the least that makes it a batch.
    """
    sent = []
    page.on("request", lambda request: sent.append(request.post_data))
    text = '{"operations":\n [{"method": "POST", "path": "/a", "body": 1.0}]  }'
    send(page, text)
    finished(page)
    send(page, ' [{"path": "/a", "method": "GET"}]\n')
    finished(page)

    assert [each for each in sent if each] == [
        text,
        '{"operations": [{"path": "/a", "method": "GET"}]}',
    ]


def test_what_cannot_be_sent_is_shown_instead(page):
    """
    Nothing goes out, and the caret stands where it is wrong.
    """
    send(page, '{"operations": [\n{"method": "GET", "path": "/a"},]}')

    expect(page.get_by_label("Operations")).to_be_focused()
    expect(page.locator("#batch")).to_be_hidden()


def test_a_refusal_leads_to_the_lines(page):
    """
    What only the server can tell is tied to what was typed.
    """
    text = '[\n{"method": "GET", "path": "/a"},\n{"id": "x",\n"method": "GET", "path": "b"}]'
    send(page, text)
    refusal = page.get_by_role("alert")

    expect(refusal).to_contain_text("Invalid batch")
    expect(refusal.get_by_role("listitem")).to_have_text(
        re.compile("^Line 4 x: The path must start")
    )
    refusal.get_by_role("button", name="Line 4").click()
    start = page.get_by_label("Operations").evaluate("(element) => element.selectionStart")
    assert text[start : start + 3] == '"b"'
    send(page, document("GET /a"))
    finished(page)

    expect(refusal).to_be_hidden()


def test_the_limits_are_those_of_the_server(page):
    """
    Asked for, not assumed.
    """
    expect(page.locator("#limits")).to_have_text(
        "Up to 1,000 operations and 10 MiB. More than 100 are carried out in the background."
    )


# --- now and later


def test_a_small_batch_is_answered_at_once(page):
    """
    Its results come in order, as the app wrote them, with what they are about.
    """
    send(page, document("GET /a", "GET /fail/b", "GET /text", onError="continue"))
    finished(page)

    assert ids(page) == ["0", "1", "2"]
    assert page.locator("#rows .call").all_inner_texts() == ["GET /a", "GET /fail/b", "GET /text"]
    assert page.locator("#rows .mark").all_inner_texts() == ["succeeded", "failed", "succeeded"]
    assert numbers(page) == [2, 1, 0]
    page.locator("#rows summary").first.click()
    expect(page.locator("#rows pre").first).to_have_text(
        '{\n  "n": 12345678901234567890,\n  "x": 1.0,\n  "path": "/a"\n}'
    )
    expect(page.locator("#permalink")).to_be_hidden()
    expect(page.locator("#chart")).to_be_hidden()


def test_a_batch_is_seen_as_it_runs(browser, server, tmp_path):
    """
    The bar, results, the chart and what is read out follow the server's events; the rest is kept.
    """
    paths = [f"GET /{kind}/{index}" for index in range(20) for kind in ("a", "fail")]
    # In a server of its own, where nobody has opened the way yet.
    with (
        serving("uvicorn-httptools-uvloop", "apps.console:app", tmp_path) as server,
        opened(browser, server) as page,
    ):
        send(page, document(*paths, *["GET /wait"] * 40), "Send for later")
        expect(page.locator("#rows tr")).to_have_count(40)
        bar = page.get_by_role("progressbar", name="Progress")

        expect(bar).to_have_attribute("aria-valuenow", "50")
        expect(bar).to_have_attribute("aria-valuetext", "50 %, 40 of 80")
        expect(page.locator("#state")).to_have_text("processing")
        expect(page.locator("#news")).to_have_text("50 percent")
        assert numbers(page) == [20, 20, 0]
        assert page.get_by_role("button", name="Cancel").is_enabled()
        assert page.get_by_role("button", name="Retry failed").is_disabled()
        httpx.get(f"{server.url}/open")
        finished(page)

        expect(page.locator("#rows tr")).to_have_count(80)
        expect(page.locator("#news")).to_have_text(
            "The batch is completed: 60 succeeded, 20 failed, 0 skipped."
        )
        assert numbers(page) == [60, 20, 0]
        assert page.get_by_role("button", name="Cancel").is_disabled()
        chart = page.get_by_role("img", name=re.compile("^Outcomes over .* of 80, 60 succeeded"))
        assert chart.locator("polygon").count() == 3
        page.get_by_text("The chart as a table").click()
        last = page.locator("#chart-rows tr").last.locator("td")
        assert last.all_inner_texts() == ["60", "20", "0"]
        filters_and_download(page, server)
        the_page_of_the_batch(page, server)


def filters_and_download(page, server):
    page.get_by_label("Failed", exact=True).check()
    assert len(ids(page)) == 20
    expect(page.locator("#shown")).to_have_text("20 of 80 results")
    page.get_by_label("Find").fill("FAIL/7")
    assert page.locator("#rows .call").all_inner_texts() == ["GET /fail/7"]
    page.get_by_label("Skipped", exact=True).check()
    expect(page.locator("#table")).to_be_hidden()
    page.get_by_label("All", exact=True).check()
    page.get_by_label("Find").fill("")
    assert len(ids(page)) == 80
    url = f"{server.url}/batch/{batch_id(page)}/results?limit=1000"
    with page.expect_download() as download:
        page.get_by_role("button", name="Download results").click()
    content = download.value.path().read_bytes()

    assert download.value.suggested_filename == f"batch-{batch_id(page)}.ndjson"
    assert content == httpx.get(url, headers={"accept": "application/x-ndjson"}).content


def the_page_of_the_batch(page, server):
    known = [batch_id(page), numbers(page), ids(page)]
    page.locator("#permalink").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("One batch")
    finished(page)
    expect(page.locator("#rows tr")).to_have_count(80)

    assert page.url == f"{server.url}/batch/{known[0]}"
    assert known == [batch_id(page), numbers(page), ids(page)]
    page.get_by_role("link", name="Send another batch").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Send a batch")


def test_a_large_table_is_shown_in_parts(page):
    """
    So that a thousand results do not make the page slow.
    """
    send(page, document(*[f"GET /{index}" for index in range(450)]))
    finished(page)

    expect(page.locator("#shown")).to_have_text("450 of 450 results, the first 200 are shown")
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("#rows tr")).to_have_count(400)
    expect(page.locator("#rows summary").nth(200)).to_be_focused()
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("#rows tr")).to_have_count(450)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    assert ids(page) == [str(index) for index in range(450)]


def test_a_batch_is_cancelled(browser, tmp_path):
    """
    What has not started is skipped; what runs comes to its end.
    """
    with (
        serving("uvicorn-httptools-uvloop", "apps.console:app", tmp_path) as server,
        opened(browser, server) as page,
    ):
        send(page, document("GET /a", *["GET /wait"] * 30), "Send for later")
        expect(page.locator("#rows tr")).to_have_count(1)
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#state")).to_have_text("cancelled")
        httpx.get(f"{server.url}/open")
        finished(page)
        succeeded, failed, skipped = numbers(page)

        assert (succeeded + skipped, failed) == (31, 0)
        assert skipped >= 26
        page.get_by_label("Skipped", exact=True).check()
        assert len(ids(page)) == skipped
        assert page.locator("#rows .code").first.inner_text() == "424"
        assert page.locator("#rows .source").first.inner_text() == "by asgi_batch"


@pytest.mark.parametrize("button", ["Send", "Send for later"])
def test_what_has_failed_is_tried_again(page, button):
    """
    It alone, with its ids; what it is about is still known.
    """
    kind = button.replace(" ", "")
    operations = [
        {"method": "GET", "path": "/a"},
        {"method": "GET", "path": f"/once/{kind}/1"},
        {"id": "named", "method": "GET", "path": f"/once/{kind}/2"},
    ]
    send(page, json.dumps({"onError": "continue", "operations": operations}), button)
    finished(page)
    assert numbers(page) == [1, 2, 0]
    page.get_by_role("button", name="Retry failed").click()
    expect(page.locator("#rows tr")).to_have_count(2)
    finished(page)

    assert ids(page) == ["1", "named"]
    assert numbers(page) == [2, 0, 0]
    assert page.locator("#rows .call").all_inner_texts() == [
        f"GET /once/{kind}/1",
        f"GET /once/{kind}/2",
    ]
    expect(page.get_by_role("button", name="Retry failed")).to_be_disabled()


def test_one_batch_at_a_time(browser, tmp_path):
    """
    A second click sends nothing again, and the next batch takes the place of one that still runs.
    """
    with (
        serving("uvicorn-httptools-uvloop", "apps.console:app", tmp_path) as server,
        opened(browser, server) as page,
    ):
        sent = []
        page.on("request", lambda request: sent.append(f"{request.method} {request.url}"))
        send(page, document("GET /a", "GET /wait/first"), "Send for later")
        expect(page.locator("#rows tr")).to_have_count(1)
        send(page, document("GET /fail", "GET /wait/second"))
        expect(page.locator("#sending")).to_have_text("Sending …")
        page.get_by_role("button", name="Send", exact=True).click()
        page.get_by_role("button", name="Send for later").click()
        httpx.get(f"{server.url}/open")
        expect(page.locator("#rows .call")).to_have_text(["GET /fail", "GET /wait/second"])
        finished(page)

        expect(page.locator("#sending")).not_to_have_text("Sending …")
        assert sent.count(f"POST {server.url}/batch") == 2
        assert numbers(page) == [1, 1, 0]
        send(page, document("GET /a", "GET /once/at-a-time"), "Send for later")
        finished(page)
        page.get_by_role("button", name="Retry failed").dblclick()
        expect(page.locator("#rows .call")).to_have_text(["GET /once/at-a-time"])
        finished(page)
        assert numbers(page) == [1, 0, 0]
        assert len([each for each in sent if each.endswith("/retry")]) == 1


def test_a_batch_that_still_runs_makes_room(browser, tmp_path):
    """
    What comes of it later does not show up among the results of another one.
    """
    with (
        serving("uvicorn-httptools-uvloop", "apps.console:app", tmp_path) as server,
        opened(browser, server) as page,
    ):
        send(page, document("GET /a", "GET /wait/first"), "Send for later")
        expect(page.locator("#rows tr")).to_have_count(1)
        first = batch_id(page)
        send(page, document("GET /fail", "GET /wait/second"), "Send for later")
        expect(page.locator("#rows .call")).to_have_text("GET /fail")
        httpx.get(f"{server.url}/open")
        finished(page)

        assert batch_id(page) != first
        assert numbers(page) == [1, 1, 0]
        assert page.locator("#rows .call").all_inner_texts() == ["GET /fail", "GET /wait/second"]


def test_an_array_is_tried_again(page):
    """
    The same for operations that were typed without a batch around them.
    """
    send(page, '[{"method": "GET", "path": "/a"}, {"method": "GET", "path": "/once/array"}]')
    finished(page)
    page.get_by_role("button", name="Retry failed").click()
    expect(page.locator("#rows tr")).to_have_count(1)

    assert ids(page) == ["1"]
    assert numbers(page) == [1, 0, 0]


def test_the_page_of_a_batch_tries_again(page, browser, server):
    """
    It goes on to the page of the new batch, which names the old one.
    """
    send(page, document("GET /once/page", "GET /a"), "Send for later")
    finished(page)
    first = batch_id(page)
    page.goto(f"{server.url}/batch/{first}")
    finished(page)
    page.get_by_role("button", name="Retry failed").click()
    expect(page.locator("#parent")).to_have_text(f"Retries {first}")
    finished(page)

    assert batch_id(page) != first
    assert page.url.endswith(batch_id(page))
    assert ids(page) == ["0"]
    page.locator("#parent a").click()
    expect(page.locator("#rows tr")).to_have_count(2)


# --- when something is in the way


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (UNKNOWN, "There is no such batch, or it has expired."),
        ("a", "This is not the id of a batch."),
    ],
)
def test_a_batch_that_is_not_there(browser, server, name, said):
    """
    The page says so, and shows nothing.
    """
    with opened(browser, server, f"/batch/{name}") as page:
        expect(page.get_by_role("alert")).to_contain_text(said)
        expect(page.locator("#batch")).to_be_visible(visible=name == UNKNOWN)


def test_a_server_that_cannot_be_reached(page):
    """
    What was typed is still there, and goes out when it can.
    """
    page.context.set_offline(True)
    send(page, document("GET /a"))
    expect(page.get_by_role("alert")).to_contain_text("Failed to fetch")
    page.context.set_offline(False)
    page.get_by_role("button", name="Send", exact=True).click()
    finished(page)

    expect(page.get_by_role("alert")).to_be_hidden()


def test_results_that_are_lost_on_their_way(browser, server):
    """
    Are asked for again, and the page goes on.
    """
    with opened(browser, server) as page:
        page.route("**/results?*", lambda route: route.abort(), times=1)
        send(page, document("GET /a", "GET /fail"), "Send for later")
        expect(page.locator("#trouble")).to_have_text("The server cannot be reached; trying again.")
        finished(page)

        expect(page.locator("#trouble")).to_be_empty()
        expect(page.get_by_role("alert")).to_be_hidden()
        assert ids(page) == ["0", "1"]


def test_a_server_that_has_lost_the_batch(browser, tmp_path):
    """
    The page says so once it can be reached, and that it is not being asked any more.
    """
    kind, app = "uvicorn-httptools-uvloop", "apps.console:app"
    with serving(kind, app, tmp_path / "first") as server, opened(browser, server) as page:
        send(page, document("GET /a", "GET /wait"), "Send for later")
        expect(page.locator("#rows tr")).to_have_count(1)
        kill(server.process)
        server.process.returncode = 0
        expect(page.locator("#trouble")).to_contain_text("cannot be reached")
        command = [sys.executable, *command_for(kind, server.port), app]
        with running(kind, command, server.port, tmp_path / "second"):
            expect(page.get_by_role("alert")).to_contain_text("There is no such batch")
            expect(page.locator("#trouble")).to_be_empty()
            send(page, document("GET /a"))
            finished(page)


def test_progress_without_events(browser, tmp_path):
    """
    Where too many follow events already, the page asks for the status instead.
    """
    with (
        serving("uvicorn-httptools-uvloop", "apps.console:busy", tmp_path) as server,
        opened(browser, server) as first,
        opened(browser, server) as second,
    ):
        send(first, document("GET /a", "GET /wait"), "Send for later")
        expect(first.locator("#rows tr")).to_have_count(1)
        second.goto(f"{server.url}/batch/{batch_id(first)}")
        expect(second.locator("#rows tr")).to_have_count(1)
        httpx.get(f"{server.url}/open")
        finished(first)
        finished(second)

        assert ids(second) == ["0", "1"]


def test_whose_batch_it_is(browser, tmp_path):
    """
    T44: cookies go along as ever, headers where they were entered; nobody else sees the batch.
    """
    with serving("uvicorn-httptools-uvloop", "apps.console:owned", tmp_path) as server:
        with opened(browser, server) as page:
            page.get_by_text("Request headers").click()
            page.get_by_label("Headers, one a line").fill("authorization: Bearer ada\n\n")
            send(page, document("GET /a"), "Send for later")
            finished(page)
            place = f"/batch/{batch_id(page)}"
        with opened(browser, server, place) as page:
            expect(page.get_by_role("alert")).to_contain_text("There is no such batch")
            page.get_by_text("Request headers").click()
            page.get_by_label("Headers, one a line").fill("authorization: Bearer ada")
            page.get_by_role("button", name="Load again").click()
            finished(page)
            expect(page.get_by_role("alert")).to_be_hidden()
            page.get_by_label("Headers, one a line").fill("no header")
            page.get_by_role("button", name="Load again").click()
            expect(page.get_by_role("alert")).to_contain_text("Invalid name")
        with opened(browser, server) as page:
            page.context.add_cookies([{"name": "user", "value": "bob", "url": server.url}])
            send(page, document("GET /a"), "Send for later")
            finished(page)
            page.locator("#permalink").click()
            finished(page)
            page.context.clear_cookies()
            page.reload()
            expect(page.get_by_role("alert")).to_contain_text("There is no such batch")


# --- text stays text


def test_t44_markup_is_shown_as_text(page, server):
    """
    T44: in ids, paths, bodies, headers and names; in the table, in refusals and on both pages.
    """
    operations = [
        {"id": MARKUP, "method": "GET", "path": "/markup/%3Cscript%3E?<script>alert(4)</script>"},
        {"id": "text", "method": "GET", "path": "/text"},
    ]
    send(page, json.dumps({"operations": operations}), "Send for later")
    finished(page)
    for _ in range(2):
        for summary in page.locator("#rows summary").all():
            summary.click()
        first, second = page.locator("#rows pre").all()

        expect(first).to_contain_text(f"location: javascript:{MARKUP}")
        expect(first).to_contain_text(f'etag: "{MARKUP}"')
        expect(first).to_contain_text(json.dumps(MARKUP)[1:-1])
        expect(second).to_contain_text(f"<svg onload=alert(3)>{MARKUP}")
        assert ids(page) == [MARKUP, "text"]
        assert page.locator("main img, main script, #batch a[href^=javascript]").count() == 0
        page.goto(f"{server.url}/batch/{batch_id(page)}")
        finished(page)
        expect(page.locator("#rows tr")).to_have_count(2)


@pytest.mark.parametrize("name", ["method", "path", "id", "headers", MARKUP])
def test_t44_refused_markup_is_shown_as_text(page, name):
    """
    T44: what is wrong with a batch is shown in its own words.
    """
    value = {MARKUP: MARKUP} if name == "headers" else MARKUP * 3
    operation = {"id": "a", "method": "GET", "path": "/a", name: value}
    send(page, json.dumps([operation]))

    expect(page.get_by_role("alert").get_by_role("listitem").first).to_be_visible()
    assert page.locator("main img, main script").count() == 0


def test_t44_markup_in_the_address_is_shown_as_text(browser, server):
    """
    T44: an id that is none is not even asked for.
    """
    with opened(browser, server, f"/batch/<img src=x onerror=alert(1)>?{MARKUP}#{MARKUP}") as page:
        expect(page.get_by_role("alert")).to_contain_text("This is not the id of a batch.")
        assert page.locator("main img, main script").count() == 0


# --- for everybody


def violations(page):
    """
    What axe finds, and where.
    """
    found = Axe().run(page).response["violations"]
    return [(each["id"], [node["target"] for node in each["nodes"]]) for each in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_the_page(browser, server, scheme):
    """
    axe finds nothing on either page, with everything open and with a refusal.
    """
    with opened(browser, server, color_scheme=scheme) as page:
        send(page, document("GET /a", "GET /fail", "GET /markup", "GET /text"), "Send for later")
        finished(page)
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        page.get_by_role("button", name="Add", exact=True).click()
        expect(page.locator("#rows pre").first).not_to_be_empty()
        assert violations(page) == []
        page.get_by_label("Operations").fill('[{"method": "get", "path": "x"}]')
        page.get_by_role("button", name="Send", exact=True).click()
        expect(page.get_by_role("alert").get_by_role("listitem").first).to_be_visible()
        assert violations(page) == []
        page.get_by_label("Operations").fill("[")
        expect(page.locator("#check")).to_contain_text("Line 1")
        assert violations(page) == []
        page.locator("#permalink").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("One batch")
        finished(page)
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        assert violations(page) == []


def test_the_keyboard_is_enough(page):
    """
    From the first key to the last result, and no element holds the focus.
    """
    page.keyboard.press("Tab")
    expect(page.get_by_label("Operations")).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type(document("GET /a", "GET /fail"))
    page.keyboard.press("Control+Enter")
    finished(page)
    focused = []
    for _ in range(10):
        page.keyboard.press("Tab")
        focused.append(page.evaluate("document.activeElement.textContent.trim().slice(0, 16)"))
    assert focused[:4] == ["Add an operation", "Request headers", "Send", "Send for later"]
    assert focused[4:6] == ["Retry failed", "Download results"]
    expect(page.locator("#rows summary").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#rows pre").nth(1)).to_contain_text("There is nothing here.")


@pytest.mark.parametrize("width", [320, 1600])
def test_the_page_fits(browser, server, width):
    """
    Nothing has to be scrolled to the side, and a table remains one for those who hear it.
    """
    with opened(browser, server, viewport={"width": width, "height": 700}) as page:
        send(page, document("GET /a", f"GET /{'long' * 100}", "GET /markup"), "Send for later")
        finished(page)
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        expect(page.locator("#rows pre").first).not_to_be_empty()

        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.get_by_role("table", name="Results").get_by_role("rowheader").count() == 3
