"""The public client: arguments, results and exceptions."""

import io
import json
import sys
import threading
import time
import uuid
from collections import Counter
from contextlib import closing
from pathlib import Path

import httpx
import pytest

import pawqueue
from contract.job import is_job_id, new_job_id
from pawqueue import (
    ClientError,
    JobFailedError,
    JobStatus,
    Pawqueue,
    RefusedError,
    Submission,
    SubmissionStatus,
    TimedOutError,
    UnreachableError,
)
from pawqueue.client.deadline import Deadline
from pawqueue.client.jobs import JobOptions, read_whole
from pawqueue.client.submissions import Submissions
from tests.support.images import draw
from tests.support.services import wait_until
from tests.unit.pawqueue import service as service_module
from tests.unit.pawqueue.in_loop import InLoop
from tests.unit.pawqueue.service import URL, Network, Script, Service, failed, predicted, problem, write_images

IMAGE = draw((8, 8))


@pytest.fixture(autouse=True, params=[Pawqueue, InLoop])
def client_class(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test with both clients."""
    for module in (sys.modules[__name__], service_module):
        monkeypatch.setattr(module, "Pawqueue", request.param)


def test_every_exported_name_exists() -> None:
    assert all(hasattr(pawqueue, name) for name in pawqueue.__all__)


def test_the_names_of_the_first_release_still_work(service: Service) -> None:
    service.results = {"a.png": predicted("dog")}
    with pytest.warns(DeprecationWarning, match="image"):
        job = service.client().predict(picture=IMAGE, name="a.png")  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match="result"):
        assert job.outcome == job.result
    assert isinstance(job.result, pawqueue.Outcome)


def test_an_image_can_be_a_path_bytes_or_an_open_file(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(IMAGE)
    client = service.client()
    with path.open("rb") as file:
        jobs = [client.submit(image, name="a.png") for image in (path, str(path), IMAGE, file, io.BytesIO(IMAGE))]
    assert {request.body for request in service.requests} == {IMAGE}
    assert {job.file for job in jobs} == {"a.png"}
    assert len({job.id for job in jobs}) == 5


def test_an_upload_that_is_retried_after_a_lost_response_creates_one_job(service: Service) -> None:
    faults = iter([httpx.ReadError("lost")])

    def lose(_request: httpx.Request) -> None:
        if error := next(faults, None):
            raise error

    client = service.client(transport=Network(service.transport(), after=lose))
    job = client.submit(IMAGE)
    assert [request.method for request in service.requests] == ["PUT"] * 2
    assert {request.path for request in service.requests} == {f"/v1/jobs/{job.id}"}
    assert is_job_id(job.id)


def test_a_job_has_the_file_name_and_the_requested_queue(service: Service, tmp_path: Path) -> None:
    path = write_images(tmp_path, "ä b.jpg") / "ä b.jpg"
    job = service.client().submit(path, queue="bulk")
    assert (job.file, job.queue) == ("ä b.jpg", "bulk")


def test_a_retry_sends_the_whole_file_again(service: Service, tmp_path: Path) -> None:
    busy = iter([problem(429, "queue_full", Retry_After="0")])
    sent: list[bytes] = []

    def refuse(request: httpx.Request) -> httpx.Response | None:
        sent.append(request.read())
        return next(busy, None)

    client = service.client(transport=Network(service.transport(), before=refuse))
    with (write_images(tmp_path, "a.jpg") / "a.jpg").open("rb") as file:
        client.submit(file)
    assert len(sent) == 2
    assert sent[0] == sent[1] == (tmp_path / "a.jpg").read_bytes()


def test_an_unsupported_image_type_raises_a_type_error() -> None:
    client = Pawqueue(URL, transport=Script(httpx.Response(500)))
    for wrong in (3, io.StringIO("text")):
        with pytest.raises(TypeError, match="Expected a path, bytes"):
            client.submit(wrong)  # type: ignore[arg-type]


def test_a_missing_file_raises_an_error_and_nothing_is_sent(service: Service, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        service.client().submit(tmp_path / "none.jpg")
    assert service.requests == []


def test_only_the_gateway_limits_the_size_of_an_image(clean_redis: str, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(IMAGE)
    with path.open("r+b") as file:
        file.truncate(101_000_000)
    database = f"{clean_redis.removesuffix('/0')}/1"
    with closing(Service(database, tmp_path / "store", upload_max_bytes="101000000")) as service:
        client = service.client()
        assert client.predict(path).status is JobStatus.SUCCEEDED
        assert [row.status for row in client.submit_files([path])] == ["succeeded"]
        with pytest.raises(RefusedError, match=r"101,000,000 bytes.* \(upload_too_large"):
            client.submit(path.read_bytes() + b".")


def test_a_file_that_does_not_fit_into_memory_cannot_be_read() -> None:
    class TooLarge(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            raise MemoryError

    with pytest.raises(OSError, match="Cannot allocate memory"):
        read_whole(TooLarge())


def test_predict_waits_for_the_result_in_the_same_request(service: Service) -> None:
    service.results["a.jpg"] = predicted("dog")
    found = service.client().predict(IMAGE, name="a.jpg", timeout_s=30)
    assert found.result
    assert found.result.prediction
    assert found.result.prediction.label == "dog"
    assert [request.headers["prefer"] for request in service.requests] == ["wait=20"]


def test_predict_follows_a_job_that_takes_longer_than_one_request(service: Service) -> None:
    service.held = {"a.jpg"}
    network = Network(service.transport())

    def drop_wait(request: httpx.Request) -> None:
        """Act as a proxy that removes `Prefer: wait`."""
        request.headers.pop("prefer", None)
        if request.method == "GET":
            service.held = set()

    network.before = drop_wait
    assert service.client(transport=network).predict(IMAGE, name="a.jpg").status is JobStatus.SUCCEEDED
    methods = [request.method for request in service.requests]
    assert methods[0] == "PUT"
    assert 1 <= methods.count("GET") <= 3, "the gateway is not polled in a busy loop"


def test_a_rejected_image_and_a_failed_job_raise_different_errors(service: Service) -> None:
    client = service.client()
    with pytest.raises(RefusedError, match="not_an_image"):
        client.predict(b"text")
    service.results["half.jpg"] = failed()
    with pytest.raises(JobFailedError, match="The image is broken") as caught:
        client.predict(IMAGE, name="half.jpg")
    assert (caught.value.code, caught.value.job.file) == ("undecodable_image", "half.jpg")


def test_the_error_code_of_a_canceled_job_is_canceled(service: Service) -> None:
    service.held = {"a.jpg"}
    network = Network(service.transport())
    client = service.client()

    def cancel(request: httpx.Request) -> None:
        request.headers.pop("prefer", None)
        if request.method == "GET":
            client.cancel(request.url.path.rsplit("/", 1)[-1])

    network.before = cancel
    with pytest.raises(JobFailedError) as caught:
        service.client(transport=network).predict(IMAGE, name="a.jpg")
    assert caught.value.code == "canceled"


def test_the_skipped_files_of_a_folder_are_counted_or_logged(
    service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_images(tmp_path, "ok.jpg", "x.jp2", "notes.txt", ".DS_Store")
    skipped: Counter[str] = Counter()
    with caplog.at_level("WARNING", "pawqueue"):
        assert len(list(service.client().submit_folder(folder, skipped=skipped))) == 1
        assert skipped == {".jp2": 1, ".txt": 1}
        assert not caplog.messages
        assert len(list(service.client().submit_folder(folder))) == 1
    assert caplog.messages == [f"{folder}: 2 files skipped: 1 .jp2, 1 .txt"]


def test_a_purged_job_or_submission_is_unknown(service: Service, tmp_path: Path) -> None:
    client = service.client()
    rows = list(client.submit_folder(write_images(tmp_path, "a.jpg", "b.jpg")))
    (submission,) = client.submissions()
    job = client.predict(IMAGE)
    for what in (job, submission):
        client.purge(what)
        with pytest.raises(RefusedError, match="purged") as caught:
            client.purge(what.id)
        assert caught.value.code == "not_found"
    assert client.submissions() == []
    for job_id in (job.id, *(row.job_id for row in rows)):
        with pytest.raises(RefusedError, match="not_found"):
            client.get(job_id)


def test_a_gateway_that_is_too_old_to_purge_is_an_error(service: Service) -> None:
    job = service.client().predict(IMAGE)

    def ignore_query(request: httpx.Request) -> None:
        request.url = request.url.copy_with(query=None)

    with pytest.raises(ClientError, match="too old"):
        service.client(transport=Network(service.transport(), before=ignore_query)).purge(job)
    assert service.client().get(job.id) == job


def test_a_gateway_that_is_too_old_for_models_is_an_error(service: Service, tmp_path: Path) -> None:
    def without_model(request: httpx.Request) -> httpx.Response:
        body = request.read()
        kind = request.headers.get("Content-Type", "")
        if kind == "application/json":
            body = json.dumps({name: value for name, value in json.loads(body).items() if name != "model"}).encode()
        url = request.url.copy_remove_param("model")
        return service.transport().handle_request(
            httpx.Request(request.method, url, headers={"Content-Type": kind}, content=body)
        )

    service.held = {"cat.jpg"}
    client = service.client(transport=Network(service.transport(), before=without_model))
    with pytest.raises(ClientError, match="ignores the model birds: its version is too old"):
        client.submit(IMAGE, model="birds", name="cat.jpg")
    assert service.ledger.stats().totals == {("interactive", "canceled", ""): 1}
    with pytest.raises(ClientError, match="ignores the model birds@1: its version is too old"):
        list(client.submit_folder(write_images(tmp_path, "a.jpg"), model="birds@1"))
    assert service.uploads() == 0


def test_wait_returns_a_failed_job(service: Service) -> None:
    service.results["a.jpg"] = failed()
    client = service.client()
    assert client.wait(client.submit(IMAGE, name="a.jpg").id).status is JobStatus.FAILED


def test_wait_raises_an_error_with_the_last_known_state_at_its_deadline(service: Service) -> None:
    service.held = {"a.jpg"}
    client = service.client()
    job = client.submit(IMAGE, name="a.jpg")
    started_s = time.monotonic()
    with pytest.raises(TimedOutError, match=r"is still queued after 0\.8 s") as caught:
        client.wait(job, timeout_s=0.8)
    assert caught.value.job
    assert caught.value.job.status is JobStatus.QUEUED
    assert 0.7 < time.monotonic() - started_s < 2


def test_an_id_is_escaped_in_the_url() -> None:
    script = Script(problem(404, "not_found"))
    with pytest.raises(RefusedError):
        Pawqueue(URL, transport=script).get("../../health?x#y")
    assert script.requests[0].url.raw_path == b"/v1/jobs/..%2F..%2Fhealth%3Fx%23y"


def test_a_response_with_unknown_content_is_reported_as_not_from_a_gateway() -> None:
    client = Pawqueue(URL, transport=Script(httpx.Response(200, json={"id": "1", "status": "unknown"})))
    with pytest.raises(UnreachableError, match="is not a Pawqueue gateway"):
        client.get(new_job_id())


def test_only_the_end_of_a_long_name_is_sent(service: Service) -> None:
    job = service.client().submit(IMAGE, name="x" * 5000 + "/end.jpg")
    assert job.file.endswith("/end.jpg")
    assert len(job.file) == 200


def test_find_returns_a_job_or_a_submission(service: Service, tmp_path: Path) -> None:
    client = service.client()
    job = client.submit(IMAGE)
    list(client.submit_folder(write_images(tmp_path, "a.jpg")))
    (submission,) = client.submissions()
    assert getattr(client.find(job.id), "id", "") == job.id
    assert client.find(submission.id) == submission
    with pytest.raises(RefusedError, match="No job or submission"):
        client.find(new_job_id())


def test_a_folder_is_one_submission_and_its_rows_arrive_as_jobs_finish(service: Service, tmp_path: Path) -> None:
    write_images(tmp_path / "in", "a.jpg", "sub/b.jpg", "c.jpg")
    service.results["c.jpg"] = failed()
    client = service.client()
    rows = {row.file: row.status for row in client.submit_folder(tmp_path / "in")}
    assert rows == {"a.jpg": "succeeded", "c.jpg": "failed", "sub/b.jpg": "succeeded"}
    (submission,) = client.submissions()
    assert (submission.name, submission.queue) == ("in", "bulk")


def test_a_folder_run_that_was_closed_early_can_be_resumed(service: Service, tmp_path: Path) -> None:
    write_images(tmp_path / "in", "a.jpg", "b.jpg", "c.jpg")
    memory = tmp_path / "memory"
    service.held = {"b.jpg"}
    rows = service.client().submit_folder(tmp_path / "in", memory=memory)
    first = next(rows)
    rows.close()
    assert memory.exists()
    service.held = set()
    found = [row.file for row in service.client().submit_folder(tmp_path / "in", memory=memory)]
    assert first.file in found
    assert sorted(found) == service.sent_names() == ["a.jpg", "b.jpg", "c.jpg"]
    assert not memory.exists()


def test_a_file_that_is_listed_twice_is_sent_once(service: Service, tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg", "b.jpg")
    files = [tmp_path / "a.jpg", str(tmp_path / "b.jpg"), tmp_path / "a.jpg"]
    rows = list(service.client().submit_files(files, name="two"))
    assert sorted(row.file for row in rows) == [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]


def test_a_folder_run_stops_at_its_deadline(service: Service, tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg")
    service.held = {"a.jpg"}
    with pytest.raises(TimedOutError, match="The service continues with submission"):
        list(service.client().submit_folder(tmp_path, timeout_s=0.3))


def test_submission_methods_accept_a_submission_or_its_id(service: Service, tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg", "b.jpg")
    client = service.client()
    list(client.submit_folder(tmp_path))
    (submission,) = client.submissions()
    assert submission.status is SubmissionStatus.FINISHED
    assert submission.ended == 2
    assert client.submission(submission.id) == submission == client.wait(submission)
    assert [row.file for row in client.results(submission)] == ["a.jpg", "b.jpg"]
    assert list(client.results(submission.id, statuses=["failed"])) == []
    assert isinstance(client.cancel(submission), Submission)


class _Cut(httpx.SyncByteStream):
    """The first line of a response, then a lost connection."""

    def __init__(self, response: httpx.Response) -> None:
        self._first = response.read().splitlines(keepends=True)[0]

    def __iter__(self) -> "object":  # type: ignore[override]
        yield self._first
        raise httpx.ReadError("cut")


def cut_once(service: Service) -> Network:
    """A network that loses the connection once while results are read, after the first line."""
    inner = service.transport()
    cuts = iter([True])

    def cut(request: httpx.Request) -> httpx.Response | None:
        is_cut = request.url.path.endswith("/results") and next(cuts, False)
        return httpx.Response(200, stream=_Cut(inner.handle_request(request))) if is_cut else None

    return Network(inner, before=cut)


def test_reading_results_resumes_after_a_lost_connection(service: Service, tmp_path: Path) -> None:
    list(service.client().submit_folder(write_images(tmp_path, "a.jpg", "b.jpg", "c.jpg")))
    client = service.client(transport=cut_once(service))
    assert [row.file for row in client.results(client.submissions()[0])] == ["a.jpg", "b.jpg", "c.jpg"]
    assert sum(request.path.endswith("/results") for request in service.requests) >= 2


def test_the_results_of_a_running_submission_are_those_of_its_finished_images(service: Service) -> None:
    service.held = {"a.jpg", "b.jpg"}
    client, submissions = service.client(), Submissions(service.connection())
    deadline, submission_id = Deadline(10), str(uuid.uuid4())
    submissions.open(submission_id, "test", JobOptions("bulk"), deadline)
    submissions.add(submission_id, [(f"{name}.jpg", IMAGE) for name in "abc"], deadline)
    submissions.close(submission_id, deadline)
    wait_until(lambda: client.submission(submission_id).ended == 1, "the last image has finished")
    service.held = {"a.jpg"}
    wait_until(lambda: client.submission(submission_id).ended == 2, "two images have finished")
    for reader in (client, service.client(transport=cut_once(service))):
        assert [row.file for row in reader.results(submission_id)] == ["c.jpg", "b.jpg"]
    assert [row.file for row in client.results(submission_id, statuses=["queued", "succeeded"])] == [
        "a.jpg",
        "b.jpg",
        "c.jpg",
    ]
    service.held = set()
    client.wait(client.submission(submission_id))
    assert [row.file for row in client.results(submission_id)] == ["a.jpg", "b.jpg", "c.jpg"]


def test_waiting_for_a_submission_stops_at_its_deadline(service: Service, tmp_path: Path) -> None:
    service.held = {"a.jpg"}
    client = service.client()
    rows = client.submit_folder(write_images(tmp_path, "a.jpg", "b.jpg"))
    next(rows)
    rows.close()
    with pytest.raises(TimedOutError, match=r"is still \w+ after 0\.5 s \(1 of 2 finished\)") as caught:
        client.wait(client.submissions()[0], timeout_s=0.5)
    assert caught.value.submission
    assert caught.value.submission.counts.total == 2


def test_the_service_status_has_queues_workers_and_totals(service: Service) -> None:
    client = service.client()
    client.predict(IMAGE)
    service.held = {"b.jpg"}
    client.submit(IMAGE, name="b.jpg", queue="bulk")
    status = client.service_status()
    assert status.to_dict() | {"oldest_s": {}} == {
        "ledger_up": True,
        "workers": 1,
        "queued": {"interactive": 0, "bulk": 1},
        "running": {"interactive": 0, "bulk": 0},
        "oldest_s": {},
        "ended": {"succeeded": 1},
        "labels": {"cat": 1},
        "dead": 0,
        "problems": [],
    }
    assert set(status.oldest_s) == {"interactive", "bulk"}
    service.stop_worker()
    (problem,) = client.service_status().problems
    assert "No worker is running" in problem


def test_the_service_status_can_require_an_api_key(clean_redis: str, tmp_path: Path) -> None:
    database = f"{clean_redis.removesuffix('/0')}/1"
    with (
        closing(Service(database, tmp_path, access="required", metrics_access="key")) as service,
        pytest.raises(RefusedError, match="API key") as caught,
    ):
        service.client().service_status()
    assert caught.value.status == 401


def test_a_gateway_without_a_status_endpoint_raises_a_clear_error() -> None:
    client = Pawqueue(URL, transport=Script(problem(404, "not_found")))
    with pytest.raises(RefusedError, match="has no /v1/status"):
        client.service_status()


def test_threads_can_share_a_client(service: Service) -> None:
    client, found = service.client(), []
    threads = [threading.Thread(target=lambda: found.append(client.predict(IMAGE).id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8
