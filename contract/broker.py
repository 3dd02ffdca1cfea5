"""The Celery queues: their names, the application that both sides share, and how job ids are put in."""

import json
from collections.abc import Sequence
from typing import Any

import redis
from celery import Celery
from kombu import Queue
from kombu.exceptions import OperationalError

from contract.errors import UnavailableError
from contract.job import now_ms
from contract.ledger import keys
from contract.queues import BULK, INTERACTIVE, QUEUES

__all__ = ["BULK", "INTERACTIVE", "MESSAGE_MAX_JOBS", "QUEUES", "TASK", "make_celery", "oldest_message_ms", "publish"]

#: The one task: predict the jobs of these ids.
TASK = "pawqueue.predict"

#: Most job ids in one message; a setting may make batches larger, never messages.
MESSAGE_MAX_JOBS = 32

#: An unacknowledged message is given to another worker after this time; the ledger's lease decides who may work.
_VISIBILITY_TIMEOUT_S = 60
_RESTORE_INTERVAL_S = 5

#: A worker's attempt to connect again must not eat up the pause before the next one.
_CONNECT_TIMEOUT_S = 3.0

#: Header of a message: when it was published.
_PUBLISHED_MS = "published_ms"


def make_celery(redis_url: str, timeout_s: float = 30.0) -> Celery:
    """Build the Celery application; opens no connection.

    Redis counts as gone when it has not answered for `timeout_s`; a publisher that is waited for wants a short one.
    """
    app = Celery("pawqueue", broker=redis_url)
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
        broker_transport_options=_transport_options(timeout_s),
        # Once more, on a new connection: the old one may have been lost long ago. After that the caller decides.
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0},
    )
    return app


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


def oldest_message_ms(client: "redis.Redis", queue: str) -> int:
    """When the oldest message that no worker has taken was published, in Unix milliseconds; 0 when there is none.

    Raises:
        UnavailableError: the broker does not answer.
    """
    try:
        text = client.lindex(keys.PREFIX + queue, -1)
    except redis.RedisError as error:
        raise UnavailableError("The queue (Redis) does not answer; try again shortly.") from error
    return int(json.loads(text)["headers"].get(_PUBLISHED_MS, 0)) if text else 0


def publish(app: Celery, queue: str, job_ids: Sequence[str]) -> None:
    """Put one message with at most `MESSAGE_MAX_JOBS` job ids into `queue`.

    Raises:
        UnavailableError: the broker does not answer.
    """
    try:
        headers = {_PUBLISHED_MS: now_ms()}
        # Without `argsrepr`, a copy of the ids for people, a message is a third smaller.
        app.send_task(
            TASK, args=[list(job_ids)], queue=queue, ignore_result=True, headers=headers, argsrepr="", kwargsrepr=""
        )
    except (OperationalError, OSError, redis.RedisError) as error:
        raise UnavailableError("The queue (Redis) does not answer; try again shortly.") from error
