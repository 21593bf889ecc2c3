"""
What a store is handed is plain data that nobody can change, and that costs the collector nothing.
"""

import gc

import pytest

from asgi_batch._core.records import (
    SCHEMA,
    Claim,
    Created,
    Entry,
    Hold,
    NewBatch,
    Page,
    Remains,
    Saving,
    Snapshot,
)

SNAPSHOT = Snapshot(
    batch_id="b",
    status="processing",
    total=1,
    succeeded=0,
    failed=0,
    skipped=0,
    created_at=1.0,
    updated_at=1.0,
    finished_at=None,
    version=1,
)
HOLD = Hold("b", 1)
NEW = NewBatch(batch_id="b", total=1, chunks=(b"c",), caller=b"")
RECORDS = [
    SNAPSHOT,
    HOLD,
    NEW,
    Created(SNAPSHOT),
    Claim(
        hold=HOLD,
        snapshot=SNAPSHOT,
        chunks=(b"c",),
        indexes=range(1),
        caller=b"",
        stops_on_error=False,
        is_cancelled=False,
        finished=frozenset(),
        allowed=0,
        trials={},
    ),
    Entry(0, "succeeded", b"{}"),
    Saving(lease=1.0),
    Page((), -1),
    Remains((b"c",), False),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_cannot_be_changed(record):
    """
    Two who share one see the same.
    """
    name = record.__struct_fields__[0]
    with pytest.raises(AttributeError):
        setattr(record, name, getattr(record, name))


@pytest.mark.parametrize("kind", [NewBatch, Snapshot, Claim, Saving])
def test_records_with_many_members_are_given_by_name(kind):
    """
    Nobody can mix up two of them.
    """
    with pytest.raises(TypeError, match="positional"):
        kind(*["x"] * len(kind.__struct_fields__))


def test_what_is_left_out_means_nothing_special():
    """
    The defaults of what is kept and of what a holder tells.
    """
    assert (NEW.stops_on_error, NEW.parent, NEW.idempotency_key, NEW.fingerprint) == (
        False,
        None,
        None,
        "",
    )
    assert (RECORDS[6].entries, RECORDS[6].allowed, RECORDS[6].trial) == ((), 0, None)
    assert RECORDS[6].ends is False
    assert (RECORDS[3].is_new, RECORDS[3].is_same) == (True, True)


def test_entries_are_nothing_for_the_collector():
    """
    There is one for each result.
    """
    assert not gc.is_tracked(Entry(0, "succeeded", b"{}"))


def test_schema_is_the_second():
    """
    It changes only with what is kept; a store leaves another one alone.
    """
    assert SCHEMA == 2
