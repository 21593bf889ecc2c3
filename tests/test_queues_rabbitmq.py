"""
Celery on RabbitMQ: each test has a real broker, a real server and real worker processes.
"""

import pytest

from queue_contract import QueueContract
from queue_scene import scene_of


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """
    A worker with a pool of two processes.
    """
    with (
        scene_of("rabbitmq", tmp_path_factory.mktemp("rabbitmq")) as scene,
        scene.worker("-c", "2"),
    ):
        yield scene


class TestCelery(QueueContract):
    """
    The contract.
    """
