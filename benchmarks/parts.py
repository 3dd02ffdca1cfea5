"""The parts of the benchmark. Each starts the services it needs, measures them, and records figures."""

import json
import shutil
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
from benchmarks.processes import ROOT, Process, cpu_s, memory_bytes, process_tree, running, wait_until
from benchmarks.service import BareLoopProcess, Service, bare_loop, run_load, service
from contract.ledger import keys
from contract.queues import INTERACTIVE
from contract.settings import usable_cores
from deploy.local.ports import pick_ports

#: Number of clients and mode of each measurement in `serving`.
_LOADS = ((1, "wait"), (8, "wait"), (32, "wait"), (128, "wait"), (32, "poll"))
#: Number of clients of each measurement in `shadow`.
_SHADOW_CLIENTS = (32, 1)
#: The libraries that the gateway imports; its start is compared with importing them alone.
_LIBRARIES = "gunicorn.app.base, gevent, flask, pydantic, flask_cors, redis, structlog, prometheus_client"


@dataclass(frozen=True)
class Scale:
    """How much is measured: rounds per part, seconds per measurement, and counts of files, jobs, clients and starts."""

    rounds: int
    seconds: float
    files: int
    backlog: int
    waiters: int
    starts: int


FULL = Scale(rounds=3, seconds=6, files=2000, backlog=100_000, waiters=1000, starts=3)
QUICK = Scale(rounds=1, seconds=3, files=200, backlog=3000, waiters=200, starts=1)
TINY = Scale(rounds=1, seconds=1, files=16, backlog=100, waiters=20, starts=1)


@dataclass
class Run:
    """One run of the benchmark: its folder, its scale, and the figures measured so far."""

    folder: Path
    scale: Scale
    shipped: Path
    #: The values of each figure, one per round.
    figures: dict[str, list[float]] = field(default_factory=dict)
    #: The measurements that each value was computed from.
    details: dict[str, list[Any]] = field(default_factory=dict)
    log: Callable[[str], None] = print

    @cached_property
    def model(self) -> Path:
        """The bundle that most parts serve: baseline_cnn with random weights."""
        out = self.folder / "baseline-cnn"
        command = [sys.executable, "-m", "training.release.untrained", "--out", str(out)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return out

    def add(self, name: str, value: float, **details: Any) -> None:
        """Record the value of one round."""
        self.figures.setdefault(name, []).append(value)
        if details:
            self.details.setdefault(name, []).append(details)
        self.log(f"  {name} {value:.3g}")


def serving(run: Run) -> None:
    """Images per second with 1 to 128 clients, baseline_cnn in float32, compared with the bare loop."""
    with _service_and_bare_loop(run, "serving", run.model, "float32") as (stack, bare):
        for _ in range(run.scale.rounds):
            loop = bare.measure("loop", run.scale.seconds)
            run.add("bare", loop["images_per_s"], **loop)
            single = bare.measure("single", 30)
            for clients, mode in _LOADS:
                figures = stack.load("--clients", clients, "--mode", mode, "--seconds", run.scale.seconds)
                run.add(f"{mode}-{clients}", figures["images_per_s"] / loop["images_per_s"], **figures)
                if (clients, mode) == (1, "wait"):
                    run.add("latency-1", figures["p50_ms"] / single["p50_ms"], bare_ms=single["p50_ms"], **figures)
                if (clients, mode) == (32, "wait"):
                    run.add("tail-32", figures["p99_ms"] / figures["p50_ms"])


def shipped(run: Run) -> None:
    """Images per second of the included model in float32, compared with the bare loop."""
    _compare(run, "shipped-32", run.shipped, "float32", "float32")


def auto(run: Run) -> None:
    """Images per second with precision `auto`, compared with a bare loop in bfloat16 if the processor supports it."""
    from worker.runtime.remembered import processor_has_bfloat16  # noqa: PLC0415 - only this part needs the worker

    precision = "bfloat16" if processor_has_bfloat16() else "float32"
    _compare(run, "auto-32", run.model, "auto", precision)
    _compare(run, "auto-shipped-32", run.shipped, "auto", precision)


def bulk(run: Run) -> None:
    """A folder sent by `pawqueue submit`, from the start of the command to its exit."""
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
            run.add("bulk", rate / loop["images_per_s"], images_per_s=rate, bare=loop, summary=json.loads(done.stdout))


def submit(run: Run) -> None:
    """The gateway's CPU time per submit, compared with a Flask route that only reads the body."""
    folder, port = run.folder / "submit", pick_ports(1)
    command = [sys.executable, "-m", "benchmarks.reading_route", str(port)]
    with service(folder, workers=0) as stack, running("reading", command, folder) as reading:
        wait_until(lambda: _listens(port), reading)
        for _ in range(run.scale.rounds):
            before_s = cpu_s(process_tree(reading.pid))
            plain = run_load(port, "--mode", "plain", "--seconds", run.scale.seconds)
            minimum_ms = (cpu_s(process_tree(reading.pid)) - before_s) * 1000 / plain["sent"]
            figures = stack.load("--mode", "submit", "--seconds", run.scale.seconds)
            run.add(
                "submit-cpu", figures["cpu_ms"]["gateway"] / max(minimum_ms, 0.01), minimum_ms=minimum_ms, **figures
            )


def backlog(run: Run) -> None:
    """The p50 of a submit behind a backlog of queued jobs, and the ledger's memory per job."""
    with service(run.folder / "backlog", workers=0) as stack:
        load = ("--mode", "submit", "--small", "--seconds", run.scale.seconds / 2, "--clients", 8)
        empty = [stack.load(*load)["p50_ms"] for _ in range(run.scale.rounds)]
        client = redis.Redis.from_url(stack.redis_url)
        before = client.info("memory")["used_memory"]
        stack.fill_queue(INTERACTIVE, run.scale.backlog, small_image())
        bytes_per_job = (client.info("memory")["used_memory"] - before) / run.scale.backlog
        run.add("ledger-memory", bytes_per_job / 1024)
        for _ in range(run.scale.rounds):
            p50_ms = stack.load(*load)["p50_ms"]
            run.add("backlog-p50", p50_ms / median(empty), empty_ms=median(empty), full_ms=p50_ms)


def waiters(run: Run) -> None:
    """Gateway memory and Redis commands while many clients wait for one queued job, and while they follow events."""
    _measure_waiting(run, "waiters", "", "Prefer: wait=60")
    _measure_waiting(run, "listeners", "/events", "Accept: text/event-stream")


def _measure_waiting(run: Run, name: str, path: str, header: str) -> None:
    count = run.scale.waiters
    with service(run.folder / name, workers=0) as stack:
        stack.fill_queue(INTERACTIVE, 1, small_image())
        client = redis.Redis.from_url(stack.redis_url, decode_responses=True)
        job_id = str(client.zrange(keys.queued(INTERACTIVE), 0, 0)[0])
        stack.load("--mode", "submit", "--small", "--seconds", 1)
        before = memory_bytes(process_tree(stack.gateway.pid))
        idle_per_s = _commands_per_s(client, 2)
        request = f"GET /v1/jobs/{job_id}{path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n".encode()
        connections = [_sent(stack.port, request) for _ in range(count)]
        _wait_idle(stack.gateway)
        added_mb = (memory_bytes(process_tree(stack.gateway.pid)) - before) / 1e6
        run.add(f"{name}-memory", added_mb, clients=count, before_mb=before / 1e6)
        rate = max(0.0, _commands_per_s(client, 4) - idle_per_s) * 1000 / count
        run.add(f"{name}-commands", rate, idle_commands_per_s=idle_per_s)
        for connection in connections:
            connection.close()


def start_up(run: Run) -> None:
    """Time until gateway and worker are ready, compared with its minimum, and their memory."""
    folder = run.folder / "start"
    program = f"import gevent.monkey; gevent.monkey.patch_all(); import {_LIBRARIES}"
    for number in range(run.scale.starts):
        began_s = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
        imports_s = time.perf_counter() - began_s
        with service(folder / str(number), workers=0, model=run.model, precision="float32") as stack:
            took_s = stack.gateway.ready_s
            run.add("gateway-start", took_s / imports_s, ready_s=took_s, minimum_s=imports_s)
            stack.load("--mode", "submit", "--small", "--seconds", 1)
            run.add("gateway-memory", memory_bytes(process_tree(stack.gateway.pid)) / 1e6)
            with bare_loop(stack.folder, run.model, "float32") as bare:
                bare_s = bare.ready_s
            for name in ("worker-first-start", "worker-start"):  # the first one measures strategies
                with stack.worker() as worker:
                    run.add(name, worker.ready_s / bare_s, ready_s=worker.ready_s, minimum_s=bare_s)
                    memory_mb = memory_bytes(process_tree(worker.pid)) / 1e6
            run.add("worker-memory", memory_mb)


def two_workers(run: Run) -> None:
    """Two workers with half of the cores each, compared with one worker with all cores."""
    cores = usable_cores()
    with service(run.folder / "two", workers=0, model=run.model, precision="float32") as stack:

        def images_per_s(workers: int) -> float:
            with ExitStack() as contexts:
                for _ in range(workers):
                    contexts.enter_context(stack.worker(cores=max(1, cores // workers)))
                # Warm-up: a worker does not split its first batches into parts.
                stack.load("--clients", 64, "--seconds", run.scale.seconds)
                rate: float = stack.load("--clients", 64, "--seconds", run.scale.seconds)["images_per_s"]
                return rate

        for _ in range(run.scale.rounds):
            one, two = images_per_s(1), images_per_s(2)
            run.add("two-workers", two / one, one=one, two=two)


def shadow(run: Run) -> None:
    """The included model with a shadow of all its jobs, in turns with the same without a shadow."""
    folder = run.folder / "shadow"
    manifest = json.loads((run.shipped / "manifest.json").read_text(encoding="utf-8"))
    copy = folder / "state" / "models" / manifest["name"] / "shadow"
    shutil.copytree(run.shipped, copy)
    (copy / "manifest.json").write_text(json.dumps(manifest | {"version": copy.name}), encoding="utf-8")
    with service(folder, model=run.shipped, precision="float32") as stack:
        ledger = stack.ledger()

        def is_set(*, ready: bool) -> bool:
            held = [beat.shadow_of(manifest["name"], copy.name) for beat in ledger.workers()]
            return all((found is not None and found.state == "ready") is ready for found in held)

        def measure(clients: int, *, with_shadow: bool) -> dict[str, Any]:
            ledger.models.set_shadow(manifest["name"], copy.name if with_shadow else None)
            wait_until(lambda: is_set(ready=with_shadow), *stack.workers)
            before = sum(ledger.shadows.totals().values())
            figures = stack.load("--clients", clients, "--seconds", run.scale.seconds)
            return figures | {"compared": sum(ledger.shadows.totals().values()) - before}

        measure(32, with_shadow=True)
        for number in range(run.scale.rounds):
            for clients in _SHADOW_CLIENTS:
                turns = (False, True) if number % 2 else (True, False)
                found = {with_shadow: measure(clients, with_shadow=with_shadow) for with_shadow in turns}
                ratio = found[True]["images_per_s"] / found[False]["images_per_s"]
                run.add(f"shadow-{clients}", ratio, with_shadow=found[True], without=found[False])
                run.add(f"shadow-p50-{clients}", found[True]["p50_ms"] / found[False]["p50_ms"])
                run.add(f"shadow-p99-{clients}", found[True]["p99_ms"] / found[False]["p99_ms"])
                # Hardly depends on what else the machine does.
                worker_ms = [found[with_shadow]["cpu_ms"]["worker"] for with_shadow in (True, False)]
                run.add(f"shadow-cpu-{clients}", worker_ms[0] / worker_ms[1])


def _compare(run: Run, name: str, model: Path, precision: str, bare_precision: str) -> None:
    with _service_and_bare_loop(run, name, model, precision, bare_precision) as (stack, bare):
        for _ in range(run.scale.rounds):
            loop = bare.measure("loop", run.scale.seconds)
            figures = stack.load("--clients", 32, "--seconds", run.scale.seconds)
            run.add(name, figures["images_per_s"] / loop["images_per_s"], bare=loop, **figures)


@contextmanager
def _service_and_bare_loop(
    run: Run, name: str, model: Path, precision: str, bare_precision: str = ""
) -> Iterator[tuple[Service, BareLoopProcess]]:
    """A service and the bare loop, both warmed up."""
    folder = run.folder / name
    with (
        service(folder, model=model, precision=precision) as stack,
        bare_loop(folder, model, bare_precision or precision) as bare,
    ):
        stack.load("--clients", 32, "--seconds", 1)
        yield stack, bare


def _image_files(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    data = large_image()
    for number in range(count):
        (folder / f"{number:05}.jpg").write_bytes(data)
    return folder


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _sent(port: int, request: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(request)
    return connection


def _wait_idle(process: Process) -> None:
    """Wait until a process uses almost no CPU time."""
    before_s = -1.0
    while (now_s := cpu_s(process_tree(process.pid))) - before_s > 0.03:
        process.check()
        before_s = now_s
        time.sleep(0.5)


def _commands_per_s(client: "redis.Redis", seconds: float) -> float:
    """Commands per second that Redis handles, not counting this measurement."""
    before = client.info("stats")["total_commands_processed"]
    time.sleep(seconds)
    return float(client.info("stats")["total_commands_processed"] - before - 1) / seconds
