"""
BullMQ: each test has a real Redis, a real server and real worker processes.
"""

import json
import os
import subprocess
from contextlib import contextmanager

import pytest

from queue_contract import QueueContract
from queue_scene import scene_of, submission_of
from servers import HOST, ROOT, kill


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """
    Two workers.
    """
    folder = tmp_path_factory.mktemp("bullmq")
    with scene_of("bullmq", folder) as scene, scene.worker(), scene.worker():
        yield scene


class TestBullMQ(QueueContract):
    """
    The contract.
    """


class Node:
    """
    A program in Node.js beside the workers.
    """

    def __init__(self, process):
        self._process = process
        self.events = []

    def ask(self, **question):
        """
        Its answer; what becomes of jobs meanwhile is kept in `events`.
        """
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        return self.wait_for("answer")

    def wait_for(self, event, **words):
        """
        The next event of this name that says *words*.
        """
        for line in self._process.stdout:
            found = json.loads(line)
            self.events.append(found)
            if found["event"] == event and words.items() <= found.items():
                return found
        raise AssertionError("Node.js has ended.")


@contextmanager
def node(port):
    """
    BullMQ for Node.js on the queue of the tests, installed where it is missing.
    """
    subprocess.run([ROOT / "scripts" / "node_modules.sh"], check=True)
    process = subprocess.Popen(
        ["node", ROOT / "tests" / "node" / "bullmq.cjs", HOST, str(port), "asgi-batch"],
        env={**os.environ, "NODE_PATH": str(ROOT / ".cache" / "node" / "node_modules")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        program = Node(process)
        program.wait_for("ready")
        yield program
        process.stdin.close()
        assert process.wait(60) == 0
    finally:
        kill(process)
        process.stdout.close()


def test_node_sees_what_becomes_of_the_chunks(scene):
    """
    One job for each of them, with no more in it than their name.
    """
    with node(scene.broker.port) as program:
        final, _, violations = scene.carry_out(submission_of("seen"))
        ended = [program.wait_for("completed")["jobId"] for _ in range(10)]
        answers = [program.ask(get=each) for each in ended]

    assert violations == []
    assert {answer["state"] for answer in answers} == {"completed"}
    assert sorted((answer["data"]["batch"], answer["data"]["chunk"]) for answer in answers) == [
        (final.batch_id, chunk) for chunk in range(10)
    ]
    assert {tuple(answer["data"]) for answer in answers} == {("batch", "chunk")}


def test_f56_a_job_that_node_adds_is_carried_out(tmp_path):
    """
    Also where all messages of the batch have been lost.
    """
    with scene_of("bullmq", tmp_path, RESEND="3600") as scene, node(scene.broker.port) as program:

        def add(batch_id):
            program.wait_for("added")
            scene.broker.client.flushall()
            with scene.worker():
                job = program.ask(add={"batch": batch_id, "chunk": None})["jobId"]
                program.wait_for("completed", jobId=job)

        final, runs, violations = scene.carry_out(submission_of("added", 20), at=0, then=add)

    assert violations == []
    assert final.document["succeeded"] == len(runs) == 20
