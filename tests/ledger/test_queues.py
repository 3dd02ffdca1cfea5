"""From which queues a worker fetches messages."""

from contextlib import ExitStack
from typing import Any

import pytest
from kombu import Queue

from contract.broker import fetch_only_wanted, make_celery, publish
from contract.queues import BULK, INTERACTIVE, QUEUES


def test_a_worker_fetches_messages_only_from_queues_that_it_wants(clean_redis: str) -> None:
    app, wanted, fetched = make_celery(clean_redis), {INTERACTIVE}, list[str]()
    fetch_only_wanted(app, wanted.__contains__, sorted)
    for queue in (BULK, INTERACTIVE, BULK):
        publish(app, queue, [queue])

    def receive(body: Any, message: Any) -> None:
        fetched.extend(body[0][0])
        message.ack()

    with ExitStack() as stack:
        connection = stack.enter_context(app.connection_for_read())
        stack.enter_context(connection.Consumer([Queue(name) for name in QUEUES], callbacks=[receive]))
        connection.drain_events(timeout=20)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.3)
        wanted.add(BULK)
        while len(fetched) < 3:
            connection.drain_events(timeout=20)
    assert fetched == [INTERACTIVE, BULK, BULK]
