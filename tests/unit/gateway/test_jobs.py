"""`/v1/jobs`: uploading an image, reading a job, waiting for it and canceling it."""

import io
import resource
import threading

import pytest

from contract.job import JobError, JobResult, JobStatus, new_job_id
from contract.queues import INTERACTIVE, QUEUES
from tests.support.images import draw, png_header_of
from tests.unit.gateway.conftest import Gateway, assert_problem, cat, unavailable, upload


def test_an_image_is_accepted_as_a_job(gateway: Gateway) -> None:
    response = upload(gateway, draw())
    job = response.get_json()
    assert response.status_code == 202
    assert response.headers["Location"] == job["urls"]["self"] == f"/v1/jobs/{job['id']}"
    assert response.headers["Retry-After"] == "1"
    assert (job["status"], job["queue"], job["file"], job["size_bytes"]) == (
        "queued",
        "interactive",
        "cat.png",
        len(draw()),
    )
    assert gateway.new_jobs == [("interactive", [job["id"]])]
    assert gateway.image_of(gateway.job(job["id"])) == draw()


def test_an_image_can_be_sent_as_the_body(gateway: Gateway) -> None:
    response = gateway.client.post("/v1/jobs?file=raw.png&queue=bulk", data=draw(), content_type="image/png")
    job = response.get_json()
    assert (response.status_code, job["file"], job["queue"]) == (202, "raw.png", "bulk")


def test_a_body_with_the_default_content_type_of_curl_is_accepted(gateway: Gateway) -> None:
    response = gateway.client.post("/v1/jobs", data=draw(), content_type="application/x-www-form-urlencoded")
    assert response.status_code == 202


def test_a_body_as_curl_d_sends_it_is_rejected_with_the_cause(shared_gateway: Gateway) -> None:
    for data in (draw(), draw(form="JPEG"), draw(form="GIF")):
        stripped = data.translate(None, b"\0\r\n")
        response = shared_gateway.client.post(
            "/v1/jobs", data=stripped, content_type="application/x-www-form-urlencoded"
        )
        assert "--data-binary" in assert_problem(response, 415, "not_an_image")["detail"]


def test_what_curl_sends_instead_of_an_image_is_named(shared_gateway: Gateway) -> None:
    others = {
        b"%PDF-1.7\n1 0 obj": "PDF",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>": "SVG",
        b"<!DOCTYPE html><html></html>": "HTML",
        b'{"instances": [{"b64": "AA=="}]}': "JSON",
        b"file=@cat.jpg": "-F file=@cat.jpg",
    }
    for data, name in others.items():
        response = shared_gateway.client.post("/v1/jobs", data=data, content_type="application/x-www-form-urlencoded")
        problem = response.get_json()
        assert (response.status_code, name in problem["detail"]) == (415, True), problem


def test_a_request_without_a_body_is_rejected_with_the_cause(shared_gateway: Gateway) -> None:
    assert "no Content-Length" in assert_problem(shared_gateway.client.post("/v1/jobs"), 400, "empty_upload")["detail"]


def test_a_url_with_bytes_that_are_not_utf_8_is_accepted(gateway: Gateway) -> None:
    environ = {"QUERY_STRING": "file=K\xe4tz%20chen%E4.png&queue=bulk"}
    job = gateway.client.post("/v1/jobs", data=draw(), environ_overrides=environ).get_json()
    assert (job["file"], job["queue"]) == ("K%E4tz chen%E4.png", "bulk")


def test_a_job_can_be_polled_until_it_has_finished(gateway: Gateway) -> None:
    url = upload(gateway, draw()).headers["Location"]
    assert gateway.client.get(url).headers["Retry-After"] == "1"
    gateway.finish(gateway.new_jobs[0][1], cat())
    response = gateway.client.get(url)
    job = response.get_json()
    assert (job["status"], job["prediction"]["label"], job["prediction"]["confidence"]) == ("succeeded", "cat", 0.75)
    assert "Retry-After" not in response.headers


def test_an_upload_with_prefer_wait_returns_the_result(gateway: Gateway) -> None:
    gateway.finish_new_jobs()
    response = upload(gateway, draw(), Prefer="wait=10")
    assert (response.status_code, response.get_json()["status"]) == (200, "succeeded")
    assert response.headers["Preference-Applied"] == "wait=10"


def test_an_upload_whose_wait_is_too_short_returns_202(gateway: Gateway) -> None:
    response = upload(gateway, draw(), Prefer="wait=0.05")
    assert (response.status_code, response.get_json()["status"]) == (202, "queued")


def test_a_waiting_request_returns_when_the_job_finishes(gateway: Gateway) -> None:
    url = upload(gateway, draw()).headers["Location"]
    ids = gateway.new_jobs[0][1]
    reads: list[int] = []
    gateway.ledger.hooks["get"] = lambda: reads.append(1)
    worker = threading.Timer(0.05, gateway.finish, (ids, cat()))
    worker.start()
    job = gateway.client.get(url, headers={"Prefer": "wait=10"}).get_json()
    worker.join()
    assert job["status"] == "succeeded"
    assert len(reads) <= 3  # to find the job, when the wait starts and when the job finishes: no polling


@pytest.mark.parametrize("prefer", ["wait=abc", "wait=", "wait=-1", "respond-async", "wait=1e9", ""])
def test_an_invalid_preference_is_ignored(gateway: Gateway, prefer: str) -> None:
    response = upload(gateway, draw(), Prefer=prefer)
    assert response.status_code == 202
    assert "Preference-Applied" not in response.headers


def test_the_wait_is_found_among_other_preferences(gateway: Gateway) -> None:
    gateway.finish_new_jobs()
    assert upload(gateway, draw(), Prefer="respond-async, wait=5").status_code == 200


def test_an_upload_without_a_file_is_rejected(gateway: Gateway) -> None:
    response = gateway.client.post("/v1/jobs", data={"other": (io.BytesIO(draw()), "x.png")})
    assert "`file`" in assert_problem(response, 400, "no_file")["detail"]
    text = gateway.client.post("/v1/jobs", data={"file": "text"}, content_type="multipart/form-data")
    assert_problem(text, 400, "no_file")
    broken = gateway.client.post("/v1/jobs", data=b"--x", content_type="multipart/form-data")
    assert broken.status_code == 400


def test_an_empty_image_is_rejected(gateway: Gateway) -> None:
    assert_problem(upload(gateway, b""), 400, "empty_upload")
    assert_problem(gateway.client.post("/v1/jobs"), 400, "empty_upload")


@pytest.mark.parametrize("data", [b"hello", b"%PDF-1.7 ...", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"\0" * 500])
def test_an_upload_that_is_not_an_image_is_rejected(shared_gateway: Gateway, data: bytes) -> None:
    assert_problem(upload(shared_gateway, data), 415, "not_an_image")


def test_an_unsupported_format_is_rejected(shared_gateway: Gateway) -> None:
    for form in ("PPM", "TGA", "ICO"):
        assert_problem(upload(shared_gateway, draw(form=form)), 415, "unsupported_format")


@pytest.mark.parametrize("size", [100_001, 150_000, 500_000])
def test_an_image_over_the_size_limit_is_rejected(shared_gateway: Gateway, size: int) -> None:
    problem = assert_problem(upload(shared_gateway, draw() + b"\0" * (size - len(draw()))), 413, "upload_too_large")
    assert "100,000 bytes" in problem["detail"]
    raw = shared_gateway.client.post("/v1/jobs", data=b"\0" * size, content_type="image/png")
    assert_problem(raw, 413, "upload_too_large")


def test_an_image_over_the_pixel_limit_is_rejected(gateway: Gateway) -> None:
    assert_problem(upload(gateway, png_header_of(65_535, 65_535)), 413, "too_many_pixels")
    assert_problem(upload(gateway, png_header_of(7072, 7072)), 413, "too_many_pixels")
    assert upload(gateway, png_header_of(7071, 7071)).status_code == 202


def test_a_truncated_body_is_rejected(gateway: Gateway) -> None:
    data = draw()
    headers = {"CONTENT_LENGTH": str(len(data)), "CONTENT_TYPE": "image/png"}
    response = gateway.client.put(
        f"/v1/jobs/{new_job_id()}", input_stream=io.BytesIO(data[:-10]), environ_overrides=headers
    )
    assert response.status_code == 400
    assert not gateway.new_jobs


def test_a_rejected_image_is_not_stored(gateway: Gateway) -> None:
    assert_problem(upload(gateway, b"hello"), 415, "not_an_image")
    assert not gateway.image_count()
    assert not gateway.new_jobs


def test_unknown_and_malformed_ids_are_not_found(gateway: Gateway) -> None:
    for job_id in (new_job_id(), "nope", "1", "%00", "a" * 5000, "🐈"):
        assert_problem(gateway.client.get(f"/v1/jobs/{job_id}"), 404, "not_found")


def test_the_error_for_an_unsupported_method_lists_the_supported_ones(gateway: Gateway) -> None:
    response = gateway.client.put("/v1/jobs")
    assert_problem(response, 405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]


def test_an_unknown_queue_is_rejected(gateway: Gateway) -> None:
    assert upload(gateway, draw(), query="?queue=fast").status_code == 400


def test_a_full_queue_refuses_uploads_and_stores_nothing(gateway: Gateway) -> None:
    for _ in range(50):
        assert upload(gateway, draw()).status_code == 202
    response = upload(gateway, draw())
    assert_problem(response, 429, "queue_full")
    assert int(response.headers["Retry-After"]) >= 1
    assert gateway.image_count() == 50
    assert upload(gateway, draw(), query="?queue=bulk").status_code == 202


def test_uploads_are_refused_while_the_ledger_is_unavailable(gateway: Gateway) -> None:
    gateway.ledger.hooks["submit"] = unavailable
    response = upload(gateway, draw())
    assert_problem(response, 503, "unavailable")
    assert response.headers["Retry-After"]
    # The image is kept: the ledger may have recorded the job before the connection was lost.
    assert gateway.image_count() == 1
    gateway.ledger.hooks.clear()
    assert upload(gateway, draw()).status_code == 202


def test_an_image_that_cannot_be_stored_is_refused(gateway: Gateway) -> None:
    large = draw() + bytes(90_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        response = upload(gateway, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_problem(response, 503, "unavailable")
    assert "File too large" in response.get_json()["detail"]
    assert gateway.ledger.stats(QUEUES).queues[INTERACTIVE].queued == 0
    assert not gateway.image_count()
    assert upload(gateway, large).status_code == 202


def test_the_response_to_an_unexpected_error_reveals_no_details(gateway: Gateway) -> None:
    def surprise() -> None:
        raise RuntimeError("secret detail")

    gateway.ledger.hooks["submit"] = surprise
    body = assert_problem(upload(gateway, draw()), 500, "internal")
    assert "secret" not in str(body)


def test_file_names_are_shortened_and_stored_without_control_characters(gateway: Gateway) -> None:
    name = "käse\u202e\n" + "x" * 300 + ".png"
    job = gateway.client.post("/v1/jobs", query_string={"file": name}, data=draw(), content_type="image/png").get_json()
    assert job["file"].startswith("käsexx")
    assert len(job["file"]) == 255


def test_a_failed_job_shows_its_error(gateway: Gateway) -> None:
    url = upload(gateway, draw()).headers["Location"]
    gateway.finish(gateway.new_jobs[0][1], JobResult(error=JobError("undecodable_image", "truncated")))
    job = gateway.client.get(url).get_json()
    assert (job["status"], job["error"]["code"], job["prediction"]) == ("failed", "undecodable_image", None)


def test_a_queued_job_is_canceled(gateway: Gateway) -> None:
    job_id = upload(gateway, draw()).get_json()["id"]
    canceled = gateway.client.delete(f"/v1/jobs/{job_id}")
    assert (canceled.status_code, canceled.get_json()["status"]) == (200, "canceled")
    assert canceled.get_json()["finished_at"]
    assert gateway.client.get(f"/v1/jobs/{job_id}").get_json()["status"] == "canceled"
    gateway.finish([job_id])
    assert gateway.job(job_id).status is JobStatus.CANCELED


def test_canceling_a_finished_job_changes_nothing(gateway: Gateway) -> None:
    job_id = upload(gateway, draw()).get_json()["id"]
    gateway.finish([job_id])
    assert gateway.client.delete(f"/v1/jobs/{job_id}").get_json()["status"] == "succeeded"


def test_canceling_wakes_a_waiting_request(gateway: Gateway) -> None:
    job_id = upload(gateway, draw()).get_json()["id"]
    canceler = threading.Timer(0.05, gateway.ledger.cancel, ([job_id], 60))
    canceler.start()
    job = gateway.client.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=10"}).get_json()
    canceler.join()
    assert job["status"] == "canceled"


def test_unknown_jobs_cannot_be_canceled(gateway: Gateway) -> None:
    assert_problem(gateway.client.delete(f"/v1/jobs/{new_job_id()}"), 404, "not_found")
    assert_problem(gateway.client.delete("/v1/jobs/nope"), 404, "not_found")


def test_a_deadline_is_stored_with_the_job(gateway: Gateway) -> None:
    job = gateway.job(upload(gateway, draw(), query="?deadline_s=2.5").get_json()["id"])
    assert job.deadline_ms == job.created_ms + 2500


@pytest.mark.parametrize("text", ["", "0", "-1", "abc", "nan", "inf", "1e9", "999999999"])
def test_an_invalid_deadline_is_rejected(shared_gateway: Gateway, text: str) -> None:
    assert_problem(upload(shared_gateway, draw(), query=f"?deadline_s={text}"), 400, "bad_request")
