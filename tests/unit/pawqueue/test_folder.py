"""A run over many files: rows, concurrency, patience, orderly ends."""

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pawqueue.errors import ClientError, RefusedError, UnreachableError
from pawqueue.files import FoundFile, find_files
from pawqueue.folder import FolderRun
from pawqueue.results import Row
from tests.unit.pawqueue.conftest import FakeTime
from tests.unit.pawqueue.fakes import JOB_ID, FakeGateway, answer, by_name, job, problem, write_pictures


def run(gateway: FakeGateway, *, concurrency: int = 4, give_up_after_s: float = 5) -> FolderRun:
    return FolderRun(gateway.jobs(), concurrency=concurrency, give_up_after_s=give_up_after_s)


def rows(folder: Path, gateway: FakeGateway, **limits: float) -> dict[str, Row]:
    results = run(gateway, **limits).results(find_files([folder]))  # type: ignore[arg-type]
    return {row.file: row for _, row in results}


def test_each_file_gets_one_row(tmp_path: Path) -> None:
    names = [f"{number:03}.jpg" for number in range(100)]
    write_pictures(tmp_path, *names)
    gateway = FakeGateway(by_name({"007.jpg": job("failed", code="undecodable_image")}))
    found = rows(tmp_path, gateway)
    assert sorted(found) == names
    assert [name for name, row in found.items() if row.status == "failed"] == ["007.jpg"]
    assert {request.url.params["queue"] for request in gateway.requests} == {"bulk"}
    assert len(gateway.requests) == 100


def test_a_refused_and_an_unreadable_file_are_rows_and_the_rest_goes_on(tmp_path: Path) -> None:
    write_pictures(tmp_path, "a.jpg", "b.jpg", "c.jpg")

    def respond(request: httpx.Request) -> httpx.Response:
        refused = request.url.params["file"] == "b.jpg"
        return problem(415, "not_an_image", "Send JPEG.") if refused else answer(200, job("succeeded", label="cat"))

    files = [*find_files([tmp_path]), FoundFile(tmp_path / "gone.jpg", "gone.jpg", 3)]
    found = {row.file: row for _, row in run(FakeGateway(respond)).results(iter(files))}
    assert found["b.jpg"] == Row("b.jpg", status="refused", error_code="not_an_image", error="Send JPEG.")
    assert found["gone.jpg"] == Row(
        "gone.jpg", status="unreadable", error_code="unreadable", error="No such file or directory"
    )
    assert found["a.jpg"].succeeded
    assert found["c.jpg"].succeeded


def test_an_empty_file_is_sent_and_the_gateway_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    gateway = FakeGateway(problem(400, "empty_upload"))
    assert rows(tmp_path, gateway)["empty.jpg"].error_code == "empty_upload"
    assert gateway.requests[0].headers["content-length"] == "0"


def test_a_job_that_takes_longer_is_followed(tmp_path: Path) -> None:
    write_pictures(tmp_path, "a.jpg")
    gateway = FakeGateway(answer(202, job()), answer(200, job("succeeded", label="cat")))
    assert rows(tmp_path, gateway)["a.jpg"].label == "cat"
    assert [request.method for request in gateway.requests] == ["PUT", "GET"]
    assert all(request.headers["prefer"].startswith("wait=") for request in gateway.requests)


def test_a_job_that_is_gone_is_a_failed_row(tmp_path: Path) -> None:
    write_pictures(tmp_path, "a.jpg")
    row = rows(tmp_path, FakeGateway(answer(202, job()), problem(404, "not_found")))["a.jpg"]
    assert (row.status, row.error_code, row.job_id) == ("failed", "not_found", JOB_ID)


def test_no_more_are_under_way_than_allowed(tmp_path: Path) -> None:
    write_pictures(tmp_path, *(f"{number}.jpg" for number in range(30)))
    lock, now, most = threading.Lock(), 0, 0

    def respond(_: httpx.Request) -> httpx.Response:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        with lock:
            now -= 1
        return answer(200, job("succeeded", label="cat"))

    assert len(rows(tmp_path, FakeGateway(respond), concurrency=3)) == 30
    assert most == 3


def test_files_are_looked_for_only_as_they_are_sent() -> None:
    taken = 0

    def endless() -> Iterator[FoundFile]:
        nonlocal taken
        while True:
            yield FoundFile(Path(__file__), f"{taken}.jpg", taken)
            taken += 1

    results = run(FakeGateway(answer(200, job("succeeded", label="cat")))).results(endless())
    for _ in range(20):
        next(results)
    results.close()
    settled = taken
    time.sleep(0.05)
    assert taken - settled <= 4


def test_it_gives_up_when_the_gateway_stays_away_and_keeps_what_came_before(
    tmp_path: Path, fake_time: FakeTime
) -> None:
    write_pictures(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    gateway = FakeGateway(answer(200, job("succeeded", label="cat")), httpx.ConnectError("refused"))
    results = run(gateway, concurrency=1, give_up_after_s=60).results(find_files([tmp_path]))
    assert next(results)[1].file == "a.jpg"
    with pytest.raises(UnreachableError, match="Nothing answers"):
        next(results)
    assert 45 < sum(fake_time.pauses_s) < 60


def test_each_answer_renews_the_patience(tmp_path: Path, fake_time: FakeTime) -> None:
    write_pictures(tmp_path, *(f"{number:02}.jpg" for number in range(9)))

    def respond(request: httpx.Request) -> httpx.Response:
        fake_time.now_s += 4
        busy = len(gateway.requests) % 2
        return problem(429, "queue_full", Retry_After="4") if busy else answer(200, job("succeeded", label="cat"))

    gateway = FakeGateway(respond)
    assert len(rows(tmp_path, gateway, concurrency=1, give_up_after_s=15)) == 9
    assert len(gateway.requests) == 18


@pytest.mark.parametrize("served", [True, False])
def test_a_long_queue_is_waited_for_as_long_as_a_worker_serves(
    tmp_path: Path, fake_time: FakeTime, *, served: bool
) -> None:
    write_pictures(tmp_path, "a.jpg")
    began_s = fake_time.now_s

    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/health":
            return answer(200, {"model_loaded": served})
        fake_time.now_s += 4
        return answer(200, job("succeeded", label="cat") if fake_time.now_s > began_s + 60 else job())

    if served:
        assert rows(tmp_path, FakeGateway(respond), give_up_after_s=10)["a.jpg"].succeeded
    else:
        with pytest.raises(ClientError, match="is a worker running"):
            rows(tmp_path, FakeGateway(respond), give_up_after_s=10)


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_refusal_that_meets_every_file_ends_the_run(tmp_path: Path, status: int) -> None:
    write_pictures(tmp_path, *(f"{number}.jpg" for number in range(20)))
    gateway = FakeGateway(problem(status, "unauthorized"))
    with pytest.raises(RefusedError):
        rows(tmp_path, gateway, concurrency=1)
    assert len(gateway.requests) == 1


def test_stop_ends_the_run_in_order(tmp_path: Path) -> None:
    write_pictures(tmp_path, *(f"{number}.jpg" for number in range(50)))
    hold = threading.Event()

    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.params["file"] not in {"0.jpg", "1.jpg"}:
            hold.wait(5)
        return answer(200, job("succeeded", label="cat"))

    gateway = FakeGateway(respond)
    folder_run = run(gateway, concurrency=4)
    results = folder_run.results(find_files([tmp_path]))
    seen = [next(results)[1].file, next(results)[1].file]
    folder_run.stop()
    with pytest.raises(KeyboardInterrupt):
        next(results)
    hold.set()
    assert sorted(seen) == ["0.jpg", "1.jpg"]
    assert len(gateway.requests) <= 6


def test_what_arrives_behind_the_reason_to_end_is_kept(tmp_path: Path) -> None:
    write_pictures(tmp_path, "0.jpg", "1.jpg", "2.jpg")
    hold = threading.Event()

    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.params["file"] == "1.jpg":
            hold.wait(5)
        return answer(200, job("succeeded", label="cat"))

    folder_run = run(FakeGateway(respond), concurrency=1)
    results = folder_run.results(find_files([tmp_path]))
    assert next(results)[1].file == "0.jpg"
    folder_run.stop()
    hold.set()
    while folder_run._arrived.qsize() < 3:  # the stop, the row, the end of the sender
        time.sleep(0.001)
    assert [row.file for _, row in itertools.islice(results, 1)] == ["1.jpg"]
    with pytest.raises(KeyboardInterrupt):
        next(results)


def test_a_fault_of_the_program_is_not_swallowed(tmp_path: Path) -> None:
    write_pictures(tmp_path, "a.jpg")
    with pytest.raises(ZeroDivisionError):
        rows(tmp_path, FakeGateway(ZeroDivisionError()))
