"""
Starts examples/queue_app.py twice, as a server and as Celery workers, sends it a batch of 1000
operations, and shows who has carried them out.

``python examples/demo_queue.py`` runs it; it needs redis-server and the extra ``celery``.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from demo import Surprise, bold, check, free_port, main, running, serving
from demo_background import Bar

TOTAL = 1000
PROCESSES = 4
# Seconds that starting, carrying out and stopping may take.
PATIENCE = 60


def show_workers(folder: Path) -> None:
    port, web_port = free_port(), free_port()
    redis = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    env = {"REDIS_URL": f"redis://127.0.0.1:{port}"}
    url = f"http://127.0.0.1:{web_port}"
    with (
        running(redis, port, folder / "redis.log"),
        serving("queue_app:app", web_port, folder / "web.log", **env) as web,
        workers(folder / "worker.log", env),
        httpx.Client(base_url=url, trust_env=False) as client,
    ):
        show_batch(client, web.pid)


@contextmanager
def workers(log: Path, env: dict[str, str]) -> Iterator[None]:
    """
    A Celery worker with several processes.
    """
    command = "-m celery -A queue_app:celery_app worker --loglevel INFO --concurrency"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, *command.split(), str(PROCESSES)],
            cwd=Path(__file__).parent,
            env={**os.environ, **env},
            stdout=output,
            stderr=output,
            # Ctrl-C in a terminal is for the demo, which tells the worker in the end.
            start_new_session=True,
        ) as process,
    ):
        try:
            deadline = time.monotonic() + PATIENCE
            while " ready." not in log.read_text():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Surprise(f"the worker has not started:\n{log.read_text()}")
                time.sleep(0.05)
            print(bold(f"A server, and a worker with {PROCESSES} processes"))
            print("  uvicorn queue_app:app")
            print(f"  celery -A queue_app:celery_app worker --concurrency {PROCESSES}\n")
            yield
        finally:
            process.terminate()
            try:
                check("end of the worker", process.wait(PATIENCE), 0)
            finally:
                process.kill()


def show_batch(client: httpx.Client, server: int) -> None:
    operations = [{"method": "PUT", "path": f"/thumbnails/{n}.jpg"} for n in range(TOTAL)]
    response = client.post("/batch", json={"operations": operations})
    check("status of the batch", response.status_code, 202)
    batch = response.json()
    print(bold(f"One request: POST {client.base_url}/batch with {TOTAL} operations of 20 ms"))
    bar, deadline = Bar(), time.monotonic() + PATIENCE
    while not (status := client.get(batch["statusUrl"]).json())["finishedAt"]:
        if time.monotonic() > deadline:
            raise Surprise(f"the batch has not ended after {PATIENCE} s: {status}")
        bar.show(status)
        time.sleep(0.1)
    bar.show(status)
    bar.close()
    check("succeeded", status["succeeded"], TOTAL)
    results = client.get(batch["resultsUrl"], params={"limit": TOTAL}).json()["results"]
    shares = Counter(each["result"]["by"] for each in results)
    print(bold("\nWho has carried out how many"))
    for process, count in sorted(shares.items()):
        print(f"  process {process}: {count}")
    print(f"  process {server}, the server: {shares[server]}\n")
    check("operations that the server has carried out", shares[server], 0)


if __name__ == "__main__":
    sys.exit(main(show_workers))
