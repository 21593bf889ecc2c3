"""
The page over HTTP: who gets it, in which words, and that it tells nothing.
"""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_batch import BatchMiddleware, ConfigurationError
from later_support import UNKNOWN, ask, serving, submitted
from servers import SERVERS
from servers import serving as on_a_server
from support import Exchange, call, http_scope, respond, submit

BROWSER = b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
HTML = [(b"accept", BROWSER)]
PLACES = ["/batch", f"/batch/{UNKNOWN}"]


async def fine(scope, receive, send):
    await respond(send, b"fine")


def with_page(app=fine, **settings):
    return BatchMiddleware(app, console=True, **settings)


class Reader(HTMLParser):
    """
    Elements of a document, and the text of its style and its script.
    """

    def __init__(self, document):
        super().__init__()
        self.elements = []
        self.texts = {}
        self._inside = None
        self.feed(document)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside in ("style", "script"):
            self.texts[self._inside] = self.texts.get(self._inside, "") + data


# --- who gets it


@pytest.mark.parametrize("path", PLACES)
async def test_there_is_no_page_unless_asked_for(path):
    """
    Without ``console=True`` a browser gets what everybody gets, byte for byte.
    """
    app = BatchMiddleware(fine)
    browser, other = await ask(app, path, headers=HTML), await ask(app, path)

    assert browser.status == other.status == 405
    assert browser.sent == other.sent
    assert "vary" not in browser.headers


@pytest.mark.parametrize("path", PLACES)
async def test_a_browser_gets_the_page(path):
    """
    With headers under which it can do nothing but what it is meant to.
    """
    answer = await ask(with_page(), path, headers=HTML)

    assert answer.status == 200
    assert {name: answer.headers[name] for name in sorted(answer.headers)} == {
        "cache-control": "private, no-cache",
        "content-length": str(len(answer.body)),
        "content-security-policy": answer.headers["content-security-policy"],
        "content-type": "text/html; charset=utf-8",
        "etag": answer.headers["etag"],
        "referrer-policy": "no-referrer",
        "vary": "accept",
        "x-content-type-options": "nosniff",
    }


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ([BROWSER], 200),
        ([b"text/html"], 200),
        ([b"application/json, TEXT/HTML ; q=0.5"], 200),
        ([b"application/json", b"text/html"], 200),
        ([b"text/html;level=1;q=0.05"], 200),
        ([], 405),
        ([b"*/*"], 405),
        ([b"text/*"], 405),
        ([b"application/json"], 405),
        ([b"text/html;q=0"], 405),
        ([b"text/html; Q=0.000;x=y, */*"], 405),
        ([b"text/htmlx"], 405),
        ([b"application/json;x=text/html"], 405),
    ],
)
async def test_only_who_names_html_gets_html(accept, status):
    """
    Tools that take anything get the answer that they had before.
    """
    headers = [(b"Accept", value) for value in accept]
    answer = await ask(with_page(), "/batch", headers=headers)

    assert answer.status == status
    assert answer.headers["vary"] == "accept"


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "DELETE", "PATCH"])
async def test_other_methods_are_as_before(method):
    """
    A form or a script that accepts HTML is answered as any client.
    """
    for path in PLACES:
        plain = await ask(BatchMiddleware(fine), path, method, HTML)
        answer = await ask(with_page(), path, method, HTML)

        assert (answer.status, answer.body) == (plain.status, plain.body)
        assert answer.headers == {**plain.headers, "vary": "accept"}


@pytest.mark.parametrize("face", ["/status", "/results", "/events", "/retry"])
async def test_what_is_below_a_batch_has_no_page(face):
    """
    Data are data, also in a browser.
    """
    async with serving(console=True) as app:
        answer = await ask(app, f"/batch/{UNKNOWN}{face}", headers=HTML)

    assert answer.status in (404, 405)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "vary" not in answer.headers


async def test_longer_paths_belong_to_the_app():
    """
    The page takes no path that was the app's.
    """
    for path in ("/", "/batch/", "/batcher", "/batch/a/b"):
        assert (await ask(with_page(), path, headers=HTML)).body == b"fine"


async def test_an_operation_gets_no_page():
    """
    T44: what is in a batch cannot ask for the page either.
    """
    inner = with_page()
    app = BatchMiddleware(Starlette(routes=[Mount("/inner", inner)]))
    operation = {"method": "GET", "path": "/inner/batch", "headers": {"accept": "text/html"}}
    answer = await submit(app, operation)

    assert answer.statuses == [400]
    assert answer.results[0]["error"]["code"] == "nested_batch"


@pytest.mark.parametrize("path", ["/api/batch", "/batch"])
async def test_the_page_below_a_root_path(path):
    """
    It is the same, since it finds its way by the address in the browser.
    """
    scope = http_scope("GET", path, root_path="/api", headers=HTML)
    answer = await call(with_page(), Exchange(scope))

    assert answer.status == 200
    assert answer.body == (await ask(with_page(), "/batch", headers=HTML)).body


@pytest.mark.parametrize("value", ["yes", None, 2, object()])
def test_a_wrong_argument_is_told(value):
    """
    Only yes and no will do.
    """
    with pytest.raises(ConfigurationError) as error:
        BatchMiddleware(fine, console=value)

    assert str(error.value) == f"console={value!r:.100}: write True or False."


# --- what is in it


async def test_the_page_tells_nothing():
    """
    T44: of a batch that is there, one that is not, and one of somebody else it is the same page.
    """

    def nobody_knows(scope):
        raise RuntimeError("The page must not ask.")

    async with serving(console=True) as app:
        accepted = await submitted(app, 1)
        known = await ask(app, f"/batch/{accepted.json()['batchId']}", headers=HTML)
        unknown = await ask(app, f"/batch/{UNKNOWN}", headers=HTML)
        no_id = await ask(app, "/batch/<script>", headers=HTML)
    foreign = await ask(with_page(owner=nobody_knows), f"/batch/{UNKNOWN}", headers=HTML)

    assert known.sent == unknown.sent == no_id.sent == foreign.sent


@pytest.mark.parametrize("path", PLACES)
async def test_the_policy_names_what_is_in_the_page_and_nothing_else(path):
    """
    T44: one style and one script, by their digests; no address of anywhere else.
    """
    answer = await ask(with_page(), path, headers=HTML)
    page = Reader(answer.body.decode())
    digests = {
        name: f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
        for name, text in page.texts.items()
    }
    addresses = [
        attributes[name]
        for _, attributes in page.elements
        for name in ("src", "href", "action")
        if name in attributes
    ]

    assert answer.headers["content-security-policy"].split("; ") == [
        "default-src 'none'",
        f"script-src {digests['script']}",
        f"style-src {digests['style']}",
        "img-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert [tag for tag, _ in page.elements].count("style") == 1
    assert [each.partition(":")[0] for each in addresses] == ["data"]
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert not any("style" in attributes for _, attributes in page.elements)


async def test_the_two_views_differ_in_one_word():
    """
    One document that knows which of its parts to show.
    """
    compose, batch = [(await ask(with_page(), path, headers=HTML)) for path in PLACES]

    assert compose.headers["etag"] != batch.headers["etag"]
    assert batch.body == compose.body.replace(
        b'<body data-view="compose">', b'<body data-view="batch">', 1
    )


def test_no_script_makes_markup():
    """
    T44: none of the ways in which text could become an element or a script.
    """
    from importlib.resources import files

    scripts = [
        each.read_text("utf-8")
        for each in files("asgi_batch.console").iterdir()
        if each.name.endswith(".js")
    ]
    sinks = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc"

    assert len(scripts) > 5
    assert [re.findall(sinks, script) for script in scripts if re.search(sinks, script)] == []


# --- asked again


async def test_a_head_tells_what_a_get_would():
    """
    The same headers, to the length, and nothing after them.
    """
    page = await ask(with_page(), "/batch", headers=HTML)
    head = await ask(with_page(), "/batch", "HEAD", HTML)

    assert (head.status, head.body) == (200, b"")
    assert head.headers == page.headers


async def test_a_page_that_is_known_is_not_sent_again():
    """
    A browser that has it is told so, as long as it is the same view of the same version.
    """
    app = with_page()
    first = await ask(app, "/batch", headers=HTML)
    tag = first.headers["etag"].encode()
    for value in (tag, b"W/" + tag, b'"other", ' + tag):
        again = await ask(app, "/batch", headers=[*HTML, (b"if-none-match", value)])

        assert (again.status, again.body) == (304, b"")
        for name in ("etag", "vary", "cache-control", "content-security-policy"):
            assert again.headers[name] == first.headers[name]
    other = await ask(app, PLACES[1], headers=[*HTML, (b"if-none-match", tag)])

    assert other.status == 200


@pytest.mark.parametrize("kind", SERVERS)
def test_the_page_on_a_real_server(kind, tmp_path):
    """
    GET, HEAD and a second look, as each server puts them on the wire.
    """
    with (
        on_a_server(kind, "apps.console:app", tmp_path) as server,
        httpx.Client(base_url=server.url, headers={"accept": BROWSER.decode()}) as client,
    ):
        page, head = client.get("/batch"), client.head("/batch")
        again = client.get("/batch", headers={"if-none-match": page.headers["etag"]})
        plain = client.get("/batch", headers={"accept": "application/json"})
        names = ("content-type", "content-length", "etag", "vary", "content-security-policy")

    assert (page.status_code, head.status_code, again.status_code) == (200, 200, 304)
    assert [head.headers[name] for name in names] == [page.headers[name] for name in names]
    assert head.content == again.content == b""
    assert plain.status_code == 405
