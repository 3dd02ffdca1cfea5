"""Where each millisecond goes: a sampling profile of gateway and worker under load, summed up by step."""

import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from benchmarks.parts import Run
from benchmarks.processes import family, threads_cpu_s
from benchmarks.service import Service, service

_RATE_HZ = 200
#: Step -> parts of a frame's name: a sample belongs to the step of its innermost frame that has one. Redis's client has
#: none, so that its time goes to who called it.
_GATEWAY = {
    "check of the header": ("uploads.py",),
    "image store": ("image_store.py",),
    "ledger": ("ledger_redis", "contract/ledger/connection.py"),
    "Celery: publish": ("celery/", "kombu/"),
    "waiters": ("waiters.py",),
    "answer as JSON": ("contract/job.py", "flask/json"),
    "metrics and headers": ("prometheus_client", "gateway/headers.py", "structlog"),
    "group commit": ("committer.py",),
    "HTTP: gunicorn and gevent": ("gunicorn", "gevent", "gateway/server.py"),
    "checks by pydantic": ("pydantic",),
    "Flask and Werkzeug": ("flask", "werkzeug"),
    "routes": ("gateway/",),
}
_WORKER = {
    "decode": ("bundle/decode.py", "PIL/"),
    "features": ("features.py",),
    "model call": ("runtime.py", "side_by_side.py", "tensorflow", "keras"),
    "image store": ("image_store.py",),
    "ledger": ("ledger_redis.py", "contract/ledger"),
    "log": ("structlog", "logging/"),
    "metrics": ("prometheus_client", "worker/metrics.py"),
    "Celery: consume": ("celery/", "kombu/"),
    "results": ("committer.py", "predictor.py"),
    "pipeline": ("worker/", "concurrent/futures"),
}


#: Innermost frames of threads that only wait, which the sampler takes for busy ones now and then.
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
    """CPU milliseconds an image of each step of gateway and worker, by sampling."""
    with service(run.room("profile"), model=run.model, precision="float32") as stack:
        stack.load("--clients", 32, "--seconds", 1)
        seconds = max(2, int(run.scale.seconds))
        pids = {"gateway": family(stack.gateway.pid)[-1], "worker": stack.workers[0].pid}
        samplers = [_sampler(stack, name, pid, seconds) for name, pid in pids.items()]
        before = {name: threads_cpu_s(pid) for name, pid in pids.items()}
        found = stack.load("--clients", 32, "--seconds", seconds)
        after = {name: threads_cpu_s(pid) for name, pid in pids.items()}
        for sampler in samplers:
            sampler.wait()
        for name, steps in (("gateway", _GATEWAY), ("worker", _WORKER)):
            path = stack.folder / f"{name}.raw"
            used = {thread: cpu_s - before[name].get(thread, 0.0) for thread, cpu_s in after[name].items()}
            parts_s = seconds_of(path.read_text() if path.exists() else "", used, steps)
            ms = {step: round(part_s * 1000 / found["sent"], 3) for step, part_s in parts_s.items()}
            run.details[f"profile-{name}"] = [ms]
            run.say(f"  {name}, ms an image: " + ", ".join(f"{step} {value:.2f}" for step, value in ms.items()))


def _sampler(stack: Service, name: str, pid: int, seconds: int) -> "subprocess.Popen[bytes]":
    program = str(Path(sys.executable).with_name("py-spy"))
    command = [program, "record", "--pid", str(pid), "--duration", str(seconds), "--rate", str(_RATE_HZ), "--threads"]
    command += ["--nonblocking", "--format", "raw", "--output", str(stack.folder / f"{name}.raw")]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def seconds_of(stacks: str, used_s: Mapping[int, float], steps: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """CPU seconds by step: those of each Python thread in proportion to its samples, the rest as native threads.

    `stacks` are collapsed (`thread (ID): name;frame;frame count`), `used_s` is by thread id.
    """
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for line in stacks.splitlines():
        frames, _, count = line.rpartition(" ")
        head, *inner = frames.split(";")
        thread = re.match(r"thread \((\d+)\)", head)
        if thread and inner and not any(mark in inner[-1] for mark in _WAITING):
            counts[int(thread[1])][_step_of(inner, steps)] += int(count)
    found: dict[str, float] = defaultdict(float)
    for thread_id, cpu_s in used_s.items():
        mine = counts.get(thread_id) or {"native threads": 1}
        for step, samples in mine.items():
            found[step] += cpu_s * samples / sum(mine.values())
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _step_of(frames: list[str], steps: Mapping[str, tuple[str, ...]]) -> str:
    for frame in reversed(frames):
        for step, parts in steps.items():
            if any(part in frame for part in parts):
                return step
    return "other"
