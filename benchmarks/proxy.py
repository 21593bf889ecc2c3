"""
A server that seems far away: passes bytes on in their order, each of them a while later.

A new connection takes one round trip until it is there, as TCP's handshake does. Nothing is
throttled. The clock of asyncio counts whole milliseconds, so that a delay may be one too long.
"""

import asyncio
import sys

from benchmarks.programs import HOST

_CHUNK = 64 * 1024


class Proxy:
    """
    Listens for connections to a server on this machine.

    Args:
        port: Where the server listens.
        delay: Seconds that bytes are on their way, in either direction.
    """

    def __init__(self, port: int, delay: float) -> None:
        self._port = port
        self._delay = delay
        # Once a connection is lost, asyncio holds its task no longer.
        self._tasks: set[asyncio.Task[None] | None] = set()

    async def serve(self) -> None:
        """
        Print the port and pass on whatever comes, for ever.
        """
        server = await asyncio.start_server(self._connect, HOST, 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        since = asyncio.get_running_loop().time() + 2 * self._delay
        far_reader, far_writer = await asyncio.open_connection(HOST, self._port)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass_on(reader, far_writer, since))
                tasks.create_task(self._pass_on(far_reader, writer, since))
        except* ConnectionError:
            pass
        finally:
            writer.close()
            far_writer.close()
            self._tasks.discard(task)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, since: float
    ) -> None:
        clock = asyncio.get_running_loop().time
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            piece = b"first"
            while piece:
                due, piece = await pieces.get()
                await asyncio.sleep(due - clock())
                writer.write(piece)
                await writer.drain()
            writer.write_eof()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(deliver())
            piece = b"first"
            while piece:
                piece = await reader.read(_CHUNK)
                pieces.put_nowait((max(since, clock()) + self._delay, piece))


if __name__ == "__main__":
    asyncio.run(Proxy(int(sys.argv[1]), float(sys.argv[2])).serve())
