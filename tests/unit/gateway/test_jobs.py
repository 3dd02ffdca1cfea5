"""`/v1/jobs`: what is accepted, what is refused, and how one waits."""

import io
import threading
from typing import Any

import pytest
from werkzeug.test import TestResponse

from contract.broker import INTERACTIVE
from contract.errors import UnavailableError
from contract.job import JobError, JobResult, new_job_id
from contract.ledger.types import Sweep
from tests.support.images import draw, png_header_of
from tests.support.twin.ledger_memory import MemoryLedger
from tests.unit.gateway.conftest import Gateway, cat


def upload(gateway: Gateway, data: bytes, name: str = "cat.png", query: str = "", **headers: str) -> TestResponse:
    return gateway.client.post(f"/v1/jobs{query}", data={"file": (io.BytesIO(data), name)}, headers=headers)


def refused(response: TestResponse, status: int, code: str) -> dict[str, Any]:
    body = response.get_json()
    assert (response.status_code, body["status"], body["code"]) == (status, status, code)
    assert response.mimetype == "application/problem+json"
    assert body["detail"].endswith(".")
    return dict(body)


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
    assert gateway.published == [("interactive", [job["id"]])]
    assert gateway.image_of(gateway.job(job["id"])) == draw()


def test_an_image_may_be_the_body_itself(gateway: Gateway) -> None:
    response = gateway.client.post("/v1/jobs?file=raw.png&queue=bulk", data=draw(), content_type="image/png")
    job = response.get_json()
    assert (response.status_code, job["file"], job["queue"]) == (202, "raw.png", "bulk")


def test_curls_default_content_type_is_a_body_too(gateway: Gateway) -> None:
    response = gateway.client.post("/v1/jobs", data=draw(), content_type="application/x-www-form-urlencoded")
    assert response.status_code == 202


def test_a_job_is_read_until_it_has_ended(gateway: Gateway) -> None:
    address = upload(gateway, draw()).headers["Location"]
    assert gateway.client.get(address).headers["Retry-After"] == "1"
    gateway.finish(gateway.published[0][1], cat())
    response = gateway.client.get(address)
    job = response.get_json()
    assert (job["status"], job["prediction"]["label"], job["prediction"]["confidence"]) == ("succeeded", "cat", 0.75)
    assert "Retry-After" not in response.headers


def test_an_upload_waits_for_its_result_when_asked(gateway: Gateway) -> None:
    gateway.answer()
    response = upload(gateway, draw(), Prefer="wait=10")
    assert (response.status_code, response.get_json()["status"]) == (200, "succeeded")
    assert response.headers["Preference-Applied"] == "wait=10"


def test_a_wait_that_is_too_short_answers_202(gateway: Gateway) -> None:
    response = upload(gateway, draw(), Prefer="wait=0.05")
    assert (response.status_code, response.get_json()["status"]) == (202, "queued")


def test_a_reader_is_woken_by_the_end_of_the_job(gateway: Gateway) -> None:
    address = upload(gateway, draw()).headers["Location"]
    ids = gateway.published[0][1]
    reads = count_reads(gateway.ledger)
    ender = threading.Timer(0.05, gateway.end, (ids, cat()))
    ender.start()
    job = gateway.client.get(address, headers={"Prefer": "wait=10"}).get_json()
    ender.join()
    assert job["status"] == "succeeded"
    assert len(reads) <= 2  # one at the start, one when woken: no polling


def count_reads(ledger: MemoryLedger) -> list[object]:
    reads: list[object] = []
    original = ledger.get

    def get(job_ids: Any) -> Any:
        reads.append(job_ids)
        return original(job_ids)

    ledger.get = get  # type: ignore[method-assign]
    return reads


@pytest.mark.parametrize("prefer", ["wait=abc", "wait=", "wait=-1", "respond-async", "wait=1e9", ""])
def test_a_preference_that_cannot_be_read_is_ignored(gateway: Gateway, prefer: str) -> None:
    response = upload(gateway, draw(), Prefer=prefer)
    assert response.status_code == 202
    assert "Preference-Applied" not in response.headers


def test_other_preferences_do_not_hide_the_wait(gateway: Gateway) -> None:
    gateway.answer()
    assert upload(gateway, draw(), Prefer="respond-async, wait=5").status_code == 200


def test_refused_without_a_file(gateway: Gateway) -> None:
    response = gateway.client.post("/v1/jobs", data={"other": (io.BytesIO(draw()), "x.png")})
    assert "`file`" in refused(response, 400, "no_file")["detail"]
    text = gateway.client.post("/v1/jobs", data={"file": "text"}, content_type="multipart/form-data")
    refused(text, 400, "no_file")
    broken = gateway.client.post("/v1/jobs", data=b"--x", content_type="multipart/form-data")
    assert broken.status_code == 400


def test_refused_when_empty(gateway: Gateway) -> None:
    refused(upload(gateway, b""), 400, "empty_upload")
    refused(gateway.client.post("/v1/jobs"), 400, "empty_upload")


@pytest.mark.parametrize("data", [b"hello", b"%PDF-1.7 ...", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"\0" * 500])
def test_refused_when_no_image(refusing: Gateway, data: bytes) -> None:
    refused(upload(refusing, data), 415, "not_an_image")


def test_refused_in_other_formats(refusing: Gateway) -> None:
    for form in ("PPM", "TGA", "ICO"):
        refused(upload(refusing, draw(form=form)), 415, "unsupported_format")


@pytest.mark.parametrize("size", [100_001, 150_000, 500_000])
def test_refused_over_the_size_limit(refusing: Gateway, size: int) -> None:
    problem = refused(upload(refusing, draw() + b"\0" * (size - len(draw()))), 413, "upload_too_large")
    assert "100,000 bytes" in problem["detail"]
    raw = refusing.client.post("/v1/jobs", data=b"\0" * size, content_type="image/png")
    refused(raw, 413, "upload_too_large")


def test_refused_over_the_pixel_limit(gateway: Gateway) -> None:
    refused(upload(gateway, png_header_of(65_535, 65_535)), 413, "too_many_pixels")
    refused(upload(gateway, png_header_of(7072, 7072)), 413, "too_many_pixels")
    assert upload(gateway, png_header_of(7071, 7071)).status_code == 202


def test_refused_when_a_jpeg_has_endless_scans(gateway: Gateway) -> None:
    photo = draw((64, 64), form="JPEG", progressive=True)
    last = photo[photo.rindex(b"\xff\xda") : -2]
    refused(upload(gateway, photo[:-2] + last * 300 + photo[-2:]), 415, "not_an_image")
    assert upload(gateway, photo[:-2] + last * 20 + photo[-2:]).status_code == 202


def test_refused_when_the_body_was_cut_off(gateway: Gateway) -> None:
    data = draw()
    announced = {"CONTENT_LENGTH": str(len(data)), "CONTENT_TYPE": "image/png"}
    response = gateway.client.put(
        f"/v1/jobs/{new_job_id()}", input_stream=io.BytesIO(data[:-10]), environ_overrides=announced
    )
    assert response.status_code == 400
    assert not gateway.published


def test_a_refused_image_is_not_kept(gateway: Gateway) -> None:
    refused(upload(gateway, b"hello"), 415, "not_an_image")
    assert not gateway.image_count()
    assert not gateway.published


def test_unknown_and_malformed_ids_are_not_found(gateway: Gateway) -> None:
    for job_id in (new_job_id(), "nope", "1", "%00", "a" * 5000, "🐈"):
        refused(gateway.client.get(f"/v1/jobs/{job_id}"), 404, "not_found")


def test_a_wrong_method_is_told_which_are_right(gateway: Gateway) -> None:
    response = gateway.client.put("/v1/jobs")
    refused(response, 405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]


def test_an_unknown_queue_is_refused(gateway: Gateway) -> None:
    assert upload(gateway, draw(), query="?queue=fast").status_code == 400


def test_a_full_queue_refuses_and_keeps_nothing(gateway: Gateway) -> None:
    for _ in range(50):
        assert upload(gateway, draw()).status_code == 202
    response = upload(gateway, draw())
    refused(response, 429, "queue_full")
    assert int(response.headers["Retry-After"]) >= 1
    assert gateway.image_count() == 50
    assert upload(gateway, draw(), query="?queue=bulk").status_code == 202


def test_when_the_ledger_is_gone_nothing_is_accepted(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise UnavailableError("The ledger does not answer; try again.")

    with monkeypatch.context() as patch:
        patch.setattr(gateway.ledger, "submit", fail)
        response = upload(gateway, draw())
        refused(response, 503, "unavailable")
        assert response.headers["Retry-After"]
    # The write may have happened all the same: the image must be there if it has.
    assert gateway.image_count() == 1
    assert upload(gateway, draw()).status_code == 202


def test_a_job_that_is_written_is_accepted_even_if_its_message_is_not_sent(gateway: Gateway) -> None:
    gateway.broken = UnavailableError("The queue does not answer; try again.")
    response = upload(gateway, draw())
    assert response.status_code == 202
    job = gateway.job(response.get_json()["id"])
    assert gateway.ledger.recover(Sweep(INTERACTIVE, 0, 0, 3, 60)) == [job.id]
    assert gateway.image_of(job) == draw()


def test_a_surprise_tells_nothing_but_where_the_log_has_it(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret detail")

    with monkeypatch.context() as patch:
        patch.setattr(gateway.ledger, "submit", fail)
        body = refused(upload(gateway, draw()), 500, "internal")
    assert "secret" not in str(body)
    assert upload(gateway, draw()).status_code == 202  # the committer lives on


def test_file_names_are_made_printable_and_short(gateway: Gateway) -> None:
    name = "käse\u202e\n" + "x" * 300 + ".png"
    job = gateway.client.post("/v1/jobs", query_string={"file": name}, data=draw(), content_type="image/png").get_json()
    assert job["file"].startswith("käsexx")
    assert len(job["file"]) == 255


def test_a_failed_job_shows_its_error(gateway: Gateway) -> None:
    address = upload(gateway, draw()).headers["Location"]
    gateway.finish(gateway.published[0][1], JobResult(error=JobError("undecodable_image", "truncated")))
    job = gateway.client.get(address).get_json()
    assert (job["status"], job["error"]["code"], job["prediction"]) == ("failed", "undecodable_image", None)
