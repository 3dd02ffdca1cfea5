"""The public client: what goes in, what comes back, what is raised."""

import io
from pathlib import Path

import httpx
import pytest

import pawqueue
from contract.job import is_job_id
from pawqueue import (
    JobFailedError,
    JobStatus,
    Pawqueue,
    RefusedError,
    Submission,
    SubmissionStatus,
    TimedOutError,
    UnreachableError,
)
from tests.unit.pawqueue.conftest import FakeTime
from tests.unit.pawqueue.fake_submissions import FakeSubmission, FakeSubmissions, failed
from tests.unit.pawqueue.fakes import JOB_ID, URL, FakeGateway, answer, job, problem, write_images


def client(*script: object, timeout_s: float = 5.0) -> tuple[Pawqueue, FakeGateway]:
    gateway = FakeGateway(*script)  # type: ignore[arg-type]
    return Pawqueue(URL, timeout_s=timeout_s, transport=gateway), gateway


def test_everything_that_is_exported_exists() -> None:
    assert all(hasattr(pawqueue, name) for name in pawqueue.__all__)


def test_a_path_bytes_and_a_file_send_the_same_image(tmp_path: Path) -> None:
    path = write_images(tmp_path, "a.jpg") / "a.jpg"
    sender, gateway = client(answer(202, job()))
    with path.open("rb") as file:
        jobs = [sender.submit(image, name="a.jpg") for image in (path, str(path), b"jpg", file, io.BytesIO(b"jpg"))]
    assert {job.id for job in jobs} == {JOB_ID}
    assert {request.content for request in gateway.requests} == {b"jpg"}
    assert len({request.url.query for request in gateway.requests}) == 1
    assert len({request.url.path for request in gateway.requests}) == 5, "each is a job of its own"


def test_an_image_sent_again_after_a_lost_answer_is_the_same_job(fake_time: FakeTime) -> None:
    sender, gateway = client(httpx.ReadError("lost"), answer(503), answer(202, job()))
    sender.submit(b"jpg")
    assert [request.method for request in gateway.requests] == ["PUT"] * 3
    (path,) = {request.url.path for request in gateway.requests}
    assert is_job_id(path.removeprefix("/v1/jobs/"))


def test_a_file_gives_the_job_its_name_and_the_queue_is_sent(tmp_path: Path) -> None:
    sender, gateway = client(answer(202, job()))
    sender.submit(write_images(tmp_path, "ä b.jpg") / "ä b.jpg", queue="bulk")
    assert dict(gateway.requests[0].url.params) == {"queue": "bulk", "file": "ä b.jpg"}


def test_a_retry_sends_the_file_again_from_its_start(tmp_path: Path, fake_time: FakeTime) -> None:
    sender, gateway = client(problem(429, "queue_full", Retry_After="1"), answer(202, job()))
    with (write_images(tmp_path, "a.jpg") / "a.jpg").open("rb") as file:
        sender.submit(file)
    assert [request.content for request in gateway.requests] == [b"jpg", b"jpg"]


def test_what_is_no_image_is_a_type_error() -> None:
    sender, _ = client(answer(202, job()))
    for wrong in (3, io.StringIO("text")):
        with pytest.raises(TypeError, match="An image is a path, bytes"):
            sender.submit(wrong)  # type: ignore[arg-type]


def test_a_file_that_is_missing_is_an_os_error_and_nothing_is_sent(tmp_path: Path) -> None:
    sender, gateway = client(answer(202, job()))
    with pytest.raises(FileNotFoundError):
        sender.submit(tmp_path / "none.jpg")
    assert gateway.requests == []


def test_predict_asks_for_the_result_with_the_upload() -> None:
    sender, gateway = client(answer(200, job("succeeded", label="cat")))
    found = sender.predict(b"jpg", timeout_s=30)
    assert found.result
    assert found.result.prediction
    assert found.result.prediction.label == "cat"
    assert [request.headers["prefer"] for request in gateway.requests] == ["wait=20"]


def test_predict_follows_a_job_that_takes_longer(fake_time: FakeTime) -> None:
    sender, gateway = client(
        answer(202, job()), answer(200, job("running")), answer(200, job("succeeded", label="dog"))
    )
    assert sender.predict(b"jpg").status is JobStatus.SUCCEEDED
    assert [request.method for request in gateway.requests] == ["PUT", "GET", "GET"]
    # A gateway that does not hold its answer back is not asked in a tight loop.
    assert fake_time.pauses_s == [0.5]


def test_a_refused_image_is_told_from_a_failed_one() -> None:
    refused, _ = client(problem(415, "not_an_image"))
    with pytest.raises(RefusedError, match="not_an_image"):
        refused.predict(b"text")
    failed, _ = client(answer(200, job("failed", code="undecodable_image")))
    with pytest.raises(JobFailedError, match="It is undecodable_image") as caught:
        failed.predict(b"half")
    assert (caught.value.code, caught.value.job.id) == ("undecodable_image", JOB_ID)


def test_a_canceled_job_has_its_status_for_a_code() -> None:
    sender, _ = client(answer(200, job("canceled")))
    with pytest.raises(JobFailedError) as caught:
        sender.predict(b"jpg")
    assert caught.value.code == "canceled"


def test_wait_returns_a_failed_job_without_raising() -> None:
    sender, _ = client(answer(200, job("failed", code="undecodable_image")))
    assert sender.wait(JOB_ID).status is JobStatus.FAILED


def test_wait_ends_at_its_deadline_and_hands_over_what_it_saw(fake_time: FakeTime) -> None:
    sender, _ = client(answer(200, job("running")))
    with pytest.raises(TimedOutError, match="is still running after 3 s") as caught:
        sender.wait(JOB_ID, timeout_s=3)
    assert caught.value.job
    assert caught.value.job.status is JobStatus.RUNNING
    assert sum(fake_time.pauses_s) == pytest.approx(3, abs=0.2)


def test_an_id_cannot_leave_its_place_in_the_address() -> None:
    sender, gateway = client(problem(404, "not_found"))
    with pytest.raises(RefusedError):
        sender.get("../../health?x#y")
    assert gateway.requests[0].url.raw_path == b"/v1/jobs/..%2F..%2Fhealth%3Fx%23y"


@pytest.mark.parametrize("body", [{}, [], {"id": 1}, {**job(), "status": "surprised"}])
def test_another_server_at_the_address_is_named(body: object) -> None:
    sender, _ = client(answer(200, body))
    with pytest.raises(UnreachableError, match="not as a Pawqueue gateway does"):
        sender.get(JOB_ID)


def test_the_end_of_a_long_name_is_sent() -> None:
    sender, gateway = client(answer(202, job()))
    sender.submit(b"jpg", name="x" * 5000 + "/end.jpg")
    assert len(str(gateway.requests[0].url)) < 1000
    assert gateway.requests[0].url.params["file"].endswith("/end.jpg")


def folder_client(gateway: FakeSubmissions) -> Pawqueue:
    return Pawqueue(URL, timeout_s=5, transport=gateway)


def test_a_folder_is_one_submission_and_its_rows_come_as_they_end(tmp_path: Path) -> None:
    write_images(tmp_path / "in", "a.jpg", "sub/b.jpg", "c.jpg")
    gateway = FakeSubmissions({"c.jpg": failed("undecodable_image")})
    rows = {row.file: row.status for row in folder_client(gateway).submit_folder(tmp_path / "in")}
    assert rows == {"a.jpg": "succeeded", "c.jpg": "failed", "sub/b.jpg": "succeeded"}
    (submission,) = gateway.submissions.values()
    assert (submission.name, submission.queue) == ("in", "bulk")


def test_a_run_that_is_left_can_be_gone_on_with(tmp_path: Path) -> None:
    write_images(tmp_path / "in", "a.jpg", "b.jpg", "c.jpg")
    gateway, memory = FakeSubmissions(), tmp_path / "memory"
    gateway.held = {"b.jpg"}
    rows = folder_client(gateway).submit_folder(tmp_path / "in", memory=memory)
    first = next(rows)
    rows.close()
    gateway.held = set()
    found = [row.file for row in folder_client(gateway).submit_folder(tmp_path / "in", memory=memory)]
    assert first.file in found
    assert sorted(found) == ["a.jpg", "b.jpg", "c.jpg"]
    assert sorted(gateway.sent) == ["a.jpg", "b.jpg", "c.jpg"]
    assert not memory.exists()


def test_files_may_be_named_one_by_one(tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg", "b.jpg")
    files = [tmp_path / "a.jpg", str(tmp_path / "b.jpg"), tmp_path / "a.jpg"]
    rows = list(folder_client(FakeSubmissions()).submit_files(files, name="two"))
    assert sorted(row.file for row in rows) == [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]


def test_a_folder_has_a_deadline_if_one_is_given(tmp_path: Path, fake_time: FakeTime) -> None:
    write_images(tmp_path, "a.jpg")
    gateway = FakeSubmissions()
    gateway.held = {"a.jpg"}
    with pytest.raises(TimedOutError, match="goes on with submission"):
        list(folder_client(gateway).submit_folder(tmp_path, timeout_s=60))


def test_a_submission_is_read_waited_for_and_canceled(tmp_path: Path, fake_time: FakeTime) -> None:
    write_images(tmp_path, "a.jpg", "b.jpg")
    gateway = FakeSubmissions()
    sender = folder_client(gateway)
    list(sender.submit_folder(tmp_path))
    (submission,) = sender.submissions()
    assert submission.status is SubmissionStatus.FINISHED
    assert submission.ended == 2
    assert sender.submission(submission.id) == submission == sender.wait(submission)
    assert [row.file for row in sender.results(submission)] == ["a.jpg", "b.jpg"]
    assert list(sender.results(submission.id, statuses=["failed"])) == []
    assert isinstance(sender.cancel(submission), Submission)


def test_waiting_for_a_submission_ends_at_the_deadline(fake_time: FakeTime) -> None:
    gateway = FakeSubmissions()
    gateway.submissions["x"] = FakeSubmission("open")
    sender = folder_client(gateway)
    with pytest.raises(TimedOutError, match="is still open after 5 s") as caught:
        sender.wait(sender.submission("x"))
    assert caught.value.submission
    assert caught.value.submission.id == "x"
