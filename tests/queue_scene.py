"""
What tests of queues share: a broker, a server that hands batches over, workers, and one history.
"""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import httpx

from brokers import rabbitmq, sqs
from chaos.checkers import check
from chaos.client import Client
from chaos.effect_log import EffectLog
from chaos.history import Disturbance, History, Planned, Submission
from chaos.queues import BULLMQ, TASKIQ, is_celery, queue_of
from chaos.settings import LEASE
from chaos.worker_proc import Proc, RedisProc, WorkerProc, ending
from servers import HOST

PATIENCE = 60.0

_CELERY = "-m celery -A chaos.queued:celery_app worker -l INFO --without-gossip --without-mingle"
_OURS = "-m asgi_batch.worker chaos.queued:app"
# What each says once it listens.
_READY = {_CELERY: " ready.", _OURS: "Batches are carried out."}
_PREFIXES = {"redis": "", "bullmq": BULLMQ, "taskiq": TASKIQ}


class RedisBroker(RedisProc):
    """
    A Redis server as a broker, which keeps on disk what it is told.
    """

    def __init__(self, folder, prefix=""):
        super().__init__(folder)
        self.url = f"{prefix}redis://{HOST}:{self.port}/0"

    def start_again(self):
        """
        Start it, with what it has kept.
        """
        asyncio.run(self.up())


class Worker(Proc):
    """
    A worker, with all processes that it starts.
    """

    def __init__(self, command, options, folder, env):
        super().__init__([sys.executable, *command.split(), *options], folder, env)
        self._ready = _READY[command]

    def up(self):
        """
        Start it, and wait until it listens.
        """
        self.start()
        until(lambda: self._ready in self.log() or not self.is_alive)
        assert self.is_alive, self.log()

    def pids(self):
        """
        Those of all its processes.
        """
        return {self.pid, *_children(self.pid)}

    def stop(self):
        """
        Tell it to stop, and wait until it has; that must be a clean end.
        """
        self.signal(signal.SIGTERM)
        asyncio.run(self.ended(PATIENCE))
        assert self._process.returncode == 0, self.log()


class Scene:
    """
    One of everything, and as many workers as a test wants.

    Args:
        folder: Where all of it runs.
        broker: What carries messages.
        store: A Redis server.
        env: Further variables of the environment of all processes.
    """

    def __init__(self, folder, broker, store, **env):
        self._folder = folder
        self._lives = folder / "lives.log"
        self._log = EffectLog(folder / "effects.log")
        self._env = {
            "BROKER": broker.url,
            "EFFECTS": str(self._log.file),
            "LIVES": str(self._lives),
            "LEASE": str(LEASE),
            "REDIS": f"redis://{HOST}:{store.port}/0",
            **env,
        }
        self.broker = broker
        self.server = WorkerProc("chaos.queued:app", folder / "server", self._env, store.port)
        self.workers = []
        self.history = History()

    @contextmanager
    def worker(self, *options):
        """
        One more worker, with *options* of its command line; it stops in the end.
        """
        name, command = f"worker-{len(self.workers)}", _OURS
        if is_celery(self.broker.url):
            command, options = _CELERY, (*options, "-n", f"{name}@localhost")
        worker = Worker(
            command,
            options,
            self._folder / name,
            self._env,
        )
        self.workers.append(worker)
        with ending(worker):
            worker.up()
            yield worker
            worker.stop()

    def send(self, batch_id, *chunks):
        """
        One more message for each of *chunks*.
        """

        async def send():
            queue = queue_of(self.broker.url)
            for chunk in chunks:
                await queue.send(batch_id, chunk)
            if hasattr(queue, "aclose"):
                await queue.aclose()

        asyncio.run(send())

    def carry_out(self, submission, *, at=0.3, then=None):
        """
        Send a batch, do something once it is as far as *at*, and see it end with all others.

        Returns:
            How it has ended, the runs of all, and what has been violated.
        """
        self.history = History(places={self.server.pid: "0"})
        return self._with_client(lambda client: self._carry_out(client, submission, at, then))

    async def _carry_out(self, client, submission, at, then):
        batch_id = await client.submit(submission)
        if then is not None:
            await client.follow(batch_id, at)
            await asyncio.to_thread(then, batch_id)
        ids = [each for one in self.history.submissions.values() for each in one.batch_ids]
        async with asyncio.timeout(PATIENCE):
            for each in ids:
                await client.follow(each)
        finals = {each: [await client.final(self.server.url, each)] for each in ids}
        runs, late = self._log.read()
        self.history.disturbances += late
        return finals[batch_id][0], runs, check(self.history, runs, finals)

    def submit(self, submission):
        """
        Send another batch.
        """
        return self._with_client(lambda client: client.submit(submission))

    def cancel(self, batch_id):
        """
        Cancel a batch.
        """
        self._with_client(lambda client: client.cancel(batch_id))

    def _with_client(self, function):
        async def call():
            async with httpx.AsyncClient() as http:
                return await function(Client(http, [self.server.url], Random(0), self.history))

        return asyncio.run(call())

    def busy_pid(self):
        """
        The process that has started an operation last.
        """
        lines = self._log.file.read_text().splitlines()
        return int([line for line in lines if line.startswith("start")][-1].split()[1])

    def kill(self, pid):
        """
        End a process as a loss of power would; a worker that ends is started again.
        """
        began, pids = time.monotonic(), {pid, *_children(pid)}
        os.kill(pid, signal.SIGKILL)
        for worker in self.workers:
            if worker.pid == pid:
                worker.kill()
        for each in pids:
            self._note("kill", each, began)
        for worker in self.workers:
            if worker.pid == pid:
                worker.up()

    def replace(self, worker):
        """
        Tell a worker to stop, and start it again.
        """
        began, pids = time.monotonic(), worker.pids()
        worker.stop()
        for pid in pids:
            self._note("term", pid, began)
        worker.up()

    def _note(self, kind, pid, began):
        now = time.monotonic()
        self.history.deaths[pid] = now
        self.history.disturbances.append(Disturbance(kind, pid, began, now))

    def lives(self, event):
        """
        How often the app has come to ``"start"`` or ``"stop"``, by process.
        """
        lines = map(str.split, self._lives.read_text().splitlines())
        return Counter(int(pid) for each, pid in lines if each == event)


def _children(pid):
    return map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


@contextmanager
def scene_of(kind, folder, **env):
    """
    A scene with the broker *kind*, and without workers.
    """
    with ExitStack() as stack:
        store = RedisProc(folder / "store")
        stack.enter_context(ending(store))
        asyncio.run(store.up())
        if kind in _PREFIXES:
            broker = RedisBroker(folder / "broker", _PREFIXES[kind])
            stack.enter_context(ending(broker))
            broker.start_again()
        else:
            broker = stack.enter_context(
                {"rabbitmq": rabbitmq, "sqs": sqs}[kind](folder / "broker")
            )
        scene = Scene(folder, broker, store, **env)
        stack.enter_context(ending(scene.server))
        asyncio.run(scene.server.up())
        yield scene


def submission_of(tag, count=500, seconds=0.02):
    """
    Reads and writes in turn, some of the writes with a key.
    """
    methods = ("GET", "POST", "PUT", "POST")
    operations = (Planned(n, methods[n % 4], seconds, has_key=n % 8 == 1) for n in range(count))
    return Submission(tag, tuple(operations))


def until(condition):
    """
    Wait for *condition*.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
