"""
Servers for the tests of the command line, and what has happened there.
"""

import json
import sys
from collections import Counter
from contextlib import contextmanager

from servers import serving

KIND = "uvicorn-h11-asyncio"
COMMAND = [sys.executable, "-m", "asgi_batch.cli"]
#: Small, so that a few operations are several batches.
LIMITS = {"max_operations": 20, "sync_operations": 5}


class Target:
    """
    A server of ``apps.terminal``, and its files in *folder*.
    """

    def __init__(self, folder):
        self.folder = folder
        self.gate = folder / "gate"
        self.url = ""
        self.process = None

    def starts(self):
        """
        How often each operation has started: method and path.
        """
        return Counter(" ".join(line.split(" ")[:2]) for line in self.effects())

    def effects(self):
        """
        What has started: method, path and body.
        """
        file = self.folder / "effects"
        return file.read_text().splitlines() if file.exists() else []

    def write(self, name, operations):
        """
        A file of *operations*, one on each line.
        """
        file = self.folder / name
        file.write_text("".join(f"{json.dumps(each)}\n" for each in operations))
        return file


@contextmanager
def target(folder, *options, **limits):
    """
    Serve the app with such *limits*; *options* are those of the server.
    """
    made = Target(folder)
    env = {
        "EFFECTS": str(folder / "effects"),
        "GATE": str(made.gate),
        "LIMITS": json.dumps({**LIMITS, **limits}),
    }
    with serving(KIND, "apps.terminal:app", folder / "server", *options, env=env) as server:
        made.url = f"{server.url}/batch"
        made.process = server.process
        yield made


def operations(count, kind="ok", method="POST"):
    """
    So many operations, named by their kind and number.
    """
    return [
        {"id": f"{kind}-{n}", "method": method, "path": f"/{kind}/{n}", "body": {"n": n}}
        for n in range(count)
    ]


def lines_of(file):
    """
    The lines of JSON in *file*.
    """
    return [json.loads(line) for line in file.read_text().splitlines()]
