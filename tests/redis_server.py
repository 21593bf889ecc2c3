"""
Real Redis servers for tests, each with a port and a folder of its own, and ways to hurt them.
"""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis

from servers import HOST, Server, _wait_until_listening, free_port, kill, start

# Seconds within which servers must agree with each other, on a machine that is busy.
_PATIENCE = 60.0
_SLOTS = 16_384
#: What Sentinels call the server that they watch.
SERVICE = "mymaster"


class RedisProc:
    """
    A running Redis server.

    Args:
        server: Its process.
        options: What it was started with.
    """

    def __init__(self, server: Server, options: tuple[str, ...] = ()) -> None:
        self._server = server
        self._options = options
        self.port = server.port
        self.url = f"redis://{HOST}:{server.port}/0"
        #: A client of its own, to look behind the store's back.
        self.client = redis.Redis(host=HOST, port=server.port)

    def config(self, **settings: object) -> None:
        """
        Change *settings*; an underscore stands for a dash.
        """
        for name, value in settings.items():
            self.client.config_set(name.replace("_", "-"), str(value))

    def kill(self) -> None:
        """
        End it as a loss of power would.
        """
        self.client.close()
        kill(self._server.process)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """
        Keep it from doing anything, though its connections stay.
        """
        self._server.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._server.process.send_signal(signal.SIGCONT)

    @contextmanager
    def restarted(self, folder: Path) -> Iterator["RedisProc"]:
        """
        A server on the same port after this one was killed, with nothing of its data.
        """
        with _serving(self.port, folder, ()) as proc:
            yield proc

    @contextmanager
    def revived(self, *options: str) -> Iterator["RedisProc"]:
        """
        The same server after it was killed, with what it has kept on disk; *options* are added.
        """
        folder = self._server.log_file.parent
        with _serving(self.port, folder, (*self._options, *options)) as proc:
            yield proc


@contextmanager
def redis_server(
    folder: Path,
    *options: str,
    appendonly: bool = False,
    env: Mapping[str, str] | None = None,
) -> Iterator[RedisProc]:
    """
    A Redis server that keeps nothing on disk.

    Args:
        folder: Where it runs.
        options: More of its command line, such as ``"--replicaof", "127.0.0.1 6379"``.
        appendonly: Whether it does keep what it is told on disk, in *folder*.
        env: Further variables of its environment.
    """
    kept = ("--appendonly", "yes", "--appendfsync", "always") if appendonly else ()
    with _serving(free_port(), folder, (*kept, *options), env) as proc:
        yield proc


@contextmanager
def redis_cluster(
    folder: Path, count: int = 1, replicas: int = 0, *options: str
) -> Iterator[list[RedisProc]]:
    """
    A Redis Cluster of *count* nodes that share all slots, and then *replicas* of the first of them.

    Args:
        folder: Where they run.
        count: How many have slots.
        replicas: How many have not.
        options: More of the command line of each.
    """
    with ExitStack() as stack:
        nodes, buses = [], []
        for number in range(count + replicas):
            # The bus would otherwise take a port that the system may have given to a connection.
            buses.append(free_port())
            cluster = ("--cluster-enabled", "yes", "--cluster-port", str(buses[-1]))
            # Replicas are up soon, and count as such once they have heard anything at all.
            cluster += ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
            place = folder / str(number)
            nodes.append(stack.enter_context(redis_server(place, *cluster, *options)))
        for number, node in enumerate(nodes):
            if number < count:
                first, last = (_SLOTS * each // count for each in (number, number + 1))
                node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last - 1)
            node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node, bus in zip(nodes[1:], buses[1:], strict=True):
            nodes[0].client.execute_command("CLUSTER", "MEET", HOST, node.port, bus)
        for node in nodes:
            wait_until(lambda each=node: _knows_all(each, count, len(nodes)))
        for node in nodes[count:]:
            node.client.execute_command("CLUSTER", "REPLICATE", node_id(nodes[0]))
            wait_until(lambda each=node: each.client.info()["master_link_status"] == "up")
        for node in nodes:
            wait_until(lambda each=node: _names_all(each, len(nodes)))
        yield nodes


def node_id(node: RedisProc) -> str:
    """
    What its cluster calls *node*.
    """
    return str(node.client.execute_command("CLUSTER", "MYID").decode())


def cluster_url(nodes: list[RedisProc]) -> str:
    """
    The URL of a store in the cluster of *nodes*.
    """
    return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in nodes)


@contextmanager
def sentinels(
    folder: Path, primary: RedisProc, count: int = 3, password: str | None = None
) -> Iterator[list[RedisProc]]:
    """
    Sentinels that watch *primary*, know each other, and replace it when it is silent for a moment.

    Args:
        folder: Where they run.
        primary: The server; it must have a replica.
        count: How many there are.
        password: Of the server.
    """
    with ExitStack() as stack:
        procs = []
        for number in range(count):
            file = folder / str(number) / "sentinel.conf"
            file.parent.mkdir(parents=True)
            file.write_text(
                f"sentinel monitor {SERVICE} {HOST} {primary.port} {count // 2 + 1}\n"
                f"sentinel down-after-milliseconds {SERVICE} 500\n"
                f"sentinel failover-timeout {SERVICE} 2000\n"
                + (f"sentinel auth-pass {SERVICE} {password}\n" if password else "")
            )
            command = ["redis-server", str(file), "--sentinel", "--bind", HOST, "--port"]
            procs.append(stack.enter_context(_running(command, free_port(), file.parent)))
        for proc in procs:
            wait_until(lambda each=proc: _sees(each)["num-other-sentinels"] == count - 1)
            wait_until(lambda each=proc: _sees(each)["num-slaves"] > 0)
        yield procs


def sentinel_url(procs: list[RedisProc]) -> str:
    """
    The URL of a store whose server is known to the Sentinels *procs*.
    """
    hosts = ",".join(f"{HOST}:{proc.port}" for proc in procs)
    return f"redis+sentinel://{hosts}/{SERVICE}/0"


def wait_until(condition: Callable[[], object]) -> None:
    """
    Wait for *condition*, which may ask servers that do not answer yet.
    """
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except redis.RedisError:
            pass
        time.sleep(0.02)
    raise AssertionError("What was waited for has not come.")


def _sees(sentinel: RedisProc) -> dict[str, int]:
    return sentinel.client.sentinel_master(SERVICE)


def _knows_all(node: RedisProc, count: int, known: int) -> bool:
    info = node.client.execute_command("CLUSTER", "INFO")
    expected = (b"state:ok", b"size:%d" % count, b"known_nodes:%d" % known)
    return all(b"cluster_%s\r" % each in info for each in expected)


def _names_all(node: RedisProc, count: int) -> bool:
    slots = node.client.execute_command("CLUSTER", "SLOTS")
    return len({port for _, _, *servers in slots for _, port, *_ in servers}) == count


@contextmanager
def _serving(
    port: int, folder: Path, options: tuple[str, ...], env: Mapping[str, str] | None = None
) -> Iterator[RedisProc]:
    command = ["redis-server", "--bind", HOST, "--save", "", *options, "--port"]
    with _running(command, port, folder, options, env) as proc:
        yield proc


@contextmanager
def _running(
    command: list[str],
    port: int,
    folder: Path,
    options: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[RedisProc]:
    process, log_file = start([*command, str(port)], folder, env)
    try:
        server = Server(kind="redis", port=port, process=process, log_file=log_file)
        _wait_until_listening(server)
        proc = RedisProc(server, options)
        try:
            yield proc
        finally:
            proc.client.close()
    finally:
        kill(process)
