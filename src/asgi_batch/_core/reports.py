"""
How a batch has ended, as plain data without anything of what was in it; it is sent nowhere.

Whatever is here may be logged and counted (RELIABILITY T46, T52).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

#: Whether a batch was answered at once or outlived its request.
Mode: TypeAlias = Literal["now", "later"]
#: How a batch came to its end.
Ending: TypeAlias = Literal[
    "completed", "rolled_back", "cancelled", "failed", "aborted", "refused", "released"
]

# So much of an id finds a batch in a log, and opens nothing (RELIABILITY T37).
_SHOWN: Final = 8


def short(batch_id: str) -> str:
    """
    As much of an id as may be logged.
    """
    return batch_id[:_SHOWN]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """
    How a batch has ended, without anything of what was in it: it may be logged and counted.

    Attributes:
        mode: ``"now"`` for a batch that was answered at once, ``"later"`` for one in the
            background.
        ending: ``"completed"``, however its operations ended; ``"rolled_back"`` where it was atomic
            and has failed; ``"cancelled"`` by a client;
            ``"failed"`` where it could not be carried out; ``"aborted"`` because its client went
            away; ``"refused"`` before anything ran; ``"released"`` by this process, so that
            another goes on with it, and by each worker
            of a queue but the last one of a batch that they share.
        code: Why it was refused or has failed, as a stable code; None otherwise.
        total: Its operations; 0 where it was refused unread. Of a batch that workers of a queue
            share, this and the counts below are those of what each of them has done.
        succeeded: Those that were answered with a status below 400.
        failed: Those that were not.
        skipped: Those that have never run.
        seconds: Time since its request came in or, in the background, since this process took it
            over.
        batch: The first eight characters of its id, which find it in logs; None where it has none.
    """

    mode: Mode
    ending: Ending
    code: str | None = None
    total: int = 0
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float
    batch: str | None = None

    @property
    def labels(self) -> dict[str, str]:
        """
        What tells kinds of batches apart: some dozens of combinations, whatever clients send.
        """
        return {"mode": self.mode, "ending": self.ending, "code": self.code or ""}
