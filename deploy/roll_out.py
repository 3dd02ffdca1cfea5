"""Deploys new images to a cluster, tests them with a real prediction, and rolls back if a step fails."""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: The image of each Deployment.
IMAGES = {"gateway": "gateway", "notifier": "gateway", "worker": "worker", "dashboard": "dashboard"}
_SMOKE_TEST = Path(__file__).with_name("smoke_test.py")


class Cluster:
    """The Deployments of one namespace, controlled with `kubectl`."""

    def __init__(self, namespace: str, wait_s: int) -> None:
        self._namespace = namespace
        self._wait_s = wait_s

    def images(self) -> dict[str, str]:
        """The current image of each service."""
        path = "jsonpath={.spec.template.spec.containers[0].image}"
        return {name: self._kubectl("get", f"deployment/{name}", "-o", path).strip() for name in IMAGES}

    def set_images(self, images: dict[str, str]) -> None:
        """Set the image of each Deployment and wait until its pods are replaced.

        Raises:
            subprocess.CalledProcessError: an update failed, or pods were not ready in time.
        """
        for name, image in images.items():
            self._kubectl("set", "image", f"deployment/{name}", f"{name}={image}")
        for name in images:
            self._kubectl("rollout", "status", f"deployment/{name}", f"--timeout={self._wait_s}s")

    @contextmanager
    def gateway(self) -> Iterator[str]:
        """Forward a free port of this machine to the gateway; yields its URL."""
        command = self._command("port-forward", "service/gateway", ":8000")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
            try:
                line = forward.stdout.readline() if forward.stdout else ""
                if " -> " not in line:
                    raise subprocess.CalledProcessError(forward.wait(), command)
                yield "http://" + line.removeprefix("Forwarding from ").split(" -> ")[0]
            finally:
                forward.terminate()

    def _command(self, *words: str) -> list[str]:
        return ["kubectl", "--namespace", self._namespace, *words]

    def _kubectl(self, *words: str) -> str:
        return subprocess.run(self._command(*words), stdout=subprocess.PIPE, text=True, check=True).stdout


def smoke_test(url: str) -> None:
    """Request a real prediction.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    subprocess.run([sys.executable, str(_SMOKE_TEST), "--url", url, "--timeout", "120"], check=True)


def roll_out(cluster: Cluster, prefix: str, tag: str, test: Callable[[str], None] = smoke_test) -> bool:
    """Deploy new images and test them; returns False after a rollback to the previous images."""
    before = cluster.images()
    try:
        cluster.set_images({name: f"{prefix}-{image}:{tag}" for name, image in IMAGES.items()})
        with cluster.gateway() as url:
            test(url)
    except subprocess.CalledProcessError as error:
        print(f"{tag} failed ({error}). Rolling back.", file=sys.stderr)
        cluster.set_images(before)
        return False
    return True


@contextmanager
def kubeconfig(text: str) -> Iterator[None]:
    """Write a kubeconfig to a private file for kubectl; if the text is empty, kubectl uses its default."""
    with tempfile.NamedTemporaryFile("w", prefix="kubeconfig-") as file:
        if text:
            file.write(text)
            file.flush()
            os.environ["KUBECONFIG"] = file.name
        yield


def main() -> int:
    """Run the command; returns 1 if the update failed or was rolled back."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python -m deploy.roll_out --images docker.io/me/pawqueue --tag 0.2.0",
    )
    parser.add_argument("--images", required=True, help="image prefix, before -gateway, -worker and -dashboard")
    parser.add_argument("--tag", required=True, help="tag of the new images")
    parser.add_argument("--namespace", default="pawqueue", help="default: %(default)s")
    parser.add_argument("--wait", type=int, default=600, help="seconds for each Deployment (default: %(default)s)")
    options = parser.parse_args()
    with kubeconfig(os.environ.get("KUBECONFIG_TEXT", "")):
        try:
            succeeded = roll_out(Cluster(options.namespace, options.wait), options.images, options.tag)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            print(
                f"The update failed ({error}). Check that kubectl is installed and can access the cluster.",
                file=sys.stderr,
            )
            return 1
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
