"""A run over many files: rows, what is sent once and what again, patience, orderly ends."""

import itertools
import threading
import uuid
from collections.abc import Iterable
from pathlib import Path

import httpx
import pytest

from pawqueue.errors import ClientError, RefusedError, UnreachableError
from pawqueue.files import FoundFile, find_files
from pawqueue.folder import FolderRun, Plan
from pawqueue.results import Row
from pawqueue.run_state import RunState
from pawqueue.scan import compare, remember
from tests.unit.pawqueue.conftest import FakeTime
from tests.unit.pawqueue.fake_submissions import FakeSubmissions, failed, predicted
from tests.unit.pawqueue.fakes import problem, write_images


def run(gateway: FakeSubmissions, state: RunState, *, senders: int = 2, give_up_after_s: float = 5) -> FolderRun:
    return FolderRun(gateway.client(), state, Plan("test", "bulk", give_up_after_s, senders))


def job_results(results: Iterable[tuple[int, Row] | None]) -> dict[str, Row]:
    """The rows by file; none may come twice."""
    rows = [result[1] for result in results if result]
    assert len({row.file for row in rows}) == len(rows)
    return {row.file: row for row in rows}


def rows(folder: Path, gateway: FakeSubmissions, **limits: float) -> dict[str, Row]:
    with RunState(None) as state:
        remember(state, find_files([folder]))
        return job_results(run(gateway, state, **limits).results())  # type: ignore[arg-type]


def test_each_file_gets_one_row_and_goes_out_once(tmp_path: Path) -> None:
    names = [f"{number:03}.jpg" for number in range(250)]
    write_images(tmp_path, *names)
    gateway = FakeSubmissions({"007.jpg": failed("undecodable_image"), "008.jpg": predicted("dog")})
    found = rows(tmp_path, gateway)
    assert sorted(found) == sorted(gateway.sent) == names
    assert [name for name, row in found.items() if row.status == "failed"] == ["007.jpg"]
    assert found["008.jpg"].label == "dog"
    assert (found["008.jpg"].latency_ms, found["008.jpg"].model) == (250, "cats-dogs@1.0")
    (submission,) = gateway.submissions.values()
    assert (submission.name, submission.queue, submission.status) == ("test", "bulk", "finished")
    assert gateway.paths().count("POST jobs") == 3


def test_a_refused_and_an_unreadable_file_are_rows_and_the_rest_goes_on(tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    files = [*find_files([tmp_path]), FoundFile(tmp_path / "gone.jpg", "gone.jpg")]
    with RunState(None) as state:
        remember(state, files)
        found = job_results(run(FakeSubmissions(rejects={"b.jpg": "not_an_image"}), state).results())
    assert found["b.jpg"] == Row("b.jpg", status="refused", error_code="not_an_image", error="Send JPEG.")
    assert found["gone.jpg"] == Row(
        "gone.jpg", status="unreadable", error_code="unreadable", error="No such file or directory"
    )
    assert found["a.jpg"].succeeded
    assert found["c.jpg"].succeeded


def test_what_a_full_queue_did_not_take_is_sent_later_and_nothing_twice(tmp_path: Path, fake_time: FakeTime) -> None:
    write_images(tmp_path, *(f"{number:03}.jpg" for number in range(60)))
    gateway = FakeSubmissions(room=15, more_room=25)
    found = rows(tmp_path, gateway, senders=1)
    assert len(found) == 60
    (submission,) = gateway.submissions.values()
    assert sorted(submission.jobs) == sorted(found)
    assert gateway.sent.count("000.jpg") == 1  # it was taken by the answer that refused the rest
    assert sum(fake_time.pauses_s) >= 2


def test_a_chunk_whose_answer_was_lost_is_sent_again_as_the_same_jobs(tmp_path: Path, fake_time: FakeTime) -> None:
    write_images(tmp_path, *(f"{number}.jpg" for number in range(9)))
    gateway, lost = FakeSubmissions(), iter([httpx.ReadError("lost")])

    def lose(request: httpx.Request) -> httpx.Response | None:
        if request.url.path.endswith("/jobs") and (error := next(lost, None)):
            raise error
        return None

    gateway.before_answer = lose
    assert len(rows(tmp_path, gateway)) == 9
    assert gateway.sent.count("0.jpg") == 2
    (submission,) = gateway.submissions.values()
    assert len(submission.jobs) == 9


def test_a_request_that_is_too_large_is_sent_in_halves_until_the_culprit_is_found(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{number}.jpg" for number in range(9)))
    (tmp_path / "5.jpg").write_bytes(bytes(50_000))
    gateway = FakeSubmissions()
    respond = gateway._respond

    def limit(request: httpx.Request) -> httpx.Response:
        return problem(413, "upload_too_large") if len(request.content) > 50_000 else respond(request)

    gateway._respond = limit  # type: ignore[method-assign]
    found = rows(tmp_path, gateway)
    assert [row.file for row in found.values() if not row.succeeded] == ["5.jpg"]
    assert found["5.jpg"].error_code == "upload_too_large"


def test_an_image_too_large_for_memory_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pawqueue.image.IN_MEMORY_BYTES", 1000)
    write_images(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").write_bytes(bytes(range(256)) * 10_000)
    gateway = FakeSubmissions()
    assert all(row.succeeded for row in rows(tmp_path, gateway).values())
    (submission,) = gateway.submissions.values()
    assert submission.jobs["b.jpg"].content == bytes(range(256)) * 10_000


def test_requests_are_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pawqueue.sending.MOST_BYTES", 7)
    write_images(tmp_path, *(f"{number}.jpg" for number in range(9)))
    gateway = FakeSubmissions()
    assert len(rows(tmp_path, gateway)) == 9
    assert gateway.paths().count("POST jobs") == 5


def test_odd_names_come_back_as_they_were(tmp_path: Path) -> None:
    names = ["two\nlines.jpg", "sub/Kätzchen 猫.jpg", "=1+1.jpg", "back\\slash.jpg", "long" + "x" * 200 + ".jpg"]
    write_images(tmp_path, *names)
    gateway = FakeSubmissions()
    assert sorted(rows(tmp_path, gateway)) == sorted(names)
    assert not [name for name in gateway.sent if "\n" in name or "\\" in name or len(name) > 200]


def test_results_that_end_out_of_order_are_each_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pawqueue.following._MOST_AHEAD", 10)
    monkeypatch.setattr("pawqueue.folder._LONGEST_PAUSE_S", 0.01)
    write_images(tmp_path, *(f"{number:02}.jpg" for number in range(60)))
    gateway = FakeSubmissions()
    gateway.held = {"00.jpg", "30.jpg"}
    looks = itertools.count()

    def let_go(request: httpx.Request) -> None:
        if request.method == "GET" and "submissions" in request.url.path and next(looks) in (6, 12):
            gateway.held.pop()

    gateway.before_answer = let_go
    assert len(rows(tmp_path, gateway)) == 60
    assert next(looks) < 100


def test_a_reading_that_breaks_off_is_gone_on_with(tmp_path: Path, fake_time: FakeTime) -> None:
    write_images(tmp_path, *(f"{number}.jpg" for number in range(5)))
    gateway, faults = FakeSubmissions(), iter([httpx.ReadError("cut"), None, httpx.ReadTimeout("slow")])

    def cut(request: httpx.Request) -> None:
        if request.url.path.endswith("/results") and (error := next(faults, None)):
            raise error

    gateway.before_answer = cut
    assert len(rows(tmp_path, gateway)) == 5


def test_giving_up_says_what_was_wrong(tmp_path: Path, fake_time: FakeTime) -> None:
    write_images(tmp_path, "a.jpg")

    def gone(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused")

    gateway = FakeSubmissions()
    gateway.before_answer = gone
    with pytest.raises(UnreachableError, match="is the gateway running"):
        rows(tmp_path, gateway)


def test_a_run_that_nobody_works_on_ends(tmp_path: Path, fake_time: FakeTime) -> None:
    write_images(tmp_path, "a.jpg")
    gateway = FakeSubmissions()
    gateway.held, gateway.model_loaded = {"a.jpg"}, False
    with pytest.raises(ClientError, match="is a worker running"):
        rows(tmp_path, gateway, give_up_after_s=20)
    assert sum(fake_time.pauses_s) <= 40  # of which some before it was accepted


def test_a_long_queue_is_no_reason_to_give_up_while_a_worker_serves(tmp_path: Path, fake_time: FakeTime) -> None:
    write_images(tmp_path, "a.jpg")
    gateway = FakeSubmissions()
    gateway.held = {"a.jpg"}

    def let_go_late(request: httpx.Request) -> None:
        if fake_time.now_s > 1100:
            gateway.held.clear()

    gateway.before_answer = let_go_late
    assert rows(tmp_path, gateway, give_up_after_s=20)["a.jpg"].succeeded


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_refusal_that_meets_every_file_ends_the_run(tmp_path: Path, status: int) -> None:
    write_images(tmp_path, "a.jpg", "b.jpg")
    gateway = FakeSubmissions()
    gateway.before_answer = lambda _request: problem(status, "unauthorized")
    with pytest.raises(RefusedError):
        rows(tmp_path, gateway)
    assert len(gateway.requests) == 1


def test_a_submission_that_somebody_cancels_ends_the_run(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{number:03}.jpg" for number in range(250)))
    gateway = FakeSubmissions()

    def cancel(request: httpx.Request) -> None:
        if request.url.path.endswith("/jobs"):
            next(iter(gateway.submissions.values())).status = "canceled"

    gateway.before_answer = cancel
    with pytest.raises(ClientError, match="conflict"):
        rows(tmp_path, gateway, senders=1)


def test_stop_ends_the_run_in_order(tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg", "b.jpg")
    gateway = FakeSubmissions()
    gateway.held = {"b.jpg"}
    with RunState(None) as state:
        remember(state, find_files([tmp_path]))
        going = run(gateway, state)
        results = going.results()
        assert next(result[1].file for result in results if result) == "a.jpg"
        going.stop()
        with pytest.raises(KeyboardInterrupt):
            job_results(results)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sender-") and not _ends(thread)]


def _ends(thread: threading.Thread) -> bool:
    thread.join(10)
    return not thread.is_alive()


def test_a_fault_of_the_program_is_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("pawqueue.sending.read_image", broken)
    write_images(tmp_path, "a.jpg")
    with pytest.raises(ZeroDivisionError):
        rows(tmp_path, FakeSubmissions())


class Interrupted:
    """A run over ten files of which six were sent and three have a result when its process died."""

    def __init__(self, folder: Path) -> None:
        self.images, self.memory = folder / "in", folder / "r.csv.run"
        write_images(self.images, *(f"{number}.jpg" for number in range(10)))
        for number in range(10):
            (self.images / f"{number}.jpg").write_bytes(b"jpg%d" % number)
        self.gateway = FakeSubmissions(room=6, more_room=0)
        self.gateway.held = {"3.jpg", "4.jpg", "5.jpg"}
        with RunState(self.memory) as state:
            remember(state, find_files([self.images]))
            for result in run(self.gateway, state, senders=1).results():
                if result and result[1].file == "2.jpg":
                    break
        self.gateway.held, self.gateway.room = set(), 10**9
        self.gateway.sent.clear()

    def resume(self) -> dict[str, Row]:
        """Go on; returns what all files of the run have come to."""
        with RunState(self.memory) as state:
            compare(state, find_files([self.images]))
            job_results(run(self.gateway, state).results())
            return {row.file: row for _, row in state.rows()}

    def jobs(self) -> list[str]:
        """Every job that was ever made, by its image."""
        return sorted(name for submission in self.gateway.submissions.values() for name in submission.jobs)


@pytest.fixture
def interrupted(tmp_path: Path) -> Interrupted:
    return Interrupted(tmp_path)


def test_a_run_that_goes_on_sends_only_what_is_missing(interrupted: Interrupted) -> None:
    found = interrupted.resume()
    assert len(found) == 10
    assert all(row.succeeded for row in found.values())
    assert sorted(interrupted.gateway.sent) == ["6.jpg", "7.jpg", "8.jpg", "9.jpg"]
    assert interrupted.jobs() == [f"{number}.jpg" for number in range(10)]


def test_a_file_that_was_touched_but_holds_the_same_is_not_sent_again(interrupted: Interrupted) -> None:
    for number in range(10):
        content = (interrupted.images / f"{number}.jpg").read_bytes()
        (interrupted.images / f"{number}.jpg").unlink()
        (interrupted.images / f"{number}.jpg").write_bytes(content)
    interrupted.resume()
    assert sorted(interrupted.gateway.sent) == ["6.jpg", "7.jpg", "8.jpg", "9.jpg"]


def test_a_file_that_holds_something_else_is_sent_again(interrupted: Interrupted) -> None:
    (interrupted.images / "1.jpg").write_bytes(b"JPG1")  # of the same length
    (interrupted.images / "4.jpg").write_bytes(b"JPG4")
    found = interrupted.resume()
    assert len(found) == 10
    assert all(row.succeeded for row in found.values())
    assert len(interrupted.gateway.sent) == 6
    contents = [
        job.content for submission in interrupted.gateway.submissions.values() for job in submission.jobs.values()
    ]
    assert {b"JPG1", b"JPG4"} <= set(contents)


def test_a_new_file_is_sent_and_a_copy_of_one_that_is_done_is_not(interrupted: Interrupted) -> None:
    (interrupted.images / "new.jpg").write_bytes(b"new")
    (interrupted.images / "copy.jpg").write_bytes(b"jpg0")
    found = interrupted.resume()
    assert len(found) == 12
    assert found["copy.jpg"].job_id == found["0.jpg"].job_id
    assert sorted(interrupted.gateway.sent) == ["6.jpg", "7.jpg", "8.jpg", "9.jpg", "new.jpg"]


def test_a_closed_submission_is_read_to_its_end_and_the_rest_goes_into_another(interrupted: Interrupted) -> None:
    next(iter(interrupted.gateway.submissions.values())).status = "closed"
    assert len(interrupted.resume()) == 10
    assert len(interrupted.gateway.submissions) == 2
    assert interrupted.jobs() == [f"{number}.jpg" for number in range(10)]


def test_what_the_service_has_forgotten_is_sent_again(interrupted: Interrupted) -> None:
    interrupted.gateway.submissions.clear()
    assert len(interrupted.resume()) == 10
    assert sorted(interrupted.gateway.sent) == [f"{number}.jpg" for number in range(3, 10)]


class Died:
    """A run whose process died when its three images had been taken, and before it was told so."""

    def __init__(self, folder: Path) -> None:
        self.images, self.memory = folder / "in", folder / "run"
        write_images(self.images, "a.jpg", "b.jpg", "c.jpg")
        self.gateway = FakeSubmissions()
        self.gateway.held = {"a.jpg", "b.jpg", "c.jpg"}
        self.gateway.before_answer = self._die
        with RunState(self.memory) as state:
            remember(state, find_files([self.images]))
            with pytest.raises(RuntimeError, match="dies"):
                job_results(run(self.gateway, state).results())
        self.gateway.before_answer = lambda _request: None
        self.gateway.held = set()

    def _die(self, request: httpx.Request) -> None:
        if request.url.path.endswith("/jobs"):
            raise RuntimeError("the process dies here")

    def resume(self) -> dict[str, Row]:
        with RunState(self.memory) as state:
            compare(state, find_files([self.images]))
            return job_results(run(self.gateway, state).results())


def test_what_ended_while_nobody_looked_is_not_sent_again_though_its_answer_was_lost(tmp_path: Path) -> None:
    died = Died(tmp_path)
    assert len(died.resume()) == 3
    assert len(died.gateway.sent) == 3


def test_a_file_that_changed_while_its_answer_was_lost_is_a_job_of_its_own(tmp_path: Path) -> None:
    died = Died(tmp_path)
    (died.images / "a.jpg").write_bytes(b"JPG")
    died.gateway.results = {"a.jpg": predicted("dog")}
    found = died.resume()
    assert [found[name].label for name in ("a.jpg", "b.jpg", "c.jpg")] == ["cat", "cat", "cat"]
    assert len(died.gateway.sent) == 4


def test_results_that_the_service_has_lost_are_said_to_be(tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg", "b.jpg")
    gateway = FakeSubmissions()

    def lose(request: httpx.Request) -> httpx.Response | None:
        for submission in gateway.submissions.values():
            if submission.status != "open":
                submission.jobs.pop("b.jpg", None)
        return None

    gateway.held = {"b.jpg"}
    gateway.before_answer = lose
    found = rows(tmp_path, gateway)
    assert (found["b.jpg"].status, found["b.jpg"].error_code) == ("failed", "not_found")
    assert found["a.jpg"].succeeded


def test_two_runs_do_not_share_a_memory(tmp_path: Path) -> None:
    with RunState(tmp_path / "run"), pytest.raises(ClientError, match="Another run is using"):
        RunState(tmp_path / "run")


def test_a_file_that_is_no_memory_of_a_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("something else that is long enough to be looked at" * 20)
    with pytest.raises(ClientError, match="is no memory of a run"):
        RunState(tmp_path / "run")


def test_a_submission_has_an_id_of_the_clients_choice(tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg")
    gateway = FakeSubmissions()
    rows(tmp_path, gateway)
    (submission_id,) = gateway.submissions
    assert str(uuid.UUID(submission_id)) == submission_id
