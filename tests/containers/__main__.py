"""The images and docker-compose.yml, really built and run: `make test-containers`.

Shows that images are classified through the composed services, that a killed worker comes back, that workers scale to
three, that Redis may be restarted, that the dashboard answers and Prometheus finds its targets, that every service ends
with exit status 0 at SIGTERM, that nothing stays behind, and that no promised job is lost meanwhile.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.containers.clients import Clients
from tests.containers.images import check_images
from tests.containers.tools import BUILT, PROJECT, SERVICES, ContainersError, Tools, demand, until
from tests.support.services import ROOT, free_port

_BASE = "docker.io/library/python:3.11-slim"
_SAMPLE = ROOT.parent / "shared" / "data" / "sample"


@dataclass
class Show:
    """The composed services, and what was shown of them."""

    tools: Tools
    url: str
    dashboard_url: str
    mlflow_url: str
    said: list[tuple[str, str]] = field(default_factory=list)

    def say(self, what: str, seen: str) -> None:
        """Print what was shown, as soon as it was."""
        self.said.append((what, seen))
        print(f"ok  {what:34} {seen}", flush=True)

    def key(self) -> str:
        """A new API key."""
        (gateway,) = self.tools.containers("gateway")
        command = ["python", "-m", "gateway.keys_cli", "create", "--name", "tests"]
        scopes = [word for scope in ("submit", "read", "admin") for word in ("--scope", scope)]
        return self.tools.run("exec", gateway, *command, *scopes).split()[-1]

    def is_served(self) -> bool:
        """Whether the gateway answers and a worker has a model."""
        with suppress(httpx.HTTPError, ValueError, KeyError):
            return bool(httpx.get(f"{self.url}/health", timeout=5).json()["model_loaded"])
        return False

    def workers(self) -> int:
        """Workers that the gateway counts."""
        with suppress(httpx.HTTPError, StopIteration):
            lines = httpx.get(f"{self.url}/metrics", timeout=5).text.splitlines()
            return int(float(next(line.split()[1] for line in lines if line.startswith("pawqueue_workers "))))
        return 0


def classify(show: Show, key: str, photos: Path) -> None:
    """A folder of images through the client."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pawqueue", "submit", photos, "--url", show.url, "--out", f"{folder}/out.csv"]
        environ = {**os.environ, "PAWQUEUE_API_KEY": key}
        done = subprocess.run([*command, "--quiet"], cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
        demand(not done.returncode, f"The folder was not classified: {done.stdout[-1000:]}{done.stderr[-1000:]}")
        rows = Path(folder, "out.csv").read_text().count("succeeded")
    show.say("a folder is classified", f"{rows} images, all succeeded")


def kill_a_worker(show: Show) -> None:
    """SIGKILL a worker's process, as the kernel does when memory runs out."""
    (worker,) = show.tools.containers("worker")
    before = show.tools.inspect(worker)["State"]["Pid"]
    os.kill(before, 9)
    again_s = until(lambda: show.tools.inspect(worker)["State"]["Pid"] not in (0, before), "the worker coming back")
    until(show.is_served, "a model being served again")
    show.say("a killed worker comes back", f"by the restart policy, after {again_s:.0f} s")


def scale_workers(show: Show) -> None:
    """Three workers instead of one."""
    show.tools.up("--no-recreate", "--scale", "worker=3")
    took_s = until(lambda: show.workers() == 3, "three workers serving", 240)
    show.say("workers scale to 3", f"all of them serve after {took_s:.0f} s")


def restart_redis(show: Show) -> None:
    """Redis ends and starts again, its file kept."""
    (redis,) = show.tools.containers("redis")
    show.tools.run("restart", "-t", "30", redis)
    took_s = until(lambda: show.is_served() and show.workers() == 3, "the service after the restart of Redis")
    show.say("Redis is restarted", f"gateway and workers are back after {took_s:.0f} s")


def look_at_dashboard(show: Show) -> None:
    """The dashboard answers, and asks for a key."""
    answer = httpx.get(f"{show.dashboard_url}/", follow_redirects=True, timeout=30)
    demand(answer.status_code == 200, f"The dashboard answers {answer.status_code}.")
    demand("sign-in" in str(answer.url), "The dashboard that others can reach asks for no key.")
    show.say("the dashboard answers", "with its page to sign in")


def look_at_mlflow(show: Show) -> None:
    """MLflow answers, but not to a page of elsewhere."""
    until(lambda: _status(f"{show.mlflow_url}/health") == 200, "MLflow answering")
    elsewhere = httpx.get(f"{show.mlflow_url}/api/2.0/mlflow/experiments/search", headers={"Host": "elsewhere"})
    demand(elsewhere.status_code == 403, f"MLflow answers {elsewhere.status_code} under any name.")
    show.say("MLflow answers", "under its own names alone")


def _status(url: str) -> int:
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=5).status_code
    return 0


def look_at_prometheus(show: Show) -> None:
    """Prometheus finds the gateway and every worker."""
    (prometheus,) = show.tools.containers("prometheus")
    ask = ["exec", prometheus, "promtool", "query", "instant", "http://127.0.0.1:9090", "sum(up)"]
    until(lambda: "=> 4 " in show.tools.run(*ask), "Prometheus finding a gateway and three workers")
    show.say("Prometheus scrapes", "the gateway and 3 workers are up")


def stop_everything(show: Show) -> None:
    """SIGTERM to each container; each ends by itself with exit status 0."""
    found = []
    for service in reversed(SERVICES):
        for container in show.tools.containers(service):
            began_s = time.monotonic()
            show.tools.run("stop", "-t", "60", container)
            status = show.tools.inspect(container)["State"]["ExitCode"]
            demand(status == 0, f"{service} ended with {status}:\n{show.tools.run('logs', '--tail', '20', container)}")
            found.append(f"{service} {time.monotonic() - began_s:.0f} s")
    show.say("SIGTERM ends each with status 0", ", ".join(found))


_STEPS: tuple[Callable[[Show], None], ...] = (
    kill_a_worker,
    scale_workers,
    restart_redis,
    look_at_dashboard,
    look_at_mlflow,
    look_at_prometheus,
)


def play(show: Show, photos: Path) -> None:
    """All of it, while clients send images."""
    show.tools.up()
    took_s = until(show.is_served, "a model being served", 240)
    show.say("docker-compose.yml comes up", f"a model is served after {took_s:.0f} s")
    key = show.key()
    classify(show, key, photos)
    clients = Clients(show.url, key)
    with clients.sending():
        for step in _STEPS:
            step(show)
    results = clients.results()
    demand(set(results) == {"succeeded"}, f"Not all promised jobs succeeded: {dict(results)}")
    show.say("no job is lost", f"{len(clients.promised)} promised, {dict(results)}; refused {dict(clients.refused)}")
    stop_everything(show)


def main() -> int:
    """Play it and clean up; the exit status is 1 when something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.containers", description=__doc__)
    parser.add_argument("--engine", default="docker", help="docker or podman (default docker)")
    parser.add_argument("--compose", default="docker compose", help='"docker compose" or podman-compose')
    parser.add_argument("--images", default="localhost/pawqueue", help="what `make images` built (tag local)")
    parser.add_argument("--base", default=_BASE, help=f"their base image (default {_BASE})")
    given = parser.parse_args()
    port, dashboard_port, mlflow_port = free_port(), free_port(), free_port()
    environ = {f"PAWQUEUE_{name.upper()}_IMAGE": f"{given.images}-{name}:local" for name in BUILT}
    environ |= {"PAWQUEUE_GATEWAY_PORT": str(port), "PAWQUEUE_DASHBOARD_PORT": str(dashboard_port)}
    environ |= {"PAWQUEUE_MLFLOW_PORT": str(mlflow_port)}
    tools = Tools(given.engine, given.compose, environ)
    show = Show(tools, *(f"http://127.0.0.1:{one}" for one in (port, dashboard_port, mlflow_port)))
    subprocess.run(["sh", "deploy/compose/make-secrets"], cwd=ROOT, check=True)
    try:
        for seen in check_images(tools, given.images, given.base):
            show.say("an image is small, without root", seen)
        play(show, _SAMPLE if _SAMPLE.is_dir() else ROOT / "examples" / "photos")
    except (ContainersError, AssertionError) as error:
        print(f"FAILED  {error}", file=sys.stderr)
        for container in tools.containers("gateway") + tools.containers("worker"):
            print(tools.run("logs", "--tail", "15", container)[-2000:], file=sys.stderr)
        return 1
    finally:
        tools.down()
    left = tools.leftovers()
    print(f"{'FAILED' if left else 'ok'}  what stays behind of {PROJECT}: {', '.join(left) or 'nothing'}")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
