"""The commands about jobs, submissions and the service: what they print, their exit codes."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from pawqueue.results import read_rows
from tests.unit.pawqueue.conftest import FakeTime, Pawqueue
from tests.unit.pawqueue.fake_submissions import FakeJob, FakeSubmission, FakeSubmissions, failed, predicted
from tests.unit.pawqueue.fakes import JOB_ID, FakeGateway, answer, job, problem, write_images

Serve = Callable[..., FakeGateway]
Capture = pytest.CaptureFixture[str]
SUBMISSION_ID = "019abc12-0000-7890-abcd-ef0123456789"


@pytest.fixture
def serve(serving: Callable[[httpx.BaseTransport], None]) -> Serve:
    """Put a gateway made of a script in the place of the network."""

    def start(*script: Any) -> FakeGateway:
        gateway = FakeGateway(*script)
        serving(gateway)
        return gateway

    return start


@pytest.fixture
def submissions(serving: Callable[[httpx.BaseTransport], None]) -> FakeSubmissions:
    """A gateway with one submission: a cat, a failed image, a rejected one, and one that waits."""
    gateway = FakeSubmissions()
    jobs = {
        "a.jpg": FakeJob(1, "a.jpg", "job-a", b"", predicted()),
        "b.jpg": FakeJob(2, "b.jpg", "job-b", b"", failed("undecodable_image")),
        "c.jpg": FakeJob(3, "c.jpg", "", b"", failed("not_an_image")),
        "d.jpg": FakeJob(4, "d.jpg", "job-d", b""),
    }
    gateway.submissions[SUBMISSION_ID] = FakeSubmission("closed", "holiday", jobs=jobs)
    gateway.held = {"d.jpg"}
    serving(gateway)
    return gateway


def test_status_shows_a_job_to_people_and_to_programs(serve: Serve, capsys: Capture, pawqueue: Pawqueue) -> None:
    serve(answer(200, job("succeeded", label="cat")))
    assert pawqueue("status", JOB_ID) == 0
    text = capsys.readouterr().out
    for part in (JOB_ID, "succeeded", "cats-dogs@1.0", "########..  75.0 %", "3.0 ms decoding", "one of 4"):
        assert part in text
    assert pawqueue("status", JOB_ID, "--json") == 0
    assert json.loads(capsys.readouterr().out)["prediction"]["label"] == "cat"


def test_status_tells_by_its_exit_code_how_the_job_stands(
    serve: Serve, fake_time: FakeTime, pawqueue: Pawqueue
) -> None:
    serve(answer(200, job("running")))
    assert pawqueue("status", JOB_ID) == 0
    assert pawqueue("status", JOB_ID, "--wait", 2) == 1
    serve(answer(200, job("failed", code="undecodable_image")))
    assert pawqueue("status", JOB_ID) == 1
    serve(problem(404, "not_found"))
    assert pawqueue("status", "unknown") == 2


def test_status_waits_for_the_end(serve: Serve, fake_time: FakeTime, capsys: Capture, pawqueue: Pawqueue) -> None:
    serve(answer(200, job()), answer(200, job()), answer(200, job("succeeded", label="cat")))
    assert pawqueue("status", JOB_ID, "--wait", 30) == 0
    assert "succeeded" in capsys.readouterr().out


def test_cancel_tells_what_became_of_each_job(serve: Serve, capsys: Capture, pawqueue: Pawqueue) -> None:
    gateway = serve(answer(200, job("canceled")), answer(200, job("succeeded", label="cat")))
    assert pawqueue("cancel", JOB_ID, JOB_ID) == 1
    assert [request.method for request in gateway.requests] == ["DELETE"] * 2
    assert "canceled" in capsys.readouterr().out
    serve(answer(200, job("canceled")))
    assert pawqueue("cancel", JOB_ID, "--json") == 0


def test_the_dead_letter_list(
    serve: Serve, capsys: Capture, monkeypatch: pytest.MonkeyPatch, pawqueue: Pawqueue
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    gateway = serve(answer(200, {"jobs": [job("failed", code="worker_lost")]}))
    assert pawqueue("dead", "list") == 0
    assert JOB_ID in capsys.readouterr().out
    assert pawqueue("dead", "show", JOB_ID) == 0
    assert "worker_lost" in capsys.readouterr().out
    assert pawqueue("dead", "show", "other") == 2
    assert {request.method for request in gateway.requests} == {"GET"}
    serve(answer(200, {"jobs": []}))
    assert pawqueue("dead", "list") == 0
    assert "empty" in capsys.readouterr().out


def test_a_dead_job_is_retried_or_dropped(serve: Serve, pawqueue: Pawqueue) -> None:
    gateway = serve(answer(202, job()))
    assert pawqueue("dead", "retry", JOB_ID) == 0
    assert pawqueue("dead", "drop", JOB_ID) == 0
    assert [(request.method, request.url.path) for request in gateway.requests] == [
        ("POST", f"/v1/dead/{JOB_ID}/retry"),
        ("DELETE", f"/v1/dead/{JOB_ID}"),
    ]
    serve(problem(404, "not_found"))
    assert pawqueue("dead", "drop", JOB_ID) == 2


def test_status_shows_a_submission(submissions: FakeSubmissions, pawqueue: Pawqueue, capsys: Capture) -> None:
    assert pawqueue("status", SUBMISSION_ID) == 1  # some of it has failed
    text = " ".join(capsys.readouterr().out.split())
    assert "holiday" in text
    assert "4: 1 succeeded, 1 failed, 1 rejected, 1 queued" in text
    assert pawqueue("status", SUBMISSION_ID, "--json") == 1
    assert json.loads(capsys.readouterr().out)["counts"]["queued"] == 1


def test_status_waits_for_a_submission(
    submissions: FakeSubmissions, fake_time: FakeTime, pawqueue: Pawqueue, capsys: Capture
) -> None:
    assert pawqueue("status", SUBMISSION_ID, "--wait", 3) == 1
    assert "closed" in capsys.readouterr().out
    submissions.held = set()
    pawqueue("status", SUBMISSION_ID, "--wait", 3)
    assert "finished" in capsys.readouterr().out


def test_an_id_of_nothing_is_said_to_be(submissions: FakeSubmissions, pawqueue: Pawqueue, capsys: Capture) -> None:
    for command in ("status", "cancel", "fetch"):
        assert pawqueue(command, JOB_ID) == 2
        assert "There is no job and no submission" in capsys.readouterr().err


def test_cancel_withdraws_a_submission(submissions: FakeSubmissions, pawqueue: Pawqueue, capsys: Capture) -> None:
    assert pawqueue("cancel", SUBMISSION_ID) == 0
    assert "canceled  1 succeeded, 1 failed, 1 canceled, 1 rejected" in capsys.readouterr().out


def test_fetch_writes_what_has_ended(
    submissions: FakeSubmissions, tmp_path: Path, pawqueue: Pawqueue, capsys: Capture
) -> None:
    assert pawqueue("fetch", SUBMISSION_ID, "--out", tmp_path / "r.csv") == 0
    rows = [(row.file, row.label, row.status, row.error_code) for row in read_rows(tmp_path / "r.csv")]
    assert rows == [
        ("a.jpg", "cat", "succeeded", ""),
        ("b.jpg", "", "failed", "undecodable_image"),
        ("c.jpg", "", "refused", "not_an_image"),
    ]
    assert pawqueue("fetch", SUBMISSION_ID, "--json") == 0
    assert [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()] == ["a.jpg", "b.jpg", "c.jpg"]
    assert pawqueue("fetch", SUBMISSION_ID, "--status", "queued", "--status", "succeeded") == 0
    assert capsys.readouterr().out.startswith("file,label,confidence,")
    assert pawqueue("fetch", SUBMISSION_ID, "--status", "canceled") == 1


def test_fetch_goes_on_where_the_connection_broke(
    submissions: FakeSubmissions, fake_time: FakeTime, pawqueue: Pawqueue, capsys: Capture
) -> None:
    whole, breaks = submissions.handle_request, iter([True])

    def cut(request: httpx.Request) -> httpx.Response:
        response = whole(request)
        if request.url.path.endswith("/results") and next(breaks, False):
            first = response.content.splitlines(keepends=True)[0]
            return httpx.Response(200, stream=_Cut(first))
        return response

    submissions.handle_request = cut  # type: ignore[method-assign]
    assert pawqueue("fetch", SUBMISSION_ID, "--json") == 0
    assert [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()] == ["a.jpg", "b.jpg", "c.jpg"]


class _Cut(httpx.SyncByteStream):
    def __init__(self, first: bytes) -> None:
        self._first = first

    def __iter__(self) -> Any:
        yield self._first
        raise httpx.ReadError("cut")


def test_fetch_writes_a_job(serve: Serve, pawqueue: Pawqueue, capsys: Capture) -> None:
    serve(answer(200, job("succeeded", label="cat")))
    assert pawqueue("fetch", JOB_ID, "--json") == 0
    assert json.loads(capsys.readouterr().out)["label"] == "cat"


def test_predict_prints_labels_and_tells_what_went_wrong(
    tmp_path: Path, serve: Serve, pawqueue: Pawqueue, capsys: Capture
) -> None:
    answers = {
        "a.jpg": answer(200, job("succeeded", label="cat")),
        "b.jpg": problem(415, "not_an_image", "Send JPEG."),
        "c.jpg": answer(200, job("failed", code="undecodable_image")),
    }
    serve(lambda request: answers[request.url.params["file"]])
    folder = write_images(tmp_path, *answers)
    files = [str(folder / name) for name in (*answers, "gone.jpg")]
    assert pawqueue("predict", *files) == 1
    captured = capsys.readouterr()
    assert "########..  75.0 %" in captured.out
    assert "b.jpg: Send JPEG. (not_an_image)" in captured.err
    assert "c.jpg: It is undecodable_image. (undecodable_image)" in captured.err
    assert "gone.jpg: No such file or directory (unreadable)" in captured.err
    assert pawqueue("predict", *files, "--json") == 1
    values = json.loads(capsys.readouterr().out)
    assert [value["status"] for value in values] == ["succeeded", "refused", "failed", "unreadable"]
    assert pawqueue("predict", files[0]) == 0


def test_predict_reads_standard_input(
    serve: Serve, pawqueue: Pawqueue, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    gateway = serve(answer(200, job("succeeded", label="cat")))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"jpg")))
    assert pawqueue("predict", "-") == 0
    assert gateway.requests[0].content == b"jpg"


def test_predict_without_a_gateway_is_exit_code_2(
    tmp_path: Path, serve: Serve, fake_time: FakeTime, pawqueue: Pawqueue, capsys: Capture
) -> None:
    serve(httpx.ConnectError("refused"))
    assert pawqueue("predict", write_images(tmp_path, "a.jpg") / "a.jpg") == 2
    assert "is the gateway running" in capsys.readouterr().err


METRICS = """
# TYPE pawqueue_ledger_up gauge
pawqueue_ledger_up 1.0
# TYPE pawqueue_workers gauge
pawqueue_workers 2.0
# TYPE pawqueue_queue_jobs gauge
pawqueue_queue_jobs{queue="interactive",state="queued"} 0.0
pawqueue_queue_jobs{queue="interactive",state="running"} 1.0
pawqueue_queue_jobs{queue="bulk",state="queued"} 1500.0
pawqueue_queue_jobs{queue="bulk",state="running"} 64.0
# TYPE pawqueue_oldest_job_age_seconds gauge
pawqueue_oldest_job_age_seconds{queue="bulk"} 4.5
# TYPE pawqueue_dead_jobs gauge
pawqueue_dead_jobs 3.0
# TYPE pawqueue_jobs_total counter
pawqueue_jobs_total{queue="bulk",status="succeeded",label="cat"} 700.0
pawqueue_jobs_total{queue="bulk",status="failed",label=""} 7.0
"""


@pytest.fixture
def metrics(submissions: FakeSubmissions) -> FakeSubmissions:
    submissions.before_answer = lambda request: (
        httpx.Response(200, text=METRICS) if request.url.path == "/metrics" else None
    )
    return submissions


def test_watch_shows_the_service(metrics: FakeSubmissions, pawqueue: Pawqueue, capsys: Capture) -> None:
    assert pawqueue("watch", "--once") == 0
    assert capsys.readouterr().out == "1,500 queued, 65 running, 2 workers, 3 dead\n"
    assert pawqueue("watch", "--once", "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["queued"] == {"interactive": 0, "bulk": 1500}
    assert (values["labels"], values["ended"]) == ({"cat": 700}, {"succeeded": 700, "failed": 7})
    assert values["submissions"][0]["name"] == "holiday"


def test_watch_says_when_nothing_is_known(serve: Serve, pawqueue: Pawqueue, capsys: Capture) -> None:
    serve(httpx.Response(200, text="# TYPE pawqueue_ledger_up gauge\npawqueue_ledger_up 0.0\n"))
    assert pawqueue("watch", "--once") == 0
    assert "the ledger does not answer" in capsys.readouterr().out
    serve(httpx.Response(200, text="<html>"))
    assert pawqueue("watch", "--once") == 2


def test_watch_follows_a_submission_to_its_end(
    submissions: FakeSubmissions, fake_time: FakeTime, pawqueue: Pawqueue, capsys: Capture
) -> None:
    submissions.before_answer = lambda _request: submissions.held.clear() if fake_time.now_s > 1003 else None
    assert pawqueue("watch", SUBMISSION_ID) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("closed: 3 of 4 ended (1 succeeded, 1 failed, 1 rejected, 1 queued), 12.5 images/s")
    assert lines[-1].startswith("finished: 4 of 4 ended")
    assert 3 < len(lines) < 8


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(
    shell: str, pawqueue: Pawqueue, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert pawqueue("completion", shell) == 0
    assert "_PAWQUEUE_COMPLETE" in capsys.readouterr().out


def test_the_completion_knows_the_options_of_a_command(
    pawqueue: Pawqueue, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("_PAWQUEUE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "pawqueue submit --re")
    monkeypatch.setenv("COMP_CWORD", "2")
    with pytest.raises(SystemExit):
        pawqueue()
    assert capsys.readouterr().out == "plain,--resume\n"
