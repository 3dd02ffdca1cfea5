"""The Celery application of a worker. `ledger/tickets.py` defines the messages that it consumes."""

from collections.abc import Callable
from typing import Any

from celery import Celery
from kombu import Queue
from kombu.utils.scheduling import priority_cycle

from contract.ledger import keys
from contract.queues import INTERACTIVE, QUEUES

#: An unacknowledged ticket is redelivered after this time; a worker may hold one for longer while it is busy. A ticket
#: too many is harmless: its worker finds no job.
_VISIBILITY_TIMEOUT_S = 60
_RESTORE_INTERVAL_S = 5

#: Redis counts as unavailable after this time without a reply.
_TIMEOUT_S = 30.0
#: Short, because a connection attempt delays a worker's next retry.
_CONNECT_TIMEOUT_S = 3.0


def make_celery(redis_url: str) -> Celery:
    """Build the Celery application; opens no connection."""
    app = Celery("pawqueue", broker=redis_url.replace("unix://", "redis+socket://", 1))  # kombu's name for it
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        task_acks_on_failure_or_timeout=True,
        task_reject_on_worker_lost=True,
        task_queues=[Queue(name) for name in QUEUES],
        task_default_queue=INTERACTIVE,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,  # a full Redis refuses writes: a worker waits until there is room
        broker_transport_options=_transport_options(),
    )
    return app


def declare(app: Celery, queue: str) -> None:
    """Define a queue in `app`, in the same way as those that every application has."""
    if queue not in app.amqp.queues:
        app.amqp.queues.add(Queue(queue))


def fetch_only_wanted(app: Celery, wants: Callable[[str], bool]) -> None:
    """Let the worker of `app` fetch tickets only from queues for which `wants(queue)` is true at that moment."""

    class WantedQueues(priority_cycle):  # type: ignore[misc]
        def consume(self, n: int) -> list[str]:
            return [queue for queue in super().consume(n) if wants(queue)]

    app.conf.broker_transport_options["queue_order_strategy"] = WantedQueues


def _transport_options() -> dict[str, Any]:
    return {
        "global_keyprefix": keys.PREFIX,
        "queue_order_strategy": "priority",
        "visibility_timeout": _VISIBILITY_TIMEOUT_S,
        "unacked_restore_interval": _RESTORE_INTERVAL_S,
        "unacked_restore_throttle": 1,
        "socket_timeout": _TIMEOUT_S,
        "socket_connect_timeout": _CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": 15,
    }
