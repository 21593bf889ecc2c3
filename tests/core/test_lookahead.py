"""
How many operations may start before the store is told.
"""

import pytest

from asgi_batch._core.lookahead import Lookahead


def planned(lookahead, *steps):
    """
    What is planned at each of *steps*, which are (operations started, now, and ended if any have),
    all of it allowed.
    """
    plans, may_start = [], 0
    for started, now, *ended in steps:
        may_start = lookahead.plan(started, may_start, now, *(ended or [0]))
        lookahead.allowed(now)
        plans.append(may_start)
    return plans


def test_first_operations_are_as_many_as_run_at_a_time():
    """
    Nothing is known of a batch that has just begun.
    """
    assert Lookahead(10).plan(0, 0, 1000.0, 0) == 10


def test_quick_operations_are_doubled():
    """
    As long as all that may start has started within moments.
    """
    plans = planned(Lookahead(10), (0, 0.0), (10, 0.01), (30, 0.02), (70, 0.03))

    assert plans == [10, 10 + 20, 30 + 40, 70 + 80]


def test_doubling_has_an_end():
    """
    However quick operations are, a crash leaves no more than so many in doubt.
    """
    lookahead, started, steps = Lookahead(10), 0, []
    for step in range(12):
        may_start = lookahead.plan(started, started, step / 100, 0)
        lookahead.allowed(step / 100)
        steps.append(may_start - started)
        started = may_start

    assert steps == [10, 20, 40, 80, 160, 320, 512, 512, 512, 512, 512, 512]


def test_quick_operations_that_have_not_all_started_change_nothing():
    """
    The store was told for another reason, such as a result.
    """
    assert planned(Lookahead(10), (0, 0.0), (5, 0.01), (9, 0.02)) == [10, 15, 19]


def test_slow_operations_are_halved_down_to_one():
    """
    What is slow needs no head start, and there is always one that may start.
    """
    plans = planned(Lookahead(8), (0, 0.0), (8, 1.0), (12, 2.0), (14, 3.0), (15, 4.0), (16, 5.0))

    assert plans == [8, 8 + 4, 12 + 2, 14 + 1, 15 + 1, 16 + 1]


def test_slow_operations_that_end_together_are_followed_by_as_many():
    """
    However slow they are, as many may run at a time as at first.
    """
    plans = planned(Lookahead(4), (0, 0.0), (4, 1.0, 4), (8, 2.0, 8), (12, 3.0, 12), (16, 4.0, 14))

    assert plans == [4, 8, 12, 16, 18]


def test_what_was_allowed_stays_allowed():
    """
    A plan takes nothing back from operations that are about to start.
    """
    assert planned(Lookahead(8), (0, 0.0), (0, 1.0), (1, 2.0)) == [8, 8, 8]


@pytest.mark.parametrize("seconds", [0.05, 60.0])
def test_store_that_does_not_take_a_plan_makes_operations_slow(seconds):
    """
    Time counts from the last plan that was allowed, not from the last that was made.
    """
    lookahead = Lookahead(8)
    first = lookahead.plan(0, 0, 0.0, 0)
    lookahead.allowed(0.0)
    second = lookahead.plan(8, 8, seconds / 2, 0)
    third = lookahead.plan(8, 8, seconds, 0)

    assert first == 8
    assert (second, third) == ((8 + 16, 8 + 8) if seconds < 1 else (8 + 4, 8 + 2))
