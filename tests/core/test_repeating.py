"""
Which operations may run a second time.
"""

import pytest

from asgi_batch._core.models import Operation
from asgi_batch._core.repeating import is_safe_to_repeat


def an_operation(method, *headers):
    """
    An operation with these headers.
    """
    return Operation(0, "0", method, "/", b"/", b"", headers, frozenset(), b"", None)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_idempotent_methods_may_run_again(method):
    """
    HTTP says that twice is as good as once.
    """
    assert is_safe_to_repeat(an_operation(method))


@pytest.mark.parametrize("method", ["POST", "PATCH", "get", "PURGE"])
def test_other_methods_may_not(method):
    """
    Nobody knows what twice would do.
    """
    headers = (b"content-type", b"text/plain"), (b"x-request-id", b"1")

    assert not is_safe_to_repeat(an_operation(method, *headers))


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_idempotency_key_lets_the_app_see_to_it(method):
    """
    Whatever other headers there are.
    """
    headers = (b"accept", b"*/*"), (b"idempotency-key", b"one"), (b"content-length", b"0")

    assert is_safe_to_repeat(an_operation(method, *headers))
