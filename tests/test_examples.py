"""
The examples, wrapped as the README wraps them: six frameworks, one answer; an import service, an
API for partners, and a shop.
"""

import re
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager, nullcontext

import httpx
import pytest

from redis_server import redis_server
from servers import ROOT, SERVERS, free_port, kill, running, serving
from wide import wide, widely

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
    pytest.param(
        framework,
        kind,
        id=f"{framework}-{kind}",
        # Each framework under one server, and one framework under each.
        marks=[] if framework == "fastapi" or kind == "uvicorn-h11-asyncio" else wide,
    )
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


IMPORT = "examples.import_service:app"
ADA = {"email": "ada@example.com", "name": "Ada"}
LAMP = {"name": "Lamp", "cents": 1999}


def imports(count):
    """
    Contacts and products in turn.
    """
    return [
        {"method": "PUT", "path": f"/products/{n}", "body": {"name": "Lamp", "cents": n}}
        if n % 2
        else {"method": "POST", "path": "/contacts", "body": {"email": f"{n}@b.c", "name": "Ada"}}
        for n in range(count)
    ]


def finished(server, batch):
    """
    The status of *batch* after its end.
    """
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        status = httpx.get(server.url + batch["statusUrl"]).json()
        if status["finishedAt"]:
            return status
        time.sleep(0.05)
    raise AssertionError(status)


def all_results(server, batch):
    """
    The results of *batch* up to the first that is missing.
    """
    url = server.url + batch["resultsUrl"]
    return httpx.get(url, params={"limit": batch["total"]}).json()["results"]


@contextmanager
def import_service(folder, **env):
    """
    The import service, run as a script.
    """
    port = free_port()
    command = [sys.executable, str(ROOT / "examples" / "import_service.py")]
    with running("uvicorn", command, port, folder, {"PORT": str(port), **env}) as server:
        yield server


def test_import_service_creates_by_post_and_replaces_by_put(tmp_path):
    """
    A contact that is there is not created again, a product is put over the one that is there, and
    both outlive the process where ``DATABASE`` names a file.
    """
    env = {"DATABASE": str(tmp_path / "import.db")}
    with import_service(tmp_path / "first", **env) as server:
        created = httpx.post(f"{server.url}/contacts", json=ADA)
        put = [httpx.put(f"{server.url}/products/7", json={**LAMP, "cents": n}) for n in (1, 2)]
    with import_service(tmp_path / "second", **env) as server:
        again = httpx.post(f"{server.url}/contacts", json=ADA)
    with closing(sqlite3.connect(tmp_path / "import.db")) as database:
        contacts = database.execute("SELECT * FROM contacts").fetchall()
        products = database.execute("SELECT * FROM products").fetchall()

    assert (created.status_code, created.json()) == (201, ADA)
    assert (again.status_code, again.json()) == (200, ADA)
    assert [each.json()["cents"] for each in put] == [1, 2]
    assert contacts == [("ada@example.com", "Ada")]
    assert products == [("7", "Lamp", 2)]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/contacts", {**ADA, "email": "ada"}),
        ("POST", "/contacts", {**ADA, "name": ""}),
        ("PUT", "/products/7", {**LAMP, "cents": -1}),
    ],
)
def test_import_service_refuses_what_it_cannot_keep(tmp_path, method, path, body):
    """
    An operation that is not valid fails alone; the next one is carried out.
    """
    fine = {"method": "POST", "path": "/contacts", "body": ADA}
    operations = [{"method": method, "path": path, "body": body}, fine]
    with import_service(tmp_path) as server:
        answer = httpx.post(f"{server.url}/batch", json={"operations": operations})

    assert [each["status"] for each in answer.json()["results"]] == [422, 201]


@pytest.mark.parametrize("kind", SERVERS)
def test_import_service_carries_out_a_large_batch_under_every_server(kind, tmp_path):
    """
    A batch of more than a hundred operations is answered 202, and carried out in the background.
    """
    with serving(kind, IMPORT, tmp_path) as server:
        answer = httpx.post(f"{server.url}/batch", json={"operations": imports(101)}, timeout=30)
        status = finished(server, answer.json())

    assert answer.status_code == 202
    assert answer.json()["durability"] == "process"
    assert (status["status"], status["succeeded"]) == ("completed", 101)


def test_f1_f2_import_service_goes_on_after_a_kill(tmp_path):
    """
    F1, F2: with ``REDIS_URL`` a second server goes on with the batch of a dead one, and what the
    service has written down shows no second start of a POST, or of what had its result.
    """
    with redis_server(tmp_path / "redis") as redis:
        env = {"REDIS_URL": redis.url, "DATABASE": str(tmp_path / "import.db")}
        with serving(SERVERS[0], IMPORT, tmp_path / "first", env=env) as first:
            answer = httpx.post(f"{first.url}/batch", json={"operations": imports(150)})
            while httpx.get(first.url + answer.json()["statusUrl"]).json()["progress"] < 0.2:
                time.sleep(0.02)
            settled = all_results(first, answer.json())
            kill(first.process)
            with serving(SERVERS[0], IMPORT, tmp_path / "second", env=env) as second:
                status = finished(second, answer.json())
                results = all_results(second, answer.json())
            first.process.returncode = 0
    with closing(sqlite3.connect(tmp_path / "import.db")) as database:
        starts = Counter(database.execute("SELECT method, operation FROM starts").fetchall())
    repeated = {operation for (_, operation), count in starts.items() if count > 1}
    failed = [each for each in results if each["status"] >= 400]

    assert answer.json()["durability"] == "store"
    assert (status["status"], status["completed"]) == ("completed", 150)
    assert settled
    assert results[: len(settled)] == settled
    assert repeated.isdisjoint(each["id"] for each in settled)
    assert max(count for (method, _), count in starts.items() if method == "POST") == 1
    assert sum(method == "PUT" for method, _ in starts) == 75
    assert len(failed) == status["failed"]
    assert {each["error"]["code"] for each in failed} <= {"outcome_unknown"}
    assert all(starts["POST", each["id"]] for each in results if each["status"] == 201)


PARTNER_API = "examples.partner_api:app"


@contextmanager
def partner_api(folder, kind="uvicorn-h11-asyncio"):
    """
    The API for partners on a server, with its batches sealed in Redis.
    """
    with redis_server(folder / "redis") as redis:
        env = {"REDIS": redis.url, "SEAL": "QUFB" * 10 + "QUE="}
        with serving(kind, PARTNER_API, folder / "server", env=env) as server:
            yield server, redis


def as_partner(url, name, method, path, **members):
    """
    A request of a partner.
    """
    headers = {"x-api-key": f"key-of-{name}", **members.pop("headers", {})}
    return httpx.request(method, url + path, headers=headers, timeout=30, **members)


def orders(*paths):
    return {"operations": [{"method": "GET", "path": path} for path in paths]}


@pytest.mark.parametrize("kind", ["uvicorn-httptools-uvloop", "hypercorn-asyncio"])
def test_partner_api_keeps_partners_apart_and_within_their_limits(kind, tmp_path):
    """
    Each control does what it is there for, and none gets in the way of what is allowed.
    """
    with partner_api(tmp_path, kind) as (server, redis):
        url = server.url
        nobody = as_partner(url, "eve", "POST", "/batch", json=orders("/orders/1"))
        mine = as_partner(url, "ada", "POST", "/batch", json=orders("/orders/1", "/orders/2"))
        denied = as_partner(url, "ada", "POST", "/batch", json=orders("/admin/shut-down"))
        later = as_partner(
            url, "ada", "POST", "/batch", json=orders(*[f"/orders/{n}" for n in range(60)])
        )
        status = later.json()["statusUrl"]
        theirs = as_partner(url, "bob", "GET", status)
        while as_partner(url, "ada", "GET", status).json()["finishedAt"] is None:
            pass
        results = as_partner(url, "ada", "GET", later.json()["resultsUrl"]).json()["results"]
        kept = b"".join(redis.client.hvals(key)[0] for key in redis.client.keys("*:res"))
        over = as_partner(url, "ada", "POST", "/batch", json=orders(*["/orders/1"] * 50))
        while over.status_code != 429:
            over = as_partner(url, "ada", "POST", "/batch", json=orders(*["/orders/1"] * 50))
        other = as_partner(url, "bob", "POST", "/batch", json=orders("/orders/1"))

    assert nobody.status_code == 401
    assert [each["result"]["of"] for each in mine.json()["results"]] == ["ada"] * 2
    assert denied.json()["errors"][0]["code"] == "path_not_allowed"
    assert (later.status_code, theirs.status_code) == (202, 404)
    assert [each["result"] for each in results] == [{"id": n, "of": "ada"} for n in range(60)]
    assert b"ada" not in kept
    assert over.json()["code"] == "rate_limited"
    assert other.status_code == 200


SHOP = "examples.shop.app:app"
ECHOED = re.compile(r" sqlalchemy\.engine\.Engine (INSERT INTO users )")


class Shop:
    """
    The shop on a server, with a database of its own.

    Args:
        server: That it runs on.
        statements: What its database has carried out; None where it keeps no log.
    """

    def __init__(self, server, statements):
        self.server = server
        self._statements = statements

    def ask(self, method, path, **members):
        return httpx.request(method, self.server.url + path, timeout=60, **members)

    def batch(self, operations, **members):
        """
        The results of a batch that is answered at once.
        """
        answer = self.ask("POST", "/batch", json={**members, "operations": operations})
        assert answer.status_code == 200, answer.text
        return answer.json()["results"]

    def inserts(self):
        """
        How many statements have inserted users: those that the app has sent, and the database seen.
        """
        sent = ECHOED.findall(self.server.log())
        if self._statements is not None:
            assert len(self._statements("INSERT INTO users ")) == len(sent)
        return len(sent)


@contextmanager
def postgres_shop(server, driver):
    """
    A database on *server* for the shop alone.
    """
    server.query("CREATE DATABASE shop")
    try:
        server.clear_statements()
        yield server.url(driver).removesuffix("postgres") + "shop"
    finally:
        server.query("DROP DATABASE shop")


@pytest.fixture(params=["aiosqlite", "asyncpg", *widely("psycopg")])
def shop(request, tmp_path):
    if request.param == "aiosqlite":
        database, statements = nullcontext(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}"), None
    else:
        postgres = request.getfixturevalue("postgres")
        database, statements = postgres_shop(postgres, request.param), postgres.statements
    with database as url:
        env = {"DATABASE_URL": url, "ECHO": "1"}
        with serving(SERVERS[0], SHOP, tmp_path, env=env) as server:
            yield Shop(server, statements)


def new_users(count):
    return [
        {"method": "POST", "path": "/users", "body": {"email": f"{n}@b.c", "name": f"User {n}"}}
        for n in range(count)
    ]


def tea(*quantities):
    """
    An order of the first user for each of *quantities*.
    """
    return [
        {
            "method": "POST",
            "path": "/orders",
            "body": {"user_id": 1, "product": "tea", "quantity": n},
        }
        for n in quantities
    ]


def statuses(results):
    return [each["status"] for each in results]


def test_shop_inserts_a_thousand_users_by_two_statements(shop):
    """
    Each operation is answered with its own user, as a single request is.
    """
    users = new_users(1000)
    results = shop.batch(users)
    inserts = shop.inserts()
    found = shop.batch(
        [{"method": "GET", "path": f"/users/{each['result']['id']}"} for each in results]
    )
    alone = shop.ask("POST", "/users", json={"email": "ada@b.c", "name": "Ada"})

    assert statuses(results) == [201] * 1000
    assert inserts == 2
    assert [each["body"] for each in users] == [
        {"email": each["result"]["email"], "name": each["result"]["name"]} for each in results
    ]
    assert [each["result"] for each in found] == [each["result"] for each in results]
    assert (alone.status_code, alone.json()["name"]) == (201, "Ada")


def test_shop_refuses_the_users_whose_addresses_are_taken(shop):
    """
    The others are there, and it takes no statement more, however many are refused.
    """
    users = new_users(1000)
    shop.batch(users[:500:10])
    before = shop.inserts()
    users[999]["body"] = {"email": users[998]["body"]["email"], "name": "Twice"}
    results = shop.batch(users)
    inserts = shop.inserts() - before
    again = shop.ask("POST", "/users", json=users[999]["body"])

    assert statuses(results) == [
        409 if n in {*range(0, 500, 10), 999} else 201 for n in range(1000)
    ]
    assert inserts == 2
    assert results[998]["result"]["name"] == "User 998"
    assert results[999]["error"] == again.json() == {"detail": "This address is taken."}


def test_shop_takes_all_orders_of_an_atomic_batch_or_none(shop):
    """
    An order that there is too little for undoes those before it; without it all are there.
    """
    shop.batch(new_users(1))
    stock = {"name": "tea", "stock": 10}
    shop.ask("POST", "/products", json=stock)
    failed = shop.batch(tea(4, 8, 2), atomic=True)
    unchanged = shop.ask("GET", "/products/tea").json()
    done = shop.batch(tea(4, 4, 2), atomic=True)
    sold = shop.ask("GET", "/products/tea").json()

    assert statuses(failed) == [424, 409, 424]
    assert failed[0]["error"]["code"] == "rolled_back"
    assert failed[1]["error"] == {"detail": "There is not enough tea."}
    assert unchanged == stock
    assert statuses(done) == [201] * 3
    assert sold == {**stock, "stock": 0}


def test_shop_inserts_the_users_of_an_atomic_batch_together(shop):
    """
    By as few statements, and not one of them where one is refused.
    """
    users = new_users(600)
    taken = [*users[:300], users[7], *users[300:]]
    refused = shop.batch(taken, atomic=True)
    before = shop.inserts()
    results = shop.batch(users, atomic=True)

    assert Counter(statuses(refused)) == {424: 600, 409: 1}
    assert refused[300]["status"] == 409
    assert statuses(results) == [201] * 600
    assert shop.inserts() - before == 2


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/users", {"email": "ada", "name": "Ada"}, 422),
        ("GET", "/users/99", None, 404),
        ("GET", "/products/coffee", None, 404),
        ("POST", "/products", {"name": "tea", "stock": 1}, 409),
        ("POST", "/orders", {"user_id": 99, "product": "tea", "quantity": 1}, 404),
        ("POST", "/orders", {"user_id": 1, "product": "coffee", "quantity": 1}, 409),
        ("POST", "/orders", {"user_id": 1, "product": "tea", "quantity": -1}, 422),
    ],
)
def test_shop_refuses_what_it_cannot_do(tmp_path, method, path, body, status):
    """
    An operation that is refused fails alone; the next one is carried out.
    """
    env = {"DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}"}
    with serving(SERVERS[0], SHOP, tmp_path, env=env) as server:
        shop = Shop(server, None)
        shop.batch(new_users(1))
        shop.ask("POST", "/products", json={"name": "tea", "stock": 10})
        operation = {"method": method, "path": path, "body": body}
        results = shop.batch([{k: v for k, v in operation.items() if v is not None}, *tea(1)])

    assert statuses(results) == [status, 201]


def test_the_client_example_runs_as_a_script(tmp_path):
    """
    It starts its server itself, and tells what came of each of its three parts.
    """
    script = ROOT / "examples" / "client.py"
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Created {'id': 4, 'name': 'Barbara'}, and /users/99 is 404.",
        "2500 of 2500 operations have succeeded.",
        "20 requests of httpx, each in a batch of 20.",
    ]
