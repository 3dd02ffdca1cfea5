"""Profiles gateway and worker under load by sampling, and reports their CPU time by step."""

import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from benchmarks.parts import Run
from benchmarks.processes import process_tree, threads_cpu_s
from benchmarks.service import Service, service

_RATE_HZ = 200
#: Substrings of file paths, by step. A sample is attributed to the first step that matches its innermost matching
#: frame. The Redis client matches no step, so its time is attributed to its caller.
_GATEWAY = {
    "header check": ("contract/uploads", "gateway/accept/check"),
    "image store": ("contract/images/",),
    "ledger": ("contract/ledger/",),
    "waiters": ("gateway/results/",),
    "JSON responses": ("contract/job.py", "flask/json"),
    "metrics and headers": ("prometheus_client", "gateway/metrics", "gateway/http/headers", "structlog"),
    "group commit": ("gateway/accept/",),
    "HTTP: gunicorn and gevent": ("gunicorn", "gevent", "contract/web/"),
    "validation with pydantic": ("pydantic",),
    "Flask and Werkzeug": ("flask", "werkzeug"),
    "routes": ("gateway/",),
}
_WORKER = {
    "decode": ("bundle/decode", "bundle/color", "bundle/samples", "PIL/"),
    "features": ("bundle/features",),
    "model call": ("worker/runtime/", "tensorflow", "keras"),
    "image store": ("contract/images/",),
    "ledger": ("contract/ledger/",),
    "log": ("structlog", "logging/"),
    "metrics": ("prometheus_client", "worker/upkeep/metrics"),
    "Celery: consume": ("celery/", "kombu/"),
    "results": ("worker/pipeline/commit", "worker/pipeline/predict"),
    "pipeline": ("worker/", "concurrent/futures"),
}
#: Innermost frames of waiting threads, which the sampler sometimes reports as busy.
_WAITING = (
    "Hub.run",
    ".poll (",
    "Condition.wait (",
    "_read_from_socket",
    "_worker (concurrent",
    ".select (",
    "Event.wait (",
)


def profiled(run: Run) -> None:
    """CPU milliseconds per image for each step of the gateway and the worker."""
    with service(run.folder / "profile", model=run.model, precision="float32") as stack:
        stack.load("--clients", 32, "--seconds", 1)
        seconds = max(2, int(run.scale.seconds))
        pids = {"gateway": process_tree(stack.gateway.pid)[-1].pid, "worker": stack.workers[0].pid}
        samplers = [_sampler(stack, name, pid, seconds) for name, pid in pids.items()]
        before = {name: threads_cpu_s(pid) for name, pid in pids.items()}
        figures = stack.load("--clients", 32, "--seconds", seconds)
        after = {name: threads_cpu_s(pid) for name, pid in pids.items()}
        for sampler in samplers:
            sampler.wait()
        for name, steps in (("gateway", _GATEWAY), ("worker", _WORKER)):
            path = stack.folder / f"{name}.raw"
            used = {thread: cpu_s - before[name].get(thread, 0.0) for thread, cpu_s in after[name].items()}
            steps_s = seconds_of(path.read_text() if path.exists() else "", used, steps)
            ms = {step: round(step_s * 1000 / figures["sent"], 3) for step, step_s in steps_s.items()}
            run.details[f"profile-{name}"] = [ms]
            run.log(f"  {name}, ms per image: " + ", ".join(f"{step} {value:.2f}" for step, value in ms.items()))


def _sampler(stack: Service, name: str, pid: int, seconds: int) -> "subprocess.Popen[bytes]":
    program = str(Path(sys.executable).with_name("py-spy"))
    command = [program, "record", "--pid", str(pid), "--duration", str(seconds), "--rate", str(_RATE_HZ), "--threads"]
    command += ["--nonblocking", "--format", "raw", "--output", str(stack.folder / f"{name}.raw")]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def seconds_of(stacks: str, used_s: Mapping[int, float], steps: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """CPU seconds by step: the time of each Python thread is split by its samples; the rest is `native threads`.

    `stacks` are in collapsed format (`thread (ID): name;frame;frame count`), `used_s` is by thread id.
    """
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for line in stacks.splitlines():
        frames, _, count = line.rpartition(" ")
        head, *inner = frames.split(";")
        thread = re.match(r"thread \((\d+)\)", head)
        if thread and inner and not any(mark in inner[-1] for mark in _WAITING):
            counts[int(thread[1])][_step_of(inner, steps)] += int(count)
    seconds: dict[str, float] = defaultdict(float)
    for thread_id, cpu_s in used_s.items():
        samples_by_step = counts.get(thread_id) or {"native threads": 1}
        for step, samples in samples_by_step.items():
            seconds[step] += cpu_s * samples / sum(samples_by_step.values())
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def _step_of(frames: list[str], steps: Mapping[str, tuple[str, ...]]) -> str:
    for frame in reversed(frames):
        for step, parts in steps.items():
            if any(part in frame for part in parts):
                return step
    return "other"
