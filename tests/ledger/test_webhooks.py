"""The outbox: each job with a webhook leaves exactly one event, which is delivered, retried, kept and purged."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import redis

from contract.errors import PredictFailedError
from contract.job import Job, JobError, JobResult, new_job_id
from contract.ledger import keys
from contract.ledger.ledger import Ledger
from contract.ledger.types import QueueLimits, Submit, SubmitStatus, Sweep
from contract.ledger.webhooks import Delivery, WebhookStore
from contract.queues import BULK, INTERACTIVE
from contract.submission import Submission
from tests.support.ledger import LEASE_MS, NOW, cat, claim_jobs, claimed, contents, make_job, store

TTL_S = 60
URL = "https://hooks.example/a"
MAX_AGE_MS = 10_000_000
ADA, BOB = "ada", "bob"


def with_webhook(ledger: Ledger, owner: str = ADA, url: str = URL, **members: object) -> Job:
    job = replace(make_job(), webhook=url, owner=owner, **members)  # type: ignore[arg-type]
    assert store(ledger, [job]) == [SubmitStatus.STORED]
    return job


def finish(ledger: Ledger, *jobs: Job, now_ms: int = NOW) -> None:
    claims = claim_jobs(ledger, [job.id for job in jobs], LEASE_MS, TTL_S, now_ms)
    assert all(ledger.commit([(claim, cat()) for claim in claims if claim], TTL_S, now_ms))


def due(ledger: Ledger, now_ms: int = NOW, count: int = 100, busy: dict[str, int] | None = None) -> list[Delivery]:
    return ledger.webhooks.claim(count, 1000, 8, MAX_AGE_MS, busy or {}, now_ms)


def one(ledger: Ledger, now_ms: int = NOW) -> Delivery:
    (delivery,) = due(ledger, now_ms)
    return delivery


def fail(ledger: Ledger, delivery: Delivery, pause_ms: int | None, now_ms: int = NOW) -> bool:
    return ledger.webhooks.settle(delivery, "failed", pause_ms, "It was down.", now_ms)


# Events


def succeed(ledger: Ledger, job: Job) -> None:
    finish(ledger, job)


def fail_job(ledger: Ledger, job: Job) -> None:
    error = JobResult(error=JobError(PredictFailedError.code, "Broken."))
    assert ledger.commit([(claimed(ledger, job), error)], TTL_S, NOW) == [1]


def cancel(ledger: Ledger, job: Job) -> None:
    assert ledger.cancel([job.id], TTL_S, NOW) == [True]


def expire(ledger: Ledger, _job: Job) -> None:
    ledger.recover(Sweep(INTERACTIVE, max_attempts=1, ttl_s=TTL_S), NOW + 100)


def expire_at_claim(ledger: Ledger, _job: Job) -> None:
    assert ledger.claim({INTERACTIVE: 10}, LEASE_MS, TTL_S, NOW + 100) == []


def kill_worker(ledger: Ledger, job: Job) -> None:
    ledger.begin([claimed(ledger, job)])
    ledger.recover(Sweep(INTERACTIVE, max_attempts=1, ttl_s=TTL_S), NOW + LEASE_MS)


ENDS: list[tuple[Callable[[Ledger, Job], None], str]] = [
    (succeed, "job.succeeded"),
    (fail_job, "job.failed"),
    (cancel, "job.canceled"),
    (expire, "job.expired"),
    (expire_at_claim, "job.expired"),
    (kill_worker, "job.failed"),
]
each_end = pytest.mark.parametrize(("end", "event"), ENDS, ids=[end.__name__ for end, _ in ENDS])


@each_end
def test_each_end_of_a_job_writes_one_event(ledger: Ledger, end: Callable[[Ledger, Job], None], event: str) -> None:
    job = with_webhook(ledger, deadline_ms=NOW + 50)
    end(ledger, job)
    later = NOW + 2 * LEASE_MS
    delivery = one(ledger, later)
    assert (delivery.type, delivery.url, delivery.owner, delivery.subject) == (event, URL, ADA, job.id)
    read = ledger.get([job.id])[0]
    assert read
    payload = delivery.payload("/paw")
    assert payload["type"] == event
    assert payload["data"] == read.to_dict() | {"urls": {"self": f"/paw/v1/jobs/{job.id}"}}
    assert due(ledger, later) == []


@each_end
def test_a_job_without_a_webhook_writes_nothing_to_the_outbox(
    ledger: Ledger, redis_client: "redis.Redis", end: Callable[[Ledger, Job], None], event: str
) -> None:
    job = replace(make_job(), deadline_ms=NOW + 50)
    assert store(ledger, [job]) == [SubmitStatus.STORED]
    end(ledger, job)
    prefixes = (keys.DELIVERY, keys.DELIVERIES, keys.LANE, keys.LANES)
    assert [key for key in map(str, redis_client.scan_iter()) if key.startswith(prefixes)] == [], event


def test_a_finished_job_writes_no_second_event(ledger: Ledger) -> None:
    job = with_webhook(ledger)
    claim = claimed(ledger, job)
    cancel(ledger, job)
    assert ledger.commit([(claim, cat())], TTL_S, NOW) == [0]
    assert [item.type for item in due(ledger)] == ["job.canceled"]


def test_a_submission_writes_one_event_when_it_is_closed_and_its_jobs_are_finished(ledger: Ledger) -> None:
    submission = Submission(new_job_id(), BULK, NOW, owner=ADA, webhook=URL)
    assert ledger.open_submission(submission, TTL_S, 100) is SubmitStatus.STORED
    jobs = [replace(make_job(BULK), submission=submission.id, owner=ADA) for _ in range(2)]
    store(ledger, jobs)
    finish(ledger, jobs[0])
    ledger.close_submission(submission.id, TTL_S, NOW)
    assert due(ledger) == []
    finish(ledger, jobs[1], now_ms=NOW + 5)
    delivery = one(ledger, NOW + 5)
    assert (delivery.type, delivery.subject) == ("submission.finished", submission.id)
    data = delivery.payload("")["data"]
    assert (data["status"], data["counts"]["succeeded"], data["id"]) == ("finished", 2, submission.id)
    ledger.close_submission(submission.id, TTL_S, NOW + 6)
    assert due(ledger, NOW + 6) == []


def test_an_event_names_the_id_that_its_client_chose(ledger: Ledger) -> None:
    taken = with_webhook(ledger, BOB)
    submit = Submit(replace(taken, owner=ADA), own_id=new_job_id())
    (receipt,) = ledger.submit([submit], QueueLimits(10_000, 10**12))
    assert receipt.job_id != taken.id
    ledger.cancel([receipt.job_id], TTL_S, NOW)
    delivery = one(ledger)
    assert (delivery.owner, delivery.payload("")["data"]["id"]) == (ADA, taken.id)


def test_an_event_outlives_the_record_of_its_job(ledger: Ledger, redis_client: "redis.Redis") -> None:
    job = with_webhook(ledger)
    finish(ledger, job)
    redis_client.delete(keys.job(job.id))  # as its expiry would
    delivery = one(ledger)
    assert delivery.payload("")["data"]["prediction"]["label"] == "cat"
    assert int(redis_client.ttl(keys.DELIVERY + delivery.id)) > 30 * 86_400


# Deliveries


def test_a_delivered_event_leaves_nothing(ledger: Ledger, redis_client: "redis.Redis") -> None:
    job = with_webhook(ledger)
    finish(ledger, job)
    delivery = one(ledger)
    assert ledger.webhooks.settle(delivery, "delivered", None, "", NOW)
    assert due(ledger, NOW + MAX_AGE_MS) == []
    ledger.purge([job.id], TTL_S, NOW)
    assert job.id not in contents(redis_client)
    assert delivery.id not in contents(redis_client)
    assert ledger.webhooks.stats(NOW).totals == {"delivered": 1}


def test_two_notifiers_never_hold_the_same_delivery_and_the_lease_of_a_killed_one_ends(ledger: Ledger) -> None:
    jobs = [with_webhook(ledger) for _ in range(6)]
    finish(ledger, *jobs)
    first, second = due(ledger, count=4), due(ledger, count=4)
    assert (len(first), len(second)) == (4, 2)
    assert not {item.id for item in first} & {item.id for item in second}
    assert due(ledger, NOW + 999) == []
    again = due(ledger, NOW + 1000)
    assert {item.id for item in again} == {item.id for item in (*first, *second)}
    # The one that was killed, or slow, no longer decides.
    assert not fail(ledger, first[0], None, NOW + 1001)
    assert ledger.webhooks.settle(first[0], "delivered", None, "", NOW + 1001)
    late = next(item for item in again if item.id == first[0].id)
    assert not fail(ledger, late, 5000, NOW + 1002)


def test_a_failed_delivery_is_tried_again_after_its_pause_with_the_same_id(ledger: Ledger) -> None:
    finish(ledger, with_webhook(ledger))
    delivery = one(ledger)
    assert fail(ledger, delivery, 5000)
    assert due(ledger, NOW + 4999) == []
    again = one(ledger, NOW + 5000)
    assert (again.id, again.tries, again.problem, again.claims) == (delivery.id, 1, "It was down.", 2)
    assert again.payload("") == delivery.payload("")


def test_a_delivery_without_tries_left_is_kept_and_can_be_redelivered_by_its_owner(ledger: Ledger) -> None:
    finish(ledger, with_webhook(ledger))
    delivery = one(ledger)
    assert fail(ledger, delivery, None)
    assert due(ledger, NOW + MAX_AGE_MS) == []
    (dead,) = ledger.webhooks.latest(ADA, 10, "dead")
    assert (dead.id, dead.dead_ms, dead.problem, dead.next_ms) == (delivery.id, NOW, "It was down.", None)
    assert ledger.webhooks.stats(NOW).dead == 1
    assert ledger.webhooks.redeliver(BOB, dead.id, NOW) is None
    assert ledger.webhooks.get(BOB, dead.id) is None
    later = NOW + 2 * MAX_AGE_MS
    assert ledger.webhooks.redeliver(ADA, dead.id, later)
    again = one(ledger, later)
    assert (again.id, again.tries, again.dead_ms) == (delivery.id, 0, None)
    assert ledger.webhooks.latest(ADA, 10, "dead") == []


def test_dead_deliveries_are_removed_after_their_time_and_beyond_their_number(
    ledger: Ledger, redis_client: "redis.Redis"
) -> None:
    jobs = [with_webhook(ledger) for _ in range(2)]
    for at, job in enumerate(jobs):
        finish(ledger, job, now_ms=NOW + at)
        assert fail(ledger, one(ledger, NOW + at), None, NOW + at)
    assert ledger.webhooks.trim(100, NOW + 100_000) == 1
    (left,) = ledger.webhooks.latest(ADA, 10)
    assert left.subject == jobs[1].id
    others = {f"old-{number}": number for number in range(keys.DEAD_DELIVERIES_KEPT)}
    redis_client.zadd(keys.DEAD_DELIVERIES, others)
    finish(ledger, with_webhook(ledger))
    assert fail(ledger, one(ledger, NOW + 10), None, NOW + 10)
    assert redis_client.zcard(keys.DEAD_DELIVERIES) == keys.DEAD_DELIVERIES_KEPT
    assert redis_client.zscore(keys.DEAD_DELIVERIES, "old-0") is None


def test_an_endpoint_that_is_gone_gets_nothing_until_a_redelivery(ledger: Ledger) -> None:
    jobs = [with_webhook(ledger) for _ in range(2)]
    finish(ledger, jobs[0])
    assert ledger.webhooks.settle(one(ledger), "gone", 5000, "410", NOW)
    finish(ledger, jobs[1])
    assert due(ledger) == []
    dead = ledger.webhooks.latest(ADA, 10, "dead")
    assert {item.subject for item in dead} == {job.id for job in jobs}
    elsewhere = with_webhook(ledger, url="https://hooks.example/b")
    of_bob = with_webhook(ledger, BOB)
    finish(ledger, elsewhere, of_bob)
    assert {item.subject for item in due(ledger)} == {elsewhere.id, of_bob.id}
    assert ledger.webhooks.redeliver(ADA, dead[0].id, NOW)
    assert one(ledger).id == dead[0].id


def test_a_lane_delays_no_other(ledger: Ledger) -> None:
    slow = [with_webhook(ledger, url="https://slow.example/") for _ in range(30)]
    finish(ledger, *slow)
    quick = with_webhook(ledger)
    of_bob = with_webhook(ledger, BOB, "https://slow.example/")
    finish(ledger, quick, of_bob, now_ms=NOW + 1)
    first = due(ledger, NOW + 1)
    assert len(first) == 10, "at most 8 of the slow lane"
    assert {quick.id, of_bob.id} <= {item.subject for item in first}
    lane = next(item.lane for item in first if "slow" in item.url and item.owner == ADA)
    assert due(ledger, NOW + 1, busy={lane: 8}) == []
    assert len(due(ledger, NOW + 1, busy={lane: 5})) == 3


def test_a_lane_that_keeps_failing_is_paused_and_tried_with_one_delivery(ledger: Ledger) -> None:
    finish(ledger, *[with_webhook(ledger) for _ in range(20)])
    now = NOW
    for _ in range(keys.LANE_FAILURES_MAX):
        delivery = due(ledger, now, 1)[0]
        assert fail(ledger, delivery, 3_600_000, now)
    assert due(ledger, now) == []
    assert ledger.webhooks.stats(now + 1000).oldest_due_ms == 0
    now += keys.LANE_PAUSE_MS
    (probe,) = due(ledger, now)
    assert due(ledger, now) == []
    assert fail(ledger, probe, 3_600_000, now)
    assert due(ledger, now + keys.LANE_PAUSE_MS) == [], "the second pause is longer"
    now += 2 * keys.LANE_PAUSE_MS
    (probe,) = due(ledger, now)
    assert ledger.webhooks.settle(probe, "delivered", None, "", now)
    assert len(due(ledger, now)) == 8


def test_a_delivery_that_never_gets_its_turn_dies_of_age(ledger: Ledger) -> None:
    finish(ledger, with_webhook(ledger))
    assert due(ledger, NOW + MAX_AGE_MS + 1) == []
    (dead,) = ledger.webhooks.latest(ADA, 10)
    assert "too long" in dead.problem


def test_the_age_of_the_first_due_delivery_is_measured(ledger: Ledger) -> None:
    assert ledger.webhooks.stats(NOW).oldest_due_ms == 0
    finish(ledger, with_webhook(ledger))
    assert ledger.webhooks.stats(NOW + 700).oldest_due_ms == 700
    assert fail(ledger, one(ledger, NOW + 700), 5000, NOW + 700)
    assert ledger.webhooks.stats(NOW + 800).oldest_due_ms == 0


# Purge


@pytest.mark.parametrize("is_dead", [False, True])
def test_a_purge_removes_the_event_of_a_job(ledger: Ledger, redis_client: "redis.Redis", *, is_dead: bool) -> None:
    job = with_webhook(ledger, file="secret-name.jpg")
    finish(ledger, job)
    delivery = one(ledger)
    if is_dead:
        assert fail(ledger, delivery, None)
    ledger.purge([job.id], TTL_S, NOW)
    text = contents(redis_client)
    assert [word for word in (job.id, delivery.id, "secret-name", "hooks.example") if word in text] == []
    assert not fail(ledger, delivery, 5000)
    assert due(ledger, NOW + MAX_AGE_MS) == []


def test_a_purge_of_an_unfinished_job_sends_no_event(ledger: Ledger, redis_client: "redis.Redis") -> None:
    job = with_webhook(ledger)
    ledger.purge([job.id], TTL_S, NOW)
    assert due(ledger) == []
    assert "hooks.example" not in contents(redis_client)


@pytest.mark.parametrize("is_finished", [False, True])
def test_a_purge_removes_the_event_of_a_submission(
    ledger: Ledger, redis_client: "redis.Redis", *, is_finished: bool
) -> None:
    submission = Submission(new_job_id(), BULK, NOW, name="Secret", owner=ADA, webhook=URL)
    ledger.open_submission(submission, TTL_S, 100)
    store(ledger, [replace(make_job(BULK), submission=submission.id, owner=ADA)])
    if is_finished:
        finish(ledger, *[job for job in ledger.get(ledger.submission_job_ids(submission.id, 0, 9)) if job])
        ledger.close_submission(submission.id, TTL_S, NOW)
        assert len(due(ledger)) == 1
    while ledger.purge_submission(submission.id, 10, TTL_S, NOW).has_more:
        pass
    assert due(ledger, NOW + MAX_AGE_MS) == []
    text = contents(redis_client)
    assert [word for word in (submission.id, "Secret", "hooks.example") if word in text] == []


# Secrets


def test_each_owner_has_a_secret_and_a_rotation_keeps_the_one_before_for_a_time(ledger: Ledger) -> None:
    webhooks: WebhookStore = ledger.webhooks
    first = webhooks.secrets(ADA)
    assert first.current.startswith("whsec_")
    assert webhooks.secrets(ADA) == first
    assert webhooks.secrets(BOB).current != first.current
    second = webhooks.rotate(ADA, 60, NOW)
    assert second.valid(NOW + 59_999) == [second.current, first.current]
    assert second.valid(NOW + 60_000) == [second.current]
    assert webhooks.secrets(ADA) == second
    assert first.current not in repr(first)
    assert second.previous not in repr(second)
