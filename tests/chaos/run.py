"""Chaos: clients upload while workers, gateway, Redis and the network fail; the report goes to `chaos.json`."""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from contract import keys
from tests.chaos.clients import Clients, Promise
from tests.chaos.cluster import Cluster
from tests.support.services import wait_until

_SETTINGS = {"PAWQUEUE_LEASE_S": "4", "PAWQUEUE_SWEEP_S": "1", "PAWQUEUE_PRECISION": "float32"}


@dataclass(frozen=True)
class Plan:
    """How much is to go wrong."""

    jobs: int = 10_000
    clients: int = 16
    workers: int = 2
    worker_kills: int = 30
    gateway_kills: int = 5
    redis_kills: int = 3
    cut_s: float = 20.0
    #: Longest time for everything together.
    limit_s: float = 1100.0
    seed: int = 1


SHORT = Plan(jobs=400, clients=8, worker_kills=5, gateway_kills=1, redis_kills=1, cut_s=4.0, limit_s=170.0)


def run(plan: Plan, folder: Path) -> dict[str, Any]:
    """Do everything in `plan`; returns the report."""
    started_s = time.monotonic()
    with Cluster(folder, plan.workers, _SETTINGS) as cluster:
        clients = Clients(cluster.url, plan.jobs, plan.clients, plan.seed)
        clients.start()
        wait_until(lambda: clients.accepted > 0, "the first job being accepted", 60)
        harm = threading.Thread(target=_harm, args=(plan, cluster, clients), daemon=True)
        harm.start()
        harm.join(plan.limit_s * 0.7)
        clients.join(plan.limit_s * 0.7)
        clients.collect(max(30.0, plan.limit_s - (time.monotonic() - started_s)))
        with redis.Redis.from_url(cluster.redis_url, decode_responses=True) as client:
            totals = {name: int(count) for name, count in client.hgetall(keys.TOTALS).items()}
            late_commits = int(client.hget(keys.COUNTERS, "late_commits") or 0)
        starts = {service.name: service.starts for service in (*cluster.workers, cluster.gateway, cluster.redis)}
        report = _report(clients, totals, late_commits)
        return report | {
            "starts": starts,
            "fault_points_reached": cluster.faults_reached,
            "seconds": round(time.monotonic() - started_s, 1),
        }


def _harm(plan: Plan, cluster: Cluster, clients: Clients) -> None:
    """Kill at random moments, spread over the time in which the clients upload."""
    chance = random.Random(plan.seed)
    deeds = ["worker"] * plan.worker_kills + ["gateway"] * plan.gateway_kills + ["redis"] * plan.redis_kills + ["cut"]
    chance.shuffle(deeds)
    for number, deed in enumerate(deeds, 1):
        due = plan.jobs * number * 0.8 / len(deeds)
        patience_s = time.monotonic() + plan.limit_s * 0.6 / len(deeds)
        while clients.accepted < due and time.monotonic() < patience_s:
            time.sleep(0.02)
        _do(deed, plan, cluster, chance)


def _do(deed: str, plan: Plan, cluster: Cluster, chance: random.Random) -> None:
    if deed == "worker":
        chance.choice(cluster.workers).kill()
    elif deed == "gateway":
        cluster.gateway.kill()
    elif deed == "redis":
        cluster.redis.kill()
    else:
        cluster.line.cut()
        time.sleep(plan.cut_s)
        cluster.line.mend()


def _report(clients: Clients, totals: dict[str, int], late_commits: int) -> dict[str, Any]:
    promises = clients.promises
    last = [promise.answers[-1] for promise in promises if promise.answers]
    return {
        "accepted": len(promises),
        "statuses": dict(Counter(answer["status"] for answer in last)),
        "lost": sum(not promise.answers for promise in promises),
        "answered_twice": sum(_differs(promise) for promise in promises),
        "good_but_not_succeeded": sum(
            promise.is_good and bool(promise.answers) and promise.answers[-1]["status"] != "succeeded"
            for promise in promises
        ),
        "errors": dict(Counter(answer["error"]["code"] for answer in last if answer["error"])),
        "attempts": dict(Counter(str(answer["attempts"]) for answer in last)),
        "commits_dropped": late_commits,
        "refusals": {str(status): count for status, count in clients.refusals.items()},
        "ended_by_the_ledger": sum(totals.values()),
    }


def _differs(promise: Promise) -> bool:
    return any(answer != promise.answers[0] for answer in promise.answers)


def main() -> int:
    """Run the long version, print a table, write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--short", action="store_true", help="the version that the tests run")
    parser.add_argument("--out", type=Path, default=Path("chaos.json"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pawqueue-chaos-") as folder:
        report = run(SHORT if given.short else Plan(), Path(folder))
    given.out.write_text(json.dumps(report, indent=2) + "\n")
    for name, value in report.items():
        print(f"{name:24} {value}")
    return 0 if is_kept(report) else 1


def is_kept(report: dict[str, Any]) -> bool:
    """Whether every promise was kept."""
    return not (report["lost"] or report["answered_twice"] or report["good_but_not_succeeded"])


if __name__ == "__main__":
    sys.exit(main())
