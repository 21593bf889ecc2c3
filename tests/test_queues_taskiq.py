"""
A queue of one's own, as docs/queues.md shows it: taskiq on streams of Redis.

Its broker brings back what a worker has died with only when something new comes, so here it is the
sweeper that loses nothing.
"""

import pytest

from queue_contract import QueueContract
from queue_scene import scene_of


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """
    Two workers.
    """
    folder = tmp_path_factory.mktemp("taskiq")
    with scene_of("taskiq", folder) as scene, scene.worker(), scene.worker():
        yield scene


class TestTaskiq(QueueContract):
    """
    The contract.
    """
