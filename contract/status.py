"""The status of the whole service: queues, workers, totals, and whether jobs can be accepted.

`read_status` is the one place that decides this. `GET /v1/status` returns it; the `pawqueue` command, the client and
`make up` use that answer, the dashboard calls the function itself.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from contract.errors import UnavailableError
from contract.job import time_text
from contract.ledger.ledger import Ledger
from contract.ledger.types import Heartbeat, LedgerMemory, LedgerStats
from contract.queues import QUEUES

#: Share of the memory that Redis itself allows at which uploads are refused: running jobs must still be able to finish.
_SERVER_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps the service from accepting or predicting jobs."""

    #: `ledger_unavailable`, `ledger_evicts`, `ledger_full` or `no_worker`.
    code: str
    #: For people: what is wrong and what to do.
    detail: str
    #: Whether uploads are refused because of it.
    blocks_uploads: bool = True


NO_WORKER = Problem(
    "no_worker", "No worker is running, so jobs wait. Start one with `python -m worker`.", blocks_uploads=False
)


@dataclass(frozen=True, slots=True)
class Status:
    """The service at one moment; without a ledger only `problems` is known."""

    stats: LedgerStats = field(default_factory=lambda: LedgerStats({}))
    workers: Sequence[Heartbeat] = ()
    memory: LedgerMemory = field(default_factory=LedgerMemory)
    problems: Sequence[Problem] = ()

    @property
    def is_ready(self) -> bool:
        """Whether jobs can be accepted."""
        return not any(problem.blocks_uploads for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """The status object of the HTTP API: times as RFC 3339, ages in seconds, every member present."""
        finished: Counter[str] = Counter()
        labels: Counter[str] = Counter()
        for (_, status, label), count in self.stats.totals.items():
            finished[status] += count
            if label:
                labels[label] += count
        return {
            "ready": self.is_ready,
            "problems": [{"code": problem.code, "detail": problem.detail} for problem in self.problems],
            "queues": {
                queue: {
                    "queued": row.queued,
                    "running": row.running,
                    "oldest_s": row.oldest_age_ms / 1000,
                    "queued_bytes": row.queued_bytes,
                }
                for queue, row in self.stats.queues.items()
            },
            "finished": dict(finished),
            "labels": dict(labels),
            "errors": dict(self.stats.errors),
            "dead": self.stats.dead,
            "workers": [_worker(beat) for beat in self.workers],
            "ledger": asdict(self.memory),
        }


def read_status(ledger: Ledger, ledger_max_bytes: int) -> Status:
    """Read the status of the service; an unavailable ledger is reported as a problem, not raised."""
    try:
        stats, workers, memory = ledger.stats(QUEUES), ledger.workers(), ledger.memory()
    except UnavailableError as error:
        return Status(problems=(Problem("ledger_unavailable", error.detail),))
    problems = [memory_problem(memory, ledger_max_bytes), None if workers else NO_WORKER]
    return Status(stats, workers, memory, [problem for problem in problems if problem])


def memory_problem(memory: LedgerMemory, ledger_max_bytes: int) -> Problem | None:
    """Why the memory of the ledger's Redis keeps jobs from being accepted; None if it does not."""
    if memory.evicts:
        return Problem(
            "ledger_evicts",
            "Redis is configured to evict keys when it is full, so no job can be guaranteed. "
            "Set `maxmemory-policy noeviction`.",
        )
    server_bytes = int(memory.max_bytes * _SERVER_SHARE)
    limit_bytes = min(ledger_max_bytes, server_bytes) if server_bytes else ledger_max_bytes
    if memory.used_bytes > limit_bytes:
        return Problem("ledger_full", "The job ledger (Redis) is full; nothing was stored. Try again later.")
    return None


def _worker(beat: Heartbeat) -> dict[str, Any]:
    # Without host and addresses: whoever may read the metrics may read this.
    return {
        "model": {"name": beat.model_name, "version": beat.model_version},
        "labels": list(beat.labels),
        "backend": beat.backend,
        "precision": beat.precision,
        "busy_ratio": beat.busy_ratio,
        "started_at": time_text(beat.started_ms),
        "seen_at": time_text(beat.seen_ms),
    }
