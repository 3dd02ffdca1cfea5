"""Runs a steady load for 15 minutes, and checks that memory, keys and images do not accumulate."""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis

from contract.ledger import keys
from tests.soak.load import Load
from tests.soak.watch import Watch, lasting_keys
from tests.support.images import stored_images
from tests.support.services import Stack, running_stack, wait_until

#: Maximum expiry of the leader key. Workers renew it, so it is never a leftover.
_LEADER_S = 10


@dataclass(frozen=True)
class Plan:
    """Duration and rate of the load."""

    duration_s: float = 900.0
    #: Share of the measured capacity of the service.
    load: float = 0.7
    calibration_s: float = 20.0
    #: Share of the run that is excluded from the checks.
    warm_up: float = 0.25
    result_ttl_s: int = 30
    interval_s: float = 3.0


SHORT = Plan(duration_s=12.0, calibration_s=2.0, result_ttl_s=2, interval_s=0.25)


def run(plan: Plan, folder: Path) -> tuple[dict[str, Any], Watch]:
    """Run a plan; returns the report and the samples."""
    ttl_s = plan.result_ttl_s
    settings = {"result_ttl_s": ttl_s, "thumbnail_ttl_s": ttl_s, "log_level": "warning"}
    with running_stack(folder, **settings) as stack:
        load, watch = Load(stack.url), Watch(_pids(stack), stack.redis_url, plan.interval_s)
        load.start()
        capacity = load.capacity(plan.calibration_s)
        watch.start()
        reached = load.run(capacity * plan.load, plan.duration_s)
        load.wait_idle(60)
        watch.stop()
        load.stop()
        rates = {
            "capacity_per_s": round(capacity, 1),
            "load_per_s": round(reached, 1),
            "load_share": round(reached / capacity, 2),
        }
        return rates | _report(plan, stack, load, watch), watch


def _report(plan: Plan, stack: Stack, load: Load, watch: Watch) -> dict[str, Any]:
    _wait_for_expiry(stack.redis_url, plan.result_ttl_s)
    return {
        "held_back": load.held_back,
        "results": dict(load.results),
        "processes": watch.findings(plan.warm_up),
        "keys_left": lasting_keys(stack.redis_url, max(plan.result_ttl_s, _LEADER_S))[:20],
        "images_left": len(stored_images(stack.folder / "state" / "images")),
    }


def _wait_for_expiry(redis_url: str, ttl_s: int) -> None:
    """Wait until all jobs should have expired."""
    with redis.Redis.from_url(redis_url) as client:
        try:
            wait_until(
                lambda: next(client.scan_iter(f"{keys.JOB}*", count=1000), None) is None,
                "all jobs to expire",
                ttl_s + 20,
            )
        except AssertionError:
            return  # the report lists the remaining keys
    time.sleep(3)  # until the next sweep deletes discarded images


def _pids(stack: Stack) -> dict[str, int]:
    (worker,) = stack.workers
    serving = psutil.Process(stack.gateway.handle.pid).children()[0].pid
    with redis.Redis.from_url(stack.redis_url) as client:
        server = int(client.info("server")["process_id"])
    return {"gateway": serving, "worker": worker.handle.pid, "redis": server}


def failed_checks(report: dict[str, Any], *, judge_memory: bool = True) -> list[str]:
    """The checks that failed."""
    failed = []
    for name, found in report["processes"].items():
        if judge_memory and not found["is_flat"]:
            failed.append(f"the memory of {name} grows: {found['growth_mb']} MB")
        # During a short run the connection pools still grow, but one leak per job would add hundreds.
        maximum = 3 if judge_memory else 20
        failed += [
            f"{kind} of {name} increase: {found[kind]}"
            for kind in ("fds", "threads")
            if found[f"{kind}_growth"] > maximum
        ]
    if judge_memory and report["processes"]["redis"]["keys_growth"] > 200:
        failed.append(f"the number of keys grows: {report['processes']['redis']['keys']}")
    if report["keys_left"]:
        failed.append(f"keys without expiry: {report['keys_left'][:10]}")
    if report["images_left"]:
        failed.append(f"images that were not deleted: {report['images_left']}")
    unexpected = set(report["results"]) - {"succeeded", "failed", "canceled"}
    if unexpected:
        failed.append(f"unexpected results: {unexpected}")
    return failed


def draw_plot(watch: Watch, warm_up: float, path: Path) -> None:
    """Plot the memory of every process and the number of keys in Redis over time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(watch.samples) + 1, 1, figsize=(8, 9), sharex=True, layout="constrained")
    for axis, (name, rows) in zip(axes, watch.samples.items(), strict=False):
        axis.plot([row.at_s / 60 for row in rows], [row.rss_bytes / 1e6 for row in rows], color="#1f5f8b")
        axis.set_ylabel(f"{name}\nMB resident")
        axis.set_ylim(0, 1.15 * axis.dataLim.ymax)
    axes[-1].plot([at_s / 60 for at_s, _, _ in watch.stored], [count for _, count, _ in watch.stored], color="#1f5f8b")
    axes[-1].set_ylabel("keys in Redis")
    axes[-1].set_ylim(0, 1.15 * axes[-1].dataLim.ymax)
    axes[-1].set_xlabel("minutes")
    for axis in axes:
        axis.axvspan(0, watch.stored[-1][0] * warm_up / 60, color="0.9", label="warm-up")
        axis.grid(alpha=0.3)
    axes[0].legend(loc="lower right")
    figure.savefig(path, dpi=110)


def main() -> int:
    """Run a plan, print the report, and write the report and the plot to files."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.run", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0, help="duration in minutes (default 15)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("soak.json"),
        help="file for the report (default soak.json); the plot gets the suffix .png",
    )
    given = parser.parse_args()
    plan = Plan(duration_s=given.minutes * 60)
    print(f"A steady load for {given.minutes:g} minutes ...", flush=True)
    with tempfile.TemporaryDirectory(prefix="pawqueue-soak-") as folder:
        report, watch = run(plan, Path(folder))
    given.out.write_text(json.dumps(report, indent=2) + "\n")
    draw_plot(watch, plan.warm_up, given.out.with_suffix(".png"))
    for name, value in report.items():
        for inner, text in value.items() if name == "processes" else [(name, value)]:
            print(f"{inner:16} {text}")
    failed = failed_checks(report)
    for check in failed:
        print(f"FAILED: {check}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
