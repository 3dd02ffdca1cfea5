"""Runs Docker or podman, and Compose."""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.services import ROOT

#: The images that `make images` builds.
BUILT = ("gateway", "worker", "dashboard", "mlflow")
SERVICES = ("redis", *BUILT, "notifier", "prometheus")


class ContainersError(Exception):
    """A check or a command failed."""


def require(holds: bool, problem: str) -> None:
    """Raise `ContainersError` with the problem unless the condition holds."""
    if not holds:
        raise ContainersError(problem)


def until(condition: Callable[[], bool], what: str, timeout_s: float = 120.0) -> float:
    """Wait for a condition; returns the seconds it took."""
    began_s = time.monotonic()
    while not condition():
        require(time.monotonic() - began_s < timeout_s, f"Timed out after {timeout_s:g} s waiting for {what}")
        time.sleep(0.2)
    return time.monotonic() - began_s


@dataclass(frozen=True)
class Tools:
    """The commands of the engine and of Compose; `environ` contains the variables of docker-compose.yml."""

    engine: str
    compose: str
    environ: Mapping[str, str] = field(default_factory=dict)
    #: The name of the Compose project, which no other run may use at the same time.
    project: str = ""

    def run(self, *arguments: str) -> str:
        """Run a command of the container engine; returns its output.

        Raises:
            ContainersError: the command failed.
        """
        return self._call([*shlex.split(self.engine), *arguments])

    def up(self, *arguments: str) -> None:
        """Start the services."""
        self._compose("up", "-d", "--no-build", *arguments)

    def down(self) -> None:
        """Remove the project with its volumes."""
        self._compose("down", "-v")
        # podman-compose needs a second call to remove a volume that several containers use.
        if self.leftovers():
            self._compose("down", "-v")

    def containers(self, service: str = "", *, all_of_them: bool = False) -> list[str]:
        """Ids of the running containers of a service, or of all services."""
        label = f"label=com.docker.compose.project={self.project}"
        filters = ["--filter", label]
        if service:
            filters += ["--filter", f"label=com.docker.compose.service={service}"]
        return self.run("ps", "-q", *(["-a"] if all_of_them else []), *filters).split()

    def inspect(self, container: str) -> dict[str, Any]:
        """The engine's description of a container or an image."""
        (found,) = json.loads(self.run("inspect", container))
        known: dict[str, Any] = found
        return known

    def leftovers(self) -> list[str]:
        """Containers, volumes and networks of the project."""
        found = self.containers(all_of_them=True)
        for kind in ("volume", "network"):
            names = self.run(kind, "ls", "--format", "{{.Name}}").split()
            found += [f"{kind} {name}" for name in names if name.startswith(self.project)]
        return found

    def _compose(self, *arguments: str) -> None:
        profiles = ["--profile", "monitoring", "--profile", "tracking"]
        self._call([*shlex.split(self.compose), "-p", self.project, *profiles, *arguments])

    def _call(self, command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **self.environ}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ContainersError(f"`{shlex.join(command)}` failed:\n{(done.stderr or done.stdout)[-2000:]}")
        return done.stdout
