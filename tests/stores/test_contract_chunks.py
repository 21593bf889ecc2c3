"""
What every store promises of a batch that is divided: each chunk of it is held by itself.
"""

import anyio
import pytest

from asgi_batch._core.records import Hold
from asgi_batch.errors import Overloaded
from store_support import LEASE, SHORT, a_batch, counts, created, eventually, results, saving

# Ten operations in chunks of four, four and two.
CHUNKS = [b"first", b"second", b"third"]
INDEXES = [range(4), range(4, 8), range(8, 10)]
RETRY_TTL = 1000.0


async def divided(store, name=None, **members):
    """
    The id of a new batch that is divided.
    """
    return await created(store, name, chunks=CHUNKS, chunk_size=4, **members)


async def held(store, batch_id, *chunks):
    """
    Claims of some chunks.
    """
    claims = [await store.claim(LEASE, batch_id, chunk) for chunk in chunks]
    assert None not in claims
    return claims


async def ended(store, claim):
    """
    What the holder hears who tells all results of its chunk.
    """
    return await store.save(claim.hold, saving(claim.indexes, ends=True))


async def test_each_chunk_is_claimed_by_itself(store):
    """
    Its holder sees the operations of its own, and how far the whole batch is.
    """
    batch_id = await divided(store, stops_on_error=False)
    claims = await held(store, batch_id, 0, 1, 2)

    assert [claim.hold for claim in claims] == [Hold(batch_id, 1, chunk) for chunk in range(3)]
    assert [claim.chunks for claim in claims] == [[each] for each in CHUNKS]
    assert [claim.indexes for claim in claims] == INDEXES
    assert {claim.snapshot.total for claim in claims} == {10}
    assert {claim.caller for claim in claims} == {b"caller"}


async def test_chunks_are_found_one_after_the_other(store):
    """
    Whoever asks for any gets each of them once, and then what came later.
    """
    batch_id = await divided(store)
    later = await created(store)
    claims = [await store.claim(LEASE) for _ in range(5)]

    assert sorted(claim.hold.share for claim in claims[:3]) == [
        (batch_id, chunk) for chunk in range(3)
    ]
    assert claims[3].hold.share == (later, None)
    assert claims[4] is None


@pytest.mark.parametrize("chunk", [None, 3, 1000])
async def test_what_is_no_chunk_is_not_claimed(store, chunk):
    """
    Neither the batch as a whole, nor more chunks than there are; and no chunk of a whole batch.
    """
    batch_id, whole = await divided(store), await created(store)
    assert await store.claim(LEASE, batch_id, chunk) is None
    assert chunk is None or await store.claim(LEASE, whole, chunk) is None
    assert (await store.snapshot(batch_id)).status == "processing"
    assert (await store.claim(LEASE, batch_id, 0)).hold.epoch == 1
    with pytest.raises(Overloaded):
        await store.create(a_batch(store), limit=2)


async def test_a_batch_ends_with_its_last_chunk(store):
    """
    The holders of others are told that it has not; progress and results are one for all.
    """
    batch_id = await divided(store)
    claims = await held(store, batch_id, 0, 1, 2)
    told = [await ended(store, claims[1])]
    snapshot = await store.snapshot(batch_id)
    page = await store.results(batch_id, after=3, limit=10, outcome=None)
    told += [await ended(store, claims[2]), await ended(store, claims[0])]
    last = await store.snapshot(batch_id)

    assert told == ["ended", "ended", "held"]
    assert (snapshot.status, snapshot.completed, snapshot.is_finished) == ("processing", 4, False)
    assert list(page.entries) == results(range(4, 8))
    assert (last.status, counts(last), last.is_finished) == ("completed", (10, 0, 0), True)
    assert await store.claim(LEASE) is None


async def test_a_chunk_that_has_ended_is_not_claimed_again(store):
    """
    Whether it is named or looked for; and its holder changes nothing any more.
    """
    batch_id = await divided(store)
    (claim,) = await held(store, batch_id, 0)
    await ended(store, claim)
    others = [await store.claim(LEASE, batch_id, 0), await store.claim(LEASE)]

    assert others[0] is None
    assert others[1].hold.chunk != 0
    assert await store.save(claim.hold, saving([5])) == "lost"
    assert counts(await store.snapshot(batch_id)) == (4, 0, 0)


async def test_an_old_holder_of_a_chunk_changes_nothing(store):
    """
    The epoch is that of the chunk: the holders of others do not lose theirs.
    """
    batch_id = await divided(store)
    old = await store.claim(SHORT, batch_id, 0)
    (other,) = await held(store, batch_id, 1)
    new = await eventually(lambda: store.claim(LEASE, batch_id, 0))

    assert new.hold.epoch == 2
    assert await store.save(old.hold, saving([0])) == "lost"
    assert await store.save(other.hold, saving([4])) == "held"
    assert await store.save(new.hold, saving([1])) == "held"
    assert counts(await store.snapshot(batch_id)) == (2, 0, 0)


async def test_the_next_holder_of_a_chunk_learns_what_is_known_of_it(store):
    """
    Of its own operations, and of no others.
    """
    batch_id = await divided(store)
    first, other = await held(store, batch_id, 1, 0)
    await store.save(other.hold, saving([0, 3], allowed=4, trial=2))
    await store.save(first.hold, saving([6], allowed=7, trial=5))
    await store.release(first.hold, 7)
    claim = await store.claim(LEASE, batch_id, 1)

    assert (claim.hold.epoch, claim.finished, claim.allowed) == (2, {6}, 7)
    assert claim.trials == {5: 1}
    assert counts(claim.snapshot) == (3, 0, 0)


async def test_all_holders_hear_of_a_cancellation(store):
    """
    Until the last one of them has, it is not heard of; whoever claims later knows it.
    """
    batch_id = await divided(store)
    claims = await held(store, batch_id, 0, 1)
    heard = [await store.cancel(batch_id)]
    standings = []
    for claim in claims:
        standings.append(await store.save(claim.hold, saving(heard=True)))
        heard.append(await store.cancel(batch_id))
    (late,) = await held(store, batch_id, 2)
    for claim in (*claims, late):
        skipped = saving(claim.indexes, "skipped", ends=True)
        standings.append(await store.save(claim.hold, skipped))
    last = await store.snapshot(batch_id)

    assert [is_unheard for _, is_unheard in heard] == [True, True, False]
    assert standings == ["cancelled", "cancelled", "ended", "ended", "cancelled"]
    assert late.is_cancelled
    assert (last.status, counts(last)) == ("cancelled", (0, 0, 10))


async def test_a_holder_who_is_gone_need_not_hear(store):
    """
    A lease that has run out is nobody's.
    """
    batch_id = await divided(store)
    await store.claim(SHORT, batch_id, 0)

    async def is_heard():
        return not (await store.cancel(batch_id))[1]

    await eventually(is_heard)


async def test_a_chunk_does_not_end_without_all_its_results(store):
    """
    However many there are of others.
    """
    batch_id = await divided(store)
    first, other = await held(store, batch_id, 0, 1)
    await ended(store, other)
    standing = await store.save(first.hold, saving([0, 1, 3], ends=True))
    again = await store.claim(LEASE, batch_id, 0)

    assert standing == "lost"
    assert (again.hold.epoch, again.finished) == (2, {0, 1, 3})


async def test_a_chunk_that_cannot_be_carried_out_fails_the_batch(store):
    """
    Its other holders have nothing left to do.
    """
    batch_id = await divided(store)
    first, other = await held(store, batch_id, 0, 1)
    await store.fail(first.hold, "record_corrupt")
    snapshot = await store.snapshot(batch_id)

    assert (snapshot.status, snapshot.error) == ("failed", "record_corrupt")
    assert await store.save(other.hold, saving([4])) == "lost"
    assert await store.claim(LEASE) is None


async def test_what_remains_of_a_divided_batch_is_all_of_it(store, ttls):
    """
    In order, as it takes a batch to try again.
    """
    await ttls(store)
    batch_id = await divided(store)
    for claim in await held(store, batch_id, 2, 0, 1):
        await store.save(claim.hold, saving(claim.indexes, "failed", ends=True))

    assert (await store.remains(batch_id)).chunks == CHUNKS


@pytest.fixture
def ttls():
    """
    Opens a store again, to keep what can be tried again.
    """

    async def reopen(store):
        await store.open(RETRY_TTL, RETRY_TTL)

    return reopen


async def test_a_divided_batch_counts_once(store):
    """
    The limit is one of batches, whoever has looked for what can be claimed.
    """
    await divided(store)
    shares = await store.overdue(60)
    batch = a_batch(store, chunks=CHUNKS, chunk_size=4)

    assert len(shares) == 3
    with pytest.raises(Overloaded):
        await store.create(batch, limit=1)
    assert (await store.create(batch, limit=2)).is_new


async def test_a_name_is_known_however_it_is_divided(store):
    """
    A second submission finds the first.
    """
    batch_id = await divided(store, "name")
    again = await store.create(a_batch(store, "name"), limit=10)

    assert (again.is_new, again.snapshot.batch_id) == (False, batch_id)


@pytest.mark.parametrize("size", [0, 4])
async def test_what_others_were_told_of_is_left_to_them_for_a_while(store, size):
    """
    Those who name it may claim it at once.
    """
    members = {"chunks": CHUNKS, "chunk_size": size, "delay": 60.0}
    batch_id = await created(store, **members)
    chunk = 0 if size else None

    assert await store.claim(LEASE) is None
    assert await store.overdue(60) == []
    assert (await store.claim(LEASE, batch_id, chunk)).hold.share == (batch_id, chunk)


@pytest.mark.parametrize("size", [0, 4])
async def test_what_nobody_has_claimed_is_told_once_in_a_while(store, size):
    """
    Each part of it, and again when that time is over.
    """
    batch_id = await created(store, chunks=CHUNKS, chunk_size=size)
    expected = [(batch_id, chunk) for chunk in (range(3) if size else [None])]
    assert (await store.snapshot(batch_id)).shares() == expected
    told = [sorted(await store.overdue(1)), await store.overdue(1)]
    again = []
    while len(again) < len(expected):
        again += await eventually(lambda: store.overdue(60))

    assert told == [expected, []]
    assert sorted(again) == expected
    assert await store.overdue(60) == []


async def test_what_has_waited_for_long_is_told_less_often(store):
    """
    Where there are more batches than workers, they are not told of over and over again.
    """
    await created(store)
    await anyio.sleep(0.3)
    first = await store.overdue(0.001)
    await anyio.sleep(0.1)

    assert len(first) == 1
    assert await store.overdue(0.001) == []
    assert await eventually(lambda: store.overdue(0.001)) == first


async def test_what_is_held_is_not_overdue_until_its_holder_is_silent(store):
    """
    Then it is at once; and what has been given back is, too.
    """
    batch_id = await divided(store)
    first = await store.claim(1.0, batch_id, 0)
    claims = await held(store, batch_id, 1, 2)
    told = [await store.overdue(60)]
    await store.save(first.hold, saving(lease=SHORT))
    told.append(await eventually(lambda: store.overdue(60)))
    await store.release(claims[0].hold, 0)
    told.append(await store.overdue(60))

    assert told == [[], [(batch_id, 0)], [(batch_id, 1)]]


async def test_what_is_held_for_longer_is_not_overdue(store):
    """
    A holder who gives signs of life is not taken for dead when its first lease is over.
    """
    batch_id = await divided(store)
    claim = await store.claim(0.1, batch_id, 0)
    await store.save(claim.hold, saving(lease=LEASE))
    await held(store, batch_id, 1, 2)
    await anyio.sleep(0.15)

    assert await store.overdue(60) == []


async def test_what_has_ended_is_not_overdue(store):
    """
    Neither a chunk of it, nor all of it.
    """
    batch_id = await divided(store)
    for claim in await held(store, batch_id, 0, 1):
        await ended(store, claim)
    told = [await store.overdue(60)]
    for claim in await held(store, batch_id, 2):
        await ended(store, claim)

    assert told == [[(batch_id, 2)]]
    assert await store.overdue(60) == []
