"""
Real brokers for tests, each with a folder and ports of its own: RabbitMQ, and SQS as moto plays it.

Redis is in `redis_server`.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import HOST, Server, _wait_until_listening, free_port, kill, living, start

_PATIENCE = 60.0
# Debian's wrapper wants to become another user; the program behind it is everybody's.
_RABBIT = "/usr/lib/rabbitmq/bin/rabbitmq-server"
# Schedulers that do not spin while they have nothing to do.
_ERLANG = (
    "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
)


class BrokerProc:
    """
    A broker that can be restarted; it keeps what it promises to keep.

    Args:
        command: Starts it.
        port: Where it listens.
        url: What Celery calls it.
        folder: Where it runs.
        env: Its environment.
    """

    def __init__(
        self, command: list[str], port: int, url: str, folder: Path, env: dict[str, str]
    ) -> None:
        self._command = command
        self._port = port
        self._folder = folder
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None
        self.url = url

    def start_again(self) -> None:
        """
        Start it, with what it has kept on disk.
        """
        self._process, log_file = start(self._command, self._folder, self._env)
        _wait_until_listening(
            Server(kind=self.url, port=self._port, process=self._process, log_file=log_file)
        )

    def kill(self) -> None:
        """
        End it as a loss of power would.
        """
        if self._process is not None:
            kill(self._process)
            deadline = time.monotonic() + _PATIENCE
            while living(self._process.pid) and time.monotonic() < deadline:
                time.sleep(0.02)

    def restart(self) -> None:
        """
        Kill it, and start it again.
        """
        self.kill()
        self.start_again()


@contextmanager
def rabbitmq(folder: Path) -> Iterator[BrokerProc]:
    """
    A RabbitMQ server, with an ``epmd`` of its own, since that would outlive it otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, names = free_port(), free_port()
    (folder / "plugins").write_text("[].")
    (folder / "rabbit.conf").write_text("log.console.level = warning\n")
    env = {
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": HOST,
        "RABBITMQ_NODENAME": f"rabbit{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": HOST,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbit.conf"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG,
    }
    command = [_RABBIT if Path(_RABBIT).exists() else str(shutil.which("rabbitmq-server"))]
    epmd, _ = start(["epmd", "-port", str(names), "-address", HOST], folder / "epmd", env)
    broker = BrokerProc(command, port, f"amqp://guest:guest@{HOST}:{port}//", folder, env)
    try:
        broker.start_again()
        yield broker
    finally:
        broker.kill()
        kill(epmd)


@contextmanager
def sqs(folder: Path) -> Iterator[BrokerProc]:
    """
    What answers as SQS does. It is cut off rather than killed, since SQS forgets nothing.
    """
    hidden, port = free_port(), free_port()
    server = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(hidden)]
    relay = ["socat", f"TCP-LISTEN:{port},bind={HOST},reuseaddr,fork", f"TCP:{HOST}:{hidden}"]
    url = f"sqs://name:secret@{HOST}:{port}"
    behind = BrokerProc(server, hidden, url, folder / "moto", {})
    broker = BrokerProc(relay, port, url, folder / "relay", {})
    try:
        behind.start_again()
        broker.start_again()
        yield broker
    finally:
        broker.kill()
        behind.kill()
