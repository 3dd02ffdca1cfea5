"""Snapshots, jobs and a whole dashboard on the fakes of the contract."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from contract.access import Access
from contract.job import Features, Job, JobResult, JobStatus, ModelRef, Prediction, Timings, new_job_id
from contract.ledger.types import Claim, Heartbeat
from contract.settings import load_settings
from dashboard.bundle_files import BundleReader, read_bundle
from dashboard.gateway_client import GatewayClient
from dashboard.job_rows import JobRow, row_of
from dashboard.parts import Parts
from dashboard.quantities import QUANTITIES, Labels, Series
from dashboard.reader import Reader
from dashboard.snapshot import Numbers, Snapshot, SourceState
from dashboard.sources import ScrapeSource
from tests.support.ledger import store
from tests.support.services import ROOT
from tests.support.twin.ledger_memory import MemoryLedger
from tests.support.twin.stores import MemoryKeyStore, MemoryThumbnailStore

NOW = 1_800_000_000.0
UP = SourceState("The gateway", read_at_s=NOW)
BUNDLE = ROOT / "models" / "cats-dogs"


def series(*values: float | None, end_s: float = NOW, step_s: float = 5.0, **labels: str) -> Series:
    """A line that ends at `end_s`."""
    start_s = end_s - step_s * (len(values) - 1)
    return Series(tuple(sorted(labels.items())), tuple((start_s + step_s * at, v) for at, v in enumerate(values)))


def numbers(state: SourceState = UP, **found: Sequence[Series]) -> Numbers:
    """Numbers whose sources are all in one state."""
    return Numbers({n: tuple(lines) for n, lines in found.items()}, {"gateway": state, "workers": state}, None, 900)


def busy_numbers(state: SourceState = UP) -> Numbers:
    """A value for every quantity."""
    labels: dict[str, Mapping[str, str]] = {
        "ended": {"status": "succeeded"},
        "jobs": {"queue": "bulk", "state": "queued"},
        "oldest": {"queue": "bulk"},
        "errors": {"code": "undecodable_image"},
        "refused": {"reason": "not_an_image"},
        "images": {"instance": "http://w/metrics"},
        "busy": {"instance": "http://w/metrics"},
        "batch_sizes": {"le": "1.0"},
    }
    return numbers(state, **{q.name: [series(0.1, 0.5, 0.4, **labels.get(q.name, {}))] for q in QUANTITIES})


def job(label: str = "cat", confidence: float = 0.9, ended_s: float = NOW, **changes: Any) -> Job:
    """A job that ended well."""
    result = JobResult(
        prediction=Prediction(label, confidence, {label: confidence, "other": 1 - confidence}),
        model=ModelRef("cats-dogs", "1"),
        batch_size=4,
        timings=Timings(1.0, 2.0, 3.0, 4.0),
        features=Features(400, 300, 0.5, 0.2),
    )
    made = Job(new_job_id(), "bulk", round(ended_s * 1000) - 250, JobStatus.SUCCEEDED, file="cat.jpg", attempts=1)
    return replace(made, finished_ms=round(ended_s * 1000), result=result, **changes)


def row(label: str = "cat", confidence: float = 0.9, ended_s: float = NOW, **changes: Any) -> JobRow:
    """The same as a row; `changes` are to the row."""
    return replace(row_of(job(label, confidence, ended_s)), **changes)


def beat(worker_id: str = "w", version: str = "1") -> Heartbeat:
    """A worker's heartbeat."""
    ms = round(NOW * 1000)
    labels = ["cat", "dog"]
    return Heartbeat(
        worker_id, "host", "cats-dogs", version, labels, "jax", "float32", 0.5, "http://w/metrics", ms - 60_000, ms
    )


def snapshot(**changes: Any) -> Snapshot:
    """All sources answer; there is something of everything."""
    made = Snapshot(
        sequence=1,
        at_s=NOW,
        numbers=busy_numbers(),
        ledger=replace(UP, name="The job ledger (Redis)"),
        jobs=tuple(row(ended_s=NOW - at) for at in range(3)),
        workers=(beat(),),
        gateway=UP,
        health={"status": "healthy", "model_loaded": True, "version": "1"},
        bundle=replace(UP, name="The bundle"),
        served=read_bundle(BUNDLE),
    )
    return replace(made, **changes)


def labels(**names: str) -> Labels:
    """Labels of a sample."""
    return tuple(sorted(names.items()))


class World:
    """A dashboard's parts on fakes; HTTP goes to `answer`."""

    def __init__(self, *, access_required: bool = False, state_dir: Path = Path("none")) -> None:
        self.ledger, self.thumbnails, self.keys = MemoryLedger(), MemoryThumbnailStore(), MemoryKeyStore()
        self.now_s = NOW
        self.requests: list[httpx.Request] = []
        self.answers: dict[str, httpx.Response | Exception] = {}
        transport = httpx.MockTransport(self.answer)
        gateway = GatewayClient("http://gateway", transport)
        self.reader = Reader(
            ledger=self.ledger,
            thumbnails=self.thumbnails,
            numbers=ScrapeSource("http://gateway", transport),
            gateway=gateway,
            bundle=BundleReader(load_settings({"PAWQUEUE_MODEL": str(BUNDLE)})),
            mlflow=None,
            period_s=5.0,
            clock=lambda: self.now_s,
        )
        self.parts = Parts(self.reader, gateway, Access(self.keys, required=access_required), 5.0)

    def answer(self, request: httpx.Request) -> httpx.Response:
        """What is set for its path; 404 without."""
        self.requests.append(request)
        found = self.answers.get(request.url.path, httpx.Response(404, json={}))
        if isinstance(found, Exception):
            raise found
        return found

    def end(self, label: str = "cat", owner: str = "", file: str = "a.jpg") -> str:
        """Have a job predicted; returns its id."""
        made = Job(new_job_id(), "bulk", round(self.now_s * 1000), file=file, owner=owner)
        store(self.ledger, [made])
        claim = self.ledger.claim([made.id], 1000, 60, round(self.now_s * 1000))[0]
        assert isinstance(claim, Claim)
        result = job(label).result
        assert result
        self.ledger.commit([(claim, result)], 60, round(self.now_s * 1000))
        return made.id
