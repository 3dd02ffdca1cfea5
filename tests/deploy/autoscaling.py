"""The worker's autoscaler with a real Prometheus, gateway and worker processes.

`python -m tests.deploy.autoscaling` writes the plot in deploy/README.md. `Cluster` stands in for Kubernetes: it runs
the query of the manifests, and starts and stops workers as `benchmarks.autoscaler` decides. All times of the manifests
are divided by `FACTOR`.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import httpx
import yaml

from benchmarks.autoscaler import SYNC_S, Autoscaler, Spec, read_spec
from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from contract.queues import QUEUES
from tests.deploy.conftest import need
from tests.support.images import draw
from tests.support.services import ROOT, Process, Stack, free_port, responds, running, running_stack, wait_until

#: How much faster time passes than in a real cluster.
FACTOR = 15.0
_ADAPTER = ROOT / "deploy" / "k8s" / "components" / "monitoring" / "prometheus-adapter.yaml"
#: More workers than cores would not process images faster.
_MAX_WORKERS = 3
#: The manifest's objective of 30 s, scaled.
OBJECTIVE_S = 30.0 / FACTOR


@dataclass
class Trace:
    """The record of a run."""

    spec: Spec
    #: (seconds since the start, queued jobs, running jobs, replicas).
    rows: list[tuple[float, int, int, int]] = field(default_factory=list)
    #: When each burst was sent and when it was finished, in seconds since the start.
    bursts: list[tuple[float, float]] = field(default_factory=list)
    accepted: int = 0
    succeeded: int = 0
    #: Single jobs: id -> (status, attempts).
    single: dict[str, tuple[str, int]] = field(default_factory=dict)
    #: Exit statuses of the workers that were removed.
    exits: list[int] = field(default_factory=list)

    @property
    def turns(self) -> int:
        """How often scaling changed direction."""
        steps = [b[3] - a[3] for a, b in pairwise(self.rows) if b[3] != a[3]]
        return sum(1 for a, b in pairwise(steps) if (a > 0) != (b > 0))


@contextmanager
def prometheus(folder: Path, metrics_url: str) -> Iterator[str]:
    """A Prometheus that scrapes the gateway each second; yields its URL."""
    port = free_port()
    target = metrics_url.removeprefix("http://").removesuffix("/metrics")
    config = folder / "prometheus.yml"
    jobs = [{"job_name": "pawqueue-gateway", "static_configs": [{"targets": [target]}]}]
    config.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
    command = [need("prometheus", "prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with running("prometheus", [*command, f"--web.listen-address=127.0.0.1:{port}"], folder):
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: responds(f"{url}/-/ready"), "Prometheus to become ready")
        yield url


class Cluster:
    """The workers, and a loop that starts and stops them as the autoscaler decides."""

    def __init__(self, stack: Stack, prometheus_url: str, spec: Spec) -> None:
        self.trace = Trace(spec)
        self._stack, self._scaler = stack, Autoscaler(spec)
        self._ledger = Ledger(connect(stack.redis_url))
        rule, *_ = yaml.safe_load(_ADAPTER.read_text())["rules"]["external"]
        assert rule["name"]["as"] == spec.metric
        self._query = {"query": rule["metricsQuery"].replace("<<.LabelMatchers>>", "")}
        self._prometheus = httpx.Client(base_url=prometheus_url, timeout=20)
        self._workers: list[Process] = [stack.workers[0]]
        self._running = ExitStack()
        self._began_s = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="autoscaler")

    def __enter__(self) -> "Cluster":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._running.close()
        self._prometheus.close()

    def now_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began_s

    def unfinished(self) -> int:
        """Queued plus running jobs."""
        return sum(row.queued + row.running for row in self._ledger.stats(QUEUES).queues.values())

    def finished(self) -> dict[str, int]:
        """Finished jobs by status."""
        found: dict[str, int] = {}
        for (_, status, _), count in self._ledger.stats(QUEUES).totals.items():
            found[status] = found.get(status, 0) + count
        return found

    def _run(self) -> None:
        while not self._stop.wait(SYNC_S / FACTOR):
            value = self._value()
            queues = self._ledger.stats(QUEUES).queues.values()
            wanted = self._scaler.decide(self.now_s(), len(self._workers), value)
            self._scale(wanted)
            queued, busy = sum(row.queued for row in queues), sum(row.running for row in queues)
            self.trace.rows.append((self.now_s(), queued, busy, wanted))

    def _value(self) -> float:
        rows = self._prometheus.get("/api/v1/query", params=self._query).json()["data"]["result"]
        return float(rows[0]["value"][1]) if rows else 0.0

    def _scale(self, wanted: int) -> None:
        while len(self._workers) < wanted:
            name, command = f"worker-{len(self.trace.rows)}-{len(self._workers)}", [sys.executable, "-m", "worker"]
            self._workers.append(
                self._running.enter_context(running(name, command, self._stack.folder, self._stack.environ))
            )
        while len(self._workers) > wanted:
            self.trace.exits.append(self._workers.pop().stop())


def run(folder: Path, images: int) -> Trace:
    """Send two bursts and a steady trickle of images, then wait until one worker is left."""
    with running_stack(folder, log_level="warning") as stack, prometheus(folder, stack.metrics_url) as address:
        photos = _photos(folder / "photos", images)
        rate_per_s = _submit(stack, photos, folder)
        spec = _spec(rate_per_s)
        with Cluster(stack, address, spec) as cluster, _trickle(stack, cluster.trace):
            before = cluster.finished().get("succeeded", 0)
            for _ in range(2):
                sent_s = cluster.now_s()
                _submit(stack, photos, folder)
                cluster.trace.bursts.append((sent_s, cluster.now_s()))
                time.sleep(spec.down.window_s / 4)  # a pause between the two folders
            wait_until(lambda: cluster.trace.rows[-1][3] == spec.min_replicas, "the workers to be removed", 300)
        wait_until(lambda: not cluster.unfinished(), "the last images to be finished", 60)
        cluster.trace.accepted = 2 * images + len(cluster.trace.single)
        cluster.trace.succeeded = cluster.finished()["succeeded"] - before
        return cluster.trace


def _spec(rate_per_s: float) -> Spec:
    """The autoscaler of the manifests, with a target that fits the speed of this machine."""
    spec = read_spec().faster(FACTOR)
    return replace(spec, target=rate_per_s * OBJECTIVE_S, max_replicas=min(_MAX_WORKERS, spec.max_replicas))


def _photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    data = [draw((160, 120), (n, 90, 200 - n), form="JPEG") for n in range(100)]
    for number in range(count):
        (folder / f"{number:05}.jpg").write_bytes(data[number % len(data)])
    return folder


def _submit(stack: Stack, photos: Path, folder: Path) -> float:
    """Classify the folder with the client; returns images per second."""
    began_s = time.monotonic()
    command = [sys.executable, "-m", "pawqueue", "submit", photos, "--url", stack.url, "--out", folder / "out.csv"]
    subprocess.run([*command, "--quiet"], cwd=ROOT, check=True, capture_output=True)
    return len(list(photos.iterdir())) / (time.monotonic() - began_s)


@contextmanager
def _trickle(stack: Stack, trace: Trace) -> Iterator[None]:
    """Send single images in the background and wait for each result."""
    stop, image = threading.Event(), draw((160, 120), (1, 2, 3), form="JPEG")

    def send() -> None:
        with httpx.Client(base_url=stack.url, timeout=90) as http:
            while not stop.wait(0.1):
                response = http.post("/v1/jobs", content=image, headers={"Prefer": "wait=60"})
                job = response.json()
                trace.single[job["id"]] = (job["status"], job["attempts"])

    thread = threading.Thread(target=send, name="trickle")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def draw_plot(trace: Trace, path: Path) -> None:
    """Plot queued jobs, running jobs and replicas over time."""
    from matplotlib.figure import Figure

    at_s, queued, busy, replicas = zip(*trace.rows, strict=True)
    figure = Figure(figsize=(9, 5), layout="constrained")
    jobs, workers = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    jobs.fill_between(at_s, queued, color="#9ecae1", label="queued")
    jobs.plot(at_s, busy, color="#08519c", linestyle="--", label="running")
    target = trace.spec.target
    jobs.axhline(target, color="#666666", linestyle=":", label=f"target per worker: {target:,.0f} jobs")
    jobs.set_ylabel("jobs")
    workers.step(at_s, replicas, where="post", color="#a63603")
    workers.set_ylabel("workers")
    workers.set_yticks(range(trace.spec.max_replicas + 1))
    workers.set_xlabel(f"seconds (one stands for {FACTOR:g} s in a cluster)")
    for axis in (jobs, workers):
        axis.grid(alpha=0.3)
        for sent_s, cleared_s in trace.bursts:
            axis.axvspan(sent_s, cleared_s, color="0.93", zorder=0)
    jobs.legend(loc="upper right")
    jobs.set_title("Two folders (grey: from the first image sent to the last result), and a trickle of single images")
    figure.savefig(path, dpi=110)


def main() -> int:
    """Run the load, print a summary, and write the plot; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.deploy.autoscaling", description=__doc__)
    parser.add_argument("--images", type=int, default=4000, help="images per folder (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "autoscaling.png")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pawqueue-autoscaling-") as folder:
        trace = run(Path(folder), given.images)
    for sent_s, cleared_s in trace.bursts:
        print(f"a folder of {given.images:,}: sent at {sent_s:.0f} s, finished in {cleared_s - sent_s:.0f} s")
    print(f"target {trace.spec.target:.0f} jobs per worker; workers: {[row[3] for row in trace.rows]}")
    print(f"accepted {trace.accepted:,}, succeeded {trace.succeeded:,}; exit statuses of workers {trace.exits}")
    draw_plot(trace, given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
