"""
How far a batch is, as a store tells it.
"""

import pytest

from asgi_batch._core.records import Snapshot


def a_snapshot(**members):
    """
    A batch of ten operations; *members* replace or add.
    """
    return Snapshot(
        **{
            "batch_id": "batch",
            "status": "processing",
            "total": 10,
            "succeeded": 0,
            "failed": 0,
            "skipped": 0,
            "created_at": 1.0,
            "updated_at": 1.0,
            "finished_at": None,
            "version": 1,
            **members,
        }
    )


@pytest.mark.parametrize(
    ("counts", "completed", "progress", "percentage"),
    [((0, 0, 0), 0, 0.0, 0.0), ((1, 2, 4), 7, 0.7, 70.0), ((5, 0, 5), 10, 1.0, 100.0)],
)
def test_every_kind_of_result_is_progress(counts, completed, progress, percentage):
    """
    Also that of an operation that will never run.
    """
    succeeded, failed, skipped = counts
    snapshot = a_snapshot(succeeded=succeeded, failed=failed, skipped=skipped)

    assert snapshot.completed == completed
    assert snapshot.progress == progress
    assert snapshot.percentage == pytest.approx(percentage)


def test_cancelled_batch_is_finished_once_it_has_all_results():
    """
    The status alone does not tell.
    """
    assert not a_snapshot(status="cancelled").is_finished
    assert a_snapshot(status="cancelled", finished_at=2.0).is_finished
