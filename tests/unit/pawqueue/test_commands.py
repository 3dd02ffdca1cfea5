"""The commands for jobs, submissions and the service: output and exit codes."""

import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from contract.job import new_job_id, now_ms
from contract.ledger.types import Sweep
from contract.status import Problem, Status
from pawqueue.bulk.results import read_rows
from pawqueue.client.deadline import Deadline
from pawqueue.client.submissions import Submissions
from tests.support.images import draw
from tests.support.ledger import claim_jobs
from tests.support.services import free_port
from tests.unit.pawqueue.conftest import Command
from tests.unit.pawqueue.service import Service, failed, predicted, write_images

Capture = pytest.CaptureFixture[str]
IMAGE = draw((8, 8))

pytestmark = pytest.mark.usefixtures("url")


@pytest.fixture
def submission_id(service: Service, tmp_path: Path) -> str:
    """A submission with a cat, a failed image, a rejected one, and one that is still queued."""
    folder = write_images(tmp_path / "holiday", "a.jpg", "b.jpg", "d.jpg")
    (folder / "c.jpg").write_text("text")
    service.results["b.jpg"] = failed()
    service.held = {"d.jpg"}
    rows = service.client().submit_folder(folder)
    for _ in range(3):
        next(rows)
    rows.close()
    (submission,) = service.client().submissions()
    Submissions(service.connection()).close(submission.id, Deadline(5))
    return submission.id


def test_status_shows_a_job(service: Service, capsys: Capture, pawqueue: Command) -> None:
    job_id = service.client().predict(IMAGE).id
    assert pawqueue("status", job_id) == 0
    text = capsys.readouterr().out
    for part in (job_id, "succeeded", "cats-dogs@1.0", "########..  75.0 %", "3.0 ms decoding", "4 images"):
        assert part in text
    assert pawqueue("status", job_id, "--json") == 0
    assert json.loads(capsys.readouterr().out)["prediction"]["label"] == "cat"


def test_status_shows_the_familiarity_of_an_image(service: Service, capsys: Capture, pawqueue: Command) -> None:
    result = predicted()
    assert result.prediction
    service.results = {"cat.jpg": replace(result, prediction=replace(result.prediction, familiarity=0.42))}
    job = service.client().predict(IMAGE, name="cat.jpg")
    assert pawqueue("status", job.id) == 0
    assert "42.0 %" in capsys.readouterr().out
    assert job.result
    assert job.result.prediction
    assert job.result.prediction.familiarity == 0.42


def test_warnings_are_shown_by_every_command_that_shows_predictions(
    service: Service, tmp_path: Path, capsys: Capture, pawqueue: Command
) -> None:
    folder = write_images(tmp_path / "in", "a.jpg", "b.jpg")
    doubted = replace(predicted(), warnings=("sample_range_assumed", "added_later"))
    service.results = {"a.jpg": doubted, str(folder / "a.jpg"): doubted}
    text = "sample_range_assumed: The file does not state"
    assert pawqueue("predict", folder / "a.jpg") == 0
    assert f"a.jpg: warning, {text}" in capsys.readouterr().err
    assert pawqueue("submit", folder, "--out", tmp_path / "r.csv") == 0
    shown = capsys.readouterr().out
    assert f"Warning for 1 image: {text}" in shown
    assert "Warning for 1 image: added_later." in shown
    rows = {row.file: row for row in read_rows(tmp_path / "r.csv")}
    assert (rows["a.jpg"].warnings, rows["b.jpg"].warnings) == ("sample_range_assumed added_later", "")
    assert pawqueue("submit", folder, "--out", tmp_path / "s.csv", "--json", "--quiet") == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == {"sample_range_assumed": 1, "added_later": 1}
    assert pawqueue("status", rows["a.jpg"].job_id) == 0
    assert text in " ".join(capsys.readouterr().out.split())


def test_the_exit_code_of_status_depends_on_the_job(service: Service, pawqueue: Command) -> None:
    service.held, service.results["b.jpg"] = {"a.jpg"}, failed()
    client = service.client()
    queued, broken = client.submit(IMAGE, name="a.jpg"), client.wait(client.submit(IMAGE, name="b.jpg"))
    assert pawqueue("status", queued.id) == 0
    assert pawqueue("status", queued.id, "--wait", 0.3) == 1
    assert pawqueue("status", broken.id) == 1
    assert pawqueue("status", "unknown") == 2


def test_status_waits_for_a_job(service: Service, capsys: Capture, pawqueue: Command) -> None:
    service.held = {"a.jpg"}
    job_id = service.client().submit(IMAGE, name="a.jpg").id
    release = threading.Timer(0.2, service.held.clear)
    release.start()
    assert pawqueue("status", job_id, "--wait", 30) == 0
    assert "succeeded" in capsys.readouterr().out
    release.join()


def test_cancel_prints_the_new_status_of_each_job(service: Service, capsys: Capture, pawqueue: Command) -> None:
    service.held = {"a.jpg"}
    client = service.client()
    queued, finished = client.submit(IMAGE, name="a.jpg"), client.predict(IMAGE)
    assert pawqueue("cancel", queued.id, finished.id) == 1
    assert capsys.readouterr().out == f"{queued.id}  canceled\n{finished.id}  succeeded\n"
    assert pawqueue("cancel", queued.id, "--json") == 0


def test_purge_removes_jobs_and_submissions(
    service: Service, submission_id: str, capsys: Capture, pawqueue: Command
) -> None:
    job_id, unknown = service.client().predict(IMAGE).id, new_job_id()
    assert pawqueue("purge", "--yes", job_id, submission_id) == 0
    assert capsys.readouterr().out == f"{job_id}  purged\n{submission_id}  purged\n"
    another = service.client().predict(IMAGE).id
    assert pawqueue("purge", "--yes", "--json", job_id, unknown, another) == 1
    found = {row["id"]: row["purged"] for row in json.loads(capsys.readouterr().out)}
    assert found == {job_id: False, unknown: False, another: True}
    for any_id in (job_id, submission_id, another):
        assert pawqueue("status", any_id) == 2


def test_purge_asks_before_it_removes_anything(
    service: Service, capsys: Capture, pawqueue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = service.client().predict(IMAGE).id
    assert pawqueue("purge", job_id) == 2  # not a terminal
    assert "--yes" in capsys.readouterr().err
    for answer, code in (("n", 130), ("y", 0)):
        terminal = io.StringIO(f"{answer}\n")
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr("sys.stdin", terminal)
        assert service.client().get(job_id)
        assert pawqueue("purge", job_id) == code
    assert pawqueue("status", job_id) == 2


@pytest.fixture
def dead_id(service: Service) -> str:
    """A job on the dead-letter list."""
    service.held = {"a.jpg"}
    job = service.client().submit(IMAGE, name="a.jpg")
    (claim,) = claim_jobs(service.ledger, [job.id], 1, 600)
    assert claim
    service.ledger.begin([claim])
    service.ledger.recover(Sweep("interactive", max_attempts=1, ttl_s=600), now_ms() + 60_000)
    return job.id


def test_the_dead_letter_list_is_shown(
    dead_id: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch, pawqueue: Command
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert pawqueue("dead", "list") == 0
    assert dead_id in capsys.readouterr().out
    assert pawqueue("dead", "show", dead_id) == 0
    assert "worker_lost" in capsys.readouterr().out
    assert pawqueue("dead", "show", "other") == 2
    assert "is not on the dead-letter list" in capsys.readouterr().err


def test_dead_list_reports_an_empty_list(service: Service, capsys: Capture, pawqueue: Command) -> None:
    assert pawqueue("dead", "list") == 0
    assert capsys.readouterr().out == "The dead-letter list is empty.\n"


def test_a_dead_job_is_retried(service: Service, dead_id: str, capsys: Capture, pawqueue: Command) -> None:
    assert pawqueue("dead", "retry", dead_id, "--json") == 0
    new_id = json.loads(capsys.readouterr().out)["id"]
    assert new_id != dead_id
    assert service.client().find(new_id)


def test_a_dead_job_is_dropped(dead_id: str, capsys: Capture, pawqueue: Command) -> None:
    assert pawqueue("dead", "drop", dead_id) == 0
    assert capsys.readouterr().out == f"Dropped {dead_id}.\n"
    assert pawqueue("dead", "drop", dead_id) == 2


def test_status_shows_a_submission(submission_id: str, pawqueue: Command, capsys: Capture) -> None:
    assert pawqueue("status", submission_id) == 1  # an image has failed
    text = " ".join(capsys.readouterr().out.split())
    assert "holiday" in text
    assert "4: 1 succeeded, 1 failed, 1 rejected, 1 queued" in text
    assert pawqueue("status", submission_id, "--json") == 1
    assert json.loads(capsys.readouterr().out)["counts"]["queued"] == 1


def test_status_waits_for_a_submission(
    service: Service, submission_id: str, pawqueue: Command, capsys: Capture
) -> None:
    assert pawqueue("status", submission_id, "--wait", 0.3) == 1
    assert "finished" not in capsys.readouterr().out
    service.held = set()
    assert pawqueue("status", submission_id, "--wait", 10) == 1
    assert "finished" in capsys.readouterr().out


def test_an_unknown_id_is_an_error(service: Service, pawqueue: Command, capsys: Capture) -> None:
    for command in ("status", "cancel", "fetch"):
        assert pawqueue(command, new_job_id()) == 2
        assert "No job or submission with id" in capsys.readouterr().err


def test_cancel_cancels_a_submission(submission_id: str, pawqueue: Command, capsys: Capture) -> None:
    assert pawqueue("cancel", submission_id) == 0
    assert "canceled  1 succeeded, 1 failed, 1 canceled, 1 rejected" in capsys.readouterr().out


def test_fetch_writes_the_finished_images(
    submission_id: str, tmp_path: Path, pawqueue: Command, capsys: Capture
) -> None:
    assert pawqueue("fetch", submission_id, "--out", tmp_path / "r.csv") == 0
    rows = [(row.file, row.label, row.status, row.error_code) for row in read_rows(tmp_path / "r.csv")]
    assert sorted(rows) == [
        ("a.jpg", "cat", "succeeded", ""),
        ("b.jpg", "", "failed", "undecodable_image"),
        ("c.jpg", "", "refused", "not_an_image"),
    ]
    assert pawqueue("fetch", submission_id, "--json") == 0
    lines = [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()]
    assert sorted(lines) == ["a.jpg", "b.jpg", "c.jpg"]
    assert pawqueue("fetch", submission_id, "--status", "queued", "--status", "succeeded") == 0
    assert capsys.readouterr().out.startswith("file,label,confidence,")
    assert pawqueue("fetch", submission_id, "--status", "canceled") == 1


def test_fetch_writes_a_job(service: Service, pawqueue: Command, capsys: Capture) -> None:
    job_id = service.client().predict(IMAGE).id
    assert pawqueue("fetch", job_id, "--json") == 0
    assert json.loads(capsys.readouterr().out)["label"] == "cat"


def test_predict_prints_labels_and_reasons(
    tmp_path: Path, service: Service, pawqueue: Command, capsys: Capture
) -> None:
    folder = write_images(tmp_path, "a.jpg", "c.jpg")
    (folder / "b.jpg").write_text("text")
    service.results["c.jpg"] = failed()
    files = [str(folder / name) for name in ("a.jpg", "b.jpg", "c.jpg", "gone.jpg")]
    assert pawqueue("predict", *files) == 1
    captured = capsys.readouterr()
    assert "########..  75.0 %" in captured.out
    assert "(not_an_image)" in captured.err
    assert "c.jpg: The image is broken. (undecodable_image)" in captured.err
    assert "gone.jpg: No such file or directory (unreadable)" in captured.err
    assert pawqueue("predict", *files, "--json") == 1
    values = json.loads(capsys.readouterr().out)
    assert [value["status"] for value in values] == ["succeeded", "refused", "failed", "unreadable"]
    assert pawqueue("predict", files[0]) == 0


def test_predict_reads_standard_input(
    service: Service, pawqueue: Command, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(IMAGE)))
    assert pawqueue("predict", "-") == 0
    assert service.requests[0].body == IMAGE


def test_predict_without_a_gateway_exits_with_2(tmp_path: Path, pawqueue: Command, capsys: Capture) -> None:
    path = write_images(tmp_path, "a.jpg") / "a.jpg"
    assert pawqueue("predict", path, "--timeout", 0.3, "--url", f"http://127.0.0.1:{free_port()}") == 2
    assert "Check that the gateway is running" in capsys.readouterr().err


def test_watch_shows_the_service(service: Service, submission_id: str, pawqueue: Command, capsys: Capture) -> None:
    assert pawqueue("watch", "--once") == 0
    assert capsys.readouterr().out == "1 queued, 0 running, 1 worker, 0 dead\n"
    assert pawqueue("watch", "--once", "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["queued"], values["workers"]) == ({"interactive": 0, "bulk": 1}, 1)
    assert values["labels"] == {"cat": 1}
    assert values["ended"] == {"succeeded": 1, "failed": 1}
    assert values["submissions"][0]["name"] == "holiday"


def test_watch_once_leaves_its_last_display_on_the_terminal(
    service: Service, pawqueue: Command, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert pawqueue("watch", "--once") == 0
    assert "interactive" in capsys.readouterr().out.rsplit("\x1b[2K", 1)[-1]


def test_watch_shows_the_problems_of_the_service(service: Service, pawqueue: Command, capsys: Capture) -> None:
    service.stop_worker()
    assert pawqueue("watch", "--once", "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["workers"], values["ledger_up"]) == (0, True)
    assert "No worker is running" in values["problems"][0]


@pytest.fixture
def url_without_redis() -> Iterator[str]:
    """The address of a server that responds like a gateway whose Redis is down."""
    status = Status(problems=(Problem("ledger_unavailable", "Redis does not respond."),)).to_dict()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_FixedResponse, json.dumps(status).encode())) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class _FixedResponse(BaseHTTPRequestHandler):
    def __init__(self, body: bytes, *arguments: Any) -> None:
        self._body = body
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self._body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def test_watch_reports_that_redis_is_down(url_without_redis: str, pawqueue: Command, capsys: Capture) -> None:
    assert pawqueue("watch", "--once", "--url", url_without_redis) == 0
    assert capsys.readouterr().out == "unknown: Redis does not respond.\n"
    assert pawqueue("watch", "--once", "--json", "--url", url_without_redis) == 0
    assert json.loads(capsys.readouterr().out)["ledger_up"] is False


def test_watch_follows_a_submission_until_it_has_finished(
    service: Service, submission_id: str, pawqueue: Command, capsys: Capture
) -> None:
    release = threading.Timer(0.5, service.held.clear)
    release.start()
    assert pawqueue("watch", submission_id) == 1
    release.join()
    lines = capsys.readouterr().out.splitlines()
    assert "3 of 4 finished (1 succeeded, 1 failed, 1 rejected, 1 queued)" in lines[0]
    assert lines[-1].startswith("finished: 4 of 4 finished")


def test_watch_follows_a_job_until_it_has_finished(service: Service, pawqueue: Command, capsys: Capture) -> None:
    service.held, service.results = {"a.png"}, {"a.png": predicted("dog", 0.8)}
    job = service.client().submit(draw(), name="a.png")
    assert pawqueue("watch", job.id, "--once") == 0
    release = threading.Timer(0.5, service.held.clear)
    release.start()
    assert pawqueue("watch", job.id) == 0
    release.join()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["queued: a.png"] * 2
    assert lines[-1] == "succeeded: a.png, dog (80.0%)"


def test_watch_of_a_job_without_a_prediction_exits_with_1(service: Service, pawqueue: Command, capsys: Capture) -> None:
    service.results = {"a.png": failed()}
    job = service.client().submit(draw(), name="a.png")
    assert pawqueue("watch", job.id, "--json") == 1
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["status"], last["error"]["code"]) == ("failed", "undecodable_image")


def test_watch_shows_the_last_state_on_the_terminal(
    service: Service, pawqueue: Command, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    job = service.client().submit(draw(), name="a.png")
    assert pawqueue("watch", job.id) == 0
    assert "succeeded" in capsys.readouterr().out


def test_watch_of_an_unknown_id_exits_with_2(service: Service, url: str, pawqueue: Command, capsys: Capture) -> None:
    assert pawqueue("watch", new_job_id()) == 2
    assert "No job or submission with id" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_completion_script_for_each_shell(shell: str, pawqueue: Command, capsys: Capture) -> None:
    assert pawqueue("completion", shell) == 0
    assert "_PAWQUEUE_COMPLETE" in capsys.readouterr().out


def test_completion_completes_options(pawqueue: Command, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("_PAWQUEUE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "pawqueue submit --re")
    monkeypatch.setenv("COMP_CWORD", "2")
    with pytest.raises(SystemExit):
        pawqueue()
    assert capsys.readouterr().out == "plain,--resume\n"
