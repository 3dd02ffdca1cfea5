"""`make test-containers`: starts the services of docker-compose.yml with real images, and checks them.

A folder is classified, a killed worker restarts, workers scale to three, Redis can restart, dashboard and MLflow
respond, Prometheus finds its targets, no accepted job is lost, every service exits with status 0 on SIGTERM, and
nothing is left behind.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.containers.clients import Clients
from tests.containers.images import check_images
from tests.containers.tools import BUILT, SERVICES, ContainersError, Tools, require, until
from tests.support.services import ROOT, free_port

_BASE = "docker.io/library/python:3.11-slim"
_SAMPLE = ROOT.parent / "shared" / "data" / "sample"


@dataclass
class Project:
    """The running Compose project."""

    tools: Tools
    url: str
    dashboard_url: str
    mlflow_url: str

    def report(self, check: str, result: str) -> None:
        """Print a check that passed."""
        print(f"ok  {check:34} {result}", flush=True)

    def key(self, *scopes: str) -> str:
        """A new API key with these scopes."""
        (gateway,) = self.tools.containers("gateway")
        command = ["python", "-m", "gateway.keys_cli", "create", "--name", "tests"]
        options = [word for scope in scopes for word in ("--scope", scope)]
        url = (ROOT / "deploy" / "compose" / "secrets" / "redis_url_keys").read_text().strip()
        return self.tools.run("exec", "-e", f"PAWQUEUE_REDIS_URL={url}", gateway, *command, *options).split()[-1]

    def is_serving(self) -> bool:
        """Whether the gateway accepts jobs and a worker is running."""
        return self.workers() > 0

    def workers(self) -> int:
        """The number of workers if the gateway accepts jobs, else 0."""
        with suppress(httpx.HTTPError, ValueError, KeyError):
            status = httpx.get(f"{self.url}/v1/status", timeout=5).json()
            return len(status["workers"]) if status["ready"] else 0
        return 0


def classify(project: Project, key: str, photos: Path) -> None:
    """The client classifies a folder of images."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.csv")
        command = [sys.executable, "-m", "pawqueue", "submit", photos, "--url", project.url, "--out", out, "--quiet"]
        environ = {**os.environ, "PAWQUEUE_API_KEY": key}
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
        require(not done.returncode, f"Classifying a folder failed: {done.stdout[-1000:]}{done.stderr[-1000:]}")
        rows = out.read_text().count("succeeded")
    project.report("a folder is classified", f"{rows} images, all succeeded")


def kill_a_worker(project: Project) -> None:
    """A worker that is killed with SIGKILL, as when memory runs out, restarts."""
    (worker,) = project.tools.containers("worker")
    before = project.tools.inspect(worker)["State"]["Pid"]
    os.kill(before, 9)
    again_s = until(lambda: project.tools.inspect(worker)["State"]["Pid"] not in (0, before), "the worker to restart")
    until(project.is_serving, "a worker to serve again")
    project.report("a killed worker restarts", f"by the restart policy, after {again_s:.0f} s")


def scale_workers(project: Project) -> None:
    """Workers scale from one to three."""
    project.tools.up("--no-recreate", "--scale", "worker=3")
    took_s = until(lambda: project.workers() == 3, "three workers to start serving", 240)
    project.report("workers scale to 3", f"all of them serve after {took_s:.0f} s")


def restart_redis(project: Project) -> None:
    """Redis restarts, and gateway and workers reconnect."""
    (redis,) = project.tools.containers("redis")
    project.tools.run("restart", "-t", "30", redis)
    took_s = until(
        lambda: project.is_serving() and project.workers() == 3,
        "all services to recover",
    )
    project.report("Redis is restarted", f"gateway and workers serve again after {took_s:.0f} s")


def check_dashboard(project: Project) -> None:
    """The dashboard responds and requires an API key."""
    response = httpx.get(f"{project.dashboard_url}/", follow_redirects=True, timeout=30)
    require(response.status_code == 200, f"The dashboard returned {response.status_code}.")
    require("sign-in" in str(response.url), "The dashboard is reachable from other machines but requires no API key.")
    project.report("the dashboard responds", "with its sign-in page")


def check_mlflow(project: Project) -> None:
    """MLflow responds, but only under its own host names and with a login."""
    until(lambda: _status(f"{project.mlflow_url}/health") == 200, "MLflow to respond")
    response = httpx.get(f"{project.mlflow_url}/api/2.0/mlflow/experiments/search", headers={"Host": "elsewhere"})
    require(response.status_code == 403, f"MLflow returned {response.status_code} for another host name.")
    response = httpx.get(f"{project.mlflow_url}/api/2.0/mlflow/experiments/search")
    require(response.status_code == 401, f"MLflow returned {response.status_code} without a login.")
    project.report("MLflow responds", "under its own host names only, with a login")


def _status(url: str) -> int:
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=5).status_code
    return 0


def check_prometheus(project: Project) -> None:
    """Prometheus scrapes the gateway, the notifier and every worker."""
    (prometheus,) = project.tools.containers("prometheus")
    query = ["exec", prometheus, "promtool", "query", "instant", "http://127.0.0.1:9090", "sum(up)"]
    until(lambda: "=> 5 " in project.tools.run(*query), "Prometheus to scrape a gateway, a notifier and three workers")
    project.report("Prometheus scrapes", "the gateway, the notifier and 3 workers are up")


def stop_everything(project: Project) -> None:
    """Each service exits with status 0 on SIGTERM."""
    stopped = []
    for service in reversed(SERVICES):
        for container in project.tools.containers(service):
            began_s = time.monotonic()
            project.tools.run("stop", "-t", "60", container)
            status = project.tools.inspect(container)["State"]["ExitCode"]
            require(
                status == 0, f"{service} exited with {status}:\n{project.tools.run('logs', '--tail', '20', container)}"
            )
            stopped.append(f"{service} {time.monotonic() - began_s:.0f} s")
    project.report("each service exits with status 0", ", ".join(stopped))


_CHECKS: tuple[Callable[[Project], None], ...] = (
    kill_a_worker,
    scale_workers,
    restart_redis,
    check_dashboard,
    check_mlflow,
    check_prometheus,
)


def new_project(engine: str, compose: str, images: str, name: str) -> Project:
    """A Compose project with this name on free ports, with its secrets. Nothing is started yet."""
    ports = {name: free_port() for name in ("GATEWAY", "DASHBOARD", "MLFLOW")}
    environ = {f"PAWQUEUE_{name.upper()}_IMAGE": f"{images}-{name}:local" for name in BUILT}
    environ |= {f"PAWQUEUE_{name}_PORT": str(port) for name, port in ports.items()}
    subprocess.run(["sh", "deploy/compose/make-secrets"], cwd=ROOT, check=True)
    return Project(Tools(engine, compose, environ, name), *(f"http://127.0.0.1:{port}" for port in ports.values()))


def run_checks(project: Project, photos: Path) -> None:
    """Run all checks while clients send images."""
    project.tools.up()
    took_s = until(project.is_serving, "a worker to start serving", 240)
    project.report("docker-compose.yml comes up", f"a worker serves after {took_s:.0f} s")
    key = project.key("submit", "read", "admin")
    classify(project, key, photos)
    clients = Clients(project.url, key)
    with clients.sending():
        for check in _CHECKS:
            check(project)
    results = clients.results()
    require(set(results) == {"succeeded"}, f"Not all accepted jobs succeeded: {dict(results)}")
    project.report(
        "no accepted job is lost",
        f"{len(clients.accepted)} accepted, {dict(results)}; not accepted {dict(clients.not_accepted)}",
    )
    stop_everything(project)


def main() -> int:
    """Run the checks and clean up; returns 1 if a check failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.containers", description=__doc__)
    parser.add_argument("--engine", default="docker", help="docker or podman (default docker)")
    parser.add_argument("--compose", default="docker compose", help='"docker compose" or podman-compose')
    parser.add_argument(
        "--images", default="localhost/pawqueue", help="prefix of the images, which `make images` built with TAG=local"
    )
    parser.add_argument("--base", default=_BASE, help=f"base image that they are built on (default {_BASE})")
    given = parser.parse_args()
    project = new_project(given.engine, given.compose, given.images, "pawqueue-test")
    tools = project.tools
    try:
        for line in check_images(tools, given.images, given.base):
            project.report("an image is small and not root", line)
        run_checks(project, _SAMPLE if _SAMPLE.is_dir() else ROOT / "examples" / "photos")
    except (ContainersError, AssertionError) as error:
        print(f"FAILED  {error}", file=sys.stderr)
        for container in tools.containers("gateway") + tools.containers("worker"):
            print(tools.run("logs", "--tail", "15", container)[-2000:], file=sys.stderr)
        return 1
    finally:
        tools.down()
    left = tools.leftovers()
    print(f"{'FAILED' if left else 'ok'}  left behind by {tools.project}: {', '.join(left) or 'nothing'}")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
