"""
The results of one batch: which of them count, what they add up to, and when there are too many.
"""

import pytest

from asgi_batch._core.failures import Failure
from asgi_batch._core.models import Batch, Operation, Result, Summary
from asgi_batch._ledger import Ledger

SKIPS = [
    Failure.EXPIRED,
    Failure.SKIPPED,
    Failure.SKIPPED_TIMEOUT,
    Failure.SKIPPED_TOO_LARGE,
    Failure.CANCELLED,
    Failure.COMMIT_FAILED,
    Failure.ROLLED_BACK,
]


def make_batch(total, *, stop_on_error=False):
    """
    A batch of *total* operations.
    """
    operations = [
        Operation(index, str(index), "GET", "/", b"/", b"", (), frozenset(), b"", None)
        for index in range(total)
    ]
    return Batch(operations, stop_on_error)


def encode(result):
    """
    A result in as few bytes as a test needs: its body, or what went wrong.
    """
    return result.failure.name.encode() if result.failure else result.body


def answered(batch, index, body=b"x", status=200):
    """
    The app's answer to an operation.
    """
    return Result(batch.operations[index], status, (), body)


def failed(batch, index, failure):
    """
    What the library says of an operation.
    """
    return Result.failed(batch.operations[index], failure)


def test_results_are_kept_in_the_order_of_the_operations():
    """
    The order in which they come in is of no account.
    """
    batch = make_batch(3)
    ledger = Ledger(batch, encode, 100)
    for index in (2, 0, 1):
        ledger.record(answered(batch, index, b"%d" % index))

    assert ledger.results == [b"0", b"1", b"2"]
    assert (ledger.open, ledger.size) == (0, 3)


@pytest.mark.parametrize("late_status", [200, 500])
def test_the_first_result_of_an_operation_counts(late_status):
    """
    A second one changes neither the result, nor the summary, nor what may start.
    """
    batch = make_batch(2, stop_on_error=True)
    ledger = Ledger(batch, encode, 100)
    ledger.record(answered(batch, 0, b"first"))
    reason = ledger.record(answered(batch, 0, b"second, and longer", late_status))

    assert reason is None
    assert ledger.results == [b"first", b""]
    assert (ledger.open, ledger.size) == (1, 5)
    assert ledger.summary() == Summary(2, 1, 0, 0)


@pytest.mark.parametrize("status", [100, 200, 204, 304, 399])
def test_below_400_is_a_success(status):
    """
    Redirects and the like are answers.
    """
    batch = make_batch(1, stop_on_error=True)
    ledger = Ledger(batch, encode, 100)

    assert ledger.record(answered(batch, 0, status=status)) is None
    assert ledger.summary() == Summary(1, 1, 0, 0)


@pytest.mark.parametrize("status", [400, 404, 499, 500, 599])
@pytest.mark.parametrize("stop_on_error", [False, True])
def test_from_400_on_is_a_failure(status, stop_on_error):
    """
    It stops what comes after it where the client has asked for that.
    """
    batch = make_batch(2, stop_on_error=stop_on_error)
    ledger = Ledger(batch, encode, 100)
    reason = ledger.record(answered(batch, 0, status=status))

    assert reason is (Failure.SKIPPED if stop_on_error else None)
    assert ledger.summary() == Summary(2, 0, 1, 0)


def test_the_apps_own_424_is_a_failure_and_no_skip():
    """
    What the app says is not mistaken for what the library says.
    """
    batch = make_batch(1)
    ledger = Ledger(batch, encode, 100)
    ledger.record(answered(batch, 0, status=424))

    assert ledger.summary() == Summary(1, 0, 1, 0)


@pytest.mark.parametrize("failure", [each for each in Failure if each not in SKIPS])
def test_each_failure_is_counted_as_one(failure):
    """
    An operation that ran and did not succeed has failed.
    """
    batch = make_batch(2)
    ledger = Ledger(batch, encode, 100)
    ledger.record(failed(batch, 0, failure))

    assert ledger.summary() == Summary(2, 0, 1, 0)


@pytest.mark.parametrize("failure", SKIPS)
def test_each_skip_is_counted_as_one(failure):
    """
    An operation that never ran has not failed, and is no reason to skip others.
    """
    batch = make_batch(2, stop_on_error=True)
    ledger = Ledger(batch, encode, 100)

    assert ledger.record(failed(batch, 0, failure)) is None
    assert ledger.summary() == Summary(2, 0, 0, 1)


def test_t30_size_boundary():
    """
    T30: exactly max_bytes fit; the answer that does not is replaced, and ends the batch.
    """
    batch = make_batch(3)
    fits, does_not = (Ledger(batch, encode, size) for size in (10, 9))
    reasons = []
    for ledger in (fits, does_not):
        ledger.record(answered(batch, 0, b"12345"))
        reasons.append(ledger.record(answered(batch, 1, b"67890")))

    assert reasons == [None, Failure.SKIPPED_TOO_LARGE]
    assert fits.results[:2] == [b"12345", b"67890"]
    assert does_not.results[:2] == [b"12345", b"BATCH_RESPONSE_TOO_LARGE"]
    assert does_not.summary() == Summary(3, 1, 1, 0)
    assert does_not.size == len(b"".join(does_not.results))


def test_t30_the_librarys_own_words_always_fit():
    """
    T30: every operation gets its result, although the answer is full.
    """
    batch = make_batch(3)
    ledger = Ledger(batch, encode, 1)
    ledger.record(failed(batch, 0, Failure.APP_EXCEPTION))
    reason = ledger.record(failed(batch, 1, Failure.OPERATION_TIMEOUT))
    ledger.record(failed(batch, 2, Failure.SKIPPED))

    assert reason is None
    assert ledger.results == [b"APP_EXCEPTION", b"OPERATION_TIMEOUT", b"SKIPPED"]
    assert ledger.open == 0


def test_t30_a_full_answer_outranks_on_error():
    """
    T30: what is skipped says why: there is no room, whatever onError says.
    """
    batch = make_batch(2, stop_on_error=True)
    ledger = Ledger(batch, encode, 3)

    assert ledger.record(answered(batch, 0, b"1234")) is Failure.SKIPPED_TOO_LARGE


def test_a_summary_in_the_middle():
    """
    Operations without a result are counted in the total only.
    """
    batch = make_batch(4)
    ledger = Ledger(batch, encode, 100)
    ledger.record(answered(batch, 1))

    assert ledger.summary() == Summary(4, 1, 0, 0)
    assert ledger.open == 3


def test_several_results_are_entered_as_one_by_one():
    """
    Results that come together count each for itself, and the last reason to stop is told.
    """
    batch = make_batch(5)
    ledger = Ledger(batch, encode, 12)
    together = [answered(batch, index, b"12345") for index in range(3)]
    reason = ledger.record_all([*together, answered(batch, 0, b"again")])

    assert reason is Failure.SKIPPED_TOO_LARGE
    assert ledger.results == [b"12345", b"12345", b"BATCH_RESPONSE_TOO_LARGE", b"", b""]
    assert ledger.summary() == Summary(5, 2, 1, 0)
    assert ledger.record_all([]) is None


@pytest.mark.parametrize(
    ("stop_on_error", "max_bytes", "size", "group"),
    [
        (False, 2**20, 0, 64),
        (False, 2**20, 2**20 - 2**18, 64),
        (False, 2**20, 2**20 - 2**18 + 1, 1),
        (False, 2**18 - 1, 0, 1),
        (True, 2**20, 0, 1),
    ],
)
def test_how_many_results_may_wait(stop_on_error, max_bytes, size, group):
    """
    None where the next operation may not start before the last result is known to fit.
    """
    batch = make_batch(2, stop_on_error=stop_on_error)
    ledger = Ledger(batch, encode, max_bytes)
    ledger.record(answered(batch, 0, bytes(size)))

    assert ledger.group == group


def test_a_result_that_is_there_does_not_hide_those_after_it():
    """
    Of several results those count that are new.
    """
    batch = make_batch(2)
    ledger = Ledger(batch, encode, 100)
    ledger.record(answered(batch, 0, b"first"))
    ledger.record_all([answered(batch, 0, b"again"), answered(batch, 1, b"new")])

    assert ledger.results == [b"first", b"new"]
    assert ledger.arrivals == [0, 1]


def test_results_that_have_been_taken_are_not_kept():
    """
    Whoever takes them has them; a mark says that the operation has its result.
    """
    batch = make_batch(3)
    ledger = Ledger(batch, encode, 1000)
    ledger.record_all([answered(batch, 2, bytes(100)), answered(batch, 0, bytes(100))])
    taken = ledger.take()
    ledger.record(answered(batch, 0, b"again"))

    assert [(each.index, len(each.result)) for each in taken] == [(2, 100), (0, 100)]
    assert [len(each) for each in ledger.results] == [1, 0, 1]
    assert ledger.take() == []
