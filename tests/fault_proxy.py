"""
A TCP proxy in front of a server that loses a reply on demand; it changes nothing that it passes on.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from servers import HOST

_CHUNK = 65_536


class FaultProxy:
    """
    Passes bytes on to *target_port*, and loses what it is told to lose.

    Args:
        target_port: Of the server behind it.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._marker: bytes | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0
        #: Replies that were lost.
        self.dropped = 0

    def drop_reply_to(self, marker: bytes) -> None:
        """
        Cut the connection instead of passing on the reply to the next request with *marker* in it.
        """
        self._marker = marker

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FaultProxy"]:
        """
        Listen, and cut all connections in the end.
        """
        server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(OSError):
                await self._join(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(HOST, self._target_port)
        doomed = asyncio.Event()
        pumps = [
            asyncio.create_task(self._requests(reader, to_server, doomed)),
            asyncio.create_task(self._replies(from_server, writer, doomed)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            to_server.close()

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        while data := await reader.read(_CHUNK):
            if self._marker is not None and self._marker in data:
                self._marker = None
                doomed.set()
            writer.write(data)
            await writer.drain()

    async def _replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        while data := await reader.read(_CHUNK):
            if doomed.is_set():
                self.dropped += 1
                return
            writer.write(data)
            await writer.drain()
