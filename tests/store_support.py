"""
Batches for tests of stores, and a way to wait for what a store does by itself.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import anyio
import msgspec

from asgi_batch._core.records import Claim, Entry, NewBatch, Outcome, Saving, Snapshot
from support import PATIENCE

LEASE = 30.0
# Long enough for a few steps, short enough to wait for its end.
SHORT = 0.05


def a_batch(store: Any, name: str | None = None, **members: Any) -> NewBatch:
    """
    A new batch of ten operations in two chunks; *members* replace or add.
    """
    return NewBatch(
        **{
            "batch_id": store.new_id(name, members.get("owner", "")),
            "total": 10,
            "chunks": [b"first \x00", b"second \xff"],
            "caller": b"caller",
            "idempotency_key": name,
            **members,
        }
    )


async def created(store: Any, name: str | None = None, **members: Any) -> str:
    """
    The id of a new batch that *store* keeps.
    """
    answer = await store.create(a_batch(store, name, **members), limit=1000)
    return answer.snapshot.batch_id


async def claimed(store: Any, **members: Any) -> Claim:
    """
    A new batch that is held.
    """
    claim = await store.claim(LEASE, await created(store, **members))
    assert claim is not None
    return claim


def results(indexes: Iterable[int], outcome: Outcome = "succeeded") -> list[Entry]:
    """
    One result for each of *indexes*.
    """
    return [Entry(index, outcome, b"result %d" % index) for index in indexes]


def saving(indexes: Iterable[int] = (), outcome: Outcome = "succeeded", **members: Any) -> Saving:
    """
    Results of *indexes*; *members* replace or add.
    """
    return Saving(**{"entries": results(indexes, outcome), "lease": LEASE, **members})


def counts(snapshot: Snapshot) -> tuple[int, int, int]:
    """
    Succeeded, failed, skipped.
    """
    return snapshot.succeeded, snapshot.failed, snapshot.skipped


def timeless(thing: Any) -> Any:
    """
    What *thing* says apart from times, as plain data.
    """
    if isinstance(thing, msgspec.Struct):
        members = msgspec.structs.asdict(thing).items()
        times = ("_at", "idle")
        return {name: timeless(each) for name, each in members if not name.endswith(times)}
    if isinstance(thing, list | tuple):
        return [timeless(each) for each in thing]
    return thing


async def eventually(ask: Callable[[], Awaitable[Any]]) -> Any:
    """
    What *ask* answers, as soon as that is true.
    """
    with anyio.fail_after(PATIENCE / 3):
        while not (answer := await ask()):  # noqa: ASYNC110
            await anyio.sleep(0.005)
    return answer
