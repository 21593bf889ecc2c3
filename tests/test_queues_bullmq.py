"""
BullMQ: each test has a real Redis, a real server and real worker processes.
"""

import pytest

from queue_contract import QueueContract
from queue_scene import scene_of


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """
    Two workers.
    """
    with scene_of("bullmq", tmp_path_factory.mktemp("bullmq")) as scene:
        with scene.worker(), scene.worker():
            yield scene


class TestBullMQ(QueueContract):
    """
    The contract.
    """
