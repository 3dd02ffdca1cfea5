"""A steady load leaves no keys or images behind. The other tests check how this is measured."""

from pathlib import Path

import pytest
import redis

from contract.ledger import keys
from tests.soak.run import SHORT, draw_plot, failed_checks, run
from tests.soak.watch import lasting_keys, slope


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_steady_load_leaves_no_keys_or_images_behind(tmp_path: Path) -> None:
    report, watch = run(SHORT, tmp_path)
    assert report["results"]["succeeded"] > 0
    assert failed_checks(report, judge_memory=False) == [], report  # a run this short is all warm-up
    draw_plot(watch, SHORT.warm_up, tmp_path / "soak.png")
    assert (tmp_path / "soak.png").stat().st_size > 5000


def test_keys_without_expiry_are_found(clean_redis: str) -> None:
    with redis.Redis.from_url(clean_redis) as client:
        client.set(f"{keys.JOB}a", 1)
        client.set(f"{keys.JOB}b", 1, ex=1000)
        client.set(f"{keys.JOB}c", 1, ex=5)
        client.hset(keys.TOTALS, "x", 1)
        client.zadd(keys.DEADLINES, {"a": 1})
    assert lasting_keys(clean_redis, 10) == [f"{keys.DEADLINES}", f"{keys.JOB}a", f"{keys.JOB}b"]


def test_the_slope_ignores_single_jumps() -> None:
    flat = [(float(at), 100.0 + (50 if at == 7 else 0)) for at in range(40)]
    rising = [(float(at), 100.0 + 2 * at + (at % 3)) for at in range(40)]
    assert slope(flat) == 0
    assert slope(rising) == pytest.approx(2, abs=0.1)
