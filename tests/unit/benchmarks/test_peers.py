"""The comparison with other servers: how it is held, computed and written."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from benchmarks.image import large_image
from benchmarks.parts import TINY, Run
from benchmarks.peers.contest import PAWQUEUE, PAWQUEUE_AUTO, Contestant, figures, hold
from benchmarks.peers.environments import PEERS, Peer, environment
from benchmarks.peers.table import markdown
from benchmarks.processes import BenchmarkError
from tests.support.services import ROOT

IMAGE = large_image()
MACHINE = {"processor": "Some processor", "cores": 2}


@contextmanager
def answering(folder: Path) -> Iterator[tuple[Any, ...]]:
    """A server that returns 200 to uploads of the benchmark's image in the form's field `photo`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            known = self.path == "/classify" and b'name="photo"' in body and IMAGE in body
            self.send_response(200 if known else 400)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield (server.server_port, "--mode", "plain", "--path", "/classify", "--form", "photo")
        server.shutdown()


@contextmanager
def idle(folder: Path) -> Iterator[tuple[Any, ...]]:
    yield (1,)


@contextmanager
def not_starting(folder: Path) -> Iterator[tuple[Any, ...]]:
    raise BenchmarkError("it has exited\nwith a long log")
    yield ()


def make_run(tmp_path: Path, rounds: int) -> Run:
    return Run(tmp_path, replace(TINY, rounds=rounds), tmp_path, log=lambda text: None)


def no_load(*arguments: Any) -> dict[str, Any]:
    return {"images_per_s": 50.0, "p50_ms": 1.0, "p99_ms": 2.0}


def test_the_load_generator_measures_a_server_that_takes_forms(tmp_path: Path) -> None:
    found = hold(make_run(tmp_path, 1), tmp_path, [Contestant("A", answering)], lambda: 100.0, (2,))
    assert found["left_out"] == {}
    (row,) = found["servers"]["A"]["2"]
    assert row["images_per_s"] > 0
    assert 0 < row["p50_ms"] <= row["p99_ms"]


def test_each_server_is_compared_with_the_bare_loops_before_and_after_it(tmp_path: Path) -> None:
    bare, contestants = iter([100.0, 300.0, 100.0]), [Contestant("A", idle), Contestant("B", idle)]
    found = hold(make_run(tmp_path, 1), tmp_path, contestants, lambda: next(bare), (2,), no_load)
    assert [loads["2"][0]["ratio"] for loads in found["servers"].values()] == [50 / 200, 50 / 200]
    assert found["bare_images_per_s"] == [100, 300, 100]


def test_a_server_that_fails_is_left_out_with_the_reason_and_the_others_are_measured(tmp_path: Path) -> None:
    contestants = [Contestant("exits", not_starting), Contestant("works", idle)]
    found = hold(make_run(tmp_path, 1), tmp_path, contestants, lambda: 100.0, (1,), no_load)
    assert list(found["servers"]) == ["works"]
    assert found["left_out"] == {"exits": "it has exited"}


def test_a_server_whose_responses_are_errors_is_left_out(tmp_path: Path) -> None:
    def refused(*arguments: Any) -> dict[str, Any]:
        raise BenchmarkError("Some images failed: {'503': 2}")

    found = hold(make_run(tmp_path, 1), tmp_path, [Contestant("A", idle)], lambda: 100.0, (1,), refused)
    assert found["left_out"] == {"A": "Some images failed: {'503': 2}"}


def test_the_order_of_the_servers_rotates(tmp_path: Path) -> None:
    order = []

    def noting(name: str) -> Contestant:
        def start(folder: Path) -> Any:
            order.append(name)
            return not_starting(folder) if name == "C" else idle(folder)

        return Contestant(name, start)

    contestants = [noting("A"), noting("B"), noting("C")]
    hold(make_run(tmp_path, 2), tmp_path, contestants, lambda: 100.0, (1,), no_load)
    assert order == ["A", "B", "C", "B", "A"]


def rounds(*ratios: float, p50_ms: float = 10) -> list[dict[str, float]]:
    return [{"ratio": ratio, "images_per_s": 100 * ratio, "p50_ms": p50_ms, "p99_ms": 2 * p50_ms} for ratio in ratios]


def found(servers: dict[str, Any], left_out: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "load_average": 0.25,
        "rounds": 2,
        "seconds": 6,
        "clients": [1, 32],
        "bare_images_per_s": [90.0, 110.0],
        "servers": servers,
        "left_out": left_out or {},
    }


SERVERS = {
    PAWQUEUE: {"1": rounds(0.1, 0.1, p50_ms=15), "32": rounds(0.8, 0.9)},
    PAWQUEUE_AUTO: {"1": rounds(0.1, 0.1), "32": rounds(1.2, 1.2)},
    "FastAPI": {"1": rounds(0.1, 0.1), "32": rounds(0.9, 0.3)},
    "mosec": {"1": rounds(0.1, 0.1), "32": rounds(0.8, 0.8)},
}


def test_figures_compare_pawqueue_with_the_server_of_the_best_median_and_its_latency_with_fastapi() -> None:
    assert figures("peers", found(SERVERS)) == {
        "peers-32": pytest.approx([1.0, 1.125]),
        "peers-auto-32": pytest.approx([1.5, 1.5]),
        "peers-latency-1": pytest.approx([1.5, 1.5]),
    }


@pytest.mark.parametrize("missing", [[PAWQUEUE], ["FastAPI", "mosec"]])
def test_without_pawqueue_or_another_server_there_are_no_figures(missing: list[str]) -> None:
    assert figures("peers", found({name: loads for name, loads in SERVERS.items() if name not in missing})) == {}


def test_the_table_names_the_machine_lists_the_fastest_first_and_what_is_missing() -> None:
    lines = markdown(found(SERVERS, {"Ray Serve": "no wheel"}), MACHINE).splitlines()
    assert lines[0].startswith("Some processor, 2 cores, load average 0.2 before the run; 2 rounds of 6 s; ")
    assert lines[4].startswith(f"| {PAWQUEUE_AUTO} |")
    assert lines[5] == "| Pawqueue | 15.0 (15.0 to 15.0) | 0.85 (0.80 to 0.90) | 10 | 20 |"
    assert lines[-1] == "Not measured: Ray Serve (no wheel)."


def test_an_environment_is_installed_again_only_if_its_lock_file_has_changed(tmp_path: Path) -> None:
    calls, peer, home = [], Peer("peer", "A peer", (), "/"), tmp_path / "environments" / "peer"

    def uv(*arguments: str) -> None:
        calls.append(arguments[0])
        home.mkdir(parents=True, exist_ok=True)

    def make() -> Path:
        return environment(peer, locks=tmp_path, environments=home.parent, uv=uv)

    (tmp_path / "peer.txt").write_text("a==1")
    assert [make(), make()] == [home / "bin" / "python"] * 2
    assert calls == ["venv", "pip"]
    (tmp_path / "peer.txt").write_text("a==2")
    make()
    assert calls == ["venv", "pip"] * 2


def test_an_installation_that_failed_is_tried_again(tmp_path: Path) -> None:
    calls = []

    def uv(*arguments: str) -> None:
        calls.append(arguments[0])
        (tmp_path / "peer").mkdir(exist_ok=True)
        if arguments[0] == "pip":
            raise BenchmarkError("its packages cannot be installed: no network")

    (tmp_path / "peer.txt").write_text("a==1")
    for _ in range(2):
        with pytest.raises(BenchmarkError, match="no network"):
            environment(Peer("peer", "A peer", (), "/"), locks=tmp_path, environments=tmp_path, uv=uv)
    assert calls == ["venv", "pip"] * 2


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_runs_the_model_with_the_same_libraries_as_a_worker(peer: Peer) -> None:
    ours, theirs = (
        set(re.findall(r"^((?:keras|tensorflow-cpu|numpy|pillow)==.*)$", path.read_text(), re.MULTILINE))
        for path in (ROOT / "requirements" / "worker.txt", ROOT / "requirements" / "peers" / f"{peer.name}.txt")
    )
    assert ours == theirs
