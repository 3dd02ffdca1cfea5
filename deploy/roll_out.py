"""Puts new images on a cluster, tries them with a real prediction, and puts the old ones back when anything fails."""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SERVICES = ("gateway", "worker", "dashboard")
_SMOKE_TEST = Path(__file__).with_name("smoke_test.py")


class Cluster:
    """The Deployments of one namespace, by way of `kubectl`."""

    def __init__(self, namespace: str, wait_s: int) -> None:
        self._namespace = namespace
        self._wait_s = wait_s

    def images(self) -> dict[str, str]:
        """Image of each service as its Deployment names it now."""
        path = "jsonpath={.spec.template.spec.containers[0].image}"
        return {name: self._kubectl("get", f"deployment/{name}", "-o", path).strip() for name in SERVICES}

    def put(self, images: dict[str, str]) -> None:
        """Give each Deployment its image and wait until all its pods are replaced.

        Raises:
            subprocess.CalledProcessError: a Deployment refuses, or its pods are not ready in time.
        """
        for name, image in images.items():
            self._kubectl("set", "image", f"deployment/{name}", f"{name}={image}")
        for name in images:
            self._kubectl("rollout", "status", f"deployment/{name}", f"--timeout={self._wait_s}s")

    @contextmanager
    def gateway(self) -> Iterator[str]:
        """Yield an address of the gateway, forwarded to this machine on a free port."""
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


def predict(url: str) -> None:
    """Ask for a real prediction; subprocess.CalledProcessError when it fails."""
    subprocess.run([sys.executable, str(_SMOKE_TEST), "--url", url, "--timeout", "120"], check=True)


def roll_out(cluster: Cluster, prefix: str, tag: str, smoke: Callable[[str], None] = predict) -> bool:
    """Whether the new images serve; otherwise those that were there before serve again."""
    before = cluster.images()
    try:
        cluster.put({name: f"{prefix}-{name}:{tag}" for name in SERVICES})
        with cluster.gateway() as url:
            smoke(url)
    except subprocess.CalledProcessError as error:
        print(f"{tag} does not serve ({error}). Back to what was there before.", file=sys.stderr)
        cluster.put(before)
        return False
    return True


@contextmanager
def _kubeconfig(text: str) -> Iterator[None]:
    """Hand a kubeconfig to kubectl as a file that only this user reads; empty: what is there already."""
    with tempfile.NamedTemporaryFile("w", prefix="kubeconfig-") as file:
        if text:
            file.write(text)
            file.flush()
            os.environ["KUBECONFIG"] = file.name
        yield


def main() -> int:
    """Read the command line; the exit status is 1 when the old images had to be put back."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python -m deploy.roll_out --images docker.io/me/pawqueue --tag 0.2.0",
    )
    parser.add_argument("--images", required=True, help="what stands before -gateway, -worker and -dashboard")
    parser.add_argument("--tag", required=True, help="tag of the new images")
    parser.add_argument("--namespace", default="pawqueue", help="default: %(default)s")
    parser.add_argument("--wait", type=int, default=600, help="seconds for each Deployment (default: %(default)s)")
    options = parser.parse_args()
    with _kubeconfig(os.environ.get("KUBECONFIG_TEXT", "")):
        try:
            serves = roll_out(Cluster(options.namespace, options.wait), options.images, options.tag)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            print(f"The cluster cannot be changed ({error}). Is kubectl there, and its access right?", file=sys.stderr)
            return 1
    return 0 if serves else 1


if __name__ == "__main__":
    sys.exit(main())
