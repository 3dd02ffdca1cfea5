"""The job record."""

from dataclasses import replace

import pytest

from contract.errors import PawqueueError, error_classes
from contract.job import (
    Features,
    Job,
    JobError,
    JobResult,
    JobStatus,
    ModelRef,
    Prediction,
    Timings,
    is_job_id,
    new_job_id,
)

#: A constant, because it is part of test ids, which must be the same in all test processes.
JOB_ID = "019abc12-3456-7890-abcd-ef0123456789"
FINISHED = Job(
    id=new_job_id(),
    queue="interactive",
    created_ms=1_700_000_000_123,
    status=JobStatus.SUCCEEDED,
    file="cat.jpg",
    size_bytes=55_000,
    started_ms=1_700_000_000_150,
    finished_ms=1_700_000_000_200,
    attempts=1,
    result=JobResult(
        prediction=Prediction("cat", 0.9, {"cat": 0.9, "dog": 0.1}),
        model=ModelRef("cats-dogs", "1"),
        batch_size=8,
        timings=Timings(1, 2, 3, 4),
        features=Features(500, 375, 0.5, 0.2),
    ),
)


def test_a_job_object_is_read_back_unchanged() -> None:
    assert Job.from_dict(FINISHED.to_dict()) == FINISHED


def test_times_are_formatted_as_rfc_3339_in_utc() -> None:
    assert FINISHED.to_dict()["created_at"] == "2023-11-14T22:13:20.123Z"


def test_a_queued_job_object_has_every_member() -> None:
    queued = Job(new_job_id(), "bulk", 0).to_dict()
    assert queued.keys() == FINISHED.to_dict().keys()
    assert queued["prediction"] is None


def test_unknown_members_of_a_job_object_are_ignored() -> None:
    values = FINISHED.to_dict() | {"added_later": 1}
    values["timings"] = values["timings"] | {"added_later": 1}
    assert Job.from_dict(values) == FINISHED


def test_log_fields_identify_the_job_and_its_result() -> None:
    assert FINISHED.log_fields() == {
        "job_id": FINISHED.id,
        "file": "cat.jpg",
        "size_bytes": 55_000,
        "model": "cats-dogs@1",
        "label": "cat",
        "confidence": 0.9,
        "latency_ms": 77,
    }
    assert replace(FINISHED, owner="key-1").log_fields()["owner"] == "key-1"


@pytest.mark.parametrize(
    "parts", [{}, {"prediction": Prediction("cat", 1.0, {"cat": 1.0}), "error": JobError("predict_failed", "")}]
)
def test_a_result_has_either_a_prediction_or_an_error(parts: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="either"):
        JobResult(**parts)  # type: ignore[arg-type]


def test_job_ids_are_uuidv7_and_sort_by_time() -> None:
    ids = [new_job_id() for _ in range(100)]
    assert len(set(ids)) == 100
    assert all(is_job_id(job_id) and job_id[14] == "7" and job_id[19] in "89ab" for job_id in ids)
    assert sorted(ids, key=lambda job_id: job_id[:13]) == ids


@pytest.mark.parametrize("text", ["", "nope", "../etc/passwd", JOB_ID.upper(), JOB_ID + "0", JOB_ID + "\n"])
def test_any_other_text_is_not_a_job_id(text: str) -> None:
    assert not is_job_id(text)


@pytest.mark.parametrize(
    ("status", "final"),
    [
        ("queued", False),
        ("running", False),
        ("succeeded", True),
        ("failed", True),
        ("canceled", True),
        ("expired", True),
    ],
)
def test_the_status_of_a_finished_job_is_final(status: str, final: bool) -> None:
    assert JobStatus(status).is_final is final


def test_every_error_has_a_code_a_title_and_a_status() -> None:
    classes = error_classes()
    assert {"no_file", "queue_full", "undecodable_image", "unavailable"} <= classes.keys()
    for code, kind in classes.items():
        assert issubclass(kind, PawqueueError)
        assert kind.code == code
        assert 400 <= kind.http_status < 600
        assert kind.title != PawqueueError.title


def test_warnings_are_a_list_in_the_job_object_and_stored_only_if_there_are_any() -> None:
    assert FINISHED.result
    doubted = replace(FINISHED, result=replace(FINISHED.result, warnings=("sample_range_assumed",)))
    assert doubted.to_dict()["warnings"] == ["sample_range_assumed"]
    assert Job.from_dict(doubted.to_dict()) == doubted
    assert doubted.log_fields()["warnings"] == ["sample_range_assumed"]
    assert FINISHED.to_dict()["warnings"] == Job(new_job_id(), "bulk", 0).to_dict()["warnings"] == []
    assert "warnings" not in FINISHED.result.to_dict()
    assert doubted.result
    assert doubted.result.to_dict()["warnings"] == ["sample_range_assumed"]


def test_a_job_object_of_an_older_gateway_has_no_warnings() -> None:
    values = FINISHED.to_dict()
    del values["warnings"]
    assert Job.from_dict(values) == FINISHED
