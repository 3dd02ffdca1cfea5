"""Stored records are compatible between versions, so services of different versions can share a Redis.

`WRITTEN` is a record as version 0.1.0 stores it. You may add fields, but not remove one or change its meaning.
"""

from dataclasses import replace

import pytest

from contract.job import SCHEMA, Features, Job, JobError, JobResult, JobStatus, ModelRef, Prediction, Timings
from contract.ledger.records import job_from_fields, job_to_fields, result_to_json, submission_from_fields

ID = "018bcfe5-687b-7000-8000-000000000001"
WRITTEN: dict[str, str] = {
    "v": "1",
    "status": "queued",
    "queue": "bulk",
    "created_ms": "1700000000123",
    "size_bytes": "55000",
    "file": "cat.jpg",
    "image": "file:ab/cd",
    "deadline_ms": "1700000060000",
    "owner": "key-1",
    "submission": "018bcfe5-687b-7000-8000-000000000002",
}
FINISHED = WRITTEN | {
    "status": "succeeded",
    "started_ms": "1700000000150",
    "finished_ms": "1700000000200",
    "attempts": "1",
    "fence": "7",
    "outcome": (
        '{"prediction":{"label":"cat","confidence":0.9,"probabilities":{"cat":0.9,"dog":0.1}},"model":{"name":"cats-dogs",'
        '"version":"1"},"batch_size":8,"timings":{"queue_ms":1.0,"batch_wait_ms":2.0,"decode_ms":3.0,"predict_ms":4.0},'
        '"features":{"width":500,"height":375,"brightness":0.5,"contrast":0.2}}'
    ),
}
SUBMISSION = {
    "name": "photos",
    "queue": "bulk",
    "owner": "key-1",
    "deadline_s": "",
    "created_ms": "1700000000123",
    "succeeded": "3",
}


def queued_job() -> Job:
    found = job_from_fields(ID, WRITTEN)
    assert found
    return found


def test_records_are_written_as_version_0_1_0_reads_them() -> None:
    assert {name: str(value) for name, value in job_to_fields(queued_job()).items()} == WRITTEN
    assert str(SCHEMA) == WRITTEN["v"]


def test_records_of_version_0_1_0_are_read() -> None:
    result = JobResult(
        prediction=Prediction("cat", 0.9, {"cat": 0.9, "dog": 0.1}),
        model=ModelRef("cats-dogs", "1"),
        batch_size=8,
        timings=Timings(1.0, 2.0, 3.0, 4.0),
        features=Features(500, 375, 0.5, 0.2),
    )
    assert job_from_fields(ID, FINISHED) == replace(
        queued_job(),
        status=JobStatus.SUCCEEDED,
        started_ms=1_700_000_000_150,
        finished_ms=1_700_000_000_200,
        attempts=1,
        fence=7,
        result=result,
    )
    assert result_to_json(result) == FINISHED["outcome"]
    submission = submission_from_fields(ID, SUBMISSION)
    assert submission
    assert (submission.name, submission.owner, submission.counts.succeeded) == ("photos", "key-1", 3)


@pytest.mark.parametrize("fields", [WRITTEN, FINISHED])
def test_unknown_fields_are_ignored(fields: dict[str, str]) -> None:
    newer = fields | {"added_later": "1"}
    if "outcome" in fields:
        newer["outcome"] = fields["outcome"].replace('"model":{', '"added_later":true,"model":{"origin":"x",')
    assert job_from_fields(ID, newer) == job_from_fields(ID, fields)


def test_a_record_without_optional_fields_is_read() -> None:
    minimal = {name: WRITTEN[name] for name in ("v", "status", "queue", "created_ms")}
    assert job_from_fields(ID, minimal) == Job(ID, "bulk", 1_700_000_000_123)


def test_an_unknown_error_code_is_kept() -> None:
    fields = FINISHED | {"status": "failed", "outcome": '{"error":{"code":"added_later","detail":"Why."}}'}
    found = job_from_fields(ID, fields)
    assert found
    assert found.result
    assert found.result.error == JobError("added_later", "Why.")
