"""Makes a version of a model live in a cluster: as a canary first, which the service takes back if it is worse."""

import argparse
import os
import subprocess
import sys

from deploy.roll_out import Cluster, kubeconfig

_WAIT_S = 600


def promote(cluster: Cluster, model: str, version: str, *, percent: float, jobs: int, within_s: float) -> int:
    """Run `pawqueue models canary --promote-after` through a forwarded port; returns its exit status.

    Raises:
        subprocess.CalledProcessError: the port cannot be forwarded.
    """
    options = {"--percent": percent, "--promote-after": jobs, "--within": within_s}
    words = [word for name, value in options.items() for word in (name, f"{value:g}")]
    with cluster.gateway() as url:
        command = [sys.executable, "-m", "pawqueue", "models", "canary", model, version, "--auto-rollback", *words]
        environ = {**os.environ, "PAWQUEUE_URL": url}
        return subprocess.run([*command, "--why", "deployed"], env=environ, check=False).returncode


def main() -> int:
    """Run the command; returns 0 if the version is live."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python -m deploy.promote_model --model pets --version 2"
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--version", required=True, help="a version that is in the model store")
    parser.add_argument(
        "--percent", type=float, default=10, help="the canary's share of the jobs (default: %(default)s)"
    )
    parser.add_argument(
        "--jobs", type=int, default=500, help="jobs of the canary before it is live (default: %(default)s)"
    )
    parser.add_argument("--within", type=float, default=2400, help="seconds to wait for them (default: %(default)s)")
    parser.add_argument("--namespace", default="pawqueue", help="default: %(default)s")
    given = parser.parse_args()
    with kubeconfig(os.environ.get("KUBECONFIG_TEXT", "")):
        try:
            cluster = Cluster(given.namespace, _WAIT_S)
            return promote(
                cluster, given.model, given.version, percent=given.percent, jobs=given.jobs, within_s=given.within
            )
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            print(f"Nothing has changed ({error}). Check that kubectl can access the cluster.", file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
