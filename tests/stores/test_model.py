"""
Two stores side by side: whatever is done to both, Redis answers as memory does.
"""

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from asgi_batch._core.records import Entry, Hold, NewBatch, Saving
from asgi_batch.errors import Overloaded, TooManyBatches
from asgi_batch.stores.memory import MemoryStore
from asgi_batch.stores.redis import RedisStore
from store_support import LEASE, timeless

LIMIT = 4
TOTAL = 6
INDEXES = st.integers(0, TOTAL - 1)
OUTCOMES = st.sampled_from(["succeeded", "failed", "skipped"])
ENTRIES = st.lists(st.builds(Entry, INDEXES, OUTCOMES, st.binary(max_size=3)), max_size=4)
SAVINGS = st.builds(
    Saving,
    entries=ENTRIES,
    allowed=st.integers(0, TOTAL),
    trial=st.none() | INDEXES,
    ends=st.booleans(),
    lease=st.just(LEASE),
)
PICKS = st.integers(0, 50)


# Nothing here depends on the event loop.
KINDS = ["redis-asyncio"]


class Stores(RuleBasedStateMachine):
    """
    Does each step to both stores; a step may come from a holder that has lost its batch long ago.
    """

    proc = None

    @initialize()
    def open(self):
        self.proc.client.flushall()
        self.runner = asyncio.Runner()
        self.now = 1_000_000.0
        self.memory = MemoryStore(clock=lambda: self.now)
        self.redis = RedisStore(self.proc.url)
        self.both("open", 1000, 1000)
        self.ids = ["x" * 32]
        self.holds = [Hold("x" * 32, 1)]

    def teardown(self):
        if hasattr(self, "runner"):
            self.runner.run(self.redis.aclose())
            self.runner.close()

    def both(self, verb, *args, **options):
        expected = self.run(self.memory, verb, *args, **options)
        found = self.run(self.redis, verb, *args, **options)

        assert timeless(found) == timeless(expected)
        return expected

    def run(self, store, verb, *args, **options):
        try:
            return self.runner.run(getattr(store, verb)(*args, **options))
        except Overloaded:
            return "full"
        except TooManyBatches:
            return "many"

    def pick(self, choices, number):
        return choices[-1 - number % len(choices)]

    @rule(
        name=st.none() | st.sampled_from("ab"),
        fingerprint=st.sampled_from("fg"),
        owner=st.sampled_from(["", "", "one", "two"]),
        chunk_size=st.sampled_from([0, 2, 4]),
    )
    def create(self, name, fingerprint, owner, chunk_size):
        batch = NewBatch(
            batch_id=self.redis.new_id(name, owner),
            total=TOTAL,
            chunks=[b"chunk"] * -(-TOTAL // (chunk_size or TOTAL)),
            chunk_size=chunk_size,
            caller=b"caller",
            stops_on_error=name == "a",
            idempotency_key=name,
            fingerprint=fingerprint,
            owner=owner,
        )
        created = self.both("create", batch, limit=LIMIT, owner_limit=2)
        if created not in ("full", "many"):
            self.ids.append(created.snapshot.batch_id)

    @rule(number=PICKS, chunk=st.none() | st.integers(0, 3))
    def claim(self, number, chunk):
        self.note(self.both("claim", LEASE, self.pick(self.ids, number), chunk))

    @rule()
    def claim_any(self):
        found = self.run(self.redis, "claim", LEASE)
        chosen = () if found is None else found.hold.share
        expected = self.run(self.memory, "claim", LEASE, *chosen)

        assert timeless(found) == timeless(expected)
        self.note(found)

    def note(self, claim):
        if claim is not None:
            self.holds.append(claim.hold)

    @rule(number=PICKS, saving=SAVINGS)
    def save(self, number, saving):
        self.both("save", self.pick(self.holds, number), saving)

    @rule(number=PICKS, allowed=st.integers(0, TOTAL))
    def release(self, number, allowed):
        self.both("release", self.pick(self.holds, number), allowed)

    @rule(number=PICKS)
    def fail(self, number):
        self.both("fail", self.pick(self.holds, number), "error")

    @rule(number=PICKS)
    def cancel(self, number):
        self.both("cancel", self.pick(self.ids, number))

    @rule()
    def let_all_leases_run_out(self):
        self.now += LEASE
        for key in self.proc.client.scan_iter("*:lease"):
            self.proc.client.delete(key)
        for line in ("*:queue", "*:chunks"):
            for key in self.proc.client.scan_iter(line):
                members = self.proc.client.zrangebyscore(key, 0, 8_000_000_000_000_000)
                self.proc.client.zadd(key, {**dict.fromkeys(members, 0), "-": 0})
                self.proc.client.zrem(key, "-")

    @rule(number=PICKS, after=st.integers(-1, TOTAL), limit=st.integers(0, TOTAL))
    def results(self, number, after, limit):
        batch_id = self.pick(self.ids, number)
        for outcome in (None, "failed"):
            self.both("results", batch_id, after=after, limit=limit, outcome=outcome)

    @invariant()
    def snapshots_are_equal(self):
        for batch_id in set(getattr(self, "ids", ())):
            self.both("snapshot", batch_id)
            self.both("remains", batch_id)


def test_redis_does_as_memory_does(server):
    """
    Every sequence of steps has the same answers in both stores.
    """
    machine = type("Machine", (Stores,), {"proc": server})
    case = machine.TestCase
    case.settings = settings(max_examples=settings.default.max_examples // 4)
    case("runTest").runTest()
