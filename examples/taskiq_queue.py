"""
A queue of one's own: batches on taskiq, whatever broker it has.

``BatchMiddleware(app, store="redis://…", queue=TaskiqQueue(RedisStreamBroker("redis://…")))``, and
``python -m asgi_batch.worker module:app`` for its workers.
"""

from taskiq import AsyncBroker
from taskiq.api import run_receiver_task

from asgi_batch.ports import Run


class TaskiqQueue:
    """
    Hands batches to workers over a broker of taskiq.
    """

    def __init__(self, broker: AsyncBroker) -> None:
        async def carry_out(batch_id: str, chunk: int | None) -> None:
            await self._run(batch_id, chunk)

        self._broker = broker
        self._message = broker.register_task(carry_out, "asgi_batch.run")
        self._run: Run

    async def send(self, batch_id: str, chunk: int | None) -> None:
        await self._message.kiq(batch_id, chunk)

    async def receive(self, run: Run) -> None:
        self._run = run
        await run_receiver_task(self._broker, max_async_tasks=4, run_startup=True)

    async def aclose(self) -> None:
        await self._broker.shutdown()
