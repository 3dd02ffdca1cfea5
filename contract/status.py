"""The status of the whole service: queues, workers, totals, and whether jobs can be accepted.

Only `read_status` makes this decision. The gateway returns the status from `GET /v1/status` to the client and the
`pawqueue` command; `make up` and the dashboard call `read_status` directly.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from contract.errors import UnavailableError
from contract.job import time_text
from contract.ledger.ledger import Ledger
from contract.ledger.models import Change
from contract.ledger.requirements import server_fault
from contract.ledger.types import Heartbeat, LedgerStats, QueueStats, RedisServer
from contract.queues import QUEUES, queue_name, split_queue_name

#: Share of Redis's own memory limit at which uploads are refused. The rest is reserved for finishing accepted jobs.
_SERVER_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that prevents the service from accepting or processing jobs."""

    #: `ledger_unavailable`, `ledger_evicts`, `ledger_unsuitable`, `ledger_full`, `no_worker`, `model_not_served` or
    #: `model_not_loaded`.
    code: str
    #: A message for a person: what is wrong and what to do.
    detail: str
    #: Whether the gateway refuses uploads because of it.
    blocks_uploads: bool = True
    #: Whether it ends without a change to the installation. Results can still be read while the ledger is full.
    is_temporary: bool = False


NO_WORKER = Problem(
    "no_worker", "No worker is running, so jobs stay queued. Start one with `python -m worker`.", blocks_uploads=False
)


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the service at one moment; only `problems` is set if the ledger is unavailable."""

    stats: LedgerStats = field(default_factory=lambda: LedgerStats({}))
    workers: Sequence[Heartbeat] = ()
    server: RedisServer = field(default_factory=RedisServer)
    problems: Sequence[Problem] = ()
    #: The live version of each model, by name.
    live: Mapping[str, str] = field(default_factory=dict)
    #: Name of the default model; empty before a worker has registered it.
    default_model: str = ""
    #: The canaries, by name of the model.
    canaries: Mapping[str, Change] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        """Whether jobs can be accepted."""
        return not any(problem.blocks_uploads for problem in self.problems)

    def queue_names_of(self, model: str) -> list[str]:
        """The queues of a model; for the default model, also those of jobs that name none."""
        names = [model, ""] if model == self.default_model else [model]
        return [queue_name(queue, name) for queue in QUEUES for name in names]

    def to_dict(self) -> dict[str, Any]:
        """The status object of the HTTP API: RFC 3339 times, ages in seconds, every member present."""
        finished: Counter[str] = Counter()
        labels: Counter[str] = Counter()
        for (_, status, label), count in self.stats.totals.items():
            finished[status] += count
            if label:
                labels[label] += count
        return {
            "ready": self.is_ready,
            "problems": [{"code": problem.code, "detail": problem.detail} for problem in self.problems],
            "queues": self._queues(),
            "models": [self._model(name, version) for name, version in self.live.items()],
            "finished": dict(finished),
            "labels": dict(labels),
            "errors": dict(self.stats.errors),
            "dead": self.stats.dead,
            "workers": [_worker(beat) for beat in self.workers],
            "ledger": {
                "used_bytes": self.server.used_bytes,
                "max_bytes": self.server.max_bytes,
                "evicts": self.server.evicts,
            },
        }

    def _queues(self) -> dict[str, Any]:
        """The jobs of all models by queue; without counts if the ledger is unavailable."""
        return {queue: _queue(self.stats.of_queue(queue)) for queue in QUEUES} if self.stats.queues else {}

    def _model(self, name: str, version: str) -> dict[str, Any]:
        is_default = name == self.default_model
        names = {name, ""} if is_default else {name}
        return {
            "name": name,
            "version": version,
            "default": is_default,
            "queues": {queue: _queue(self.stats.of_queue(queue, names)) for queue in QUEUES},
            "workers": sum(beat.takes_jobs_of(name) for beat in self.workers),
        }


def read_status(ledger: Ledger, ledger_max_bytes: int) -> Status:
    """Read the status of the service; an unavailable ledger is reported as a problem, not raised."""
    try:
        stats, workers, server = ledger.stats(), ledger.workers(), ledger.server()
        routes, default_model = ledger.models.routes(), ledger.models.default()
    except UnavailableError as error:
        return Status(problems=(Problem("ledger_unavailable", error.detail),))
    live = {name: route.live for name, route in routes.items()}
    found = [ledger_problem(server, ledger_max_bytes), None if workers else NO_WORKER]
    problems = [*filter(None, found), *(_model_problems(stats, workers, live, default_model) if workers else ())]
    canaries = {name: route.canary for name, route in routes.items() if route.canary}
    return Status(stats, workers, server, problems, live, default_model, canaries)


def _model_problems(
    stats: LedgerStats, workers: Sequence[Heartbeat], live: Mapping[str, str], default_model: str
) -> Iterator[Problem]:
    """Models whose jobs wait without a worker, and versions that a worker cannot load."""
    waiting = {split_queue_name(name)[1] or default_model for name, row in stats.queues.items() if row.queued}
    for name in sorted(waiting):
        if not any(beat.takes_jobs_of(name) for beat in workers):
            detail = (
                f"No worker serves the model {name}, so its jobs stay queued. Start a worker whose PAWQUEUE_SERVE "
                f"contains it."
            )
            yield Problem("model_not_served", detail, blocks_uploads=False)
    failed = {(held.name, held.version): held.problem for beat in workers for held in beat.models if held.problem}
    for (name, version), problem in sorted(failed.items()):
        effect = ", so its jobs wait" if live.get(name, version) == version else ""
        detail = f"A worker cannot load the model {name}@{version}{effect}: {problem}"
        yield Problem("model_not_loaded", detail, blocks_uploads=False)


def ledger_problem(server: RedisServer, ledger_max_bytes: int) -> Problem | None:
    """Why Redis cannot store new jobs; None if it can."""
    if fault := server_fault(server):
        code = "ledger_evicts" if server.evicts else "ledger_unsuitable"
        return Problem(code, f"Uploads are refused because Redis {fault}")
    if ledger_load(server, ledger_max_bytes) > 1:
        detail = "Uploads are refused because the job ledger (Redis) is full. Try again later."
        return Problem("ledger_full", detail, is_temporary=True)
    return None


def ledger_load(server: RedisServer, ledger_max_bytes: int) -> float:
    """The memory that Redis uses, as a share of that at which uploads are refused."""
    of_server = int(server.max_bytes * _SERVER_SHARE)
    return server.used_bytes / (min(ledger_max_bytes, of_server) if of_server else ledger_max_bytes)


def server_bytes(ledger_max_bytes: int) -> int:
    """The `maxmemory` of a Redis that accepts uploads until it uses `ledger_max_bytes`."""
    return int(ledger_max_bytes / _SERVER_SHARE)


def _queue(row: QueueStats) -> dict[str, Any]:
    return {
        "queued": row.queued,
        "running": row.running,
        "oldest_s": row.oldest_age_ms / 1000,
        "queued_bytes": row.queued_bytes,
    }


def _worker(beat: Heartbeat) -> dict[str, Any]:
    # Host names and addresses stay internal: this object may be public.
    return {
        "model": {"name": beat.model_name, "version": beat.model_version},
        "serves": list(beat.serves or (beat.model_name,)),
        "models": [asdict(held) for held in beat.models],
        "labels": list(beat.labels),
        "backend": beat.backend,
        "precision": beat.precision,
        "strategies": [asdict(item) for item in beat.strategies],
        "busy_ratio": beat.busy_ratio,
        "started_at": time_text(beat.started_ms),
        "seen_at": time_text(beat.seen_ms),
    }
