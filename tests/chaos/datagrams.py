"""
A queue without a broker: servers that are workers as well send one another datagrams.

It promises nothing. What waits in a process dies with it, what is sent to nobody is lost, and some
messages come twice, to two processes.
"""

import asyncio
import json
import random
import socket
from collections.abc import Sequence
from typing import Final

from asgi_batch.ports import Run
from servers import HOST

# Messages that a process is at, at a time.
_ROOM: Final = 3


class DatagramQueue:
    """
    What one of the processes sends and hears.

    Args:
        ports: Those of all processes, its own first.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((HOST, ports[0]))

    async def send(self, batch_id: str, chunk: int | None) -> None:
        """
        Let one or two of the processes hear of it.
        """
        message = json.dumps([batch_id, chunk]).encode()
        for port in random.choices(self._ports, k=random.choice((1, 1, 2))):
            self._socket.sendto(message, (HOST, port))

    async def receive(self, run: Run) -> None:
        """
        Have carried out what comes, some at a time, until cancelled.
        """
        room, loop = asyncio.Semaphore(_ROOM), asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            while True:
                await room.acquire()
                message = json.loads(await loop.sock_recv(self._socket, 1000))
                tasks.create_task(run(*message)).add_done_callback(lambda _: room.release())
