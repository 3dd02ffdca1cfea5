"""Traces: one from the client's request to the commit, exported to a receiver of OpenTelemetry's protocol."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.otlp import ReceivedSpan, Receiver, receiving
from tests.chaos.cluster import Cluster
from tests.support.images import draw
from tests.support.receiver import receiving as webhooks_receiving
from tests.support.services import ROOT, Stack, light_worker, running, running_stack, serves_model, wait_until

SPAN = "00f067aa0ba902b7"
STEPS = ["queue", "process", "decode", "predict", "commit"]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """A receiver, to which all processes that are started export their spans."""
    with receiving() as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found.settings.items():
            patch.setenv(name, value)
        yield found


@pytest.fixture(scope="module")
def stack(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    assert receiver
    with running_stack(tmp_path_factory.mktemp("traced"), light_worker(), webhook_allow="127.0.0.1") as found:
        yield found


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        yield client


@pytest.fixture
def trace() -> str:
    return os.urandom(16).hex()


def names(spans: list[ReceivedSpan]) -> set[str]:
    return {span.name for span in spans}


def test_a_trace_leads_from_the_request_to_the_commit(
    receiver: Receiver, stack: Stack, http: httpx.Client, trace: str
) -> None:
    headers = {"traceparent": f"00-{trace}-{SPAN}-01", "Prefer": "wait=50"}
    job = http.post("/v1/jobs", content=draw(), headers=headers).json()
    other = os.urandom(16).hex()
    not_sampled = {"traceparent": f"00-{other}-{SPAN}-00", "Prefer": "wait=50"}
    assert http.post("/v1/jobs", content=draw(), headers=not_sampled).json()["status"] == "succeeded"
    wanted = {"POST /v1/jobs", "store", "record", "batch", *STEPS}
    wait_until(lambda: wanted <= names(receiver.of_trace(trace)), "all spans")
    openmetrics = urllib.request.Request(stack.metrics_url, headers={"Accept": "application/openmetrics-text"})
    metrics = urllib.request.urlopen(openmetrics, timeout=10).read().decode()

    spans = {span.name: span for span in receiver.of_trace(trace)}
    request, process, batch = spans["POST /v1/jobs"], spans["process"], spans["batch"]
    assert request.parent_id == SPAN
    assert {spans[name].parent_id for name in ("store", "record", "queue", "process")} == {request.span_id}
    assert {spans[name].parent_id for name in ("decode", "predict", "commit", "batch")} == {process.span_id}
    assert (batch.links, spans["predict"].links) == ((process.span_id,), (batch.span_id,))
    assert {request.service, process.service} == {"pawqueue-gateway", "pawqueue-worker"}
    assert process.attributes["pawqueue.job_id"] == job["id"]
    assert request.attributes["http.response.status_code"] == 200
    assert request.began_ns <= process.began_ns + 10**6 <= spans["commit"].ended_ns  # jobs have times in milliseconds
    assert not receiver.of_trace(other)

    assert f'# {{trace_id="{trace}"}}' in metrics
    assert other not in metrics
    lines = (stack.folder / "worker.log").read_text().splitlines()
    logged = [json.loads(line) for line in lines if '"job_ended"' in line]
    assert [line["trace_id"] for line in logged if line["trace_id"] in (trace, other)] == [trace, other]


def test_a_batch_links_to_all_of_its_jobs(receiver: Receiver, http: httpx.Client, trace: str) -> None:
    headers = {"traceparent": f"00-{trace}-{SPAN}-01"}
    submission = http.post("/v1/submissions", json={}).json()
    path = f"/v1/submissions/{submission['id']}"
    files = [("file", (f"{number}.png", draw())) for number in range(20)]
    http.post(f"{path}/jobs", files=files, headers=headers)
    http.post(f"{path}/close")
    assert http.get(path, headers={"Prefer": "wait=50"}).json()["counts"]["succeeded"] == 20
    wait_until(lambda: [span.name for span in receiver.of_trace(trace)].count("process") == 20, "all spans")
    spans = receiver.of_trace(trace)
    jobs = {span.span_id for span in spans if span.name == "process"}
    linked = [link for span in spans if span.name == "batch" for link in span.links]
    assert sorted(linked) == sorted(jobs)


def test_a_job_whose_worker_was_killed_stays_in_its_trace(receiver: Receiver, trace: str, tmp_path: Path) -> None:
    settings = {"PAWQUEUE_LEASE_S": "1", "PAWQUEUE_SWEEP_S": "0.2"}
    with Cluster(tmp_path, workers=1, settings=settings, points=["in_predict"], light=True) as cluster:
        wait_until(lambda: serves_model(cluster.url), "a model to be served")
        with httpx.Client(base_url=cluster.url, timeout=60) as http:
            headers = {"traceparent": f"00-{trace}-{SPAN}-01", "Prefer": "wait=50"}
            assert http.post("/v1/jobs", content=draw(), headers=headers).json()["status"] == "succeeded"
        assert cluster.faults_reached == ["in_predict"]
        wait_until(lambda: {"POST /v1/jobs", *STEPS} <= names(receiver.of_trace(trace)), "all spans")
    (process,) = (span for span in receiver.of_trace(trace) if span.name == "process")
    assert process.attributes["pawqueue.attempt"] == 2


def test_the_delivery_of_an_event_is_in_the_trace_of_its_job(
    receiver: Receiver, stack: Stack, http: httpx.Client, trace: str, tmp_path: Path
) -> None:
    environ = stack.environ | {"PAWQUEUE_NOTIFIER_METRICS_PORT": "0"}
    notifier = [sys.executable, "-m", "gateway.notifier"]
    with webhooks_receiving() as hooks, running("notifier", notifier, tmp_path, environ):
        headers = {"traceparent": f"00-{trace}-{SPAN}-01"}
        http.post("/v1/jobs", params={"webhook": hooks.url}, content=draw(), headers=headers)
        wait_until(lambda: "webhook" in names(receiver.of_trace(trace)), "the span of the delivery")
    spans = {span.name: span for span in receiver.of_trace(trace)}
    (event,) = hooks.received
    assert spans["webhook"].parent_id == spans["POST /v1/jobs"].span_id
    assert event.headers["traceparent"] == f"00-{trace}-{spans['webhook'].span_id}-01"


def test_the_client_begins_a_trace(receiver: Receiver, stack: Stack, tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    image.write_bytes(draw())
    command = [sys.executable, "-m", "pawqueue", "predict", str(image), "--url", stack.url]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60, capture_output=True)
    wait_until(lambda: any(span.service == "pawqueue-client" for span in receiver.spans), "the span of the client")
    first = next(span for span in receiver.spans if span.service == "pawqueue-client")
    assert (first.name, first.parent_id) == ("PUT", "")
    wanted = {"PUT /v1/jobs/<job_id>", *STEPS}
    wait_until(lambda: wanted <= names(receiver.of_trace(first.trace_id)), "all spans")


def test_without_an_endpoint_nothing_of_opentelemetry_is_imported() -> None:
    """The services import it in `open_tracer` only."""
    program = (
        "import sys, gateway.app, worker.app, pawqueue.cli.app; from contract.tracing import open_tracer;"
        "assert open_tracer('gateway', {}) is None;"
        # redis-py imports other parts if they are installed.
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.exporter')]"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)
