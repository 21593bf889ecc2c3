"""
The queues of the chaos, each from the URL of its broker.
"""

from typing import Any, Final

from celery import Celery
from examples.taskiq_queue import TaskiqQueue
from taskiq_redis import RedisStreamBroker

from asgi_batch.ports import Queue
from asgi_batch.queues.bullmq import BullMQQueue
from asgi_batch.queues.celery import CeleryQueue

#: What the URL of a Redis server begins with that is a broker of others, and not of Celery.
BULLMQ: Final = "bullmq+"
TASKIQ: Final = "taskiq+"
# SQS is not asked in the rhythm of bills.
_SQS: Final[dict[str, Any]] = {"polling_interval": 0.1, "wait_time_seconds": 0}


def celery_of(broker: str) -> Celery:
    """
    A Celery app of its own, whose processes take one message at a time.
    """
    app = Celery("queued", broker=broker, set_as_current=False)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_transport_options=_SQS if broker.startswith("sqs") else {},
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_prefetch_multiplier=1,
    )
    return app


def is_celery(broker: str) -> bool:
    """
    Whether Celery's command runs the workers.
    """
    return not broker.startswith((BULLMQ, TASKIQ))


def queue_of(broker: str) -> Queue:
    """
    What sends messages over *broker*.
    """
    if broker.startswith(BULLMQ):
        return BullMQQueue(broker.removeprefix(BULLMQ), concurrency=2)
    if broker.startswith(TASKIQ):
        return TaskiqQueue(RedisStreamBroker(broker.removeprefix(TASKIQ)))
    return CeleryQueue(celery_of(broker))
