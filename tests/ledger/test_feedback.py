"""Counting feedback: per model, version and day."""

from dataclasses import replace

import redis

from contract.job import Job, JobResult, ModelRef, Prediction
from contract.ledger import keys
from contract.ledger.feedback import Count
from contract.ledger.ledger import Ledger
from tests.support.ledger import NOW, claimed, make_job, read, store

DAY = NOW // 86_400_000


def finished(ledger: Ledger, label: str = "cat", version: str = "1") -> Job:
    job = make_job()
    store(ledger, [job])
    prediction = Prediction(label, 0.75, {"cat": 0.75, "dog": 0.25})
    result = JobResult(prediction=prediction, model=ModelRef("pets", version))
    ledger.commit([(claimed(ledger, job), result)], 60, now_ms=NOW)
    return read(ledger, job)


def counts(ledger: Ledger, days: int = 7) -> dict[str, Count]:
    return {found.version: found.count for found in ledger.feedback.of_model("pets", days, at_ms=NOW)}


def test_right_and_wrong_predictions_are_counted_by_version(ledger: Ledger) -> None:
    for version, label in (("1", "cat"), ("1", "dog"), ("2", "cat")):
        assert ledger.feedback.add(finished(ledger, version=version), label)
    assert counts(ledger) == {"1": Count(1, 2), "2": Count(1, 1)}


def test_the_last_label_of_a_job_counts(ledger: Ledger) -> None:
    job = finished(ledger)
    for label in ("dog", "dog", "cat"):
        assert ledger.feedback.add(job, label)
    assert counts(ledger) == {"1": Count(1, 1)}


def test_the_totals_never_fall(ledger: Ledger) -> None:
    job = finished(ledger)
    for label in ("cat", "dog", "dog"):
        ledger.feedback.add(job, label)
    assert ledger.feedback.totals() == {("pets", "1", True): 1, ("pets", "1", False): 1}


def test_counts_are_kept_by_the_day_on_which_jobs_finished(ledger: Ledger) -> None:
    ledger.feedback.add(finished(ledger), "cat")
    (found,) = ledger.feedback.of_model("pets", 7, at_ms=NOW + 3 * 86_400_000)
    assert found.days == {DAY: Count(1, 1)}
    assert ledger.feedback.of_model("pets", 3, at_ms=NOW + 3 * 86_400_000) == []


def test_the_counts_outlive_the_job(ledger: Ledger, redis_client: "redis.Redis") -> None:
    job = finished(ledger)
    ledger.feedback.add(job, "cat")
    ledger.purge([job.id], 60, now_ms=NOW)
    assert not ledger.feedback.add(job, "dog")
    assert counts(ledger) == {"1": Count(1, 1)}
    assert redis_client.ttl(f"{keys.FEEDBACK}pets:{DAY}") > 86_400


def test_a_job_without_a_prediction_takes_no_feedback(ledger: Ledger) -> None:
    job = make_job()
    store(ledger, [job])
    assert not ledger.feedback.add(read(ledger, job), "cat")
    assert not ledger.feedback.add(replace(finished(ledger), result=None), "cat")
