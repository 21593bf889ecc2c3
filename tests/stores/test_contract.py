"""
What every store must do, whichever it is.
"""

import math

import anyio
import pytest

from asgi_batch._core.records import Entry, Hold, Remains
from asgi_batch.errors import Overloaded, TooManyBatches
from store_support import (
    LEASE,
    SHORT,
    a_batch,
    claimed,
    counts,
    created,
    eventually,
    results,
    saving,
)

UNKNOWN = "a" * 32
TTL = 60.0


async def test_new_batch_is_kept_as_it_was_given(store):
    """
    A claim brings back all that was handed over.
    """
    batch = a_batch(store, parent="b" * 32, stops_on_error=True)
    answer = await store.create(batch, limit=1)
    claim = await store.claim(LEASE)

    assert answer.is_new
    assert answer.is_same
    assert answer.snapshot.status == "processing"
    assert answer.snapshot.total == 10
    assert answer.snapshot.parent == "b" * 32
    assert answer.snapshot.finished_at is None
    assert claim.hold == Hold(batch.batch_id, 1)
    assert list(claim.chunks) == batch.chunks
    assert claim.caller == b"caller"
    assert claim.stops_on_error
    assert not claim.is_cancelled
    assert claim.finished == frozenset()
    assert claim.allowed == 0
    assert claim.trials == {}


async def test_name_is_given_once(store):
    """
    A second submission under a name gets the batch of the first, also where there is no room.
    """
    batch_id = await created(store, "name", fingerprint="f")
    again = await store.create(a_batch(store, "name", fingerprint="f"), limit=0)
    other = await store.create(a_batch(store, "name", fingerprint="g"), limit=0)

    assert (again.snapshot.batch_id, again.is_new, again.is_same) == (batch_id, False, True)
    assert (other.snapshot.batch_id, other.is_new, other.is_same) == (batch_id, False, False)
    assert await store.claim(LEASE) is not None
    assert await store.claim(LEASE) is None


async def test_names_differ(store):
    """
    Another name is another batch, and so are two that have none.
    """
    ids = {await created(store, name) for name in ("one", "two", None, None)}

    assert len(ids) == 4


async def test_name_outlives_the_work(store):
    """
    A finished batch still answers to its name.
    """
    claim = await claimed(store, name="name")
    await store.save(claim.hold, saving(range(10), ends=True))
    again = await store.create(a_batch(store, "name"), limit=1)

    assert (again.snapshot.batch_id, again.is_new) == (claim.hold.batch_id, False)
    assert again.snapshot.status == "completed"


async def test_limit_counts_unfinished_batches(store):
    """
    There is room again once a batch has ended.
    """
    claim = await claimed(store)
    await created(store)
    with pytest.raises(Overloaded):
        await store.create(a_batch(store), limit=2)
    await store.save(claim.hold, saving(range(10), ends=True))

    assert (await store.create(a_batch(store), limit=2)).is_new


async def test_oldest_batch_is_claimed_first(store):
    """
    Batches are carried out in the order in which they came.
    """
    ids = [await created(store) for _ in range(5)]
    claims = [await store.claim(LEASE) for _ in range(5)]

    assert [claim.hold.batch_id for claim in claims] == ids
    assert await store.claim(LEASE) is None


async def test_named_batch_is_claimed_and_no_other(store):
    """
    A claim of one batch leaves the older ones alone, and gets nothing where it is held.
    """
    older, batch_id = await created(store), await created(store)
    claim = await store.claim(LEASE, batch_id)

    assert claim.hold.batch_id == batch_id
    assert await store.claim(LEASE, batch_id) is None
    assert await store.claim(LEASE, UNKNOWN) is None
    assert (await store.claim(LEASE)).hold.batch_id == older


async def test_batch_whose_lease_has_run_out_is_claimed_again(store):
    """
    The second holder has a higher epoch, and the first is told that it has lost.
    """
    await created(store)
    first = await store.claim(SHORT)
    second = await eventually(lambda: store.claim(LEASE))

    assert (first.hold.epoch, second.hold.epoch) == (1, 2)
    assert await store.save(first.hold, saving([0], ends=True)) == "lost"
    assert counts(await store.snapshot(first.hold.batch_id)) == (0, 0, 0)


async def test_old_holder_changes_nothing(store):
    """
    Neither giving back nor failing works with an old epoch.
    """
    await created(store)
    first = await store.claim(SHORT)
    second = await eventually(lambda: store.claim(LEASE))
    await store.release(first.hold, 5)
    await store.fail(first.hold, "error")

    assert (await store.snapshot(first.hold.batch_id)).status == "processing"
    assert await store.claim(LEASE) is None
    assert await store.save(second.hold, saving()) == "held"


async def test_saving_renews_the_lease(store):
    """
    A batch is held for as long as its holder says so, also from a lease that has run out.
    """
    await created(store)
    claim = await store.claim(SHORT)
    await store.save(claim.hold, saving(lease=LEASE))
    other = await created(store)
    await store.claim(SHORT, other)

    # The other lease began later and has run out: so has the first one by now.
    assert (await eventually(lambda: store.claim(SHORT))).hold.batch_id == other
    assert await store.claim(LEASE, claim.hold.batch_id) is None


async def test_saving_revives_a_lease_that_nobody_took_over(store):
    """
    A holder that was late goes on where no other has claimed the batch.
    """
    late = await created(store)
    other = await created(store)
    claim = await store.claim(SHORT, late)
    await store.claim(SHORT, other)
    await eventually(lambda: store.claim(LEASE, other))

    assert await store.save(claim.hold, saving([0])) == "held"
    assert await store.claim(LEASE, late) is None


async def test_results_are_counted_by_outcome(store):
    """
    Succeeded, failed and skipped; the batch is completed when its holder says so.
    """
    claim = await claimed(store)
    await store.save(claim.hold, saving(range(5)))
    await store.save(claim.hold, saving([5, 6], "failed"))
    between = await store.snapshot(claim.hold.batch_id)
    await store.save(claim.hold, saving([7, 8, 9], "skipped", ends=True))
    after = await store.snapshot(claim.hold.batch_id)

    assert (counts(between), between.status) == ((5, 2, 0), "processing")
    assert (counts(after), after.status) == ((5, 2, 3), "completed")
    assert after.is_finished
    assert after.finished_at >= after.created_at
    assert after.version > between.version > claim.snapshot.version


async def test_result_is_counted_once(store):
    """
    The first result of an operation stands, within one step and across several.
    """
    claim = await claimed(store)
    twice = [*results([0]), Entry(0, "failed", b"other")]
    await store.save(claim.hold, saving(entries=twice))
    await store.save(claim.hold, saving([0, 1], "failed"))
    page = await store.results(claim.hold.batch_id, after=-1, limit=10, outcome=None)

    assert counts(await store.snapshot(claim.hold.batch_id)) == (1, 1, 0)
    assert page.entries == [*results([0]), *results([1], "failed")]


async def test_many_results_fit_into_one_step(store):
    """
    A step is as large as the batch, where need be.
    """
    claim = await claimed(store, total=2500)
    await store.save(claim.hold, saving(range(2500), ends=True))

    assert counts(await store.snapshot(claim.hold.batch_id)) == (2500, 0, 0)


async def test_end_without_results_is_a_change(store):
    """
    The version goes up when a batch ends, though the last results were there before.
    """
    claim = await claimed(store)
    await store.save(claim.hold, saving(range(10)))
    before = await store.snapshot(claim.hold.batch_id)
    await store.save(claim.hold, saving(ends=True))

    assert (await store.snapshot(claim.hold.batch_id)).version > before.version


async def test_f46_a_batch_does_not_end_without_all_its_results(store):
    """
    F46: where a store has lost some, its holder has lost the batch, and the next one can begin.
    """
    claim = await claimed(store)
    standing = await store.save(claim.hold, saving(range(4), allowed=10, ends=True))
    again = await store.claim(LEASE)
    late = await store.save(claim.hold, saving(range(10), ends=True))
    ended = await store.save(again.hold, saving(range(4, 10), ends=True))

    assert (standing, late, ended) == ("lost", "lost", "held")
    assert (again.finished, again.allowed) == (frozenset(range(4)), 10)
    assert (await store.snapshot(claim.hold.batch_id)).status == "completed"


async def test_renewing_is_no_change(store):
    """
    The version stays where nothing can be seen of a step.
    """
    claim = await claimed(store)
    await store.save(claim.hold, saving(allowed=3))

    assert await store.snapshot(claim.hold.batch_id) == claim.snapshot


async def test_next_holder_learns_what_is_known(store):
    """
    Finished operations, the highest bound that was allowed, and each trial.
    """
    await created(store)
    claim = await store.claim(SHORT)
    await store.save(claim.hold, saving([1, 3], allowed=7, trial=4, lease=SHORT))
    await store.save(claim.hold, saving(allowed=6, trial=4, lease=SHORT))
    await store.save(claim.hold, saving(trial=9, lease=SHORT))
    second = await eventually(lambda: store.claim(LEASE))

    assert second.finished == {1, 3}
    assert second.allowed == 7
    assert second.trials == {4: 2, 9: 1}


async def test_released_batch_is_free_at_once(store):
    """
    The next holder learns that fewer operations were started than were allowed.
    """
    claim = await claimed(store)
    await store.save(claim.hold, saving([0], allowed=8))
    await store.release(claim.hold, 3)
    second = await store.claim(LEASE)

    assert second.hold == Hold(claim.hold.batch_id, 2)
    assert second.allowed == 3


async def test_released_batch_keeps_its_place(store):
    """
    It comes before batches that are younger.
    """
    claim = await claimed(store)
    await created(store)
    await store.release(claim.hold, 0)

    assert (await store.claim(LEASE)).hold.batch_id == claim.hold.batch_id


async def test_holder_hears_of_a_cancellation(store):
    """
    Until it says so itself, the canceller is told that it has not: a reply of the store may have
    been lost. At the end the batch is cancelled, not completed.
    """
    claim = await claimed(store)
    cancelled, is_unheard = await store.cancel(claim.hold.batch_id)
    standing = await store.save(claim.hold, saving([0]))
    _, is_unheard_yet = await store.cancel(claim.hold.batch_id)
    await store.save(claim.hold, saving(heard=True))
    again, is_still_unheard = await store.cancel(claim.hold.batch_id)
    last = await store.save(claim.hold, saving(range(1, 10), "skipped", ends=True))

    assert (cancelled.status, is_unheard, is_unheard_yet) == ("cancelled", True, True)
    assert cancelled.finished_at is None
    assert cancelled.version == claim.snapshot.version + 1
    assert (standing, last) == ("cancelled", "cancelled")
    assert (again.status, is_still_unheard) == ("cancelled", False)
    assert (await store.snapshot(claim.hold.batch_id)).status == "cancelled"


async def test_cancelled_batch_that_nobody_holds_can_be_claimed(store):
    """
    Somebody has to skip its operations.
    """
    batch_id = await created(store)
    _, is_unheard = await store.cancel(batch_id)
    claim = await store.claim(LEASE)
    _, is_still_unheard = await store.cancel(batch_id)

    assert not is_unheard
    assert claim.is_cancelled
    assert not is_still_unheard


async def test_finished_batch_cannot_be_cancelled(store):
    """
    It stays as it is.
    """
    claim = await claimed(store)
    await store.save(claim.hold, saving(range(10), ends=True))
    snapshot, is_unheard = await store.cancel(claim.hold.batch_id)

    assert snapshot == await store.snapshot(claim.hold.batch_id)
    assert (snapshot.status, is_unheard) == ("completed", False)


async def test_failed_batch_says_why(store):
    """
    It is over, with its error and the results that it has.
    """
    claim = await claimed(store)
    await store.save(claim.hold, saving([0]))
    await store.fail(claim.hold, "record_corrupt")
    snapshot = await store.snapshot(claim.hold.batch_id)

    assert (snapshot.status, snapshot.error) == ("failed", "record_corrupt")
    assert snapshot.is_finished
    assert counts(snapshot) == (1, 0, 0)


async def test_nothing_happens_to_a_finished_batch(store):
    """
    Its end is for good.
    """
    claim = await claimed(store)
    await store.save(claim.hold, saving(range(10), ends=True))
    before = await store.snapshot(claim.hold.batch_id)
    standing = await store.save(claim.hold, saving([3], "failed", ends=True))
    await store.release(claim.hold, 0)
    await store.fail(claim.hold, "error")

    assert standing == "lost"
    assert await store.claim(LEASE) is None
    assert await store.claim(LEASE, claim.hold.batch_id) is None
    assert await store.snapshot(claim.hold.batch_id) == before


@pytest.mark.parametrize("batch_id", [UNKNOWN, "", "short", "{x}" * 12, "a" * 31 + "\n", "ä" * 32])
async def test_unknown_batch_is_nowhere(store, batch_id):
    """
    Whatever is asked about it, the answer is that there is none.
    """
    hold = Hold(batch_id, 1)
    await store.release(hold, 0)
    await store.fail(hold, "error")

    assert await store.claim(LEASE, batch_id) is None
    assert await store.save(hold, saving([0], ends=True)) == "lost"
    assert await store.cancel(batch_id) is None
    assert await store.snapshot(batch_id) is None
    assert await store.results(batch_id, after=-1, limit=10, outcome=None) is None
    assert await store.remains(batch_id) is None


async def test_results_end_at_the_first_gap(store):
    """
    A page is in order and without holes, and says how far it has looked.
    """
    claim = await claimed(store)
    await store.save(claim.hold, saving([0, 1, 2, 4, 5]))
    batch_id = claim.hold.batch_id
    first = await store.results(batch_id, after=-1, limit=2, outcome=None)
    second = await store.results(batch_id, after=first.after, limit=10, outcome=None)
    third = await store.results(batch_id, after=second.after, limit=10, outcome=None)
    none = await store.results(batch_id, after=-1, limit=0, outcome=None)

    assert (first.entries, first.after) == (results([0, 1]), 1)
    assert (second.entries, second.after) == (results([2]), 2)
    assert (list(third.entries), third.after) == ([], 2)
    assert (list(none.entries), none.after) == ([], -1)


async def test_results_of_one_outcome(store):
    """
    The others are passed over, and count as looked at.
    """
    claim = await claimed(store)
    await store.save(claim.hold, saving([0, 2]))
    await store.save(claim.hold, saving([1, 3], "failed"))
    page = await store.results(claim.hold.batch_id, after=-1, limit=3, outcome="failed")

    assert (page.entries, page.after) == (results([1], "failed"), 2)


async def test_results_are_opaque(store):
    """
    Bytes come back as they were, whatever they look like.
    """
    claim = await claimed(store, total=4)
    values = [b"", b"12345678901234567", b"[]", bytes(range(256))]
    kept = [Entry(index, "succeeded", value) for index, value in enumerate(values)]
    await store.save(claim.hold, saving(entries=kept, ends=True))
    page = await store.results(claim.hold.batch_id, after=-1, limit=4, outcome=None)

    assert page.entries == kept


async def test_finished_batch_is_forgotten_in_time(store):
    """
    Its results, its status and its name all go.
    """
    await store.open(SHORT)
    claim = await claimed(store, name="name")
    await store.save(claim.hold, saving(range(10), ends=True))

    async def is_gone():
        return await store.snapshot(claim.hold.batch_id) is None

    await eventually(is_gone)

    assert await store.results(claim.hold.batch_id, after=-1, limit=1, outcome=None) is None
    assert (await store.create(a_batch(store, "name"), limit=1)).is_new


async def test_unfinished_batch_is_not_forgotten(store):
    """
    The time to live begins at the end.
    """
    await store.open(SHORT)
    finished, claim = await claimed(store), await claimed(store)
    await store.save(claim.hold, saving([0]))
    await store.save(finished.hold, saving(range(10), ends=True))

    async def is_gone():
        return await store.snapshot(finished.hold.batch_id) is None

    await eventually(is_gone)

    assert counts(await store.snapshot(claim.hold.batch_id)) == (1, 0, 0)


async def test_results_may_be_kept_for_ever(store):
    """
    An endless time to live is a very long one.
    """
    await store.open(math.inf)
    claim = await claimed(store)
    await store.save(claim.hold, saving(range(10), ends=True))

    assert (await store.snapshot(claim.hold.batch_id)).status == "completed"


@pytest.mark.parametrize("outcome", ["failed", "skipped"])
@pytest.mark.parametrize("stops_on_error", [True, False])
async def test_operations_are_kept_where_some_have_not_succeeded(store, outcome, stops_on_error):
    """
    One is enough; they come back as they were given, and are there again for whoever asks next.
    """
    await store.open(TTL, TTL)
    claim = await claimed(store, stops_on_error=stops_on_error)
    await store.save(claim.hold, saving(range(9)))
    await store.save(claim.hold, saving([9], outcome, ends=True))
    expected = Remains([b"first \x00", b"second \xff"], stops_on_error)

    assert await store.remains(claim.hold.batch_id) == expected
    assert await store.remains(claim.hold.batch_id) == expected


async def test_operations_of_a_cancelled_batch_are_kept(store):
    """
    Those that were skipped have not succeeded.
    """
    await store.open(TTL, TTL)
    claim = await claimed(store)
    await store.cancel(claim.hold.batch_id)
    await store.save(claim.hold, saving(range(10), "skipped", ends=True))

    assert await store.remains(claim.hold.batch_id) is not None


async def test_nothing_remains_of_an_unfinished_batch(store):
    """
    Its operations belong to its holder, also those that have failed.
    """
    await store.open(TTL, TTL)
    claim = await claimed(store)
    new = await store.remains(claim.hold.batch_id)
    await store.save(claim.hold, saving([0], "failed"))
    held = await store.remains(claim.hold.batch_id)
    await store.cancel(claim.hold.batch_id)
    cancelled = await store.remains(claim.hold.batch_id)

    assert (new, held, cancelled) == (None, None, None)


async def test_nothing_remains_where_all_have_succeeded(store):
    """
    There is nothing to be tried again.
    """
    await store.open(TTL, TTL)
    claim = await claimed(store)
    await store.save(claim.hold, saving(range(10), ends=True))

    assert await store.remains(claim.hold.batch_id) is None


async def test_nothing_remains_of_a_batch_that_could_not_be_carried_out(store):
    """
    Its operations cannot be read, so that keeping them helps nobody.
    """
    await store.open(TTL, TTL)
    claim = await claimed(store)
    await store.save(claim.hold, saving([0], "failed"))
    await store.fail(claim.hold, "record_corrupt")

    assert await store.remains(claim.hold.batch_id) is None


@pytest.mark.parametrize("ttls", [(TTL,), (TTL, 0.0)])
async def test_nothing_remains_where_nothing_is_to_be_kept(store, ttls):
    """
    Whoever does not ask for it has nothing kept.
    """
    await store.open(*ttls)
    claim = await claimed(store)
    await store.save(claim.hold, saving(range(10), "failed", ends=True))

    assert await store.remains(claim.hold.batch_id) is None


@pytest.mark.parametrize("ttls", [(TTL, SHORT), (SHORT, TTL)])
async def test_operations_are_forgotten_in_time(store, ttls):
    """
    After the time that they are kept, but with the results at the latest.
    """
    await store.open(*ttls)
    claim = await claimed(store)
    await store.save(claim.hold, saving(range(10), "failed", ends=True))

    async def is_gone():
        return await store.remains(claim.hold.batch_id) is None

    await eventually(is_gone)

    assert (await store.snapshot(claim.hold.batch_id) is None) == (ttls[0] == SHORT)


@pytest.mark.parametrize("retry_ttl", [0.0, TTL])
@pytest.mark.parametrize("end", ["succeeded", "failed", "skipped", "error"])
async def test_t42_nothing_is_kept_of_the_caller(request, kind, store, retry_ttl, end):
    """
    T42: credentials go with the end of the work, whatever that was, and whatever else is kept.
    """
    await store.open(TTL, retry_ttl)
    claim = await claimed(store, caller=b"canary")
    before = all_that_is_kept(request, kind, store)
    if end == "error":
        await store.fail(claim.hold, end)
    else:
        await store.save(claim.hold, saving(range(10), end, ends=True))
    after = all_that_is_kept(request, kind, store)

    assert ("canary" in before) is not kind.startswith("sealed")
    assert claim.hold.batch_id in after
    assert "canary" not in after


def all_that_is_kept(request, kind, store):
    """
    What a store holds, as one text.
    """
    if kind.startswith("memory"):
        return repr(vars(store))
    client = request.getfixturevalue("server").client
    read = {"hash": client.hgetall, "string": client.get}
    found = {
        key: read[kind_of_value](key)
        for key in client.scan_iter()
        if (kind_of_value := client.type(key).decode()) in read
    }
    return repr(found)


async def owned(store, owner, name=None, owner_limit=None, **members):
    """
    What comes of a new batch of *owner*.
    """
    batch = a_batch(store, name, owner=owner, **members)
    return await store.create(batch, limit=1000, owner_limit=owner_limit)


async def test_t36_an_owner_is_kept_with_the_batch(store):
    """
    T36: from the first answer on to the last, and so is that there is none.
    """
    mine, nobodys = await owned(store, "mine"), await owned(store, "")
    batch_id = mine.snapshot.batch_id
    claim = await store.claim(LEASE, batch_id)
    await store.save(claim.hold, saving(range(10), ends=True))
    after = await store.snapshot(batch_id)

    assert [each.snapshot.owner for each in (mine, nobodys)] == ["mine", ""]
    assert (claim.snapshot.owner, after.owner) == ("mine", "mine")


async def test_t47_two_owners_may_use_one_name(store):
    """
    T47: neither gets to know of the other's batch.
    """
    first = await owned(store, "one", "name", fingerprint="f")
    second = await owned(store, "two", "name", fingerprint="g")
    again = await owned(store, "one", "name", fingerprint="f")
    nobodys = await owned(store, "", "name", fingerprint="h")

    assert [each.is_new for each in (first, second, again, nobodys)] == [True, True, False, True]
    assert again.snapshot.batch_id == first.snapshot.batch_id


@pytest.mark.parametrize("end", ["end", "cancel", "fail"])
async def test_t34_an_owner_has_so_many_unfinished_batches(store, end):
    """
    T34: each way to end makes room for one more; others, and nobody, are not touched by that.
    """
    first, _ = [await owned(store, "mine", owner_limit=2) for _ in range(2)]
    batch_id = first.snapshot.batch_id
    with pytest.raises(TooManyBatches, match="2 unfinished batches"):
        await owned(store, "mine", owner_limit=2)
    others = [await owned(store, each, owner_limit=2) for each in ("yours", "", "", "")]
    if end == "cancel":
        await store.cancel(batch_id)
    claim = await store.claim(LEASE, batch_id)
    if end == "fail":
        await store.fail(claim.hold, "error")
    else:
        await store.save(claim.hold, saving(range(10), ends=True))
    after = await owned(store, "mine", owner_limit=2)
    with pytest.raises(TooManyBatches):
        await owned(store, "mine", owner_limit=2)

    assert all(each.is_new for each in others)
    assert after.is_new


async def test_t34_a_batch_that_is_there_already_is_not_counted_again(store):
    """
    T34: whoever sends it once more gets it, however many there are.
    """
    first = await owned(store, "mine", "name", owner_limit=1)
    again = await owned(store, "mine", "name", owner_limit=1)

    assert again.snapshot.batch_id == first.snapshot.batch_id


async def test_t34_as_many_as_may_come_at_once(store):
    """
    T34: of twenty at a time exactly five are taken.
    """
    taken = []

    async def send():
        try:
            taken.append(await owned(store, "mine", owner_limit=5))
        except TooManyBatches:
            taken.append(None)

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(send)

    assert sum(each is not None for each in taken) == 5
