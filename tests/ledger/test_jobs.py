"""Jobs in the ledger, from submit to commit."""

import threading
from dataclasses import replace

from contract.job import Job, JobError, JobResult, JobStatus, Prediction, new_job_id
from contract.ledger import keys
from contract.ledger.ledger import Ledger
from contract.ledger.types import Claim, Heartbeat, QueueLimits, Receipt, Submit, SubmitStatus
from contract.queues import BULK, INTERACTIVE, QUEUES
from tests.support.ledger import (
    LEASE_MS,
    NOW,
    cat,
    claim_jobs,
    claimed,
    follow_finished,
    make_job,
    read,
    store,
    submitted,
)


def test_a_submitted_job_is_read_back_unchanged(ledger: Ledger) -> None:
    job = submitted(ledger)
    assert read(ledger, job) == job


def test_unknown_ids_are_read_as_none_and_the_order_is_kept(ledger: Ledger) -> None:
    job = submitted(ledger)
    assert ledger.get([new_job_id(), job.id]) == [None, job]


def test_a_taken_id_is_rejected_and_the_first_job_stays_unchanged(ledger: Ledger) -> None:
    job = submitted(ledger)
    second = Job(job.id, BULK, NOW + 5)
    assert store(ledger, [second]) == [SubmitStatus.TAKEN]
    assert read(ledger, job) == job


def test_a_full_queue_refuses_jobs_while_other_queues_accept_them(ledger: Ledger) -> None:
    jobs = [make_job() for _ in range(3)] + [make_job(BULK)]
    results = store(ledger, jobs, QueueLimits(max_jobs=2, max_bytes=1000))
    assert results == [SubmitStatus.STORED, SubmitStatus.STORED, SubmitStatus.FULL, SubmitStatus.STORED]
    assert ledger.get([jobs[2].id]) == [None]


def test_repeated_submits_are_recognized(ledger: Ledger) -> None:
    limits, job, other = QueueLimits(100, 1000), make_job(), make_job()
    assert ledger.submit([Submit(job, "key", "print")], limits) == [Receipt(SubmitStatus.STORED, job.id)]
    assert ledger.submit([Submit(other, "key", "print")], limits) == [Receipt(SubmitStatus.REPEATED, job.id)]
    assert ledger.submit([Submit(other, "key", "else")], limits) == [Receipt(SubmitStatus.MISMATCHED, job.id)]
    assert ledger.submit([Submit(job, "", "print")], limits) == [Receipt(SubmitStatus.REPEATED, job.id)]
    assert ledger.submit([Submit(job, "", "else")], limits) == [Receipt(SubmitStatus.TAKEN, job.id)]
    assert ledger.submit([Submit(job)], limits) == [Receipt(SubmitStatus.TAKEN, job.id)]
    assert ledger.get([other.id]) == [None]


def test_the_number_of_bytes_in_a_queue_is_limited(ledger: Ledger) -> None:
    limits = QueueLimits(100, max_bytes=20)
    jobs = [make_job() for _ in range(3)]  # 7 bytes each
    assert store(ledger, jobs, limits) == [SubmitStatus.STORED, SubmitStatus.STORED, SubmitStatus.FULL]
    claim = claimed(ledger, jobs[0])
    assert ledger.stats(QUEUES, NOW).queues[INTERACTIVE].queued_bytes == 7
    assert store(ledger, jobs[2:], limits) == [SubmitStatus.STORED]
    ledger.release([claim])
    assert ledger.stats(QUEUES, NOW).queues[INTERACTIVE].queued_bytes == 21
    ledger.cancel([job.id for job in jobs], 60, NOW)
    assert ledger.stats(QUEUES, NOW).queues[INTERACTIVE].queued_bytes == 0


def test_positions_follow_the_order_of_acceptance(ledger: Ledger) -> None:
    first, second, third = (submitted(ledger, created_ms=NOW + at) for at in (1, 2, 3))
    assert ledger.positions([third, first, second]) == [2, 0, 1]
    claimed(ledger, first)
    assert ledger.positions([first, second]) == [None, 0]


def test_a_job_is_claimed_once(ledger: Ledger) -> None:
    job = submitted(ledger)
    claim = claimed(ledger, job, NOW + 10)
    assert (claim.fence, claim.job.status, claim.job.started_ms) == (1, JobStatus.RUNNING, NOW + 10)
    assert claim.job.image == "ref-1"
    assert claim_jobs(ledger, [job.id, new_job_id()], LEASE_MS, 60, NOW + 11) == [None, None]


def test_a_job_with_an_expired_lease_is_claimed_again_with_a_higher_fence(ledger: Ledger) -> None:
    job = submitted(ledger)
    claimed(ledger, job)
    assert claim_jobs(ledger, [job.id], LEASE_MS, 60, NOW + LEASE_MS - 1) == [None]
    assert claimed(ledger, job, NOW + LEASE_MS).fence == 2


def test_renew_extends_the_lease(ledger: Ledger) -> None:
    job = submitted(ledger)
    claim = claimed(ledger, job)
    assert ledger.renew([claim], LEASE_MS, NOW + 900) == [True]
    assert claim_jobs(ledger, [job.id], LEASE_MS, 60, NOW + 1899) == [None]
    assert claimed(ledger, job, NOW + 1900).fence == 2
    assert ledger.renew([claim], LEASE_MS, NOW + 1901) == [False]


def test_a_commit_finishes_the_job(ledger: Ledger) -> None:
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


def test_a_commit_with_an_error_fails_the_job(ledger: Ledger) -> None:
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


def test_a_finished_job_never_changes(ledger: Ledger) -> None:
    job = submitted(ledger)
    claim = claimed(ledger, job)
    ledger.commit([(claim, cat(0.9))], 60, NOW)
    assert ledger.commit([(claim, cat(0.6))], 60, NOW) == [False]
    assert ledger.release([claim]) == [False]
    assert ledger.renew([claim], LEASE_MS, NOW) == [False]
    assert claim_jobs(ledger, [job.id], LEASE_MS, 60, NOW + 10 * LEASE_MS) == [None]
    assert read(ledger, job).result == cat(0.9)


def test_begin_counts_an_attempt_and_release_undoes_it(ledger: Ledger) -> None:
    job = submitted(ledger)
    claim = claimed(ledger, job)
    assert read(ledger, job).attempts == 0
    ledger.begin([claim])
    assert read(ledger, job).attempts == 1
    assert ledger.release([claim]) == [True]
    found = read(ledger, job)
    assert (found.status, found.attempts, found.started_ms) == (JobStatus.QUEUED, 0, None)
    assert claimed(ledger, job).fence == 2


def test_an_attempt_whose_worker_died_still_counts(ledger: Ledger) -> None:
    job = submitted(ledger)
    ledger.begin([claimed(ledger, job)])
    second = claimed(ledger, job, NOW + LEASE_MS)
    assert ledger.release([second]) == [True]
    assert read(ledger, job).attempts == 1


def test_begin_with_an_old_fence_counts_nothing(ledger: Ledger) -> None:
    job = submitted(ledger)
    old = claimed(ledger, job)
    claimed(ledger, job, NOW + LEASE_MS)
    ledger.begin([old])
    assert read(ledger, job).attempts == 0


def test_stats_count_jobs_by_queue_status_and_label(ledger: Ledger) -> None:
    first, third = submitted(ledger), submitted(ledger, queue=BULK)
    submitted(ledger, created_ms=NOW + 100)
    ledger.commit([(claimed(ledger, third), cat())], 60, NOW)
    claimed(ledger, first)
    stats = ledger.stats(QUEUES, NOW + 600)
    interactive, bulk = stats.queues[INTERACTIVE], stats.queues[BULK]
    assert (interactive.queued, interactive.running, interactive.oldest_age_ms) == (1, 1, 500)
    assert (bulk.queued, bulk.running, bulk.oldest_age_ms) == (0, 0, 0)
    assert stats.totals == {(BULK, "succeeded", "cat"): 1}


def test_a_heartbeat_is_valid_until_it_expires(ledger: Ledger) -> None:
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


def test_finished_jobs_are_published(ledger: Ledger) -> None:
    job, finished = submitted(ledger), follow_finished(ledger)
    assert next(finished) is None
    ledger.commit([(claimed(ledger, job), cat())], 60, NOW)
    assert next(finished) == [job.id]
    finished.close()


def test_concurrent_claims_return_each_job_once(ledger: Ledger) -> None:
    jobs = [make_job() for _ in range(50)]
    store(ledger, jobs)
    claims: list[Claim] = []

    def work() -> None:
        while found := ledger.claim({INTERACTIVE: 3}, LEASE_MS, 60):
            claims.extend(found)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claim.job.id for claim in claims) == sorted(job.id for job in jobs)


def test_empty_lists_are_accepted(ledger: Ledger) -> None:
    assert ledger.claim({}, LEASE_MS, 60) == []
    assert ledger.get([]) == []


def test_recent_jobs_are_listed_newest_first_from_a_given_position(ledger: Ledger) -> None:
    jobs = [submitted(ledger) for _ in range(4)]
    ledger.cancel([job.id for job in jobs[:3]], 60, NOW)
    ids = [job.id for job in jobs]

    first = ledger.recent(2)
    assert [job_id for _, job_id in first] == [ids[2], ids[1]]
    assert ledger.recent(5, after=first[0][0]) == []

    ledger.commit([(claimed(ledger, jobs[3]), cat())], 60, NOW)
    assert [job_id for _, job_id in ledger.recent(5, after=first[1][0])] == [ids[3], ids[2]]
    assert [job_id for _, job_id in ledger.recent(9)] == ids[::-1]


def test_labels_beyond_the_limit_are_counted_together(ledger: Ledger) -> None:
    results = [
        replace(cat(), prediction=Prediction(f"label-{number}", 1, {})) for number in range(keys.TOTALS_KEPT + 2)
    ]
    jobs = [make_job() for _ in results]
    store(ledger, jobs)
    claims = [claim for claim in claim_jobs(ledger, [job.id for job in jobs], LEASE_MS, 60, NOW) if claim]
    ledger.commit(list(zip(claims, results, strict=True)), 60, NOW)
    totals = ledger.stats([INTERACTIVE]).totals
    assert len(totals) == keys.TOTALS_KEPT + 1
    assert totals[INTERACTIVE, "succeeded", "(other)"] == 2
    assert totals[INTERACTIVE, "succeeded", "label-0"] == 1
