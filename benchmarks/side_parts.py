"""Further parts: bulk through the client, submit alone, a backlog, clients that wait, start-up."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import redis

from benchmarks.image import photo, small_photo
from benchmarks.parts import Run
from benchmarks.processes import cpu_s, memory_bytes
from benchmarks.service import ROOT, Service, Started, bare_process, run_load, service, started, until
from contract.broker import INTERACTIVE, make_celery, publish
from contract.images.store import open_image_store
from contract.job import Job, new_job_id, now_ms
from contract.ledger import keys
from contract.ledger.types import QueueLimits, Submit
from deploy.local.ports import pick_ports

_GROUP = 32
#: What the gateway imports; loaded alone, it is the yardstick of its start.
_LIBRARIES = "gunicorn.app.base, gevent, flask, pydantic, flask_limiter, flask_cors, redis, celery, kombu"
_MORE_LIBRARIES = "structlog, pydantic, prometheus_client, PIL.Image"


def bulk(run: Run) -> None:
    """A folder through `pawqueue submit`, from the start of the command to its end."""
    folder = run.room("bulk")
    photos = _photos(folder / "photos", run.scale.files)
    with (
        service(folder, model=run.model, precision="float32") as stack,
        bare_process(folder, run.model, "float32") as bare,
    ):
        stack.load("--clients", 32, "--seconds", 1)
        for _ in range(run.scale.rounds):
            loop = bare.ask("loop", run.scale.seconds)
            command = [sys.executable, "-m", "pawqueue", "submit", str(photos), "--url", stack.url, "--quiet", "--json"]
            began_s = time.perf_counter()
            done = subprocess.run(
                [*command, "--out", str(folder / "out.csv")], cwd=ROOT, capture_output=True, text=True, check=True
            )
            took_s = time.perf_counter() - began_s
            rate = run.scale.files / took_s
            run.add("bulk", rate / loop["images_per_s"], images_per_s=rate, bare=loop, said=json.loads(done.stdout))


def submit(run: Run) -> None:
    """Submit only, no worker: the gateway's CPU a job, beside a Flask route that only reads the body."""
    folder, port = run.room("submit"), pick_ports(1)
    command = [sys.executable, "-m", "benchmarks.reading_route", str(port)]
    with service(folder, workers=0) as stack, started("reading", command, folder) as reading:
        until(lambda: _listens(port), reading)
        for _ in range(run.scale.rounds):
            before_s = cpu_s(reading.pid)
            plain = run_load(port, "--mode", "plain", "--seconds", run.scale.seconds)
            least_ms = (cpu_s(reading.pid) - before_s) * 1000 / plain["sent"]
            found = stack.load("--mode", "submit", "--seconds", run.scale.seconds)
            run.add("submit-cpu", found["cpu_ms"]["gateway"] / max(least_ms, 0.01), least_ms=least_ms, **found)


def backlog(run: Run) -> None:
    """Submit p50 behind many queued jobs, and what the ledger keeps of each."""
    with service(run.room("backlog"), workers=0) as stack:
        load = ("--mode", "submit", "--small", "--seconds", run.scale.seconds / 2, "--clients", 8)
        empty = [stack.load(*load)["p50_ms"] for _ in range(run.scale.rounds)]
        client = redis.Redis.from_url(stack.redis_url)
        before = client.info("memory")["used_memory"]
        fill(stack, run.scale.backlog, small_photo())
        kept = (client.info("memory")["used_memory"] - before) / run.scale.backlog
        run.add("ledger-memory", kept / 1024)
        for _ in range(run.scale.rounds):
            p50_ms = stack.load(*load)["p50_ms"]
            run.add("backlog-p50", p50_ms / median(empty), empty_ms=median(empty), full_ms=p50_ms)


def fill(stack: Service, count: int, data: bytes) -> None:
    """Queue jobs with their images and messages, as the gateway would, without the gateway."""
    ledger, celery = stack.ledger(), make_celery(stack.redis_url)
    images = open_image_store(str(Path(stack.environ["PAWQUEUE_STATE_DIR"]) / "images"), 86_400)
    limits = QueueLimits(10**9, 10**15)
    for at in range(0, count, _GROUP):
        jobs = [_job(images.put(data), len(data)) for _ in range(min(_GROUP, count - at))]
        ledger.submit([Submit(job) for job in jobs], limits)
        publish(celery, INTERACTIVE, [job.id for job in jobs])


def waiters(run: Run) -> None:
    """Many clients that wait for jobs which nobody works on: memory, and whether Redis is asked meanwhile."""
    count = run.scale.waiters
    with service(run.room("waiters"), workers=0) as stack:
        fill(stack, 1, small_photo())
        client = redis.Redis.from_url(stack.redis_url, decode_responses=True)
        job_id = str(client.zrange(keys.queued(INTERACTIVE), 0, 0)[0])
        stack.load("--mode", "submit", "--small", "--seconds", 1)
        before = memory_bytes(stack.gateway.pid)
        idle = _commands(client, 2)
        lines = [_ask(stack.port, job_id) for _ in range(count)]
        _settle(stack.gateway)
        added = (memory_bytes(stack.gateway.pid) - before) / 1e6
        run.add("waiters-memory", added, clients=count, before_mb=before / 1e6)
        rate = max(0.0, _commands(client, 4) - idle) * 1000 / count
        run.add("waiters-commands", rate, idle_commands_per_s=idle)
        for line in lines:
            line.close()


def start_up(run: Run) -> None:
    """From start to ready: gateway and worker, each to the least that it could take; the gateway's memory."""
    folder = run.room("start")
    program = f"import gevent.monkey; gevent.monkey.patch_all(); import {_LIBRARIES}, {_MORE_LIBRARIES}"
    for number in range(run.scale.starts):
        began_s = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
        least_s = time.perf_counter() - began_s
        with service(folder / str(number), workers=0, model=run.model, precision="float32") as stack:
            took_s = stack.gateway.ready_s
            run.add("gateway-start", took_s / least_s, ready_s=took_s, least_s=least_s)
            stack.load("--mode", "submit", "--small", "--seconds", 1)
            run.add("gateway-memory", memory_bytes(stack.gateway.pid) / 1e6)
            with bare_process(stack.folder, run.model, "float32") as bare:
                least_s = bare.ready_s
            with stack.worker() as worker:
                run.add("worker-start", worker.ready_s / least_s, ready_s=worker.ready_s, least_s=least_s)
                run.add("worker-memory", memory_bytes(worker.pid) / 1e6)


def _photos(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    data = photo()
    for number in range(count):
        (folder / f"{number:05}.jpg").write_bytes(data)
    return folder


def _job(image: str, size_bytes: int) -> Job:
    return Job(new_job_id(), INTERACTIVE, now_ms(), file="image.jpg", size_bytes=size_bytes, image=image)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _ask(port: int, job_id: str) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", port))
    line.sendall(f"GET /v1/jobs/{job_id} HTTP/1.1\r\nHost: x\r\nPrefer: wait=60\r\n\r\n".encode())
    return line


def _settle(process: Started) -> None:
    """Return when a process has stopped using CPU."""
    before_s = -1.0
    while (now_s := cpu_s(process.pid)) - before_s > 0.03:
        process.check()
        before_s = now_s
        time.sleep(0.5)


def _commands(client: "redis.Redis", seconds: float) -> float:
    """Commands a second that Redis handles, this question aside."""
    before = client.info("stats")["total_commands_processed"]
    time.sleep(seconds)
    return float(client.info("stats")["total_commands_processed"] - before - 1) / seconds
