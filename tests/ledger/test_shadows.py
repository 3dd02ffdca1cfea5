"""Comparing a shadow with the live version: counts by pair of versions and day, and the jobs on which they differ."""

from dataclasses import replace

import pytest
import redis

from contract.job import Job, JobResult, JobStatus, ModelRef, Prediction, now_ms
from contract.ledger import keys
from contract.ledger.ledger import Ledger
from contract.ledger.shadows import Agreement, Compared
from tests.support.ledger import NOW, claimed, make_job, read, store

DAY_MS = 86_400_000


def finished(ledger: Ledger, label: str = "cat") -> Job:
    job = make_job()
    store(ledger, [job])
    prediction = Prediction(label, 0.75, {"cat": 0.75, "dog": 0.25})
    result = JobResult(prediction=prediction, model=ModelRef("pets", "1"))
    ledger.commit([(claimed(ledger, job), result)], 60, now_ms=NOW)
    return read(ledger, job)


def compared(job: Job, shadow_label: str = "cat", shadow: str = "2") -> Compared:
    assert job.result
    assert job.result.prediction
    label = job.result.prediction.label
    return Compared(job.id, "pets", "1", shadow, label, shadow_label, 0.75, 0.5, label == shadow_label)


def record(ledger: Ledger, *rows: Compared, now_ms: int = NOW) -> list[bool]:
    return ledger.shadows.record(rows, now_ms)


def agreement(ledger: Ledger, days: int = 7, at_ms: int = NOW) -> list[Agreement]:
    return ledger.shadows.agreement("pets", days, at_ms)


def test_agreement_is_counted_by_pair_of_versions(ledger: Ledger) -> None:
    jobs = [finished(ledger) for _ in range(4)]
    rows = [compared(jobs[0]), compared(jobs[1]), compared(jobs[2], "dog"), compared(jobs[3], shadow="3")]
    assert record(ledger, *rows) == [True] * 4
    assert agreement(ledger) == [Agreement("1", "2", 2, 1), Agreement("1", "3", 1, 0)]
    assert ledger.shadows.totals() == {("pets", "2", True): 2, ("pets", "2", False): 1, ("pets", "3", True): 1}


def test_a_job_is_counted_once(ledger: Ledger) -> None:
    job = finished(ledger)
    assert record(ledger, compared(job)) == [True]
    assert record(ledger, compared(job, "dog", "3")) == [False]
    assert agreement(ledger) == [Agreement("1", "2", 1)]


def test_a_new_job_with_the_id_of_a_purged_one_is_not_counted(ledger: Ledger) -> None:
    job = finished(ledger)
    row = replace(compared(job, "dog"), fence=job.fence)
    ledger.purge([job.id], 60, now_ms=NOW)
    store(ledger, [replace(job, status=JobStatus.QUEUED, result=None, finished_ms=None)])
    ledger.commit([(claimed(ledger, job), JobResult(prediction=Prediction("cat", 0.75, {})))], 60, now_ms=NOW)
    assert record(ledger, row) == [False]
    assert record(ledger, replace(row, fence=read(ledger, job).fence)) == [True]


def test_only_disagreements_are_kept_newest_first(ledger: Ledger) -> None:
    jobs = [finished(ledger) for _ in range(3)]
    record(ledger, compared(jobs[0], "dog"), compared(jobs[1]), compared(jobs[2], "dog"))
    found = ledger.shadows.disagreements("pets")
    assert [row.job_id for row in found] == [jobs[2].id, jobs[0].id]
    assert replace(found[0], at_ms=0, job_id="") == type(found[0])("", 0, "1", "2", "cat", "dog", 0.75, 0.5)
    assert ledger.shadows.disagreements("pets", 1) == found[:1]
    assert ledger.shadows.disagreements("cars") == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_purge_removes_the_disagreement_and_keeps_the_counts(ledger: Ledger, when: str) -> None:
    job, other = finished(ledger), finished(ledger)
    record(ledger, compared(other, "dog"))
    if when == "before":
        ledger.purge([job.id], 60, now_ms=NOW)
    assert record(ledger, compared(job, "dog")) == [when == "after"]
    ledger.purge([job.id], 60, now_ms=NOW)
    assert [row.job_id for row in ledger.shadows.disagreements("pets")] == [other.id]
    assert agreement(ledger) == [Agreement("1", "2", 0, 2 if when == "after" else 1)]


def test_disagreements_are_limited_in_number_and_time(ledger: Ledger, redis_client: "redis.Redis") -> None:
    job, stream, now = finished(ledger), f"{keys.DISAGREEMENTS}pets", now_ms()
    redis_client.xadd(stream, {"job": "old"}, id=f"{now - (keys.DISAGREEMENTS_DAYS + 1) * DAY_MS}-1")
    redis_client.xadd(stream, {"job": "first"}, id=f"{now - DAY_MS}-1")
    record(ledger, compared(job, "dog"), now_ms=0)
    assert [entry["job"] for _, entry in redis_client.xrange(stream)] == ["first", job.id]
    for at in range(keys.DISAGREEMENTS_KEPT):
        redis_client.xadd(stream, {"job": f"later-{at}"})
    other = finished(ledger)
    record(ledger, compared(other, "dog"), now_ms=0)
    entries = redis_client.xrange(stream)
    assert (len(entries), entries[-1][1]["job"]) == (keys.DISAGREEMENTS_KEPT, other.id)
    assert 0 < redis_client.ttl(stream) <= keys.DISAGREEMENTS_DAYS * 86_400


def test_the_pairs_of_a_day_are_limited(ledger: Ledger, redis_client: "redis.Redis") -> None:
    job, other = finished(ledger), finished(ledger)
    record(ledger, compared(job))
    (key,) = redis_client.scan_iter(f"{keys.SHADOW}*")
    redis_client.hset(key, mapping={f"1|x{at}|agreed": 1 for at in range(keys.SHADOW_COUNTS_KEPT)})
    size = redis_client.hlen(key)
    record(ledger, compared(other, shadow="3"))
    assert redis_client.hlen(key) == size
    record(ledger, compared(finished(ledger)))
    assert redis_client.hget(key, "1|2|agreed") == "2"


@pytest.mark.parametrize("feedback_first", [True, False])
def test_feedback_shows_which_version_was_right(ledger: Ledger, feedback_first: bool) -> None:
    for label, shadow_label, right in (
        *(("cat", "cat", "cat"), ("cat", "dog", "cat"), ("cat", "dog", "dog"), ("cat", "dog", "dog")),
        *(("dog", "dog", "cat"), ("cat", "owl", "dog")),
    ):
        job = finished(ledger, label)
        if feedback_first:
            ledger.feedback.add(job, right)
        record(ledger, compared(job, shadow_label))
        if not feedback_first:
            ledger.feedback.add(job, "cat")  # the last label counts
            ledger.feedback.add(job, right)
    (found,) = agreement(ledger)
    assert (found.both_right, found.only_live, found.only_shadow, found.both_wrong) == (1, 1, 2, 2)
    assert (found.agreed, found.differed, found.with_feedback, found.p_value) == (2, 4, 6, 1.0)


def test_counts_are_kept_by_the_day_on_which_jobs_finished(ledger: Ledger, redis_client: "redis.Redis") -> None:
    job = finished(ledger)
    record(ledger, compared(job), now_ms=NOW + 2 * DAY_MS)
    assert agreement(ledger, 3, NOW + 2 * DAY_MS) == [Agreement("1", "2", 1)]
    assert agreement(ledger, 2, NOW + 2 * DAY_MS) == []
    (key,) = redis_client.scan_iter(f"{keys.SHADOW}*")
    assert redis_client.ttl(key) > DAY_MS / 1000
