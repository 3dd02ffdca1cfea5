"""`make test-kube`: runs the rendered Kubernetes manifests with `podman kube play`.

Parts that podman 4.3 does not support are replaced: a StatefulSet by a Deployment with its claim as a volume, a Secret
by a ConfigMap (podman would not decode it), and Service names in URLs by pod names. podman ignores namespaces,
autoscalers, policies, budgets and HTTP probes.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.containers.tools import ContainersError, Tools, require, until
from tests.deploy.conftest import rendered
from tests.support.services import ROOT, free_port

NETWORK = "pawqueue-kube"
_SECRET = "pawqueue-secret"
#: Volumes that podman creates: for the Secret and for the ledger's claim.
_VOLUMES = (_SECRET, "data")
SERVICES = ("redis", "redis-images", "gateway", "notifier", "worker", "dashboard")
_IMAGE = ROOT / "examples" / "photos" / "cat.jpg"
Document = dict[str, Any]


def documents(overlay: str) -> list[Document]:
    """The Deployments, ConfigMaps, claims and the Secret of an overlay, in a form that podman can run."""
    secret = subprocess.run(["sh", "deploy/k8s/make-secret"], cwd=ROOT, capture_output=True, text=True, check=True)
    text = f"{secret.stdout}---\n{rendered(overlay)}"
    found = [part for document in yaml.safe_load_all(text) for part in _played(document)]
    return [_with_pod_names(document) for document in found]


def _played(document: Document) -> Iterator[Document]:
    if document["kind"] == "StatefulSet":
        claims = document["spec"].pop("volumeClaimTemplates", [])
        yield from ({"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim} for claim in claims)
        volumes = document["spec"]["template"]["spec"].setdefault("volumes", [])
        for claim in claims:
            name = claim["metadata"]["name"]
            volumes.append({"name": name, "persistentVolumeClaim": {"claimName": name}})
        document = document | {"kind": "Deployment"}
    pod = document.get("spec", {}).get("template", {}).get("spec", {})
    for volume in pod.get("volumes", []):
        if secret := volume.pop("secret", None):
            volume["configMap"] = {"name": _SECRET, "items": secret["items"]}
    for container in pod.get("containers", []):
        for port in container["ports"]:  # otherwise podman 4.3 publishes them on all addresses
            port |= {"hostIP": "127.0.0.1", "hostPort": free_port()}
    if document["kind"] == "Secret":
        yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": _SECRET}, "data": document["stringData"]}
    if document["kind"] in ("Deployment", "ConfigMap"):
        yield document


def _with_pod_names(document: Document) -> Document:
    """The document with pod names instead of Service names in URLs."""
    if document["kind"] == "ConfigMap":
        for key, value in document["data"].items():
            document["data"][key] = re.sub(r"([@/])(redis-images|redis|gateway):", r"\1\2-pod-0:", value)
    return document


def container_of(service: str) -> str:
    """The name of the container that podman runs for a Deployment."""
    return f"{service}-pod-0-{'redis' if service == 'redis-images' else service}"


@contextmanager
def played(tools: Tools, overlay: str) -> Iterator[str]:
    """Run the pods of an overlay; yields the URL of the Redis user `keys`, and removes the pods on exit."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "all.yaml")
        file.touch(0o600)
        found = documents(overlay)
        file.write_text(yaml.safe_dump_all(found))
        _require_no_conflict(tools)
        tools.run("network", "create", NETWORK)
        try:
            tools.run("play", "kube", "--network", NETWORK, str(file))
            yield next(d["data"]["redis_url_keys"] for d in found if d["metadata"]["name"] == _SECRET)
        finally:
            _remove(tools)


def _require_no_conflict(tools: Tools) -> None:
    """Fail if pods or volumes with our names exist, which would be overwritten and removed."""
    existing = {*tools.run("pod", "ls", "--format", "{{.Name}}").split(), *tools.run("volume", "ls", "-q").split()}
    ours = {*(f"{service}-pod-0" for service in SERVICES), *_VOLUMES} & existing
    require(not ours, f"Pods or volumes with these names exist: {', '.join(sorted(ours))}")


def _remove(tools: Tools) -> None:
    pods = [("pod", "rm", "-f", f"{service}-pod-0") for service in SERVICES]
    volumes = [("volume", "rm", name) for name in _VOLUMES]
    for command in (*pods, *volumes, ("network", "rm", "-f", NETWORK)):
        with suppress(ContainersError):  # it may not exist yet
            tools.run(*command)


def address_of(tools: Tools, service: str) -> str:
    """URL of a service's first port on this machine."""
    return f"http://{tools.run('port', container_of(service)).split()[-1]}"


def run_checks(tools: Tools, keys_url: str) -> None:
    """Check that all services run as the manifests define, and that an image is classified."""
    for service in SERVICES:
        until(partial(_runs, tools, service), f"{service} to run")
        found = tools.inspect(container_of(service))
        require(found["HostConfig"]["ReadonlyRootfs"], f"{service} can write to its root file system")
        require(found["Config"]["User"].split(":")[0] not in ("", "0", "root"), f"{service} runs as root")
        print(f"ok  {service:14} runs, as user {found['Config']['User']}, with a read-only file system", flush=True)
    gateway = address_of(tools, "gateway")
    took_s = until(lambda: _is_served(gateway), "a worker to start serving")
    print(f"ok  a worker serves after {took_s:.0f} s", flush=True)
    make_key = ("python", "-m", "gateway.keys_cli", "create", "--name", "tests")
    redis_url = ("env", f"PAWQUEUE_REDIS_URL={keys_url}")
    key = tools.run("exec", container_of("gateway"), *redis_url, *make_key).split()[-1]
    headers = {"Authorization": f"Bearer {key}", "Prefer": "wait=30", "Content-Type": "image/jpeg"}
    require(httpx.post(f"{gateway}/v1/jobs", content=b"").status_code == 401, "The gateway requires no API key.")
    job = httpx.post(f"{gateway}/v1/jobs", content=_IMAGE.read_bytes(), headers=headers, timeout=60).json()
    require(job["status"] == "succeeded", f"The image was not classified: {job}")
    print(f"ok  an image is classified: {job['prediction']['label']}", flush=True)
    page = httpx.get(f"{address_of(tools, 'dashboard')}/", follow_redirects=True, timeout=30)
    require("sign-in" in str(page.url), "The dashboard requires no API key.")
    print("ok  the dashboard responds with its sign-in page", flush=True)


def _runs(tools: Tools, service: str) -> bool:
    return bool(tools.inspect(container_of(service))["State"]["Running"])


def _is_served(url: str) -> bool:
    with suppress(httpx.HTTPError, ValueError, KeyError):
        status = httpx.get(f"{url}/v1/status", timeout=5).json()
        return bool(status["ready"] and status["workers"])
    return False


def main() -> int:
    """Run the manifests and the checks; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="podman", help="podman command (default podman)")
    parser.add_argument("--overlay", default="overlays/local", help="overlay, a folder below deploy/k8s")
    given = parser.parse_args()
    tools = Tools(given.engine, "")
    try:
        with played(tools, given.overlay) as keys_url:
            run_checks(tools, keys_url)
    except ContainersError as error:
        print(f"FAILED  {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
