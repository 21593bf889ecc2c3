"""
Operations of one batch that wait for others: they stand aside, and come back when they may go on.
"""

from __future__ import annotations

from asgi_batch._crew import Crew
from asgi_batch._gate import Door
from asgi_batch._worker import Worker


class Bystanders:
    """
    Operations that give their places to others while they wait.

    Args:
        crew: The workers of the batch.
        door: What a worker has to pass to go on.
    """

    __slots__ = ("_at_door", "_crew", "_door", "_waits", "_workers")

    def __init__(self, crew: Crew, door: Door) -> None:
        self._crew = crew
        self._door = door
        self._workers: dict[int, Worker] = {}
        self._waits: dict[int, int] = {}
        self._at_door: set[int] = set()

    def register(self, index: int, worker: Worker) -> None:
        """
        Note that the operation *index* waits for something, and *worker* with it.
        """
        self._workers[index] = worker
        if index in self._waits:
            self._step_aside(worker)

    def forget(self, index: int) -> None:
        """
        Note that the operation *index* has come to its end, whatever tasks of it still wait.
        """
        self._waits.pop(index, None)
        self.come_back_at_once(index)
        worker = self._workers.pop(index)
        # None may follow without a token, and one that a task still waits for is not for others.
        worker.is_spent = worker.is_spent or not worker.has_token

    def wait(self, index: int) -> bool:
        """
        Let the operation *index* stand aside until `end_wait` has been called as often.

        Returns:
            Whether it does; otherwise it will once its worker is known.
        """
        self._waits[index] = self._waits.get(index, 0) + 1
        worker = self._workers.get(index)
        if worker is not None:
            self._step_aside(worker)
        return worker is not None

    def end_wait(self, index: int) -> bool:
        """
        Note that the operation *index* waits for one thing less.

        Returns:
            Whether it stands aside, and may come back.
        """
        waits = self._waits.pop(index, 1) - 1
        if waits:
            self._waits[index] = waits
            return False
        worker = self._workers.get(index)
        return worker is not None and worker.is_aside

    def take_back(self, index: int) -> bool:
        """
        Give the operation *index* a place again, in which it may have to `pass_door`.

        Returns:
            Whether it has taken one, and not come back already, or waits for something else.
        """
        worker = self._workers.get(index)
        if worker is None or not worker.is_aside or index in self._waits:
            return False
        self._crew.take_back(worker)
        worker.has_token = index not in self._at_door and self._door.try_acquire(worker)
        return True

    def come_back_at_once(self, index: int) -> None:
        """
        Let the operation *index* go on without a token, and nothing after it, if it waits no more.

        Nothing can make an operation wait that has been cancelled.
        """
        worker = self._workers.get(index)
        if worker is not None and worker.is_aside and index not in self._waits:
            self._crew.take_back(worker)
            worker.is_spent = True

    def has_passed(self, index: int) -> bool:
        """
        Whether the operation *index* needs no token to go on.
        """
        worker = self._workers.get(index)
        return worker is None or worker.has_token or worker.is_aside

    async def pass_door(self, index: int) -> None:
        """
        Let the operation *index* go on when the process has room for it.
        """
        worker = self._workers.get(index)
        if worker is None or worker.is_aside or worker.has_token or index in self._at_door:
            return
        self._at_door.add(index)
        try:
            await self._door.acquire(worker)
        finally:
            self._at_door.discard(index)
        worker.has_token = True
        if self._workers.get(index) is not worker or index in self._waits:
            # Meanwhile it has come to its end, or another task of it waits for something.
            self.give_up_token(worker)

    def _step_aside(self, worker: Worker) -> None:
        if not (worker.is_tail or worker.is_aside):
            self._crew.set_aside(worker)
        self.give_up_token(worker)

    def give_up_token(self, worker: Worker) -> None:
        """
        Take *worker*'s token back, if it has one: not all that go on do.
        """
        if worker.has_token:
            self._door.release(worker)
            worker.has_token = False
