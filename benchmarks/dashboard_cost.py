"""Measures the CPU time and memory of a running dashboard: `python -m benchmarks.dashboard_cost URL --pid PID`.

It replays the requests that browsers send to refresh each page (built from Dash's list of callbacks), and prints the
CPU time and memory of the process and its children as JSON.

Examples:
    python -m benchmarks.dashboard_cost http://127.0.0.1:8050 --pid 1234
    python -m benchmarks.dashboard_cost http://127.0.0.1:8050 --pid 1234 --seconds 1800 --viewers 20
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil

from benchmarks.processes import cpu_s, process_tree

PAGES = {"/": "live", "/predictions": "predictions", "/models": "models", "/drift": "drift", "/capacity": "capacity"}
PERIOD_S = 5.0
_SAMPLES = 60


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--pid", type=int, required=True, help="process id of the dashboard")
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the viewers refresh their pages")
    given = parser.parse_args()
    processes = process_tree(given.pid)
    with httpx.Client(base_url=given.url, timeout=30, headers={"Accept-Encoding": "zstd, gzip"}) as client:
        refreshes = {name: list(_requests(client, path, name)) for path, name in PAGES.items()}
        refresh = {name: _refresh_ms(client, bodies, processes) for name, bodies in refreshes.items()}
    idle = _idle(processes)
    viewers = _viewers(given, list(refreshes.values()), processes)
    print(json.dumps({"idle": idle, "refresh": refresh, "viewers": viewers}, indent=1))
    return 0


def _requests(client: httpx.Client, path: str, name: str) -> Iterator[dict[str, Any]]:
    """The bodies that a browser sends to refresh a page, built from the list of callbacks."""
    client.get(path).raise_for_status()
    for callback in client.get("/_dash-dependencies", headers={"Accept-Encoding": "identity"}).json():
        inputs = callback["inputs"]
        if inputs and any(item["id"] in (f"{name}-tick", f"{name}-seen") for item in inputs):
            yield {
                "output": callback["output"],
                "outputs": _outputs(callback["output"]),
                "inputs": [{**item, "value": 1 if item["property"] == "n_intervals" else None} for item in inputs],
                "changedPropIds": [f"{inputs[0]['id']}.{inputs[0]['property']}"],
                "state": [{**item, "value": -1} for item in callback.get("state", [])],
            }


def _outputs(text: str) -> Any:
    """Turn Dash's `..a.b...c.d..` into the list that a browser sends."""
    if not text.startswith(".."):
        component, _, name = text.rpartition(".")
        return {"id": component, "property": name}
    parts = [part.rpartition(".") for part in text.strip(".").split("...")]
    return [{"id": component, "property": name} for component, _, name in parts]


def _refresh_ms(client: httpx.Client, bodies: list[dict[str, Any]], processes: list[psutil.Process]) -> dict[str, Any]:
    sizes = [_send(client, body) for body in bodies]  # the first refresh builds the figures
    before, began_s = cpu_s(processes), time.monotonic()
    for _ in range(_SAMPLES):
        for body in bodies:
            _send(client, body)
    elapsed_s, used_s = time.monotonic() - began_s, cpu_s(processes) - before
    return {
        "cpu_ms": round(1000 * used_s / _SAMPLES, 2),
        "wall_ms": round(1000 * elapsed_s / _SAMPLES, 2),
        "requests": len(bodies),
        "bytes": sum(sizes),
    }


def _send(client: httpx.Client, body: dict[str, Any]) -> int:
    response = client.post("/_dash-update-component", json=body)
    response.raise_for_status()
    return int(response.headers.get("Content-Length", len(response.content)))


def _idle(processes: list[psutil.Process], seconds: float = 20.0) -> dict[str, float]:
    """CPU time and memory without viewers."""
    before = cpu_s(processes)
    time.sleep(seconds)
    used_s = cpu_s(processes) - before
    return {"cpu_percent_of_a_core": round(100 * used_s / seconds, 2), "mb": _mb(processes)}


def _viewers(
    given: argparse.Namespace, pages: list[list[dict[str, Any]]], processes: list[psutil.Process]
) -> dict[str, Any]:
    """CPU time and memory with viewers spread over the pages, each refreshing every `PERIOD_S`."""
    before, began_s, memory = cpu_s(processes), time.monotonic(), [_mb(processes)]
    end_s = began_s + given.seconds
    with ThreadPoolExecutor(given.viewers + 1) as threads:
        refreshes = [
            threads.submit(_refresh, given.url, pages[at % len(pages)], at, end_s) for at in range(given.viewers)
        ]
        while time.monotonic() < end_s:
            time.sleep(min(30.0, max(0.1, end_s - time.monotonic())))
            memory.append(_mb(processes))
            print(f"{time.monotonic() - began_s:.0f} s: {memory[-1]} MB", file=sys.stderr, flush=True)
        count = sum(future.result() for future in refreshes)
    used_s, cores = cpu_s(processes) - before, psutil.cpu_count() or 1
    share = 100 * used_s / given.seconds
    return {
        "viewers": given.viewers,
        "seconds": given.seconds,
        "refreshes": count,
        "cpu_percent_of_a_core": round(share, 2),
        "cpu_percent_of_the_machine": round(share / cores, 2),
        "cores": cores,
        "mb": memory,
    }


def _refresh(url: str, bodies: list[dict[str, Any]], at: int, end_s: float) -> int:
    count = 0
    time.sleep(PERIOD_S * (at % 17) / 17)
    with httpx.Client(base_url=url, timeout=30, headers={"Accept-Encoding": "zstd, gzip"}) as client:
        while time.monotonic() < end_s:
            for body in bodies:
                _send(client, body)
            client.get("/healthz").raise_for_status()
            count += 1
            time.sleep(min(PERIOD_S, max(0.0, end_s - time.monotonic())))
    return count


def _mb(processes: list[psutil.Process]) -> float:
    return round(sum(process.memory_info().rss for process in processes) / 1e6, 1)


if __name__ == "__main__":
    sys.exit(main())
