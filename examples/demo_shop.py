"""
Sends batches to examples/shop on SQLite: a thousand users, which two statements insert, and orders
that all happen or none.

``make demo`` runs it after demo_background.py, and ``python examples/demo_shop.py`` runs it alone.
"""

import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
from demo import bold, check, free_port, main, result_row, serving, show_table, text

TOTAL = 1000
# Users of one INSERT, as the shop has set it.
MAX_SIZE = 500
# Users of the second batch whose address is that of a user in the first, or of one before them.
TAKEN = {"second-333": "first-0", "second-617": "second-616"}
STOCK = 10


class Shop:
    """
    The shop, seen from outside.

    Args:
        client: Speaks with it.
        folder: Where its database is, and its log, which has all of its statements.
    """

    def __init__(self, client: httpx.Client, folder: Path) -> None:
        self._client = client
        self._folder = folder
        self._seen = 0

    def send(self, method: str, path: str, status: int, **members: Any) -> Any:
        """
        The answer to a request, which must have *status*.
        """
        response = self._client.request(method, path, **members)
        check(f"status of {method} {path}", response.status_code, status)
        return response.json()

    def batch(self, operations: list[dict[str, Any]], **members: Any) -> dict[str, Any]:
        """
        The answer to a batch.
        """
        answer: dict[str, Any] = self.send(
            "POST", "/batch", 200, json={**members, "operations": operations}
        )
        return answer

    def statements(self, verb: str) -> int:
        """
        How many *verb* statements it has sent to its database since it was asked last.
        """
        log = self._folder.joinpath("shop.log").read_text()
        new, self._seen = log[self._seen :], len(log)
        return len(re.findall(rf" sqlalchemy\.engine\.Engine {verb}\b", new))

    def goods(self) -> tuple[int, int]:
        """
        The stock of tea, and the number of orders, which its database is asked for.
        """
        with closing(sqlite3.connect(self._folder / "shop.db")) as database:
            question = "SELECT stock, (SELECT count(*) FROM orders) FROM products"
            stock, orders = database.execute(question).fetchone()
        return stock, orders


@contextmanager
def opened(folder: Path) -> Iterator[Shop]:
    port = free_port()
    env = {"DATABASE_URL": f"sqlite+aiosqlite:///{folder / 'shop.db'}", "ECHO": "1"}
    with (
        serving("shop.app:app", port, folder / "shop.log", **env),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client,
    ):
        yield Shop(client, folder)


def show_shop(folder: Path) -> None:
    with opened(folder) as shop:
        show_users(shop)
        show_conflict(shop)
        shop.send("POST", "/products", 201, json={"name": "tea", "stock": STOCK})
        show_orders(shop, [4, 8, 2], [424, 409, 424])
        show_orders(shop, [4, 4, 2], [201, 201, 201])


def new_users(name: str) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{name}-{n}",
            "method": "POST",
            "path": "/users",
            "body": {"email": address(f"{name}-{n}"), "name": f"User {n}"},
        }
        for n in range(TOTAL)
    ]


def address(name: str) -> str:
    return f"{name}@example.com"


def show_users(shop: Shop) -> None:
    users = new_users("first")
    print(bold(f"One batch: {TOTAL} times POST /users"))
    print(f"  {text(users[0])}")
    print("  … and so on. The endpoint takes one user, and asks a bulk function to insert it.\n")
    answer = shop.batch(users)
    inserts = shop.statements("INSERT")
    show_summary(answer, inserts)
    check("summary", answer["summary"], summary())
    check("INSERT statements", inserts, TOTAL // MAX_SIZE)
    ids = [result["result"]["id"] for result in answer["results"]]
    check("users with ids of their own", len(set(ids)), TOTAL)


def show_conflict(shop: Shop) -> None:
    users = new_users("second")
    for user in users:
        user["body"]["email"] = address(TAKEN.get(user["id"], user["id"]))
    print(bold(f"One batch more, with {len(TAKEN)} addresses that are taken"))
    answer = shop.batch(users)
    inserts = shop.statements("INSERT")
    failed = [result for result in answer["results"] if result["status"] != 201]
    show_summary(answer, inserts)
    show_table(("id", "status", "answer"), map(result_row, failed))
    statuses = [(result["id"], result["status"]) for result in failed]
    check("failed", statuses, [(name, 409) for name in TAKEN])
    check("summary", answer["summary"], summary(failed=len(TAKEN)))
    check("INSERT statements", inserts, TOTAL // MAX_SIZE)


def show_orders(shop: Shop, quantities: list[int], statuses: list[int]) -> None:
    """
    Order tea in one batch that is atomic.

    Args:
        shop: The shop.
        quantities: How much each operation orders.
        statuses: How each is answered.
    """
    orders = [
        {
            "id": f"order-{n}",
            "method": "POST",
            "path": "/orders",
            "body": {"user_id": 1, "product": "tea", "quantity": quantity},
        }
        for n, quantity in enumerate(quantities, 1)
    ]
    stock, before = shop.goods()
    wanted = ", ".join(map(str, quantities))
    print(bold(f'A batch with "atomic": true: orders of {wanted}, and the stock is {stock}'))
    answer = shop.batch(orders, atomic=True)
    left, after = shop.goods()
    show_table(("id", "status", "answer"), map(result_row, answer["results"]))
    print(f"  In the database: {after - before} new orders, and the stock is {left}.\n")
    check("statuses", [result["status"] for result in answer["results"]], statuses)
    is_done = set(statuses) == {201}
    check("new orders", after - before, len(orders) if is_done else 0)
    check("stock", left, stock - sum(quantities) if is_done else stock)


def show_summary(answer: dict[str, Any], inserts: int) -> None:
    counts = ", ".join(f"{name} {count}" for name, count in answer["summary"].items())
    print(f"  {counts}; INSERT statements: {inserts}\n")


def summary(*, failed: int = 0) -> dict[str, int]:
    return {"total": TOTAL, "succeeded": TOTAL - failed, "failed": failed, "skipped": 0}


if __name__ == "__main__":
    sys.exit(main(show_shop))
