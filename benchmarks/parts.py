"""The parts of the benchmark: each starts what it needs, measures, and records figures under the names of the goals."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import redis

from benchmarks.image import large_image, small_image
from benchmarks.processes import ROOT, Started, cpu_s, family, memory_bytes, started, wait_until
from benchmarks.service import BareLoop, Service, bare_loop, run_load, service
from contract.broker import make_celery, publish
from contract.images.store import open_image_store
from contract.job import Job, new_job_id, now_ms
from contract.ledger import keys
from contract.ledger.types import QueueLimits, Submit
from contract.queues import INTERACTIVE
from contract.settings import usable_cores
from deploy.local.ports import pick_ports

#: Clients and modes of the serving rows.
_LOADS = ((1, "wait"), (8, "wait"), (32, "wait"), (128, "wait"), (32, "poll"))
#: Jobs in one message when a queue is filled directly.
_GROUP = 32
#: What the gateway imports: importing them alone is the yardstick of its start.
_LIBRARIES = "gunicorn.app.base, gevent, flask, pydantic, flask_limiter, flask_cors, redis, celery, kombu"
_MORE_LIBRARIES = "structlog, pydantic, prometheus_client, PIL.Image"


@dataclass(frozen=True)
class Scale:
    """How much each part measures."""

    rounds: int
    seconds: float
    files: int
    backlog: int
    waiters: int
    starts: int


FULL = Scale(rounds=3, seconds=6, files=2000, backlog=100_000, waiters=1000, starts=3)
QUICK = Scale(rounds=1, seconds=3, files=200, backlog=3000, waiters=200, starts=1)
TINY = Scale(rounds=1, seconds=0.5, files=16, backlog=100, waiters=20, starts=1)


@dataclass
class Run:
    """One run of the benchmark: its folder, its scale, and the figures measured so far."""

    folder: Path
    scale: Scale
    shipped: Path
    #: Name -> value of each round.
    figures: dict[str, list[float]] = field(default_factory=dict)
    details: dict[str, list[Any]] = field(default_factory=dict)
    log: Callable[[str], None] = print

    @cached_property
    def model(self) -> Path:
        """The network of the yardstick: baseline_cnn with random weights."""
        out = self.folder / "baseline-cnn"
        command = [sys.executable, "-m", "training.release.untrained", "--out", str(out)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return out

    def add(self, name: str, value: float, **details: Any) -> None:
        """Record one measured value."""
        self.figures.setdefault(name, []).append(value)
        if details:
            self.details.setdefault(name, []).append(details)
        self.log(f"  {name} {value:.3g}")


def serving(run: Run) -> None:
    """Images per second with 1 to 128 clients, baseline_cnn in float32, each round beside the bare loop."""
    with _service_and_bare_loop(run, "serving", run.model, "float32") as (stack, bare):
        for _ in range(run.scale.rounds):
            loop = bare.measure("loop", run.scale.seconds)
            run.add("bare", loop["images_per_s"], **loop)
            single = bare.measure("single", 30)
            for clients, mode in _LOADS:
                found = stack.load("--clients", clients, "--mode", mode, "--seconds", run.scale.seconds)
                run.add(f"{mode}-{clients}", found["images_per_s"] / loop["images_per_s"], **found)
                if (clients, mode) == (1, "wait"):
                    run.add("latency-1", found["p50_ms"] / single["p50_ms"], bare_ms=single["p50_ms"], **found)
                if (clients, mode) == (32, "wait"):
                    run.add("tail-32", found["p99_ms"] / found["p50_ms"])


def shipped(run: Run) -> None:
    """The shipped model in float32."""
    _compare(run, "shipped-32", run.shipped, "float32", "float32")


def auto(run: Run) -> None:
    """Precision `auto`, beside a bare loop of the precision it chooses."""
    from worker.runtime.keras import processor_has_bfloat16  # noqa: PLC0415 - only this part needs the worker

    precision = "bfloat16" if processor_has_bfloat16() else "float32"
    _compare(run, "auto-32", run.model, "auto", precision)
    _compare(run, "auto-shipped-32", run.shipped, "auto", precision)


def bulk(run: Run) -> None:
    """A folder through `pawqueue submit`, from the start of the command to its end."""
    folder = run.folder / "bulk"
    images = _image_files(folder / "photos", run.scale.files)
    with (
        service(folder, model=run.model, precision="float32") as stack,
        bare_loop(folder, run.model, "float32") as bare,
    ):
        stack.load("--clients", 32, "--seconds", 1)
        for _ in range(run.scale.rounds):
            loop = bare.measure("loop", run.scale.seconds)
            command = [sys.executable, "-m", "pawqueue", "submit", str(images), "--url", stack.url, "--quiet", "--json"]
            began_s = time.perf_counter()
            done = subprocess.run(
                [*command, "--out", str(folder / "out.csv")], cwd=ROOT, capture_output=True, text=True, check=True
            )
            took_s = time.perf_counter() - began_s
            rate = run.scale.files / took_s
            run.add("bulk", rate / loop["images_per_s"], images_per_s=rate, bare=loop, said=json.loads(done.stdout))


def submit(run: Run) -> None:
    """Submits without a worker: the gateway's CPU time per job, beside a Flask route that only reads the body."""
    folder, port = run.folder / "submit", pick_ports(1)
    command = [sys.executable, "-m", "benchmarks.reading_route", str(port)]
    with service(folder, workers=0) as stack, started("reading", command, folder) as reading:
        wait_until(lambda: _listens(port), reading)
        for _ in range(run.scale.rounds):
            before_s = cpu_s(family(reading.pid))
            plain = run_load(port, "--mode", "plain", "--seconds", run.scale.seconds)
            least_ms = (cpu_s(family(reading.pid)) - before_s) * 1000 / plain["sent"]
            found = stack.load("--mode", "submit", "--seconds", run.scale.seconds)
            run.add("submit-cpu", found["cpu_ms"]["gateway"] / max(least_ms, 0.01), least_ms=least_ms, **found)


def backlog(run: Run) -> None:
    """Submit p50 behind a backlog of queued jobs, and the ledger's memory per job."""
    with service(run.folder / "backlog", workers=0) as stack:
        load = ("--mode", "submit", "--small", "--seconds", run.scale.seconds / 2, "--clients", 8)
        empty = [stack.load(*load)["p50_ms"] for _ in range(run.scale.rounds)]
        client = redis.Redis.from_url(stack.redis_url)
        before = client.info("memory")["used_memory"]
        _fill_queue(stack, run.scale.backlog, small_image())
        kept = (client.info("memory")["used_memory"] - before) / run.scale.backlog
        run.add("ledger-memory", kept / 1024)
        for _ in range(run.scale.rounds):
            p50_ms = stack.load(*load)["p50_ms"]
            run.add("backlog-p50", p50_ms / median(empty), empty_ms=median(empty), full_ms=p50_ms)


def waiters(run: Run) -> None:
    """Many clients that wait for one queued job: the gateway's memory, and the commands that Redis handles."""
    count = run.scale.waiters
    with service(run.folder / "waiters", workers=0) as stack:
        _fill_queue(stack, 1, small_image())
        client = redis.Redis.from_url(stack.redis_url, decode_responses=True)
        job_id = str(client.zrange(keys.queued(INTERACTIVE), 0, 0)[0])
        stack.load("--mode", "submit", "--small", "--seconds", 1)
        before = memory_bytes(family(stack.gateway.pid))
        idle = _commands_per_s(client, 2)
        connections = [_wait_for_job(stack.port, job_id) for _ in range(count)]
        _wait_idle(stack.gateway)
        added = (memory_bytes(family(stack.gateway.pid)) - before) / 1e6
        run.add("waiters-memory", added, clients=count, before_mb=before / 1e6)
        rate = max(0.0, _commands_per_s(client, 4) - idle) * 1000 / count
        run.add("waiters-commands", rate, idle_commands_per_s=idle)
        for connection in connections:
            connection.close()


def start_up(run: Run) -> None:
    """Time from start to ready of gateway and worker, each beside its minimum, and their memory."""
    folder = run.folder / "start"
    program = f"import gevent.monkey; gevent.monkey.patch_all(); import {_LIBRARIES}, {_MORE_LIBRARIES}"
    for number in range(run.scale.starts):
        began_s = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
        least_s = time.perf_counter() - began_s
        with service(folder / str(number), workers=0, model=run.model, precision="float32") as stack:
            took_s = stack.gateway.ready_s
            run.add("gateway-start", took_s / least_s, ready_s=took_s, least_s=least_s)
            stack.load("--mode", "submit", "--small", "--seconds", 1)
            run.add("gateway-memory", memory_bytes(family(stack.gateway.pid)) / 1e6)
            with bare_loop(stack.folder, run.model, "float32") as bare:
                least_s = bare.ready_s
            with stack.worker() as worker:
                run.add("worker-start", worker.ready_s / least_s, ready_s=worker.ready_s, least_s=least_s)
                run.add("worker-memory", memory_bytes(family(worker.pid)) / 1e6)


def two_workers(run: Run) -> None:
    """Two worker processes with half of the cores each, beside one with all of them."""
    cores = usable_cores()
    with service(run.folder / "two", workers=0, model=run.model, precision="float32") as stack:

        def images_per_s(workers: int) -> float:
            with ExitStack() as running:
                for _ in range(workers):
                    running.enter_context(stack.worker(cores=max(1, cores // workers)))
                stack.load("--clients", 64, "--seconds", run.scale.seconds)  # the first batches are not split
                found: float = stack.load("--clients", 64, "--seconds", run.scale.seconds)["images_per_s"]
                return found

        for _ in range(run.scale.rounds):
            one, two = images_per_s(1), images_per_s(2)
            run.add("two-workers", two / one, one=one, two=two)


def _compare(run: Run, name: str, model: Path, precision: str, bare_precision: str) -> None:
    with _service_and_bare_loop(run, name, model, precision, bare_precision) as (stack, bare):
        for _ in range(run.scale.rounds):
            loop = bare.measure("loop", run.scale.seconds)
            found = stack.load("--clients", 32, "--seconds", run.scale.seconds)
            run.add(name, found["images_per_s"] / loop["images_per_s"], bare=loop, **found)


@contextmanager
def _service_and_bare_loop(
    run: Run, name: str, model: Path, precision: str, bare_precision: str = ""
) -> Iterator[tuple[Service, BareLoop]]:
    """A service and the bare loop, both warmed up."""
    folder = run.folder / name
    with (
        service(folder, model=model, precision=precision) as stack,
        bare_loop(folder, model, bare_precision or precision) as bare,
    ):
        stack.load("--clients", 32, "--seconds", 1)
        yield stack, bare


def _fill_queue(stack: Service, count: int, data: bytes) -> None:
    """Queue jobs with their images and messages as the gateway does, but without it."""
    ledger, celery = stack.ledger(), make_celery(stack.redis_url)
    images = open_image_store(str(Path(stack.environ["PAWQUEUE_STATE_DIR"]) / "images"), 86_400)
    limits = QueueLimits(10**9, 10**15)
    for at in range(0, count, _GROUP):
        jobs = [
            Job(new_job_id(), INTERACTIVE, now_ms(), file="image.jpg", size_bytes=len(data), image=images.put(data))
            for _ in range(min(_GROUP, count - at))
        ]
        ledger.submit([Submit(job) for job in jobs], limits)
        publish(celery, INTERACTIVE, [job.id for job in jobs])


def _image_files(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    data = large_image()
    for number in range(count):
        (folder / f"{number:05}.jpg").write_bytes(data)
    return folder


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_for_job(port: int, job_id: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(f"GET /v1/jobs/{job_id} HTTP/1.1\r\nHost: x\r\nPrefer: wait=60\r\n\r\n".encode())
    return connection


def _wait_idle(process: Started) -> None:
    """Return once a process uses almost no CPU time."""
    before_s = -1.0
    while (now_s := cpu_s(family(process.pid))) - before_s > 0.03:
        process.check()
        before_s = now_s
        time.sleep(0.5)


def _commands_per_s(client: "redis.Redis", seconds: float) -> float:
    """Commands per second that Redis handles, without those of this measurement."""
    before = client.info("stats")["total_commands_processed"]
    time.sleep(seconds)
    return float(client.info("stats")["total_commands_processed"] - before - 1) / seconds
