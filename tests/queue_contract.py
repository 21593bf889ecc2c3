"""
What holds whatever carries the messages: each broker has a class of tests that inherits these.
"""

from collections import Counter

import pytest

from queue_scene import submission_of

COUNT = 500
CHUNKS = range(10)


class QueueContract:
    """
    Tests that share a `Scene`, with one or two workers of two processes together.
    """

    @pytest.fixture
    def tag(self, request):
        return request.node.name

    def test_500_operations_end_to_end(self, scene, tag):
        """
        Each runs once, in worker processes and not in the server's, and several have their part.
        """
        # A chunk takes half a second, so that no process can have taken all of them by then.
        final, runs, violations = scene.carry_out(submission_of(tag, COUNT, seconds=0.1))

        assert violations == []
        assert final.document["status"] == "completed"
        assert final.document["succeeded"] == len(runs) == COUNT
        assert scene.server.pid not in {run.pid for run in runs}
        assert len({run.pid for run in runs}) > 1

    def test_f23_a_cancellation_in_the_middle(self, scene, tag):
        """
        No worker starts anything more.
        """
        final, runs, violations = scene.carry_out(submission_of(tag, COUNT), then=scene.cancel)

        assert violations == []
        assert final.document["status"] == "cancelled"
        assert len(runs) + final.document["skipped"] == COUNT
        assert final.document["skipped"] > 0

    def test_f57_a_worker_process_that_is_killed(self, scene, tag):
        """
        C1 to C8 hold: what it was at is told, or run again where that is safe; nothing else is.
        """

        def kill(_):
            scene.kill(scene.busy_pid())

        final, _, violations = scene.carry_out(submission_of(tag, COUNT), then=kill)
        codes = Counter(
            result["error"]["code"] for result in final.results if result["status"] != 200
        )

        assert violations == []
        assert final.document["completed"] == COUNT
        assert set(codes) <= {"outcome_unknown"}
        assert final.document["succeeded"] + codes["outcome_unknown"] == COUNT

    def test_f56_a_broker_that_is_restarted(self, scene, tag):
        """
        Nothing is lost, not even what is accepted while it is down, and nothing runs twice.
        """
        other = submission_of(f"{tag}-other", 10)

        def restart(_):
            scene.broker.kill()
            scene.submit(other)
            scene.broker.start_again()

        final, runs, violations = scene.carry_out(submission_of(tag, COUNT), then=restart)

        assert violations == []
        assert final.document["succeeded"] == COUNT
        assert len(runs) == COUNT + 10

    def test_f55_the_same_message_three_times(self, scene, tag):
        """
        While the chunk runs and after its end: it runs once.
        """

        def repeat(batch_id):
            scene.send(batch_id, *CHUNKS, *CHUNKS)

        final, runs, violations = scene.carry_out(submission_of(tag, COUNT), at=0, then=repeat)
        scene.send(final.batch_id, *CHUNKS)
        _, others, _ = scene.carry_out(submission_of(f"{tag}-other", 10))

        assert violations == []
        assert final.document["succeeded"] == len(runs) == COUNT
        assert len(others) == 10

    def test_f6_a_worker_that_stops(self, scene, tag):
        """
        It hears of it while it is at a batch, and gives the rest of that to another process.
        """

        def replace(_):
            for worker in scene.workers:
                if scene.busy_pid() in worker.pids():
                    scene.replace(worker)
                    return

        # One message, so that nobody else would have a part in it.
        final, runs, violations = scene.carry_out(
            submission_of(tag, 40, seconds=0.1), at=0.1, then=replace
        )

        assert violations == []
        assert final.document["succeeded"] == len(runs) == 40
        assert len({run.pid for run in runs}) == 2

    def test_the_app_starts_once_in_each_process(self, scene, tag):
        """
        However many messages come to it; and it has stopped where a worker was told to stop.
        """
        _, runs, _ = scene.carry_out(submission_of(tag, COUNT))

        assert {run.pid for run in runs} <= set(scene.lives("start")) - {scene.server.pid}
        assert set(scene.lives("start").values()) == {1}
