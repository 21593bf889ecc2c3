"""
Marks what only ``make wide`` tries: one more driver, event loop or server, where others have shown
the same.
"""

import pytest

wide = pytest.mark.wide


def widely(*values):
    """
    Parameters that are tried widely only.
    """
    return [pytest.param(value, marks=wide) for value in values]


def widely_each(*rows):
    """
    The same for several parameters at a time.
    """
    return [pytest.param(*row, marks=wide) for row in rows]
