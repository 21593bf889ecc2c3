"""
On which terms batches are held that outlive their request; it holds none itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from asgi_batch._engine import Engine
from asgi_batch._ledger import Encode
from asgi_batch._worker import Turns
from asgi_batch.ports import Store

# Parts of a lease: it is renewed after a third, and nothing starts after two thirds without.
_RENEW: Final = 1 / 3
_FENCE: Final = 2 / 3
#: Seconds before another try when the store does not answer.
RETRY: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """
    On which terms batches are held.

    Args:
        store: Where they are kept.
        engine: What they are run with.
        encode: Writes a result.
        turns: Of all batches that are held.
    """

    store: Store
    engine: Engine
    encode: Encode
    turns: Turns

    @property
    def lease(self) -> float:
        """
        Seconds after which a batch whose holder is silent may be claimed by another.
        """
        return self.engine.limits.lease

    @property
    def grace(self) -> float:
        """
        Seconds after a sign of life for which operations may start without another.
        """
        return self.lease * _FENCE

    @property
    def beat(self) -> float:
        """
        Seconds between two signs of life.
        """
        return min(self.lease * _RENEW, self.engine.limits.cancel_interval)
