"""
Sends 500 operations to examples/import_service.py, ends its server with kill -9 in the middle,
starts it again, and shows that nothing is lost, and that nothing has run twice that must not.

``make demo`` runs it after demo.py, and ``python examples/demo_background.py`` runs it alone. Where
there is no redis-server it shows a batch in memory, and does not kill its server.
"""

import json
import math
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
from demo import Surprise, bold, check, free_port, main, running, serving

TOTAL = 500
KILLED_AT = 0.4
# Seconds that a batch may take; it takes about five.
PATIENCE = 60
OLDEST_REDIS = 7


def operation(n: int) -> dict[str, Any]:
    """
    The *n*-th of the batch: products and contacts in turn.
    """
    if n % 2 == 0:
        product = {"name": f"Product {n}", "cents": n}
        return {"id": f"product-{n}", "method": "PUT", "path": f"/products/{n}", "body": product}
    contact = {"email": f"contact-{n}@example.com", "name": f"Contact {n}"}
    return {"id": f"contact-{n}", "method": "POST", "path": "/contacts", "body": contact}


def show_background(folder: Path) -> None:
    lack = what_redis_lacks()
    if lack is None:
        show_crash(folder)
    else:
        show_memory(folder, lack)


def what_redis_lacks() -> str | None:
    if shutil.which("redis-server") is None:
        return "redis-server is not installed"
    command = ["redis-server", "--version"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    version = re.search(r"v=((\d+)[\d.]*)", told)
    if version is not None and int(version[2]) < OLDEST_REDIS:
        return f"redis-server {version[1]} is too old"
    return None


class Service:
    """
    The import service at an address of its own, seen from outside.

    Args:
        folder: For its database and its log.
        store: Where it keeps batches.
    """

    def __init__(self, folder: Path, store: str) -> None:
        self._port = free_port()
        self._folder = folder
        self._database = folder / "import.db"
        self._store = store
        self.client: httpx.Client

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        url = f"http://127.0.0.1:{self._port}"
        log = self._folder / "service.log"
        env = {"REDIS_URL": self._store, "DATABASE": str(self._database)}
        with (
            serving("import_service:app", self._port, log, **env) as process,
            httpx.Client(base_url=url, trust_env=False) as self.client,
        ):
            yield process

    def rows(self, question: str, *values: str) -> list[tuple[Any, ...]]:
        """
        What its database answers.
        """
        with closing(sqlite3.connect(self._database)) as database:
            return database.execute(question, values).fetchall()

    def results(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        """
        All results of *batch* up to the first operation that has none.
        """
        response = self.client.get(batch["resultsUrl"], params={"limit": TOTAL})
        check("status of the results", response.status_code, 200)
        results: list[dict[str, Any]] = response.json()["results"]
        return results


def show_memory(folder: Path, lack: str) -> None:
    print(bold(f"{lack}: this batch is kept in memory, and would end with its process"))
    print("  Install Redis 7 or later to see a batch outlive a kill -9 of its server, with")
    print('  "apt-get install redis-server" or "brew install redis", and run this again.\n')
    service = Service(folder, "memory://")
    with service.serving():
        batch = submit(service, "process")
        status = follow(service, batch)
        show_summary(status)
        print()
        check("succeeded", status["succeeded"], TOTAL)
        show_record(service, batch, [], [])


def show_crash(folder: Path) -> None:
    port = free_port()
    redis = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    service = Service(folder, f"redis://127.0.0.1:{port}/0")
    with running([*redis, "--appendonly", "yes"], port, folder / "redis.log"):
        with service.serving() as server:
            batch = submit(service, "store")
            follow(service, batch, KILLED_AT)
            earlier = service.results(batch)
            server.kill()
            check("end of the server", server.wait(30), -signal.SIGKILL)
            print(bold(f"kill -9 {server.pid}: the server is dead, and nobody runs the batch\n"))
        with service.serving() as server:
            print(bold(f"The server is started again, as process {server.pid}"))
            print("  The batch goes on once its old process has been silent for 2 s, which is the")
            print("  lease of this example; by default it is 30 s.\n")
            status = follow(service, batch)
            show_summary(status)
            unknown = show_results(service, batch, status, earlier)
            show_record(service, batch, [each["id"] for each in earlier], unknown)
            show_retry(service, batch, len(unknown))


def submit(service: Service, durability: str) -> dict[str, Any]:
    print(bold(f"One request: POST {service.client.base_url}/batch with {TOTAL} operations"))
    operations = [operation(n) for n in range(TOTAL)]
    for each in operations[:2]:
        print(f"  {json.dumps(each)}")
    print("  … and so on\n")
    response = service.client.post("/batch", json={"operations": operations})
    check("status of the batch", response.status_code, 202)
    batch: dict[str, Any] = response.json()
    print(bold("The answer, at once: 202"))
    for name in ("location", "retry-after", "content-type"):
        print(f"  {name}: {response.headers[name]}")
    print()
    print(textwrap.indent(json.dumps(batch, indent=2), "  "))
    print()
    check("durability", batch["durability"], durability)
    return batch


def follow(service: Service, batch: dict[str, Any], goal: float = math.inf) -> dict[str, Any]:
    """
    Show how far *batch* is until it has ended or reached *goal*; its status then.
    """
    print(bold(f"GET {batch['statusUrl']}"))
    bar = Bar()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        response = service.client.get(batch["statusUrl"])
        check("status of the status", response.status_code, 200)
        status: dict[str, Any] = response.json()
        bar.show(status)
        if status["finishedAt"] or status["progress"] >= goal:
            bar.close()
            return status
        # Retry-After says when to look again; a bar that moves looks more often.
        time.sleep(0.1)
    raise Surprise(f"the batch has not ended after {PATIENCE} s: {status}")


class Bar:
    """
    How far a batch is: one line that changes on a terminal, and elsewhere a line for each tenth.
    """

    WIDTH = 30

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=11)  # in about a second
        self._tenth = -1

    def show(self, status: dict[str, Any]) -> None:
        share, completed = status["progress"], status["completed"]
        self._seen.append((time.monotonic(), completed))
        (since, before), (now, _) = self._seen[0], self._seen[-1]
        rate = (completed - before) / (now - since) if now > since else 0
        done = ("#" * int(self.WIDTH * share)).ljust(self.WIDTH, ".")
        line = f"  [{done}] {share:4.0%}  {completed} of {status['total']}  {rate:.0f} per second"
        if sys.stdout.isatty():
            print(f"\r{line:75}", end="", flush=True)
        elif int(10 * share) != self._tenth:
            print(line, flush=True)
        self._tenth = int(10 * share)

    def close(self) -> None:
        print("\n" if sys.stdout.isatty() else "")


def show_summary(status: dict[str, Any]) -> None:
    print(bold(f"The batch is {status['status']}"))
    names = ("total", "succeeded", "failed", "skipped")
    print("  " + ", ".join(f"{name} {status[name]}" for name in names))


def show_results(
    service: Service,
    batch: dict[str, Any],
    status: dict[str, Any],
    earlier: list[dict[str, Any]],
) -> list[str]:
    """
    What has become of all results; the ids of those whose outcome is unknown.
    """
    results = service.results(batch)
    check("number of results", len(results), TOTAL)
    check("results from before the kill", results[: len(earlier)], earlier)
    print(f"  The {len(earlier)} results that were fetched before the kill are there, unchanged.")
    unknown = [each["id"] for each in results if is_unknown(each)]
    check("failed operations of another kind", status["failed"] - len(unknown), 0)
    check("succeeded", status["succeeded"], TOTAL - len(unknown))
    print(
        f"  {len(unknown)} are outcome_unknown: POSTs that may have been running when the process"
    )
    print("  died. They are not run again, since that might create a contact twice.\n")
    return unknown


def is_unknown(result: dict[str, Any]) -> bool:
    return result.get("source") == "batch" and result["error"]["code"] == "outcome_unknown"


def show_record(
    service: Service, batch: dict[str, Any], settled: list[str], unknown: list[str]
) -> None:
    """
    Show what has started how often.

    Args:
        service: The service.
        batch: The batch.
        settled: Operations that had their result before the kill.
        unknown: Operations of unknown outcome.
    """
    rows = service.rows(
        "SELECT method, operation, count(*) FROM starts WHERE batch = ? GROUP BY 1, 2",
        batch["batchId"],
    )
    posts = {name: count for method, name, count in rows if method == "POST"}
    puts = {name: count for method, name, count in rows if method == "PUT"}
    twice, again = (sum(count > 1 for count in counts.values()) for counts in (posts, puts))
    contacts = {email for (email,) in service.rows("SELECT email FROM contacts")}
    created = sum(f"{each}@example.com" in contacts for each in unknown)
    print(bold("What the service itself has written down"))
    print(f"  {len(posts)} POSTs have started, {twice} of them more than once.")
    print(
        f"  {len(puts)} PUTs have started, {again} of them more than once, which changes nothing."
    )
    if unknown:
        print(
            f"  Of the {len(unknown)} POSTs of unknown outcome {created} had created their contact."
        )
    print()
    check("POSTs that have started more than once", twice, 0)
    starts = posts | puts
    repeated = [each for each in settled if starts[each] > 1]
    check("operations that have started again after they had their result", repeated, [])
    check("contacts", len(contacts), TOTAL // 2 - len(unknown) + created)


def show_retry(service: Service, batch: dict[str, Any], count: int) -> None:
    path = f"/batch/{batch['batchId']}/retry"
    response = service.client.post(path)
    check("status of the retry", response.status_code, 202)
    retry: dict[str, Any] = response.json()
    check("operations of the retry", retry["total"], count)
    print(bold(f"POST {path}: 202, {count} operations in a new batch"))
    print("  The service knows contacts by their address, so the client may try again.\n")
    status = follow(service, retry)
    show_summary(status)
    check("succeeded", status["succeeded"], count)
    statuses = [each["status"] for each in service.results(retry)]
    print(f"  {statuses.count(201)} contacts have been created now (201),", end="")
    print(f" {statuses.count(200)} were there already (200).")
    contacts = len(service.rows("SELECT email FROM contacts"))
    products = len(service.rows("SELECT sku FROM products"))
    print(
        f"  The database has {contacts} contacts and {products} products: all {TOTAL} are done.\n"
    )
    check("contacts and products", (contacts, products), (TOTAL // 2, TOTAL // 2))


if __name__ == "__main__":
    sys.exit(main(show_background))
