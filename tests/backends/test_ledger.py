"""What every ledger does, in memory and on Redis."""

import threading

import pytest

from contract.broker import BULK, INTERACTIVE, QUEUES
from contract.job import (
    Features,
    Job,
    JobError,
    JobResult,
    JobStatus,
    ModelRef,
    Prediction,
    Timings,
    new_job_id,
)
from contract.ledger.ledger import Ledger
from contract.ledger.types import Claim, Heartbeat, Submitted
from tests.support.ledger import store

LEASE_MS = 1000
NOW = 1_000_000


def make_job(queue: str = INTERACTIVE, created_ms: int = NOW) -> Job:
    return Job(new_job_id(), queue, created_ms, file="cat.jpg", size_bytes=7, image="ref-1")


def submitted(ledger: Ledger, **options: object) -> Job:
    job = make_job(**options)  # type: ignore[arg-type]
    assert store(ledger, [job], 100) == [Submitted.STORED]
    return job


def claimed(ledger: Ledger, job: Job, now_ms: int = NOW) -> Claim:
    (claim,) = ledger.claim([job.id], LEASE_MS, 60, now_ms)
    assert claim is not None
    return claim


def cat(confidence: float = 0.9) -> JobResult:
    return JobResult(
        prediction=Prediction("cat", confidence, {"cat": confidence, "dog": 1 - confidence}),
        model=ModelRef("cats-dogs", "1"),
        batch_size=4,
        timings=Timings(1.0, 2.0, 3.0, 4.0),
        features=Features(40, 30, 0.5, 0.25),
    )


def read(ledger: Ledger, job: Job) -> Job:
    (found,) = ledger.get([job.id])
    assert found is not None
    return found


def test_a_submitted_job_is_read_as_it_was_written(ledger: Ledger) -> None:
    job = submitted(ledger)
    assert read(ledger, job) == job


def test_unknown_ids_are_none_and_keep_their_place(ledger: Ledger) -> None:
    job = submitted(ledger)
    assert ledger.get([new_job_id(), job.id]) == [None, job]


def test_a_taken_id_is_refused_and_the_first_job_stays(ledger: Ledger) -> None:
    job = submitted(ledger)
    second = Job(job.id, BULK, NOW + 5)
    assert store(ledger, [second], 100) == [Submitted.TAKEN]
    assert read(ledger, job) == job


def test_a_full_queue_refuses_and_the_other_queue_does_not(ledger: Ledger) -> None:
    jobs = [make_job() for _ in range(3)] + [make_job(BULK)]
    assert store(ledger, jobs, 2) == [Submitted.STORED, Submitted.STORED, Submitted.FULL, Submitted.STORED]
    assert ledger.get([jobs[2].id]) == [None]


def test_a_job_is_claimed_once(ledger: Ledger) -> None:
    job = submitted(ledger)
    claim = claimed(ledger, job, NOW + 10)
    assert (claim.fence, claim.job.status, claim.job.started_ms) == (1, JobStatus.RUNNING, NOW + 10)
    assert claim.job.image == "ref-1"
    assert ledger.claim([job.id, new_job_id()], LEASE_MS, 60, NOW + 11) == [None, None]


def test_an_ended_lease_is_claimed_again_with_a_higher_fence(ledger: Ledger) -> None:
    job = submitted(ledger)
    claimed(ledger, job)
    assert ledger.claim([job.id], LEASE_MS, 60, NOW + LEASE_MS - 1) == [None]
    assert claimed(ledger, job, NOW + LEASE_MS).fence == 2


def test_renewing_prolongs_the_lease(ledger: Ledger) -> None:
    job = submitted(ledger)
    claim = claimed(ledger, job)
    assert ledger.renew([claim], LEASE_MS, NOW + 900) == [True]
    assert ledger.claim([job.id], LEASE_MS, 60, NOW + 1899) == [None]
    assert claimed(ledger, job, NOW + 1900).fence == 2
    assert ledger.renew([claim], LEASE_MS, NOW + 1901) == [False]


def test_a_commit_ends_the_job(ledger: Ledger) -> None:
    job = submitted(ledger)
    claim = claimed(ledger, job)
    assert ledger.commit([(claim, cat())], 60, NOW + 50) == [True]
    found = read(ledger, job)
    assert (found.status, found.finished_ms, found.image, found.result) == (
        JobStatus.SUCCEEDED,
        NOW + 50,
        "",
        cat(),
    )


def test_an_error_ends_the_job_as_failed(ledger: Ledger) -> None:
    job = submitted(ledger)
    result = JobResult(error=JobError("undecodable_image", "truncated"))
    assert ledger.commit([(claimed(ledger, job), result)], 60, NOW) == [True]
    assert read(ledger, job).status is JobStatus.FAILED
    assert read(ledger, job).result == result
    assert ledger.stats(QUEUES).errors == {"undecodable_image": 1}


def test_a_commit_with_an_old_fence_changes_nothing(ledger: Ledger) -> None:
    job = submitted(ledger)
    old = claimed(ledger, job)
    new = claimed(ledger, job, NOW + LEASE_MS)
    assert ledger.commit([(old, cat(0.6))], 60, NOW + 1001) == [False]
    assert read(ledger, job).status is JobStatus.RUNNING
    assert ledger.commit([(new, cat(0.9))], 60, NOW + 1002) == [True]
    assert read(ledger, job).result == cat(0.9)


def test_an_ended_job_never_changes(ledger: Ledger) -> None:
    job = submitted(ledger)
    claim = claimed(ledger, job)
    ledger.commit([(claim, cat(0.9))], 60, NOW)
    assert ledger.commit([(claim, cat(0.6))], 60, NOW) == [False]
    assert ledger.release([claim]) == [False]
    assert ledger.renew([claim], LEASE_MS, NOW) == [False]
    assert ledger.claim([job.id], LEASE_MS, 60, NOW + 10 * LEASE_MS) == [None]
    assert read(ledger, job).result == cat(0.9)


def test_an_attempt_is_counted_when_it_begins_and_uncounted_when_given_back(ledger: Ledger) -> None:
    job = submitted(ledger)
    claim = claimed(ledger, job)
    assert read(ledger, job).attempts == 0
    ledger.begin([claim])
    assert read(ledger, job).attempts == 1
    assert ledger.release([claim]) == [True]
    found = read(ledger, job)
    assert (found.status, found.attempts, found.started_ms) == (JobStatus.QUEUED, 0, None)
    assert claimed(ledger, job).fence == 2


def test_an_attempt_lost_with_its_worker_stays_counted(ledger: Ledger) -> None:
    job = submitted(ledger)
    ledger.begin([claimed(ledger, job)])
    second = claimed(ledger, job, NOW + LEASE_MS)
    assert ledger.release([second]) == [True]
    assert read(ledger, job).attempts == 1


def test_beginning_with_an_old_fence_counts_nothing(ledger: Ledger) -> None:
    job = submitted(ledger)
    old = claimed(ledger, job)
    claimed(ledger, job, NOW + LEASE_MS)
    ledger.begin([old])
    assert read(ledger, job).attempts == 0


def test_stats_count_by_queue_state_and_result(ledger: Ledger) -> None:
    first, second, third = submitted(ledger), submitted(ledger, created_ms=NOW + 100), submitted(ledger, queue=BULK)
    ledger.commit([(claimed(ledger, third), cat())], 60, NOW)
    claimed(ledger, first)
    stats = ledger.stats(QUEUES, NOW + 600)
    interactive, bulk = stats.queues[INTERACTIVE], stats.queues[BULK]
    assert (interactive.queued, interactive.running, interactive.oldest_age_ms) == (1, 1, 500)
    assert (bulk.queued, bulk.running, bulk.oldest_age_ms) == (0, 0, 0)
    assert stats.totals == {(BULK, "succeeded", "cat"): 1}
    assert second.id


def test_a_heartbeat_counts_until_its_time(ledger: Ledger) -> None:
    beat = heartbeat("w1", started_ms=2)
    older = heartbeat("w2", started_ms=1)
    ledger.beat(beat, 500, NOW)
    ledger.beat(older, 900, NOW)
    assert ledger.workers(NOW + 499) == [older, beat]
    assert ledger.workers(NOW + 500) == [older]
    ledger.retire("w2")
    assert ledger.workers(NOW + 500) == []


def heartbeat(worker_id: str, started_ms: int) -> Heartbeat:
    return Heartbeat(
        worker_id, "host", "cats-dogs", "1", ["cat", "dog"], "tensorflow", "float32", 0.5, "", started_ms, NOW
    )


def test_ended_jobs_are_told_to_who_listens(ledger: Ledger) -> None:
    job, told = submitted(ledger), threading.Event()
    listens, heard = threading.Event(), []

    def listen() -> None:
        for ids in ledger.ended():
            if ids is None:
                listens.set()
                continue
            heard.extend(ids)
            told.set()
            return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert listens.wait(10)
    ledger.commit([(claimed(ledger, job), cat())], 60, NOW)
    assert told.wait(10)
    assert heard == [job.id]
    thread.join(10)


def test_many_claimants_get_each_job_once(ledger: Ledger) -> None:
    jobs = [make_job() for _ in range(50)]
    store(ledger, jobs, 100)
    claims: list[Claim] = []

    def work() -> None:
        claims.extend(claim for claim in ledger.claim([job.id for job in jobs], LEASE_MS, 60) if claim)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claim.job.id for claim in claims) == sorted(job.id for job in jobs)


@pytest.mark.parametrize("method", ["claim", "get"])
def test_nothing_asked_is_nothing_done(ledger: Ledger, method: str) -> None:
    arguments = ([], LEASE_MS, 60) if method == "claim" else ([],)
    assert not getattr(ledger, method)(*arguments)


def test_the_latest_ended_jobs_are_told_newest_first_and_from_a_place_on(ledger: Ledger) -> None:
    jobs = [submitted(ledger) for _ in range(4)]
    ledger.cancel([job.id for job in jobs[:3]], 60, NOW)
    ids = [job.id for job in jobs]

    first = ledger.recent(2)
    assert [job_id for _, job_id in first] == [ids[2], ids[1]]
    assert ledger.recent(5, after=first[0][0]) == []

    ledger.commit([(claimed(ledger, jobs[3]), cat())], 60, NOW)
    assert [job_id for _, job_id in ledger.recent(5, after=first[1][0])] == [ids[3], ids[2]]
    assert [job_id for _, job_id in ledger.recent(9)] == ids[::-1]
