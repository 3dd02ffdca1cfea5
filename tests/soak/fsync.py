"""What `appendfsync always` costs against `everysec` on the way of a single picture: `python -m tests.soak.fsync`."""

import statistics
import tempfile
import time
from pathlib import Path

import httpx
import redis

from tests.support.pictures import draw
from tests.support.services import running_stack

_ROUNDS, _UPLOADS = 12, 25


def main() -> None:
    """Alternate between the two on one running stack, and compare medians round by round."""
    data, ratios, medians = draw((500, 375), form="JPEG"), [], {"always": [], "everysec": []}
    with (
        tempfile.TemporaryDirectory(prefix="pawqueue-fsync-") as folder,
        running_stack(Path(folder), log_level="warning") as stack,
        redis.Redis.from_url(stack.redis_url) as client,
        httpx.Client(base_url=stack.url, timeout=60) as http,
    ):
        _median_ms(http, data)
        for number in range(_ROUNDS):
            found = {}
            for policy in ("always", "everysec") if number % 2 else ("everysec", "always"):
                client.config_set("appendfsync", policy)
                found[policy] = _median_ms(http, data)
                medians[policy].append(found[policy])
            ratios.append(found["always"] / found["everysec"])
    always, everysec = (statistics.median(medians[policy]) for policy in ("always", "everysec"))
    print(f"always {always:.1f} ms, everysec {everysec:.1f} ms")
    print(f"ratio: median {statistics.median(ratios):.3f}, from {min(ratios):.2f} to {max(ratios):.2f}")


def _median_ms(http: httpx.Client, data: bytes) -> float:
    took_ms = []
    for _ in range(_UPLOADS):
        began_s = time.perf_counter()
        answer = http.post("/v1/jobs", content=data, headers={"Prefer": "wait=50"})
        assert answer.json()["status"] == "succeeded", answer.text
        took_ms.append((time.perf_counter() - began_s) * 1000)
    return statistics.median(took_ms)


if __name__ == "__main__":
    main()
