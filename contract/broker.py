"""The queues in Celery: the application that the gateway and the worker share, and how job ids are published."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import redis
from celery import Celery
from kombu import Queue
from kombu.exceptions import OperationalError
from kombu.utils.scheduling import priority_cycle

from contract.errors import UnavailableError
from contract.job import now_ms
from contract.ledger import keys
from contract.queues import INTERACTIVE, QUEUES

#: Name of the only task. Its argument is a list of job ids.
TASK = "pawqueue.predict"

#: Maximum number of job ids in a message. Batches may be larger: they combine messages.
MESSAGE_MAX_JOBS = 32

#: An unacknowledged message is redelivered after this time. The leases in the ledger prevent its jobs from being
#: processed twice.
_VISIBILITY_TIMEOUT_S = 60
_RESTORE_INTERVAL_S = 5

#: Short, because a connection attempt delays a worker's next retry.
_CONNECT_TIMEOUT_S = 3.0

#: Message header: time of publication.
_PUBLISHED_MS = "published_ms"


def make_celery(redis_url: str, timeout_s: float = 30.0) -> Celery:
    """Build the Celery application; opens no connection.

    Redis counts as unavailable after `timeout_s` without a reply; use a short timeout if a request waits for `publish`.
    """
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
        broker_transport_options=_transport_options(timeout_s),
        # Retry once, on a new connection: the pooled one may be stale. After that, the caller decides.
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0},
    )
    return app


def fetch_only_wanted(
    app: Celery, wants: Callable[[str], bool], order: Callable[[Sequence[str]], Sequence[str]]
) -> None:
    """Let the worker of `app` fetch messages only from queues for which `wants(queue)` is true at that moment.

    `order` returns these queues in the order in which to fetch.
    """

    class WantedQueues(priority_cycle):  # type: ignore[misc]
        def consume(self, n: int) -> list[str]:
            return list(order([queue for queue in super().consume(n) if wants(queue)]))

    app.conf.broker_transport_options["queue_order_strategy"] = WantedQueues


def _transport_options(timeout_s: float) -> dict[str, Any]:
    return {
        "global_keyprefix": keys.PREFIX,
        "queue_order_strategy": "priority",
        "visibility_timeout": _VISIBILITY_TIMEOUT_S,
        "unacked_restore_interval": _RESTORE_INTERVAL_S,
        "unacked_restore_throttle": 1,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": min(timeout_s, _CONNECT_TIMEOUT_S),
        "socket_keepalive": True,
        "health_check_interval": 15,
    }


def declare(app: Celery, queue: str) -> None:
    """Make a queue known to `app`, in the same way as those that every application knows."""
    if queue not in app.amqp.queues:
        app.amqp.queues.add(Queue(queue))


def oldest_message_ms(client: "redis.Redis", queue: str) -> int:
    """When the oldest message still in the queue was published, in Unix milliseconds; 0 if the queue is empty.

    Raises:
        UnavailableError: Redis is not responding.
    """
    try:
        text = client.lindex(keys.PREFIX + queue, -1)
    except redis.RedisError as error:
        raise UnavailableError("The queue (Redis) is not responding. Try again shortly.") from error
    return int(json.loads(text)["headers"].get(_PUBLISHED_MS, 0)) if text else 0


def publish(app: Celery, queue: str, job_ids: Sequence[str]) -> None:
    """Publish a message with up to `MESSAGE_MAX_JOBS` job ids to `queue`.

    Raises:
        UnavailableError: Redis is not responding.
    """
    try:
        declare(app, queue)
        headers = {_PUBLISHED_MS: now_ms()}
        # `argsrepr` would repeat the ids as text; without it a message is a third smaller.
        app.send_task(
            TASK, args=[list(job_ids)], queue=queue, ignore_result=True, headers=headers, argsrepr="", kwargsrepr=""
        )
    except (OperationalError, OSError, redis.RedisError) as error:
        raise UnavailableError("The queue (Redis) is not responding. Try again shortly.") from error
