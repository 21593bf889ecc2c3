"""
What the tests of the pure half share: rules to check against, and a refusal to look at.
"""

from dataclasses import replace

import pytest

from asgi_batch import Limits
from asgi_batch._core.headers import OPERATION_HEADERS
from asgi_batch._core.rules import Rules
from asgi_batch.dialects import native
from asgi_batch.errors import BatchRefused

_LIMITS = Limits()

#: The rules of a middleware with all its defaults.
RULES = Rules(
    batch_path="/batch",
    lenient_paths=False,
    operation_headers=OPERATION_HEADERS,
    max_operations=_LIMITS.max_operations,
    max_operation_bytes=_LIMITS.max_operation_bytes,
    max_path_bytes=_LIMITS.max_path_bytes,
    max_query_bytes=_LIMITS.max_query_bytes,
    max_headers=_LIMITS.max_headers,
    max_header_bytes=_LIMITS.max_header_bytes,
    max_json_depth=_LIMITS.max_json_depth,
    max_problems=_LIMITS.max_problems,
    operation_timeout=_LIMITS.operation_timeout,
)
LENIENT = replace(RULES, lenient_paths=True)


def with_rules(**changes):
    """
    The default rules, but for *changes*.
    """
    return replace(RULES, **changes)


def refusal_of(document, rules=RULES):
    """
    The problem document that refuses *document*.
    """
    with pytest.raises(BatchRefused) as refused:
        native.decode(document, rules)
    return refused.value.as_dict()
