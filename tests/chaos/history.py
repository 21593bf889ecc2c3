"""
What a client has asked and heard, and what was done to the servers meanwhile; it judges nothing.

A question whose answer is lost is unknown, never failed. Times are those of ``CLOCK_MONOTONIC``,
which all processes of a machine share.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Document: TypeAlias = dict[str, Any]

#: What can be done to a process or to what lies between it and its store.
Kind: TypeAlias = Literal[
    "kill", "term", "pause", "late", "cut", "drop", "dark", "delay", "freeze", "outage"
]


#: What becomes of the transaction of an atomic batch whose operations have all succeeded: it is
#: committed; it is refused; nobody knows, and it is not committed; nobody knows, and it is.
Commit: TypeAlias = Literal["done", "refused", "lost", "unheard"]


@dataclass(frozen=True)
class Planned:
    """
    An operation as it is sent.
    """

    index: int
    method: str
    seconds: float = 0.0
    status: int = 200
    has_key: bool = False

    @property
    def is_safe(self) -> bool:
        """
        Whether it may be run again when it is not known whether it ran.
        """
        return self.has_key or self.method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")


@dataclass
class Submission:
    """
    A batch as it is sent, once or, with a *key*, several times.

    Attributes:
        commit: What becomes of its transaction, where it is atomic.
        commit_seconds: How long that takes.
        batch_ids: Those of the answers; none where every answer was lost.
    """

    tag: str
    operations: tuple[Planned, ...]
    stops_on_error: bool = False
    key: str | None = None
    commit: Commit | None = None
    commit_seconds: float = 0.0
    batch_ids: list[str] = field(default_factory=list)
    unknown: int = 0


@dataclass(frozen=True)
class Observation:
    """
    One answer about a batch.

    Attributes:
        document: What it said; None where the batch was not known.
        version: Of its ``ETag``.
    """

    batch_id: str
    asked_at: float
    answered_at: float
    document: Document | None
    version: int = 0


@dataclass(frozen=True)
class Disturbance:
    """
    Something that was done.

    Attributes:
        who: A process by its id, a place that processes have one after the other by its name, or
            ``"all"``.
    """

    kind: Kind
    who: int | str
    start: float
    end: float


@dataclass(frozen=True)
class Run:
    """
    An operation that a process has started.

    Attributes:
        end: When it came to its end; None where it never did.
        cut_short: When its process cancelled it.
    """

    pid: int
    batch_id: str
    index: int
    method: str
    attempt: int
    nonce: str
    tag: str
    start: float
    end: float | None = None
    cut_short: float | None = None


@dataclass(frozen=True)
class Committed:
    """
    A transaction that a process has committed.

    Attributes:
        tag: Of the batch.
        nonces: Those of the runs in it.
    """

    pid: int
    at: float
    tag: str
    nonces: tuple[str, ...]


@dataclass(frozen=True)
class Final:
    """
    A batch after its end, as one of the processes tells.
    """

    batch_id: str
    document: Document
    results: list[Document]


@dataclass
class History:
    """
    All that happened in one iteration, but for what operations did.

    Attributes:
        submissions: By their tags.
        cancellations: The answers to them.
        places: The place of each process.
        deaths: When each process was gone.
        commits: All that is durable of atomic batches.
        chunk_sizes: Operations of each chunk of a batch; 0 where it is claimed as a whole.
    """

    submissions: dict[str, Submission] = field(default_factory=dict)
    observations: list[Observation] = field(default_factory=list)
    cancellations: list[Observation] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)
    places: dict[int, str] = field(default_factory=dict)
    deaths: dict[int, float] = field(default_factory=dict)
    commits: list[Committed] = field(default_factory=list)
    chunk_sizes: dict[str, int] = field(default_factory=dict)

    def disturbances_of(self, pid: int) -> list[Disturbance]:
        """
        What was done to the process *pid*, or to its link, or to what it is linked to.
        """
        whose = (pid, self.places.get(pid, ""), "all")
        return [each for each in self.disturbances if each.who in whose]

    def planned(self, tag: str, index: int) -> Planned:
        """
        The operation as it was sent.
        """
        return self.submissions[tag].operations[index]


@dataclass(frozen=True)
class Worker:
    """
    What a process holds on to after all its work.
    """

    pid: int
    connections: int
    others: tuple[str, ...]
    others_at_first: tuple[str, ...]


@dataclass(frozen=True)
class Leftovers:
    """
    What is there after all batches have ended.

    Attributes:
        keys: Of Redis, with the seconds that each will live; -1 is for ever.
        expected: The keys that may be there.
        clients: Connections that Redis has.
        clients_expected: How many it may have.
    """

    keys: dict[str, int]
    expected: frozenset[str]
    workers: tuple[Worker, ...]
    clients: int
    clients_expected: int
