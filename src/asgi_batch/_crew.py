"""
The workers of one batch: who there is, and how many of them count against its concurrency.

It starts none of them, and stops those that are late.
"""

from __future__ import annotations

import anyio

from asgi_batch._core.models import Operation
from asgi_batch._gate import Gate
from asgi_batch._subrequest import Subrequest
from asgi_batch._worker import Worker


class Crew:
    """
    A worker counts from when it is wanted until its operation goes on after its answer.

    Args:
        most: Workers that may count at a time.
        gate: Where it is counted who has been given up.
        is_strict: Whether a worker counts until its operation has come to its very end.

    Attributes:
        workers: Those there are.
        blocked: How many count although they wait for a call, as they wait in threads.
        left: Set once the last one has gone and no other will come.
        is_over: No other will come.
    """

    __slots__ = ("_fronts", "_gate", "_most", "blocked", "is_over", "is_strict", "left", "workers")

    def __init__(self, most: int, gate: Gate, *, is_strict: bool = False) -> None:
        self._most = most
        self._gate = gate
        self.is_strict = is_strict
        self._fronts = 0
        self.blocked = 0
        self.workers: set[Worker] = set()
        self.left = anyio.Event()
        self.is_over = False

    @property
    def has_room(self) -> bool:
        """
        Whether another worker may start.
        """
        return self._fronts < self._most

    @property
    def is_idle(self) -> bool:
        """
        Whether nothing goes on.
        """
        return self._fronts <= self.blocked

    def expect(self) -> None:
        """
        Count a worker that is about to start, or a call for several.
        """
        self._fronts += 1

    def release(self) -> None:
        """
        Count a call no longer.
        """
        self._fronts -= 1

    def set_aside(self, worker: Worker) -> None:
        """
        Count a worker no longer whose operation waits for others.
        """
        worker.is_aside = worker.was_aside = True
        self._fronts -= 1

    def take_back(self, worker: Worker) -> None:
        """
        Count a worker again that has been set aside.
        """
        worker.is_aside = False
        self._fronts += 1

    def dismiss(self, worker: Worker) -> None:
        """
        Forget a worker that runs nothing more, once.
        """
        if worker not in self.workers:
            return
        self.workers.remove(worker)
        self._gate.abandoned -= worker.is_abandoned
        self._fronts -= not (worker.is_tail or worker.is_aside)
        if self.is_over and not self.workers:
            self.left.set()

    def step_back(self, worker: Worker) -> None:
        """
        Count a worker no longer whose operation has answered and goes on.
        """
        if not (worker.is_tail or worker.is_aside or worker.is_busy or self.is_strict):
            worker.is_tail = True
            self._fronts -= 1

    def step_forward(self, worker: Worker) -> None:
        """
        Count a worker again whose operation has come to its end, or let it go if there is no room.
        """
        worker.is_tail = not self.has_room
        worker.is_spent = worker.is_spent or worker.is_tail
        self._fronts += not worker.is_tail

    @property
    def is_at_work(self) -> bool:
        """
        Whether some operation has not come to its very end, nor been given up.
        """
        return any(each.subrequest is not None and not each.is_abandoned for each in self.workers)

    def due(self, latest: float) -> float:
        """
        When the next operation is late, but not after *latest*.
        """
        for worker in self.workers:
            if (worker.is_busy or self.is_strict) and not worker.is_abandoned:
                latest = min(latest, worker.deadline)
        return latest

    def give_up_late(self, now: float) -> list[Operation]:
        """
        Give up what should have been through before *now*.

        Returns:
            The operations.
        """
        late = []
        for worker in self.workers:
            subrequest = worker.subrequest
            if subrequest is None or worker.is_abandoned or worker.deadline > now:
                continue
            if worker.is_busy or self.is_strict:
                self._abandon(worker, subrequest)
                late.append(subrequest.operation)
        return late

    def give_up(self) -> None:
        """
        Give up whatever has not answered, and let workers go that stand in line.
        """
        for worker in self.workers:
            if worker.subrequest is None:
                worker.scope.cancel()
            elif worker.is_busy or self.is_strict:
                self._abandon(worker, worker.subrequest)

    def abort(self) -> None:
        """
        Listen to no answer any more, and let workers go that stand in line.
        """
        for worker in self.workers:
            if worker.subrequest is None:
                worker.scope.cancel()
            else:
                worker.subrequest.abort()

    def _abandon(self, worker: Worker, subrequest: Subrequest) -> None:
        subrequest.abort()
        worker.scope.cancel()
        if not worker.is_abandoned:
            worker.is_abandoned = worker.is_spent = True
            self._gate.abandoned += 1

    def end(self) -> None:
        """
        Let no other come.
        """
        self.is_over = True
        if not self.workers:
            self.left.set()
