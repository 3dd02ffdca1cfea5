"""Chaos: clients upload while workers, gateway, Redis and the network fail; the report goes to `chaos.json`."""

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.chaos.clients import Clients
from tests.chaos.cluster import Cluster
from tests.chaos.harm import Harm, Plan
from tests.chaos.report import as_table, broken, make_report
from tests.support.services import wait_until

#: What the tests run: some of everything in about a minute.
SHORT = Plan(
    jobs=400,
    clients=8,
    worker_kills=3,
    gateway_kills=1,
    redis_kills=1,
    cut_s=2.0,
    patience_s=30.0,
    limit_s=240.0,
    lease_s=2.0,
    sweep_s=0.5,
    light=True,
)


def run(plan: Plan, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Do everything in `plan`; returns the report, and what does not hold."""
    started_s = time.monotonic()
    settings = {"PAWQUEUE_LEASE_S": str(plan.lease_s), "PAWQUEUE_SWEEP_S": str(plan.sweep_s)}
    with Cluster(folder, plan.workers, settings, light=plan.light) as cluster:
        clients = Clients(cluster.url, plan.jobs, plan.clients, plan.seed)
        harm = Harm(plan, cluster, clients)
        clients.start()
        wait_until(lambda: bool(cluster.serving()), "a worker serving", 120)
        doing = threading.Thread(target=harm.run, daemon=True)
        doing.start()
        doing.join(plan.limit_s * 0.9)
        clients.join(max(30.0, plan.limit_s - (time.monotonic() - started_s)))
        clients.collect(max(60.0, plan.limit_s - (time.monotonic() - started_s)))
        harm.watch_to_the_end()
        report = make_report(clients, harm, cluster, time.monotonic() - started_s)
    return report, broken(report, harm)


def main() -> int:
    """Run the long version, print a table, write the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--short", action="store_true", help="the version that the tests run")
    parser.add_argument("--out", type=Path, default=Path("chaos.json"), help="where the report goes")
    parser.add_argument("--logs", type=Path, help="folder for the logs of all processes; without it they are dropped")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pawqueue-chaos-") as name:
        report, wrong = run(SHORT if given.short else Plan(), Path(name))
        if given.logs:
            given.logs.mkdir(parents=True, exist_ok=True)
            for log in Path(name).glob("*.log"):
                shutil.copy(log, given.logs)
    given.out.write_text(json.dumps(report, indent=2) + "\n")
    print(as_table(report))
    for what in wrong:
        print(f"DOES NOT HOLD: {what}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
