"""
What operations have really done, read from the file that the app appends to.
"""

from dataclasses import dataclass
from pathlib import Path

from chaos.history import Committed, Disturbance, Run


@dataclass
class _Open:
    words: list[str]
    start: float


class EffectLog:
    """
    The file of one app, read from where the last reading has stopped.

    Args:
        file: Where it is.

    Attributes:
        commits: The transactions that were committed since the last reading but one.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.commits: list[Committed] = []
        self._position = 0
        self._rest = b""

    def read(self) -> tuple[list[Run], list[Disturbance]]:
        """
        The runs that have begun since the last reading, and when processes stood still.
        """
        runs, late = list[_Open](), list[Disturbance]()
        self.commits = []
        stops: dict[str, dict[str, float]] = {"end": {}, "gone": {}}
        for event, pid, at, *words in self._lines():
            if event == "late":
                late.append(Disturbance("late", int(pid), float(at), float(words[0])))
            elif event == "commit":
                tag, *nonces = words
                self.commits.append(Committed(int(pid), float(at), tag, tuple(nonces)))
            elif event == "start":
                runs.append(_Open([pid, *words], float(at)))
            else:
                stops[event][words[4]] = float(at)
        return [_run_of(each, **stops) for each in runs], late

    def _lines(self) -> list[list[str]]:
        if not self.file.exists():
            return []
        with self.file.open("rb") as file:
            file.seek(self._position)
            text = self._rest + file.read()
            self._position = file.tell()
        *lines, self._rest = text.split(b"\n")
        return [line.decode().split(" ") for line in lines]


def _run_of(opened: _Open, *, end: dict[str, float], gone: dict[str, float]) -> Run:
    pid, batch_id, index, method, attempt, nonce, tag = opened.words
    return Run(
        pid=int(pid),
        batch_id=batch_id,
        index=int(index),
        method=method,
        attempt=int(attempt),
        nonce=nonce,
        tag=tag,
        start=opened.start,
        end=end.get(nonce),
        cut_short=gone.get(nonce),
    )
