"""Tickets wake a worker: one is enough for all waiting jobs, and Celery reads it like a message of its own."""

import json
from typing import Any

import pytest
import redis

from contract.broker import fetch_only_wanted, make_celery
from contract.ledger import keys
from contract.ledger.ledger import Ledger
from contract.ledger.tickets import TASK, new_ticket
from contract.ledger.types import Sweep
from contract.queues import BULK, INTERACTIVE, QUEUES
from tests.support.ledger import LEASE_MS, NOW, submitted

SWEEP = Sweep(INTERACTIVE, max_attempts=3, ttl_s=60)


def tickets(client: "redis.Redis", queue: str = INTERACTIVE) -> list[Any]:
    return [json.loads(text) for text in client.lrange(keys.TICKETS + queue, 0, -1)]


def take_tickets(client: "redis.Redis") -> None:
    client.delete(*(keys.TICKETS + queue for queue in QUEUES))


def claim(ledger: Ledger, count: int, now_ms: int = NOW) -> list[Any]:
    return ledger.claim({INTERACTIVE: count}, LEASE_MS, 60, now_ms)


def test_a_ticket_is_what_celery_sends(clean_redis: str, redis_client: "redis.Redis") -> None:
    make_celery(clean_redis).send_task(TASK, queue=BULK, ignore_result=True, argsrepr="", kwargsrepr="")
    (sent,), made = tickets(redis_client, BULK), json.loads(new_ticket())
    made["properties"]["delivery_info"]["routing_key"] = BULK
    assert made["headers"]["id"] == made["headers"]["root_id"] == made["properties"]["correlation_id"]
    for part in (sent, made):
        part["headers"] |= {"id": "", "root_id": ""}
        part["properties"] |= {"correlation_id": "", "delivery_tag": ""}
    assert {name: sent["headers"][name] for name in made["headers"]} == made.pop("headers")
    assert {name: sent["properties"][name] for name in made["properties"]} == made.pop("properties")
    assert {name: sent[name] for name in made} == made


@pytest.mark.parametrize("queue", QUEUES)
def test_celery_receives_the_ticket_of_a_new_job(clean_redis: str, ledger: Ledger, queue: str) -> None:
    received: list[Any] = []

    def receive(body: Any, message: Any) -> None:
        received.append((message.headers["task"], message.delivery_info["routing_key"], body[0]))
        message.ack()

    submitted(ledger, queue)
    app = make_celery(clean_redis)
    with app.connection_for_read() as connection, connection.Consumer(app.conf.task_queues, callbacks=[receive]):
        connection.drain_events(timeout=20)
    assert received == [(TASK, queue, [])]


def test_a_worker_leaves_the_tickets_of_models_that_it_cannot_load_to_others(clean_redis: str, ledger: Ledger) -> None:
    app, wanted, received = make_celery(clean_redis), {INTERACTIVE}, list[str]()
    fetch_only_wanted(app, wanted.__contains__)

    def receive(_: Any, message: Any) -> None:
        received.append(message.delivery_info["routing_key"])
        message.ack()

    for queue in QUEUES:
        submitted(ledger, queue)
    with app.connection_for_read() as connection, connection.Consumer(app.conf.task_queues, callbacks=[receive]):
        connection.drain_events(timeout=20)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.3)
        wanted.add(BULK)
        connection.drain_events(timeout=20)
    assert received == [INTERACTIVE, BULK]


def test_no_two_tickets_are_the_same() -> None:
    first, second = json.loads(new_ticket()), json.loads(new_ticket())
    assert first["headers"]["id"] != second["headers"]["id"]
    assert first["properties"]["delivery_tag"] != second["properties"]["delivery_tag"]


def test_jobs_share_a_ticket_until_a_worker_has_received_it(ledger: Ledger, redis_client: "redis.Redis") -> None:
    for _ in range(3):
        submitted(ledger)
    submitted(ledger, BULK)
    assert [len(tickets(redis_client, queue)) for queue in QUEUES] == [1, 1]
    take_tickets(redis_client)
    submitted(ledger)
    assert [len(tickets(redis_client, queue)) for queue in QUEUES] == [1, 0]


def test_a_claim_that_leaves_jobs_wakes_another_worker(ledger: Ledger, redis_client: "redis.Redis") -> None:
    for _ in range(3):
        submitted(ledger)
    take_tickets(redis_client)
    assert len(claim(ledger, 2)) == 2
    assert len(tickets(redis_client)) == 1
    take_tickets(redis_client)
    assert len(claim(ledger, 2)) == 1
    assert not tickets(redis_client)


def test_released_jobs_get_a_ticket(ledger: Ledger, redis_client: "redis.Redis") -> None:
    submitted(ledger)
    claims = claim(ledger, 1)
    take_tickets(redis_client)
    ledger.release(claims)
    assert len(tickets(redis_client)) == 1


def test_jobs_whose_worker_died_get_a_ticket(ledger: Ledger, redis_client: "redis.Redis") -> None:
    submitted(ledger)
    claim(ledger, 1)
    take_tickets(redis_client)
    assert ledger.recover(SWEEP, NOW + LEASE_MS - 1) == 0
    assert not tickets(redis_client)
    assert ledger.recover(SWEEP, NOW + LEASE_MS) == 1
    assert len(tickets(redis_client)) == 1


def test_a_lost_ticket_is_replaced_by_the_next_sweep(ledger: Ledger, redis_client: "redis.Redis") -> None:
    submitted(ledger)
    take_tickets(redis_client)
    for _ in range(2):
        assert ledger.recover(SWEEP, NOW) == 0
    assert len(tickets(redis_client)) == 1


def test_what_version_0_1_recorded_about_lost_messages_is_deleted(ledger: Ledger, redis_client: "redis.Redis") -> None:
    redis_client.zadd(keys.UNSEEN + INTERACTIVE, {"job": 1})
    ledger.recover(SWEEP, NOW)
    assert not redis_client.exists(keys.UNSEEN + INTERACTIVE)
