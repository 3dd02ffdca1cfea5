"""Single images over HTTP, from upload to result, with a real Redis, gateway, worker and model."""

import csv
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from contract.job import new_job_id
from contract.ledger import keys
from contract.queues import QUEUES
from tests.integration.memory import MemoryWatch
from tests.support.images import draw, png_header_of, stored_images
from tests.support.services import ROOT, Stack, free_port, light_worker, running_stack, wait_until


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        yield client


def upload(http: httpx.Client, data: bytes, name: str = "cat.jpg", wait_s: int = 30, **query: str) -> httpx.Response:
    return http.post("/v1/jobs", files={"file": (name, data)}, params=query, headers={"Prefer": f"wait={wait_s}"})


def test_an_uploaded_image_is_classified(http: httpx.Client) -> None:
    accepted = http.post("/v1/jobs", files={"file": ("red.png", draw())})
    assert accepted.status_code == 202
    job = http.get(accepted.headers["Location"], headers={"Prefer": "wait=30"}).json()
    assert job["status"] == "succeeded"
    assert set(job["prediction"]["probabilities"]) == {"cat", "dog"}
    assert sum(job["prediction"]["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert job["prediction"]["confidence"] == max(job["prediction"]["probabilities"].values())
    assert job["model"]["name"] == "cats-dogs"
    assert job["attempts"] == 1
    assert job["started_at"] <= job["finished_at"]


def test_the_included_model_classifies_at_least_nine_of_ten_photographs_correctly(
    http: httpx.Client, photographs: Path
) -> None:
    files = sorted((photographs / "sample").glob("*.jpg"))
    with ThreadPoolExecutor(10) as pool:
        jobs = list(pool.map(lambda path: upload(http, path.read_bytes(), path.name).json(), files))
    correct = sum(job["prediction"]["label"] == job["file"].split(".")[0] for job in jobs)
    assert len(jobs) == 40
    assert correct >= 36


def test_concurrent_uploads_share_batches(http: httpx.Client) -> None:
    data = draw((500, 375), form="JPEG")
    for _ in range(5):  # on a busy machine, one round may share no batch by chance
        with ThreadPoolExecutor(10) as pool:
            jobs = list(pool.map(lambda _: upload(http, data).json(), range(10)))
        assert all(job["status"] == "succeeded" for job in jobs)
        if max(job["batch_size"] for job in jobs) > 1:
            return
    raise AssertionError("concurrent uploads never shared a batch")


def test_both_queues_are_served(http: httpx.Client) -> None:
    for queue in QUEUES:
        job = upload(http, draw(), queue=queue).json()
        assert (job["status"], job["queue"]) == ("succeeded", queue)


def test_a_prediction_does_not_depend_on_the_batch(http: httpx.Client) -> None:
    data = draw((300, 200), (90, 120, 40), "JPEG")
    alone = upload(http, data).json()["prediction"]["probabilities"]["cat"]
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda _: upload(http, data).json(), range(12)))
    for job in together:
        assert job["prediction"]["probabilities"]["cat"] == pytest.approx(alone, abs=0.01)


def test_images_are_deleted_when_their_jobs_finish(http: httpx.Client, stack: Stack) -> None:
    assert upload(http, draw()).json()["status"] == "succeeded"
    folder = stack.folder / "state" / "images"
    wait_until(lambda: not stored_images(folder), "the images to be deleted", 10)


def test_finished_jobs_are_in_no_queue_and_their_records_expire(http: httpx.Client, stack: Stack) -> None:
    assert upload(http, draw()).json()["status"] == "succeeded"
    with redis.Redis.from_url(stack.redis_url) as client:
        assert [client.zcard(key(queue)) for queue in QUEUES for key in (keys.queued, keys.running)] == [0] * 4
        assert all(client.ttl(key) > 0 for key in client.scan_iter(f"{keys.JOB}*"))


def test_predict_responds_like_the_old_pipeline(http: httpx.Client) -> None:
    body = http.post("/predict", files={"file": ("x.png", draw(), "image/png")}).json()
    assert body.keys() == {"class", "confidence", "cat_probability", "dog_probability"}
    assert body["class"] in {"cat", "dog"}


def test_gateway_and_worker_export_metrics(http: httpx.Client, stack: Stack) -> None:
    upload(http, draw())
    gateway = httpx.get(stack.metrics_url).text
    assert 'pawqueue_jobs_total{label="' in gateway
    assert 'status="succeeded"' in gateway
    assert "pawqueue_workers 1.0" in gateway
    worker = httpx.get(worker_metrics(stack)).text
    assert 'pawqueue_job_seconds_count{model="cats-dogs",phase="predict",queue="interactive"}' in worker
    assert "pawqueue_worker_busy_ratio" in worker


def worker_metrics(stack: Stack) -> str:
    with redis.Redis.from_url(stack.redis_url) as client:
        (beat,) = client.hvals(keys.WORKERS)
    return str(json.loads(beat)["metrics_address"])


class TestBadInput:
    """Bad input gets a clear problem response, never a 5xx, and all processes keep running."""

    @pytest.fixture(autouse=True)
    def service_still_works(self, stack: Stack, http: httpx.Client) -> Iterator[None]:
        yield
        assert upload(http, draw()).json()["status"] == "succeeded"
        assert all(process.handle.poll() is None for process in (stack.gateway, *stack.workers))

    def problem(self, response: httpx.Response, status: int, code: str) -> dict[str, Any]:
        body: dict[str, Any] = response.json()
        assert (response.status_code, body["status"], body["code"]) == (status, status, code)
        assert response.headers["Content-Type"] == "application/problem+json"
        assert len(body["detail"]) > 20
        return body

    def test_an_upload_without_a_file_is_rejected(self, http: httpx.Client) -> None:
        self.problem(http.post("/v1/jobs", files={"other": ("x.png", draw())}), 400, "no_file")

    def test_an_empty_upload_is_rejected(self, http: httpx.Client) -> None:
        self.problem(http.post("/v1/jobs"), 400, "empty_upload")
        self.problem(upload(http, b""), 400, "empty_upload")

    def test_a_file_that_is_not_an_image_is_rejected(self, http: httpx.Client) -> None:
        self.problem(upload(http, b"hello"), 415, "not_an_image")

    def test_an_unsupported_format_is_rejected(self, http: httpx.Client) -> None:
        self.problem(upload(http, draw(form="PPM")), 415, "unsupported_format")

    def test_an_upload_over_the_size_limit_is_rejected(self, http: httpx.Client) -> None:
        self.problem(upload(http, b"\0" * 20_000_001), 413, "upload_too_large")

    def test_a_job_id_can_be_reused_after_a_truncated_upload(self, http: httpx.Client) -> None:
        data, path = draw((60, 40), form="JPEG"), f"/v1/jobs/{new_job_id()}"
        head = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
        with socket.create_connection((http.base_url.host, http.base_url.port or 0)) as connection:
            connection.sendall(head.encode() + data[:-100])
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass
        self.problem(http.get(path), 404, "not_found")
        assert http.put(path, content=data, headers={"Prefer": "wait=30"}).json()["status"] == "succeeded"

    def test_a_body_far_over_the_size_limit_is_not_kept_in_memory(self, http: httpx.Client, stack: Stack) -> None:
        endless = (b"\0" * 1_000_000 for _ in range(200))
        with MemoryWatch(stack) as memory:
            try:
                response = http.post("/v1/jobs", content=endless)
            except httpx.WriteError:
                pass  # the gateway may close the connection before the end of the body
            else:
                self.problem(response, 413, "upload_too_large")
        assert memory.growth < 60_000_000

    def test_an_image_over_the_pixel_limit_is_rejected(self, http: httpx.Client) -> None:
        for side in (30_000, 65_535):
            self.problem(upload(http, png_header_of(side, side)), 413, "too_many_pixels")
        jpeg = bytearray(draw((64, 64), form="JPEG"))
        at = jpeg.index(b"\xff\xc0") + 5
        jpeg[at : at + 4] = b"\xff\xff\xff\xff"
        self.problem(upload(http, bytes(jpeg)), 413, "too_many_pixels")

    @pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
    def test_an_image_with_corrupt_pixels_does_not_affect_other_images(self, http: httpx.Client, form: str) -> None:
        whole = draw((400, 300), form=form, **({"lossless": True} if form == "WEBP" else {}))
        corrupt = whole[: len(whole) * 6 // 10]
        with ThreadPoolExecutor(8) as pool:
            images = [whole, whole, whole, corrupt, whole, whole, whole]
            jobs = list(pool.map(lambda data: upload(http, data).json(), images))
        bad = jobs.pop(3)
        if "error" not in bad or bad.get("status") == 415:
            self.problem(upload(http, corrupt), 415, "not_an_image")  # the header is truncated as well
        else:
            assert (bad["status"], bad["error"]["code"]) == ("failed", "undecodable_image")
        assert [job["status"] for job in jobs] == ["succeeded"] * 6

    def test_unknown_and_malformed_ids_are_not_found(self, http: httpx.Client) -> None:
        for job_id in (new_job_id(), "nope", "%2e%2e%2f", "1" * 3000):
            self.problem(http.get(f"/v1/jobs/{job_id}"), 404, "not_found")

    def test_the_error_for_an_unsupported_method_lists_the_supported_ones(self, http: httpx.Client) -> None:
        response = http.delete("/v1/jobs")
        self.problem(response, 405, "method_not_allowed")
        assert "POST" in response.headers["Allow"]

    def test_an_invalid_wait_is_ignored(self, http: httpx.Client) -> None:
        response = http.post("/v1/jobs", files={"file": ("x.png", draw())}, headers={"Prefer": "wait=abc"})
        assert response.status_code == 202


def test_the_status_shows_how_a_worker_runs_batches(http: httpx.Client) -> None:
    (worker, *_) = http.get("/v1/status").json()["workers"]
    assert [(item["images"], item["strategy"]) for item in worker["strategies"]] == [
        (1, "wide"),
        (8, "parts_8"),
        (32, "parts_8"),
    ]


@pytest.fixture
def held_stack(tmp_path: Path) -> Iterator[Stack]:
    """Services whose worker predicts nothing while the file `held` exists."""
    (tmp_path / "held").touch()
    worker = light_worker("held_in_predict", tmp_path / "held")
    settings = {"batch_size": 4, "worker_metrics_port": free_port(), "lease_s": 1, "sweep_s": 0.2}
    with running_stack(tmp_path, worker, **settings) as stack:
        yield stack


def submit_many(http: httpx.Client) -> list[str]:
    """Submit more images than a worker takes at once, and wait until it has taken some; returns their addresses."""
    data = draw((500, 375), form="JPEG")
    addresses = [http.post("/v1/jobs", files={"file": ("x.jpg", data)}).headers["Location"] for _ in range(60)]
    wait_until(lambda: http.get("/v1/status").json()["queues"]["interactive"]["running"] > 0, "jobs to be claimed")
    return addresses


def test_a_stopping_worker_finishes_its_jobs_and_leaves_the_others_queued(held_stack: Stack) -> None:
    with httpx.Client(base_url=held_stack.url, timeout=60) as http:
        addresses = submit_many(http)
        worker = held_stack.workers[0]
        worker.handle.send_signal(signal.SIGTERM)
        ready = f"http://127.0.0.1:{held_stack.environ['PAWQUEUE_WORKER_METRICS_PORT']}/readyz"
        wait_until(lambda: httpx.get(ready).status_code == 503, "the worker to stop claiming jobs")
        (held_stack.folder / "held").unlink()
        assert worker.handle.wait(45) == 0, worker.tail()
        assert http.get("/v1/status").json()["workers"] == []
        jobs = [http.get(address).json() for address in addresses]
        assert {job["status"] for job in jobs} == {"succeeded", "queued"}
        with held_stack.another_worker(light_worker()) as second:
            finished = [http.get(address, headers={"Prefer": "wait=30"}).json() for address in addresses]
            assert {job["status"] for job in finished} == {"succeeded"}, second.tail()
        assert all(job["attempts"] == 1 for job in finished)


def test_another_worker_finishes_the_jobs_of_a_killed_worker(held_stack: Stack) -> None:
    with httpx.Client(base_url=held_stack.url, timeout=60) as http:
        addresses = submit_many(http)
        held_stack.workers[0].stop(signal.SIGKILL)
        with held_stack.another_worker(light_worker()):
            jobs = [http.get(address, headers={"Prefer": "wait=30"}).json() for address in addresses]
        assert {job["status"] for job in jobs} == {"succeeded"}
        assert {job["attempts"] for job in jobs} == {1, 2}


@pytest.mark.slow
def test_the_command_classifies_a_folder(stack: Stack, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.csv"
    command = [sys.executable, "-m", "pawqueue", "submit", str(photographs / "sample"), "--url", stack.url, "--out"]
    done = subprocess.run([*command, str(out)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    assert sum(row["label"] == row["file"].split(".")[0] for row in rows) >= 36
