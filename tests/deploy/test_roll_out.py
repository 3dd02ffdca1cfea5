"""A tag is kept if it works, else rolled back. `kubectl` is a stub that keeps its state in files."""

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.promote_model import promote
from deploy.roll_out import IMAGES, Cluster, roll_out

KUBECTL = """#!{python}
import os, sys, time, pathlib
root, words = pathlib.Path({root!r}), sys.argv[3:]
if words[0] == "get":
    print((root / words[1].split("/")[1]).read_text())
elif words[:2] == ["set", "image"]:
    name, image = words[3].split("=")
    (root / name).write_text(image)
elif words[:2] == ["rollout", "status"]:
    sys.exit("broken" in (root / words[2].split("/")[1]).read_text())
elif words[0] == "port-forward":
    print("Forwarding from 127.0.0.1:" + os.environ.get("FORWARDED", "4567") + " -> 8000", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    tool = tmp_path / "bin" / "kubectl"
    tool.parent.mkdir()
    tool.write_text(KUBECTL.format(python=sys.executable, root=str(tmp_path)))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")
    for name, image in IMAGES.items():
        (tmp_path / name).write_text(f"pawqueue-{image}:old")
    return Cluster("pawqueue", wait_s=1)


def tags(cluster: Cluster) -> set[str]:
    return {image.split(":")[1] for image in cluster.images().values()}


def test_a_tag_that_passes_the_smoke_test_is_kept(cluster: Cluster) -> None:
    tested: list[str] = []
    assert roll_out(cluster, "pawqueue", "new", tested.append)
    assert tags(cluster) == {"new"}
    assert tested == ["http://127.0.0.1:4567"]


def test_a_model_is_promoted_through_a_forwarded_port(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("FORWARDED", str(server.server_port))
        assert promote(cluster, "pets", "2", percent=10, jobs=500, within_s=60) == 2
        server.shutdown()
    assert asked[0].startswith("/v1/models/pets")


def test_a_tag_whose_pods_do_not_start_is_rolled_back(cluster: Cluster) -> None:
    assert not roll_out(cluster, "pawqueue", "broken", lambda url: None)
    assert tags(cluster) == {"old"}


def test_a_tag_that_fails_the_smoke_test_is_rolled_back(cluster: Cluster) -> None:
    def fail(url: str) -> None:
        raise subprocess.CalledProcessError(1, "smoke test")

    assert not roll_out(cluster, "pawqueue", "new", fail)
    assert tags(cluster) == {"old"}
