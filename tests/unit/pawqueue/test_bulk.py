"""A bulk run: its rows, and how it resends images, gives up, stops and resumes."""

import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from contract.result_row import ResultRow
from pawqueue.bulk.files import FoundFile, find_files
from pawqueue.bulk.follow import ResultReader
from pawqueue.bulk.run import BulkOptions, BulkRun, Event, Progress, Result, Skipped
from pawqueue.bulk.state import RunState
from pawqueue.client.connection import Connection
from pawqueue.client.deadline import Deadline
from pawqueue.client.errors import ClientError, RefusedError, UnreachableError
from pawqueue.client.jobs import JobOptions
from pawqueue.client.submissions import Submissions
from tests.support.images import draw
from tests.support.services import wait_until
from tests.unit.pawqueue.service import URL, Network, Service, failed, predicted, problem, write_images

IMAGE = draw((8, 8))


def new_run(
    service: Service,
    state_file: Path | None = None,
    *,
    network: httpx.BaseTransport | None = None,
    give_up_after_s: float = 5,
    concurrency: int = 2,
) -> BulkRun:
    connection = Connection(URL, transport=network or service.transport())
    return BulkRun(connection, state_file, BulkOptions("test", JobOptions("bulk"), give_up_after_s, concurrency))


def results(events: Iterable[Event]) -> dict[str, ResultRow]:
    """The rows by file; each file has only one."""
    rows = [event.row for event in events if isinstance(event, Result)]
    assert len({row.file for row in rows}) == len(rows)
    return {row.file: row for row in rows}


def rows(
    folder: Path,
    service: Service,
    *,
    network: httpx.BaseTransport | None = None,
    give_up_after_s: float = 5,
    concurrency: int = 2,
) -> dict[str, ResultRow]:
    with new_run(service, network=network, give_up_after_s=give_up_after_s, concurrency=concurrency) as run:
        run.add(find_files([folder]))
        return results(run.events())


def test_each_file_is_sent_once_and_gets_one_row(service: Service, tmp_path: Path) -> None:
    names = [f"{number:03}.jpg" for number in range(250)]
    write_images(tmp_path, *names)
    service.results = {"007.jpg": failed(), "008.jpg": predicted("dog")}
    found = rows(tmp_path, service)
    assert sorted(found) == service.sent_names() == names
    assert [name for name, row in found.items() if row.status == "failed"] == ["007.jpg"]
    assert found["008.jpg"].label == "dog"
    assert found["008.jpg"].model == "cats-dogs@1.0"
    assert found["008.jpg"].latency_ms is not None
    (submission,) = service.client().submissions()
    assert (submission.name, submission.queue, submission.status) == ("test", "bulk", "finished")
    assert service.uploads() == 3


def test_a_run_reports_its_progress(service: Service, tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg", "b.jpg")
    service.held = {"b.jpg"}
    with new_run(service) as run:
        assert run.add(find_files([tmp_path])) == 2
        events = []
        for event in run.events():
            events.append(event)
            if isinstance(event, Progress) and event.accepted == 2:
                service.held = set()
        assert run.labels == ["cat", "dog"]
    assert any(isinstance(event, Progress) for event in events)
    assert {event.index for event in events if isinstance(event, Result)} == {1, 2}


def test_rejected_and_unreadable_files_get_a_row(service: Service, tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg", "c.jpg")
    (tmp_path / "b.jpg").write_text("text")
    (tmp_path / "huge.jpg").write_bytes(IMAGE + bytes(100_000))
    with new_run(service) as run:
        run.add([*find_files([tmp_path]), FoundFile(tmp_path / "gone.jpg", "gone.jpg")])
        found = results(run.events())
    assert (found["b.jpg"].status, found["b.jpg"].error_code, found["b.jpg"].job_id) == ("refused", "not_an_image", "")
    assert (found["huge.jpg"].status, found["huge.jpg"].error_code) == ("refused", "upload_too_large")
    assert found["gone.jpg"] == ResultRow(
        "gone.jpg", status="unreadable", error_code="unreadable", error="No such file or directory"
    )
    assert found["a.jpg"].succeeded
    assert found["c.jpg"].succeeded


@pytest.fixture
def small_service(clean_redis: str, tmp_path: Path) -> Iterator[Service]:
    """A gateway whose queue holds seven jobs, in a separate Redis database."""
    database = f"{clean_redis.removesuffix('/0')}/1"
    with closing(Service(database, tmp_path / "store", queue_max_jobs="7", queue_share="1")) as service:
        yield service


def test_images_that_a_full_queue_refused_are_resent_later(small_service: Service, tmp_path: Path) -> None:
    service = small_service
    names = [f"{number:03}.jpg" for number in range(10)]
    write_images(tmp_path / "in", *names)
    service.held = set(names)
    started_s = time.monotonic()

    def empty_queue(request: httpx.Request) -> None:
        if request.url.path.endswith("/jobs"):
            service.held = set()

    found = rows(tmp_path / "in", service, network=Network(service.transport(), after=empty_queue), concurrency=1)
    assert len(found) == 10
    assert all(row.succeeded for row in found.values())
    assert service.sent_names().count("000.jpg") == 1, "the image was accepted in the first request"
    assert time.monotonic() - started_s >= 1, "Retry-After was respected"


def test_a_request_whose_response_was_lost_is_resent_as_the_same_jobs(service: Service, tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{number}.jpg" for number in range(9)))
    faults = iter([httpx.ReadError("lost")])

    def lose(request: httpx.Request) -> None:
        if request.url.path.endswith("/jobs") and (error := next(faults, None)):
            raise error

    assert len(rows(tmp_path, service, network=Network(service.transport(), after=lose))) == 9
    assert service.sent_names().count("0.jpg") == 2
    assert service.client().submissions()[0].counts.total == 9


def test_a_rejected_request_is_split_until_the_rejected_image_is_found(service: Service, tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{number}.jpg" for number in range(9)))
    (tmp_path / "5.jpg").write_bytes(draw((8, 8), form="BMP") + bytes(50_000))

    def limit(request: httpx.Request) -> httpx.Response | None:
        """A proxy with a smaller limit."""
        return problem(413, "upload_too_large") if len(request.read()) > 50_000 else None

    found = rows(tmp_path, service, network=Network(service.transport(), before=limit))
    assert [row.file for row in found.values() if not row.succeeded] == ["5.jpg"]
    assert found["5.jpg"].error_code == "upload_too_large"


def test_a_request_contains_at_most_8_mb_of_images(service: Service, tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"{number}.jpg").write_bytes(bytes(3_000_000))
    assert len(rows(tmp_path, service)) == 9
    assert max(len(request.body) for request in service.requests) < 8_100_000
    assert service.uploads() >= 5


def test_unusual_file_names_are_unchanged_in_the_results(service: Service, tmp_path: Path) -> None:
    names = ["two\nlines.jpg", "sub/Kätzchen 猫.jpg", "=1+1.jpg", "back\\slash.jpg", "long" + "x" * 200 + ".jpg"]
    write_images(tmp_path, *names)
    found = rows(tmp_path, service)
    assert sorted(found) == sorted(names)
    assert all(row.succeeded for row in found.values())
    assert not [name for name in service.sent_names() if "\n" in name or "\\" in name or len(name) > 200]


def test_results_that_arrive_out_of_order_are_each_read_once(service: Service) -> None:
    names = [f"{number:02}.jpg" for number in range(60)]
    submissions, deadline, submission_id = Submissions(service.connection()), Deadline(30), str(uuid.uuid4())
    submissions.open(submission_id, "test", JobOptions("bulk"), deadline)
    service.held = {names[0], names[30]}
    submissions.add(submission_id, [(name, IMAGE) for name in names], deadline)
    with closing(RunState(None)) as state:
        state.add((Path(name), name) for name in names)
        found: list[str] = []
        for held, expected in (({names[0], names[30]}, 58), ({names[0]}, 59), (set[str](), 60)):
            service.held = held
            wait_until(
                lambda expected=expected: submissions.get(submission_id, deadline).ended == expected, "the results"
            )
            reader = ResultReader(submissions, submission_id, state, deadline)  # continues where the last one stopped
            found += [row.file for _, row in reader.read_new(expected)]
            assert len(found) == expected
            assert not list(reader.read_new(expected))
    assert sorted(found) == names
    assert found[-2:] == [names[30], names[0]]


def test_each_result_is_sent_once(service: Service, tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{number}.jpg" for number in range(20)))
    service.held = {"0.jpg"}
    lines: list[bytes] = []

    def count(request: httpx.Request) -> httpx.Response | None:
        if not request.url.path.endswith("/results"):
            return None
        response = service.transport().handle_request(request)
        lines.extend(response.read().splitlines())
        if len(lines) == 19:
            service.held = set()
        return httpx.Response(response.status_code, content=response.content)

    assert len(rows(tmp_path, service, network=Network(service.transport(), before=count))) == 20
    assert len(lines) == 20


def test_a_gateway_of_version_0_1_which_sends_no_cursors_is_followed(service: Service, tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{number}.jpg" for number in range(20)))
    inner = service.transport()

    def ignore_cursor(request: httpx.Request) -> httpx.Response | None:
        if "cursor" not in request.url.params:
            return None
        url = request.url.copy_remove_param("cursor")
        return inner.handle_request(httpx.Request(request.method, url, headers=request.headers))

    assert len(rows(tmp_path, service, network=Network(inner, before=ignore_cursor))) == 20


def test_results_that_redis_numbered_again_after_a_restore_are_read(service: Service, tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    service.held = {"b.jpg"}
    with new_run(service, tmp_path / "run") as run:
        run.add(find_files([tmp_path]))
        for event in run.events():
            if isinstance(event, Result) and event.row.file == "c.jpg":
                break
        run.stop()
    with closing(RunState(tmp_path / "run")) as state:
        state.set_note("cursor", "3")
    service.held = set()
    with new_run(service, tmp_path / "run") as run:
        run.add(find_files([tmp_path]))
        assert [row.succeeded for row in results(run.events()).values()] == [True]


def test_reading_the_results_survives_a_lost_connection(service: Service, tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{number}.jpg" for number in range(5)))
    faults = iter([httpx.ReadError("cut"), None, httpx.ReadTimeout("slow")])

    def cut(request: httpx.Request) -> None:
        if request.url.path.endswith("/results") and (error := next(faults, None)):
            raise error

    assert len(rows(tmp_path, service, network=Network(service.transport(), after=cut))) == 5


def test_a_run_gives_up_on_an_unreachable_gateway(service: Service, tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg")

    def refuse(request: httpx.Request) -> None:
        raise httpx.ConnectError("Connection refused")

    with pytest.raises(UnreachableError, match="Check that the gateway is running"):
        rows(tmp_path, service, network=Network(service.transport(), before=refuse), give_up_after_s=0.5)


def test_a_run_gives_up_when_no_worker_is_running(service: Service, tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg")
    service.stop_worker()
    service.held = {"a.jpg"}
    with pytest.raises(ClientError, match="Check that a worker is running"):
        rows(tmp_path, service, give_up_after_s=0.6)


def test_a_run_waits_behind_a_long_queue_while_a_worker_is_running(service: Service, tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg")
    service.held = {"a.jpg"}
    started_s = time.monotonic()

    def release_late(request: httpx.Request) -> None:
        if time.monotonic() > started_s + 1.5:
            service.held = set()

    network = Network(service.transport(), after=release_late)
    assert rows(tmp_path, service, network=network, give_up_after_s=0.6)["a.jpg"].succeeded


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_run_ends_if_the_gateway_rejects_the_caller(service: Service, tmp_path: Path, status: int) -> None:
    write_images(tmp_path, "a.jpg", "b.jpg")
    paths: list[str] = []

    def reject(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        return problem(status, "unauthorized")

    with pytest.raises(RefusedError):
        rows(tmp_path, service, network=Network(service.transport(), before=reject))
    assert len(paths) == 1


def test_a_run_ends_if_its_submission_is_canceled(service: Service, tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{number:03}.jpg" for number in range(250)))

    def cancel(request: httpx.Request) -> None:
        if request.url.path.endswith("/jobs"):
            service.client().cancel(request.url.path.split("/")[3])

    with pytest.raises(ClientError, match="conflict"):
        rows(tmp_path, service, network=Network(service.transport(), after=cancel), concurrency=1)


def test_stop_ends_a_run_and_its_threads(service: Service, tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg", "b.jpg")
    service.held = {"b.jpg"}
    with new_run(service) as run:
        run.add(find_files([tmp_path]))
        events = run.events()
        assert next(event.row.file for event in events if isinstance(event, Result)) == "a.jpg"
        run.stop()
        with pytest.raises(KeyboardInterrupt):
            results(events)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sender-") and not stops(thread)]


def stops(thread: threading.Thread) -> bool:
    thread.join(10)
    return not thread.is_alive()


def test_an_unexpected_error_in_a_sender_thread_is_raised(service: Service, tmp_path: Path) -> None:
    def broken(request: httpx.Request) -> None:
        if request.url.path.endswith("/jobs"):
            raise ZeroDivisionError

    write_images(tmp_path, "a.jpg")
    with pytest.raises(ZeroDivisionError):
        rows(tmp_path, service, network=Network(service.transport(), before=broken))


class Interrupted:
    """A run over ten files that was interrupted when seven were accepted and three had results."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service, self.images, self.state_file = service, folder / "in", folder / "r.csv.run"
        write_images(self.images, *(f"{number}.jpg" for number in range(10)))
        service.held = {"3.jpg", "4.jpg", "5.jpg", "6.jpg"}
        with new_run(service, self.state_file, concurrency=1) as run:
            run.add(find_files([self.images]))
            with closing(run.events()) as events:  # type: ignore[type-var]
                done = 0
                while done < 3:
                    done += isinstance(next(events), Result)
        self.submission_id = service.client().submissions()[0].id
        service.held = set()
        wait_until(lambda: service.client().submission(self.submission_id).ended == 7, "the accepted jobs to finish")
        service.requests.clear()

    def resume(self) -> dict[str, ResultRow]:
        """Resume the run; returns the rows of all files."""
        with new_run(self.service, self.state_file) as run:
            run.add(find_files([self.images]))
            skipped = [event.row.file for event in run.events() if isinstance(event, Skipped)]
            found = {row.file: row for _, row in run.rows()}
        assert {"0.jpg", "2.jpg"} <= set(skipped) | set(self.service.sent_names())
        assert not self.state_file.exists()
        return found


@pytest.fixture
def interrupted(small_service: Service, tmp_path: Path) -> Interrupted:
    return Interrupted(small_service, tmp_path)


MISSING = ["7.jpg", "8.jpg", "9.jpg"]


def test_a_resumed_run_sends_only_missing_files(interrupted: Interrupted) -> None:
    found = interrupted.resume()
    assert len(found) == 10
    assert all(row.succeeded for row in found.values())
    assert interrupted.service.sent_names() == MISSING
    (submission,) = interrupted.service.client().submissions()
    assert submission.counts.succeeded == 10


def test_a_file_that_was_touched_but_not_changed_is_not_resent(interrupted: Interrupted) -> None:
    for path in interrupted.images.iterdir():
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    interrupted.resume()
    assert interrupted.service.sent_names() == MISSING


def test_a_changed_file_is_resent(interrupted: Interrupted) -> None:
    changed = {name: draw((8, 8), (200, 200, number)) for number, name in enumerate(("1.jpg", "4.jpg"))}
    for name, content in changed.items():
        (interrupted.images / name).write_bytes(content)
    found = interrupted.resume()
    assert len(found) == 10
    assert all(row.succeeded for row in found.values())
    sent = interrupted.service.sent()
    assert len(sent) == 5
    assert set(changed.values()) <= {content for _, content in sent}


def test_a_new_copy_of_a_finished_file_gets_the_same_result(interrupted: Interrupted) -> None:
    (interrupted.images / "new.jpg").write_bytes(draw((9, 9), (7, 7, 7)))
    (interrupted.images / "copy.jpg").write_bytes((interrupted.images / "0.jpg").read_bytes())
    found = interrupted.resume()
    assert len(found) == 12
    assert found["copy.jpg"].job_id == found["0.jpg"].job_id
    assert interrupted.service.sent_names() == [*MISSING, "new.jpg"]


def test_missing_files_of_a_closed_submission_are_sent_in_a_new_one(interrupted: Interrupted) -> None:
    Submissions(interrupted.service.connection()).close(interrupted.submission_id, Deadline(5))
    assert len(interrupted.resume()) == 10
    assert len(interrupted.service.client().submissions()) == 2
    assert interrupted.service.sent_names() == MISSING


def test_unfinished_files_are_resent_when_the_service_has_deleted_the_submission(interrupted: Interrupted) -> None:
    interrupted.service.delete_records()
    assert len(interrupted.resume()) == 10
    resent = interrupted.service.sent_names()
    assert resent == [f"{number}.jpg" for number in range(10 - len(resent), 10)]  # all without a result
    assert 0 < len(resent) <= 7


class Crashed:
    """A run that crashed after the gateway had accepted its three images, before the response arrived."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service, self.images, self.state_file = service, folder / "in", folder / "run"
        write_images(self.images, "a.jpg", "b.jpg", "c.jpg")
        service.held = {"a.jpg", "b.jpg", "c.jpg"}

        def crash(request: httpx.Request) -> None:
            if request.url.path.endswith("/jobs"):
                raise RuntimeError("crash")

        with new_run(service, self.state_file, network=Network(service.transport(), after=crash)) as run:
            run.add(find_files([self.images]))
            with pytest.raises(RuntimeError, match="crash"):
                results(run.events())
        service.held = set()

    def resume(self) -> dict[str, ResultRow]:
        wait_until(lambda: self.service.client().submissions()[0].ended == 3, "the jobs to finish")
        with new_run(self.service, self.state_file) as run:
            run.add(find_files([self.images]))
            return results(run.events())


def test_accepted_images_are_not_resent_after_a_lost_response(service: Service, tmp_path: Path) -> None:
    assert len(Crashed(service, tmp_path).resume()) == 3
    assert len(service.sent()) == 3


def test_a_file_that_changed_after_a_lost_response_is_a_new_job(service: Service, tmp_path: Path) -> None:
    crashed = Crashed(service, tmp_path)
    (crashed.images / "a.jpg").write_bytes(draw((9, 9), (1, 1, 1)))
    service.results["a.jpg"] = predicted("dog")
    found = crashed.resume()
    assert [found[name].label for name in ("a.jpg", "b.jpg", "c.jpg")] == ["cat", "cat", "cat"]
    assert len(service.sent()) == 4


def test_a_file_whose_result_was_deleted_gets_a_failed_row(service: Service, tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg", "b.jpg")
    service.held = {"b.jpg"}

    def lose(request: httpx.Request) -> None:
        if request.url.path.endswith("/close"):
            service.delete_job(request.url.path.split("/")[3], "b.jpg")

    found = rows(tmp_path, service, network=Network(service.transport(), after=lose))
    assert (found["b.jpg"].status, found["b.jpg"].error_code) == ("failed", "not_found")
    assert found["a.jpg"].succeeded


STATE_OF_0_1_0 = """
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE files (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, name TEXT NOT NULL, custom_id TEXT NOT NULL UNIQUE,
    stamp TEXT, sha256 BLOB, state INTEGER NOT NULL DEFAULT 0, row TEXT
);
CREATE INDEX to_send ON files (id) WHERE state = 0;
CREATE INDEX waiting ON files (id) WHERE state = 1;
CREATE INDEX by_content ON files (sha256) WHERE state = 2;
INSERT INTO notes VALUES ('schema', '1'), ('place', '0'), ('labels', '["cat", "dog"]');
"""


def test_a_state_file_of_version_0_1_0_is_resumed(service: Service, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in", "a.jpg", "b.jpg")
    row = json.dumps(["a.jpg", "dog", 0.9, "succeeded", "", "", "019abc12-3456-7890-abcd-ef0123456789", 250, "m@1"])
    with closing(sqlite3.connect(tmp_path / "run")) as database:
        database.executescript(STATE_OF_0_1_0)
        columns = "INSERT INTO files (path, name, custom_id, state, row) VALUES (?, ?, ?, ?, ?)"
        database.execute(columns, (bytes(folder / "a.jpg"), "a.jpg", "a.jpg", 2, row))
        database.execute(columns, (bytes(folder / "b.jpg"), "b.jpg", "b.jpg", 0, None))
        database.commit()
    with new_run(service, tmp_path / "run") as run:
        assert run.add(find_files([folder])) == 2
        results(run.events())
        assert [(row.file, row.label) for _, row in run.rows()] == [("a.jpg", "dog"), ("b.jpg", "cat")]
    assert service.sent_names() == ["b.jpg"]


def test_a_run_that_version_0_1_0_interrupted_between_its_results_is_resumed(interrupted: Interrupted) -> None:
    with closing(sqlite3.connect(interrupted.state_file)) as database:
        database.execute("UPDATE notes SET name = 'place', value = '2' WHERE name = 'cursor'")
        database.commit()
    found = interrupted.resume()
    assert len(found) == 10
    assert all(row.succeeded for row in found.values())
    assert interrupted.service.sent_names() == MISSING


def test_two_runs_cannot_share_a_state_file(tmp_path: Path) -> None:
    state = RunState(tmp_path / "run")
    with closing(state), pytest.raises(ClientError, match="Another run is using"):
        RunState(tmp_path / "run")


def test_a_file_that_is_not_a_state_file_raises_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("not a database" * 100)
    with pytest.raises(ClientError, match="is not the state file of a run"):
        RunState(tmp_path / "run")


def test_the_client_chooses_the_id_of_the_submission(service: Service, tmp_path: Path) -> None:
    rows(write_images(tmp_path, "a.jpg"), service)
    (submission,) = service.client().submissions()
    assert str(uuid.UUID(submission.id)) == submission.id
