"""What is said at the end: of every promise, whether it was kept, by the clients' own lists."""

import statistics
from collections import Counter
from collections.abc import Callable
from typing import Any

import redis

from contract.ledger import keys
from tests.chaos.clients import Clients, Promise
from tests.chaos.cluster import FAULT_POINTS, Cluster
from tests.chaos.harm import Harm


def make_report(clients: Clients, harm: Harm, cluster: Cluster, seconds: float) -> dict[str, Any]:
    """Everything that is known."""
    return {
        **_of_promises(clients.promises),
        **_of_ledger(cluster.redis_url),
        "refusals": {str(status): count for status, count in sorted(clients.refusals.items())},
        "killed": dict(harm.done),
        "fault_points_reached": cluster.faults_reached,
        "recoveries": len(harm.recoveries_s),
        "median_recovery_s": _rounded(statistics.median, harm.recoveries_s),
        "longest_recovery_s": _rounded(max, harm.recoveries_s),
        "undisturbed_recoveries": len(harm.undisturbed_s),
        "longest_undisturbed_recovery_s": _rounded(max, harm.undisturbed_s),
        "lease_s": harm.plan.lease_s,
        "sweep_s": harm.plan.sweep_s,
        "starts": {one.name: one.starts for one in (*cluster.workers, cluster.gateway, cluster.redis)},
        "seconds": round(seconds, 1),
    }


def _rounded(choose: Callable[[list[float]], float], seconds: list[float]) -> float | None:
    return round(choose(seconds), 1) if seconds else None


def _of_promises(promises: list[Promise]) -> dict[str, Any]:
    last = [promise.answers[-1] for promise in promises if promise.answers]
    statuses = Counter(answer["status"] for answer in last)
    attempts = Counter(answer["attempts"] for answer in last)
    return {
        "accepted": len(promises),
        **{status: statuses[status] for status in ("succeeded", "failed", "canceled", "expired")},
        "lost": sum(not promise.answers for promise in promises),
        "answered_twice": sum(any(answer != promise.answers[0] for answer in promise.answers) for promise in promises),
        "good_but_failed": sum(
            promise.is_good and bool(promise.answers) and promise.answers[-1]["status"] in ("failed", "expired")
            for promise in promises
        ),
        "errors": dict(Counter(answer["error"]["code"] for answer in last if answer["error"])),
        "attempts": {str(count): attempts[count] for count in sorted(attempts)},
        "duplicate_executions": sum(max(0, count - 1) * jobs for count, jobs in attempts.items()),
    }


def _of_ledger(redis_url: str) -> dict[str, Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        totals = [int(count) for count in client.hvals(keys.TOTALS)]
        dropped = int(client.hget(keys.COUNTERS, "late_commits") or 0)
    return {"ended_by_the_ledger": sum(totals), "commits_dropped": dropped}


def broken(report: dict[str, Any], harm: Harm) -> list[str]:
    """What does not hold; empty when every promise was kept and everything planned went wrong."""
    plan = harm.plan
    planned = {
        "worker": plan.worker_kills,
        "gateway": plan.gateway_kills,
        "redis": plan.redis_kills,
        "cut": int(plan.cut_s > 0),
    }
    checks = {
        "only 503 as refusal": set(report["refusals"]) <= {"503"},
        f"{plan.jobs} jobs accepted": report["accepted"] == plan.jobs,
        "none lost": report["lost"] == 0,
        "none answered twice": report["answered_twice"] == 0,
        "no good image failed": report["good_but_failed"] == 0,
        "the ledger ended each once": report["ended_by_the_ledger"] == plan.jobs,
        f"killed as planned {planned}": all(harm.done[name] >= count for name, count in planned.items()),
        "each fault point reached": set(report["fault_points_reached"]) == set(FAULT_POINTS),
    }
    return [what for what, holds in checks.items() if not holds]


def as_table(report: dict[str, Any]) -> str:
    """Names and values in two columns."""
    return "\n".join(f"{name.replace('_', ' '):22} {_text(value)}" for name, value in report.items())


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {count}" for name, count in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
