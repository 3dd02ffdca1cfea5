"""Compares `appendfsync always` with `everysec`, for one client and for many: `python -m tests.soak.fsync`."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import redis

from benchmarks.service import run_load
from tests.support.images import draw
from tests.support.services import Stack, running_stack

_ROUNDS, _UPLOADS, _CLIENTS, _LOAD_S = 12, 25, 32, 6


def main() -> None:
    """Alternate between the two policies on a running stack, and print the difference."""
    data = draw((500, 375), form="JPEG")
    with (
        tempfile.TemporaryDirectory(prefix="pawqueue-fsync-") as folder,
        running_stack(Path(folder), log_level="warning", rate_limit="") as stack,
        httpx.Client(base_url=stack.url, timeout=60) as http,
    ):
        _latency_ms(http, data)
        _compare("one client, ms per image", stack, lambda: _latency_ms(http, data))
        _compare(f"{_CLIENTS} clients, images/s", stack, lambda: _images_per_s(stack))


def _compare(what: str, stack: Stack, measure: Callable[[], float]) -> None:
    found: dict[str, list[float]] = {"always": [], "everysec": []}
    with redis.Redis.from_url(stack.redis_url) as client:
        for number in range(_ROUNDS):
            for policy in ("always", "everysec") if number % 2 else ("everysec", "always"):
                client.config_set("appendfsync", policy)
                found[policy].append(measure())
    always, everysec = (statistics.median(found[policy]) for policy in ("always", "everysec"))
    ratios = [one / other for one, other in zip(found["always"], found["everysec"], strict=True)]
    print(f"{what}: always {always:.1f}, everysec {everysec:.1f}")
    print(f"  ratio: median {statistics.median(ratios):.3f}, from {min(ratios):.2f} to {max(ratios):.2f}", flush=True)


def _latency_ms(http: httpx.Client, data: bytes) -> float:
    took_ms = []
    for _ in range(_UPLOADS):
        began_s = time.perf_counter()
        response = http.post("/v1/jobs", content=data, headers={"Prefer": "wait=50"})
        assert response.json()["status"] == "succeeded", response.text
        took_ms.append((time.perf_counter() - began_s) * 1000)
    return statistics.median(took_ms)


def _images_per_s(stack: Stack) -> float:
    port = stack.url.rsplit(":", 1)[1]
    return float(run_load(int(port), "--clients", _CLIENTS, "--seconds", _LOAD_S)["images_per_s"])


if __name__ == "__main__":
    main()
