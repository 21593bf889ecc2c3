"""
The workers of one batch: who there is, and how many of them count against its concurrency.

It starts and stops none of them.
"""

from __future__ import annotations

import anyio

from asgi_batch._worker import Worker


class Crew:
    """
    A worker counts from when it is wanted until its operation goes on after its answer.

    Args:
        most: Workers that may count at a time.

    Attributes:
        workers: Those there are.
        left: Set once the last one has gone and no other will come.
        is_over: No other will come.
    """

    __slots__ = ("_fronts", "_most", "is_over", "left", "workers")

    def __init__(self, most: int) -> None:
        self._most = most
        self._fronts = 0
        self.workers: set[Worker] = set()
        self.left = anyio.Event()
        self.is_over = False

    @property
    def has_room(self) -> bool:
        """
        Whether another worker may start.
        """
        return self._fronts < self._most

    def expect(self) -> None:
        """
        Count a worker that is about to start.
        """
        self._fronts += 1

    def dismiss(self, worker: Worker) -> None:
        """
        Forget a worker that runs nothing more.
        """
        self.workers.remove(worker)
        self._fronts -= not worker.is_tail
        if self.is_over and not self.workers:
            self.left.set()

    def step_back(self, worker: Worker) -> None:
        """
        Count a worker no longer whose operation has answered and goes on.
        """
        if not worker.is_tail and not worker.is_busy:
            worker.is_tail = True
            self._fronts -= 1

    def step_forward(self, worker: Worker) -> None:
        """
        Count a worker again whose operation has come to its end, or let it go if there is no room.
        """
        worker.is_tail = not self.has_room
        worker.is_spent = worker.is_spent or worker.is_tail
        self._fronts += not worker.is_tail

    def due(self, latest: float) -> float:
        """
        When the next operation is late, but not after *latest*.
        """
        for worker in self.workers:
            if worker.is_busy and not worker.is_abandoned:
                latest = min(latest, worker.deadline)
        return latest

    def end(self) -> None:
        """
        Let no other come.
        """
        self.is_over = True
        if not self.workers:
            self.left.set()
