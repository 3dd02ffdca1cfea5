"""The report of a chaos run: the result of every accepted job as the clients saw it, and the recovery times."""

import statistics
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import redis

from contract.ledger import keys
from contract.ledger.shadows import ShadowStore
from tests.chaos.changes import Served, history, served_at, was_served
from tests.chaos.clients import AcceptedJob, Clients
from tests.chaos.cluster import FAULT_POINTS, Cluster
from tests.chaos.faults import FaultInjector
from tests.chaos.models import CHANGING, MODELS, is_answer_of

_DAYS = 2  # a run may last over midnight


def make_report(clients: Clients, injector: FaultInjector, cluster: Cluster, seconds: float) -> dict[str, Any]:
    """Collect the numbers of a run."""
    services = (*cluster.workers, *cluster.notifiers, cluster.gateway, cluster.redis)
    return {
        **_of_jobs(clients.jobs),
        **_of_ledger(cluster.redis_url),
        **_of_changes(clients.jobs, history(cluster.redis_url)),
        "refusals": {str(status): count for status, count in sorted(clients.refusals.items())},
        "killed": dict(injector.done),
        "fault_points_reached": cluster.faults_reached,
        "recoveries": len(injector.recoveries_s),
        "median_recovery_s": _rounded(statistics.median, injector.recoveries_s),
        "longest_recovery_s": _rounded(max, injector.recoveries_s),
        "undisturbed_recoveries": len(injector.undisturbed_s),
        "longest_undisturbed_recovery_s": _rounded(max, injector.undisturbed_s),
        "lease_s": injector.plan.lease_s,
        "sweep_s": injector.plan.sweep_s,
        "starts": {service.name: service.starts for service in services},
        "seconds": round(seconds, 1),
    }


def _rounded(choose: Callable[[list[float]], float], seconds: list[float]) -> float | None:
    return round(choose(seconds), 1) if seconds else None


def _of_jobs(jobs: list[AcceptedJob]) -> dict[str, Any]:
    last = [job.results[-1] for job in jobs if job.results]
    statuses = Counter(result["status"] for result in last)
    attempts = Counter(result["attempts"] for result in last)
    return {
        "accepted": len(jobs),
        **{status: statuses[status] for status in ("succeeded", "failed", "canceled", "expired")},
        "lost": sum(not job.results for job in jobs),
        "answered_twice": sum(any(result != job.results[0] for result in job.results) for job in jobs),
        "good_but_failed": sum(
            job.is_good and bool(job.results) and job.results[-1]["status"] in ("failed", "expired") for job in jobs
        ),
        "by_model": dict(Counter(job.model or "default" for job in jobs)),
        "wrong_model": sum(
            not is_answer_of(job.model, job.brightness, result)
            for job in jobs
            for result in job.results
            if result["status"] == "succeeded"
        ),
        "errors": dict(Counter(result["error"]["code"] for result in last if result["error"])),
        "attempts": {str(count): attempts[count] for count in sorted(attempts)},
        "duplicate_executions": sum(max(0, count - 1) * number for count, number in attempts.items()),
    }


def _of_changes(jobs: list[AcceptedJob], changes: list[Served]) -> dict[str, Any]:
    results = [result for job in jobs if job.model == CHANGING for result in job.results]
    processed = [result for result in results if result["status"] == "succeeded"]
    pairs = list(pairwise(changes))
    return {
        "changes_of_the_live_version": sum(before.live != after.live for before, after in pairs),
        "canaries": sum(not before.canary and bool(after.canary) for before, after in pairs),
        "results_of_canaries": sum(
            result["model"]["version"] == served.canary
            for result in processed
            for served in served_at(result, changes)[-1:]
        ),
        "version_not_served": sum(not was_served(result, changes) for result in processed),
    }


def _of_ledger(redis_url: str) -> dict[str, Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        totals = [int(count) for count in client.hvals(keys.TOTALS)]
        dropped = int(client.hget(keys.COUNTERS, "late_commits") or 0)
        compared = sum(found.compared for found in ShadowStore(client).agreement(CHANGING, _DAYS))
    return {"finished_in_the_ledger": sum(totals), "commits_dropped": dropped, "predicted_by_shadows": compared}


def failed_checks(report: dict[str, Any], injector: FaultInjector) -> list[str]:
    """The checks that failed; empty if all guarantees held and all planned faults happened."""
    plan = injector.plan
    planned = {
        "worker": plan.worker_kills,
        "gateway": plan.gateway_kills,
        "redis": plan.redis_kills,
        "notifier": plan.notifier_kills,
        "cut": int(plan.cut_s > 0),
    }
    checks = {
        "refusals only with 503": set(report["refusals"]) <= {"503"},
        f"{plan.jobs} jobs accepted": report["accepted"] == plan.jobs,
        "no job lost": report["lost"] == 0,
        "no job with two different results": report["answered_twice"] == 0,
        "no answer of a wrong model": report["wrong_model"] == 0,
        "no answer of a version that was neither live nor a canary": report["version_not_served"] == 0,
        "the live version or the canary changed": report["changes_of_the_live_version"] + report["canaries"] > 0,
        "jobs of every model": len(report["by_model"]) == len(MODELS),
        "no good image failed": report["good_but_failed"] == 0,
        "each job finished once in the ledger": report["finished_in_the_ledger"] == plan.jobs,
        "an event of every job": report["jobs_without_an_event"] == 0,
        "no job with two events": report["jobs_with_two_events"] == 0,
        "no event of a job that was not accepted": report["events_of_unknown_jobs"] == 0,
        "every event with the status of its job": report["events_with_a_wrong_status"] == 0,
        f"faults as planned {planned}": all(injector.done[name] >= count for name, count in planned.items()),
        "every fault point reached": set(report["fault_points_reached"]) == set(FAULT_POINTS),
    }
    return [check for check, passed in checks.items() if not passed]


def as_table(report: dict[str, Any]) -> str:
    """The report as a table with two columns."""
    return "\n".join(f"{name.replace('_', ' '):22} {_text(value)}" for name, value in report.items())


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {count}" for name, count in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
