"""Uploads images while workers, gateway, notifiers, Redis and the network fail.

It checks that no accepted job and no event is lost.
"""

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.chaos.changes import Changes
from tests.chaos.clients import Clients
from tests.chaos.cluster import Cluster
from tests.chaos.events import failing_receiver
from tests.chaos.faults import FaultInjector, Plan
from tests.chaos.models import MODELS, add_models
from tests.chaos.report import as_table, failed_checks, make_report
from tests.support.services import serves_models, wait_until

#: The plan for the test suite: a few faults of each kind, in about a minute.
SHORT = Plan(
    jobs=400,
    clients=8,
    worker_kills=3,
    gateway_kills=1,
    redis_kills=1,
    notifier_kills=1,
    cut_s=2.0,
    wait_s=30.0,
    limit_s=240.0,
    lease_s=2.0,
    sweep_s=0.5,
    max_attempts=6,  # nine workers die within half a minute, and a job may be in three of them
    light=True,
)

#: How long events may arrive after the last job has finished: a killed notifier holds some for 30 s.
_EVENTS_S = 120.0


def run(plan: Plan, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Run a plan; returns the report and the checks that failed."""
    started_s = time.monotonic()
    settings = {
        "PAWQUEUE_LEASE_S": str(plan.lease_s),
        "PAWQUEUE_SWEEP_S": str(plan.sweep_s),
        "PAWQUEUE_MAX_ATTEMPTS": str(plan.max_attempts),
        # With the usual pauses, an event that fails twice would take five minutes.
        "PAWQUEUE_WEBHOOK_RETRIES_S": ", ".join(["0.5"] * 4 + ["2"] * 16),
        "PAWQUEUE_WEBHOOK_ALLOW": "127.0.0.1",
    }
    add_models(folder / "state" / "models", light=plan.light)
    with (
        failing_receiver(plan.receiver_fails, plan.seed) as events,
        Cluster(folder, plan.workers, settings, light=plan.light, notifiers=plan.notifiers) as cluster,
    ):
        clients = Clients(cluster.url, plan.jobs, plan.clients, plan.seed, MODELS, events.receiver.url)
        injector = FaultInjector(plan, cluster, clients)
        clients.start()
        wait_until(lambda: serves_models(cluster.url, len(MODELS)), "all models to be served", 120)
        changes = Changes(cluster.url)
        changes.start()
        faults = threading.Thread(target=injector.run, daemon=True)
        faults.start()
        faults.join(plan.limit_s * 0.9)
        clients.join(max(30.0, plan.limit_s - (time.monotonic() - started_s)))
        clients.collect(max(60.0, plan.limit_s - (time.monotonic() - started_s)))
        injector.wait_for_recoveries()
        changes.stop()
        events.wait_for(clients.jobs, _EVENTS_S)
        report = make_report(clients, injector, cluster, time.monotonic() - started_s) | events.report(clients.jobs)
    return report, failed_checks(report, injector)


def main() -> int:
    """Run a plan, print the report as a table, and write it to a file."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--short", action="store_true", help="run the short plan that the test suite uses")
    parser.add_argument("--out", type=Path, default=Path("chaos.json"), help="file for the report (default chaos.json)")
    parser.add_argument("--logs", type=Path, help="folder for the logs of all processes (default: discard them)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pawqueue-chaos-") as name:
        report, failed = run(SHORT if given.short else Plan(), Path(name))
        if given.logs:
            given.logs.mkdir(parents=True, exist_ok=True)
            for log in Path(name).glob("*.log"):
                shutil.copy(log, given.logs)
    given.out.write_text(json.dumps(report, indent=2) + "\n")
    print(as_table(report))
    for check in failed:
        print(f"FAILED: {check}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
