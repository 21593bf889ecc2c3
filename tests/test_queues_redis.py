"""
Celery on Redis: each test has a real broker, a real server and real worker processes.
"""

import pytest

from queue_contract import QueueContract
from queue_scene import scene_of, submission_of


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """
    A worker with a pool of two processes.
    """
    with scene_of("redis", tmp_path_factory.mktemp("redis")) as scene, scene.worker("-c", "2"):
        yield scene


class TestCelery(QueueContract):
    """
    The contract.
    """

    def test_f57_a_whole_worker_that_is_killed(self, scene, tag):
        """
        Celery would bring its messages back after an hour: the sweeper does not wait for that.
        """

        def kill(_):
            scene.kill(scene.workers[0].pid)

        final, _, violations = scene.carry_out(submission_of(tag), then=kill)

        assert violations == []
        assert final.document["completed"] == 500


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_pools_of_one_process(pool, tmp_path):
    """
    F6: the app starts once in it, however many threads there are, and a stop is heard at once.
    """
    with scene_of("redis", tmp_path) as scene, scene.worker("-P", pool, "-c", "4") as worker:
        final, runs, violations = scene.carry_out(
            submission_of(pool, 40, 0.1), at=0.1, then=lambda _: scene.replace(worker)
        )
        first, second = {run.pid for run in runs}
        stops = scene.lives("stop")

    assert violations == []
    assert final.document["succeeded"] == len(runs) == 40
    assert scene.lives("start") == dict.fromkeys((scene.server.pid, first, second), 1)
    assert stops.keys() | {worker.pid} == {first, second}
