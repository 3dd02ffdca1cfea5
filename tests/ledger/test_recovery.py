"""Jobs that are canceled, expire, lose their worker, or kill their worker."""

from dataclasses import replace

from contract.job import Job, JobStatus
from contract.ledger.ledger import Ledger
from contract.ledger.types import EXPIRED, LOST, SubmitStatus, Sweep
from contract.queues import BULK, INTERACTIVE, QUEUES
from tests.support.ledger import LEASE_MS, NOW, cat, claim_jobs, claimed, make_job, read, store, submitted


def sweep(queue: str = INTERACTIVE) -> Sweep:
    return Sweep(queue, max_attempts=3, ttl_s=60)


def with_deadline(ledger: Ledger, deadline_ms: int) -> Job:
    job = replace(make_job(), deadline_ms=deadline_ms)
    assert store(ledger, [job]) == [SubmitStatus.STORED]
    return job


def die_on(ledger: Ledger, job: Job, now_ms: int) -> int:
    """Simulate a worker that begins a job and dies; returns the time at which its lease expires."""
    ledger.begin([claimed(ledger, job, now_ms)])
    return now_ms + LEASE_MS


def test_cancel_stops_queued_and_running_jobs_but_not_finished_ones(ledger: Ledger) -> None:
    queued, running, finished = submitted(ledger), submitted(ledger), submitted(ledger)
    claim = claimed(ledger, running)
    ledger.commit([(claimed(ledger, finished), cat())], 60, NOW)
    assert ledger.cancel([queued.id, running.id, finished.id, "unknown"], 60, NOW + 1) == [True, True, False, False]
    assert [read(ledger, job).status for job in (queued, running, finished)] == [
        JobStatus.CANCELED,
        JobStatus.CANCELED,
        JobStatus.SUCCEEDED,
    ]
    assert ledger.commit([(claim, cat())], 60, NOW + 2) == [False]
    assert read(ledger, running).result is None
    assert claim_jobs(ledger, [queued.id], LEASE_MS, 60, NOW + 2) == [None]
    assert ledger.discarded(10) == ["ref-1", "ref-1"]
    ledger.remove_discarded(["ref-1"])
    assert ledger.discarded(10) == ["ref-1"]


def test_a_job_past_its_deadline_expires_instead_of_being_claimed(ledger: Ledger) -> None:
    job = with_deadline(ledger, NOW + 100)
    assert claim_jobs(ledger, [job.id], LEASE_MS, 60, NOW + 100) == [None]
    found = read(ledger, job)
    assert (found.status, found.result, found.deadline_ms) == (JobStatus.EXPIRED, EXPIRED, NOW + 100)
    assert ledger.stats(QUEUES).totals == {(INTERACTIVE, "expired", ""): 1}


def test_a_job_claimed_before_its_deadline_may_finish_after_it(ledger: Ledger) -> None:
    job = with_deadline(ledger, NOW + 100)
    claim = claimed(ledger, job, NOW + 99)
    assert ledger.recover(sweep(), NOW + 200) == 0
    assert ledger.commit([(claim, cat())], 60, NOW + 200) == [True]


def test_a_waiting_job_past_its_deadline_expires_in_the_next_sweep(ledger: Ledger) -> None:
    job = with_deadline(ledger, NOW + 100)
    assert ledger.recover(sweep(), NOW + 100) == 0
    assert read(ledger, job).status is JobStatus.EXPIRED
    assert ledger.discarded(10) == ["ref-1"]


def test_a_claimed_job_whose_worker_died_is_requeued_without_counting_an_attempt(ledger: Ledger) -> None:
    job = submitted(ledger)
    old = claimed(ledger, job)
    assert ledger.recover(sweep(), NOW + LEASE_MS - 1) == 0
    assert ledger.recover(sweep(), NOW + LEASE_MS) == 1
    assert (read(ledger, job).status, read(ledger, job).attempts) == (JobStatus.QUEUED, 0)
    assert ledger.commit([(old, cat())], 60, NOW + LEASE_MS) == [False]
    again = claimed(ledger, job, NOW + LEASE_MS)
    assert not again.alone
    assert again.fence > old.fence


def test_a_begun_job_whose_worker_died_counts_an_attempt_and_is_retried_alone(ledger: Ledger) -> None:
    job = submitted(ledger)
    end_ms = die_on(ledger, job, NOW)
    assert ledger.recover(sweep(), end_ms) == 1
    again = claimed(ledger, job, end_ms)
    assert (again.alone, read(ledger, job).attempts) == (True, 1)
    assert ledger.commit([(again, cat())], 60, end_ms) == [True]
    assert ledger.stats(QUEUES).dead == 0


def test_a_job_that_kills_every_worker_fails_and_becomes_a_dead_letter(ledger: Ledger) -> None:
    job, now_ms = submitted(ledger), NOW
    for _ in range(2):
        now_ms = die_on(ledger, job, now_ms)
        assert ledger.recover(sweep(), now_ms) == 1
    now_ms = die_on(ledger, job, now_ms)
    assert ledger.recover(sweep(), now_ms) == 0
    found = read(ledger, job)
    assert (found.status, found.result, found.attempts) == (JobStatus.FAILED, LOST, 3)
    assert ledger.stats(QUEUES).dead == 1
    assert ledger.stats(QUEUES).errors == {"worker_lost": 1}


def test_a_dead_letter_is_removed_once_and_returns_its_image(ledger: Ledger) -> None:
    job, now_ms = submitted(ledger), NOW
    for _ in range(3):
        now_ms = die_on(ledger, job, now_ms)
        ledger.recover(sweep(), now_ms)
    assert ledger.dead(10) == [job.id]
    assert ledger.dead_image(job.id) == "ref-1"
    assert ledger.remove_dead(job.id) == "ref-1"
    assert ledger.remove_dead(job.id) is None
    assert ledger.dead_image(job.id) is None
    assert ledger.dead(10) == []
    ledger.discard(["ref-1"])
    assert ledger.discarded(5) == ["ref-1"]


def test_a_job_that_is_claimed_but_never_begun_is_always_requeued(ledger: Ledger) -> None:
    job, now_ms = submitted(ledger), NOW
    for _ in range(10):
        claimed(ledger, job, now_ms)
        now_ms += LEASE_MS
        assert ledger.recover(sweep(), now_ms) == 1
    assert read(ledger, job).attempts == 0


def test_a_sweep_covers_one_queue(ledger: Ledger) -> None:
    job = submitted(ledger, queue=BULK)
    claimed(ledger, job)
    assert ledger.recover(sweep(INTERACTIVE), NOW + LEASE_MS) == 0
    assert ledger.recover(sweep(BULK), NOW + LEASE_MS) == 1


def test_only_one_worker_recovers_jobs(ledger: Ledger) -> None:
    assert ledger.lead("a", 60_000)
    assert not ledger.lead("b", 60_000)
    assert ledger.lead("a", 60_000)


def test_a_postponed_job_whose_worker_died_counts_no_attempt(ledger: Ledger) -> None:
    job = submitted(ledger)
    claims = ledger.claim({INTERACTIVE: 1}, LEASE_MS, 60, NOW)
    assert [claim.job.attempts for claim in claims] == [1]
    for _ in range(2):
        ledger.postpone(claims)
        assert read(ledger, job).attempts == 0
    assert ledger.recover(sweep(), NOW + LEASE_MS) == 1
    assert not claimed(ledger, job, NOW + LEASE_MS).alone


def test_a_claim_contains_at_most_one_suspect(ledger: Ledger) -> None:
    suspects = [submitted(ledger, queue) for queue in (INTERACTIVE, INTERACTIVE, BULK)]
    assert len(ledger.claim({INTERACTIVE: 2, BULK: 1}, LEASE_MS, 60, NOW)) == len(suspects)
    assert [ledger.recover(sweep(queue), NOW + LEASE_MS) for queue in QUEUES] == [2, 1]
    other = submitted(ledger, created_ms=NOW + 1)
    claims = ledger.claim({INTERACTIVE: 3, BULK: 1}, LEASE_MS, 60, NOW + LEASE_MS)
    assert [(claim.job.id, claim.alone) for claim in claims] == [(suspects[0].id, True), (other.id, False)]
    assert [read(ledger, job).status for job in suspects[1:]] == [JobStatus.QUEUED] * 2


def test_jobs_are_claimed_by_queue_in_order_of_acceptance(ledger: Ledger) -> None:
    late, early, bulk = submitted(ledger, created_ms=NOW + 1), submitted(ledger), submitted(ledger, BULK)
    assert [claim.job.id for claim in ledger.claim({INTERACTIVE: 1, BULK: 5}, LEASE_MS, 60, NOW)] == [early.id, bulk.id]
    assert [claim.job.id for claim in ledger.claim({INTERACTIVE: 5, BULK: 0}, LEASE_MS, 60, NOW)] == [late.id]
