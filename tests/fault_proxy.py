"""
A TCP proxy in front of a server that loses, delays and cuts what it is told to; it changes nothing.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from servers import HOST

_CHUNK = 65_536


class FaultProxy:
    """
    Passes bytes on to *target_port*, and loses what it is told to lose.

    Args:
        target_port: Of the server behind it. May be changed; connections stay where they are.

    Attributes:
        latency: Seconds that each piece takes, either way.
        piece: Bytes that are passed on at once, at most.
        is_silent: Whether nothing is passed on either way, while connections stay.
        dropped: Replies and requests that were lost.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self._doomed_request: bytes | None = None
        self._doomed_reply: bytes | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._half_closed: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.latency = 0.0
        self.piece = _CHUNK
        self.is_silent = False
        self.dropped = 0

    def drop_reply_to(self, marker: bytes) -> None:
        """
        Cut the connection instead of passing on the reply to the next request with *marker* in it.
        """
        self._doomed_reply = marker

    def drop_request_with(self, marker: bytes) -> None:
        """
        Cut the connection instead of passing on the next request with *marker* in it.
        """
        self._doomed_request = marker

    def reset(self) -> None:
        """
        End all connections at once, in the way of a host that knows nothing of them.
        """
        for writer in self._connections.values():
            self._abort(writer)

    def half_close(self) -> None:
        """
        Send nothing more to clients on the connections that there are, but go on reading.
        """
        for writer in self._connections.values():
            self._half_closed.add(writer)
            with suppress(OSError):
                writer.write_eof()

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
        self._connections[task] = writer
        try:
            with suppress(OSError):
                await self._join(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            del self._connections[task]
            self._half_closed.discard(writer)
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(HOST, self.target_port)
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
            # At once, as this task may be cancelled while it waits.
            to_server.close()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        while data := await reader.read(_CHUNK):
            if self._doomed_request is not None and self._doomed_request in data:
                self._doomed_request = None
                self.dropped += 1
                return
            if self._doomed_reply is not None and self._doomed_reply in data:
                self._doomed_reply = None
                doomed.set()
            await self._pass_on(data, writer)

    async def _replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        while data := await reader.read(_CHUNK):
            if doomed.is_set():
                self.dropped += 1
                return
            if writer not in self._half_closed:
                await self._pass_on(data, writer)

    async def _pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self.is_silent:
            return
        for start in range(0, len(data), self.piece):
            if self.latency:
                await asyncio.sleep(self.latency)
            writer.write(data[start : start + self.piece])
            await writer.drain()
            if self.piece < _CHUNK:
                # Let each piece leave by itself.
                await asyncio.sleep(0)

    @staticmethod
    def _abort(writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
