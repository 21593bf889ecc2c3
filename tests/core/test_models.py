"""
The models are plain data that nobody changes, since operations of one batch share some of it.
"""

import gc

import msgspec
import pytest

from asgi_batch import CurrentOperation
from asgi_batch._core.models import Batch, Operation, Result, Summary
from asgi_batch._core.rules import Rules
from pure import RULES

OPERATION = Operation(0, "0", "GET", "/", b"/", b"", (), frozenset(), b"", None)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (OPERATION, "path"),
        (Batch([OPERATION]), "operations"),
        (Result(OPERATION, 200), "status"),
        (Summary(1, 1, 0, 0), "failed"),
        (CurrentOperation("b", "0", 0, 1, 1, False), "operation_id"),
        (RULES, "max_operations"),
    ],
)
def test_t5_models_cannot_be_changed(model, name):
    """
    T5: an app that is handed one cannot change it for others.
    """
    with pytest.raises(AttributeError):
        setattr(model, name, 7)
    assert not hasattr(model, "__dict__")


def test_rules_are_given_by_name():
    """
    No number is taken for another.
    """
    with pytest.raises(TypeError):
        Rules("/batch", False, frozenset())


def test_defaults():
    """
    A batch goes on after a failure, and a result is the app's unless it says otherwise.
    """
    result = Result(OPERATION, 200)

    assert Batch([OPERATION]).stop_on_error is False
    assert (result.body, result.failure, result.error_id) == (b"", None, None)
    assert not gc.is_tracked(result)
    assert (CurrentOperation("b", "0", 0, 1).attempt, CurrentOperation("b", "0", 0, 1).atomic) == (
        1,
        False,
    )
    assert msgspec.structs.asdict(Summary(4, 1, 2, 1)) == {
        "total": 4,
        "succeeded": 1,
        "failed": 2,
        "skipped": 1,
    }
