"""
What clients know an operation's failure by: its code and its status.
"""

import pytest

from asgi_batch._core.failures import Failure

STATUSES = {
    Failure.APP_EXCEPTION: ("app_exception", 500),
    Failure.APP_NO_RESPONSE: ("app_no_response", 502),
    Failure.APP_INCOMPLETE_RESPONSE: ("app_incomplete_response", 502),
    Failure.APP_PROTOCOL_ERROR: ("app_protocol_error", 502),
    Failure.RESPONSE_TOO_LARGE: ("response_too_large", 502),
    Failure.BATCH_RESPONSE_TOO_LARGE: ("batch_response_too_large", 502),
    Failure.STREAMING_NOT_SUPPORTED: ("streaming_not_supported", 502),
    Failure.OPERATION_TIMEOUT: ("operation_timeout", 504),
    Failure.BATCH_TIMEOUT: ("batch_timeout", 504),
    Failure.OUTCOME_UNKNOWN: ("outcome_unknown", 502),
    Failure.WORKER_LOST: ("worker_lost", 502),
    Failure.COMMIT_FAILED: ("commit_failed", 424),
    Failure.COMMIT_UNKNOWN: ("commit_unknown", 502),
    Failure.ROLLED_BACK: ("rolled_back", 424),
    Failure.CANCELLED: ("cancelled", 424),
    Failure.SKIPPED: ("skipped", 424),
    Failure.EXPIRED: ("expired", 424),
    Failure.SKIPPED_TIMEOUT: ("batch_timeout", 424),
    Failure.SKIPPED_TOO_LARGE: ("batch_response_too_large", 424),
}


@pytest.mark.parametrize("failure", Failure)
def test_codes_and_statuses_are_stable(failure):
    """
    Clients decide by them; 424 alone says that an operation had no effect.
    """
    assert (failure.code, failure.status) == STATUSES[failure]
    assert failure.is_skip == (failure.status == 424)
