"""The benchmark measures real services and reports figures, whose values are not checked."""

import json
import sys
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.gpu.__main__ import main as measure_gpu
from benchmarks.load import Load, run
from benchmarks.parts import TINY, Run
from benchmarks.peers.contest import PAWQUEUE, Contestant, hold, pawqueue_server, peer_server
from benchmarks.peers.environments import FASTAPI
from tests.support.services import ROOT


def run_benchmark(out: Path, *arguments: str) -> dict[str, dict[str, float]]:
    assert main(["--scale", "tiny", "--out", str(out), *arguments]) == 0
    figures: dict[str, dict[str, float]] = json.loads(out.read_text())["figures"]
    return figures


def test_a_single_part_can_be_measured(tmp_path: Path) -> None:
    figures = run_benchmark(tmp_path / "bench.json", "--only", "submit")
    assert figures["submit-cpu"]["median"] > 0


class SlowServer(BaseHTTPRequestHandler):
    """Answers an image after longer than the measurement lasts."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.3)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_measurement_lasts_until_an_image_is_finished() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), SlowServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        load = Load(server.server_port, "plain", "/", b"image")
        found = run(load, clients=2, seconds=0.01, warm_up_s=0)
        server.shutdown()
    assert found["count"]
    assert found["failures"] == {}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_kind_of_part_reports_figures(tmp_path: Path) -> None:
    # `submit` is measured above; the others that are left out measure as `serving` does, in more processes.
    parts = ["serving", "bulk", "backlog", "waiters", "profiled"]
    figures = run_benchmark(tmp_path / "bench.json", "--only", *parts)
    assert {"bare", "wait-32", "poll-32", "bulk", "backlog-p50", "waiters-memory", "listeners-memory"} <= set(figures)
    profile = json.loads((tmp_path / "bench.json").read_text())["details"]["profile-worker"][0]
    assert profile["decode"] > 0


@pytest.mark.slow
def test_a_peer_and_pawqueue_serve_the_same_model_in_turns(tmp_path: Path) -> None:
    run = Run(tmp_path, TINY, ROOT / "models" / "cats-dogs", log=lambda text: None)
    contestants = [
        Contestant(PAWQUEUE, partial(pawqueue_server, run.model, "float32")),
        Contestant(FASTAPI.title, partial(peer_server, FASTAPI, Path(sys.executable), run.model)),
    ]
    found = hold(run, tmp_path, contestants, lambda: 100.0, (1, 8))
    assert found["left_out"] == {}
    assert all(loads["8"][0]["images_per_s"] > 0 for loads in found["servers"].values())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_script_for_gpus_runs_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    options = ["--cpu", "--backends", "tensorflow", "--networks", "baseline_cnn", "--size", "64", "--scale", "tiny"]
    assert measure_gpu([*options, "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [(row["network"], row["one_worker_mib"]) for row in rows] == [("baseline_cnn", None)]
    assert all(row["bare_images_per_s"] > 0 for row in rows)
    assert "| baseline_cnn | tensorflow |" in out.with_suffix(".md").read_text()
