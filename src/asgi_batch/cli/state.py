"""
What a run has come to, in a small file next to its output, so that another run can go on.

It is written as a whole, and put into the place of the last one: a crash leaves one or the other.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Final

import msgspec

from asgi_batch.cli.problems import UsageProblem

# What has to be as it was, and what to say where it is not.
_SAME: Final = {
    "url": "another --url",
    "fingerprint": "a file with other operations",
    "only_failed": "--only-failed, or had it not",
    "retry_failed": "--retry-failed, or had it not",
}


class State(msgspec.Struct, kw_only=True):
    """
    How far a run is.

    Args:
        url: Where it sends operations.
        fingerprint: Of its file.
        only_failed: Whether results that are good are left out.
        retry_failed: Whether what fails is sent once more, after all others.
        key: What its idempotency keys begin with.
        chunk: Operations that are handed to the client at a time.
        stage: 0 while all are sent, 1 while those that have failed are sent again.
        sent: Operations of this stage whose results are all there, in whole chunks.
        acknowledged: Operations of this stage whose result has been dealt with.
        offset: Bytes of output that belong to those.
        succeeded: Results that were good.
        failed: Those that were not.
        again: Indexes of operations that are to be sent again.
        is_kept: Whether the server knows a batch again that it is sent twice.
    """

    url: str
    fingerprint: str
    only_failed: bool
    retry_failed: bool
    key: str = msgspec.field(default_factory=lambda: uuid.uuid4().hex)
    chunk: int = 0
    stage: int = 0
    sent: int = 0
    acknowledged: int = 0
    offset: int = 0
    succeeded: int = 0
    failed: int = 0
    again: list[int] = msgspec.field(default_factory=list)
    is_kept: bool = True


class StateFile:
    """
    The file that a `State` is in.

    Args:
        output: Where the results go.
    """

    def __init__(self, output: Path) -> None:
        self.path = output.with_name(f".{output.name}.asgi-batch")

    def exists(self) -> bool:
        """
        Whether a run has not come to its end.
        """
        return self.path.exists()

    def save(self, state: State) -> None:
        """
        Put *state* into the place of what is there.

        Raises:
            UsageProblem: It cannot be written.
        """
        draft = self.path.with_name(f"{self.path.name}.new")
        try:
            draft.write_bytes(msgspec.json.encode(state))
            os.replace(draft, self.path)  # noqa: PTH105
        except OSError as error:
            reason = f"{self.path} cannot be written: {error.strerror}"
            raise UsageProblem(f"{reason}. What --resume needs is kept there.") from error

    def load(self, wanted: State) -> State:
        """
        What is there, if it is a run like the one that is *wanted*.

        Raises:
            UsageProblem: There is none, or it is of another run.
        """
        try:
            state = msgspec.json.decode(self.path.read_bytes(), type=State)
        except FileNotFoundError:
            raise UsageProblem("There is no run to go on with: leave out --resume.") from None
        except msgspec.DecodeError as error:
            raise UsageProblem(f"{self.path} is damaged ({error}); remove it.") from error
        for name, told in _SAME.items():
            if getattr(state, name) != getattr(wanted, name):
                raise UsageProblem(
                    f"The run to go on with had {told}: give what it had, or remove {self.path}."
                )
        return state

    def remove(self) -> None:
        """
        There is nothing to go on with.
        """
        self.path.unlink(missing_ok=True)
