"""`GET /v1/status`: an overview of the whole service, for `pawqueue watch` and `pawqueue doctor`."""

from typing import Any, Literal

from pydantic import BaseModel

from contract.access import Scope
from contract.ledger.types import ChosenStrategy, Heartbeat, LedgerStats, QueueStats, RedisServer
from contract.status import NO_WORKER, Status, read_status
from gateway.http.routing import JsonResponse, Routes
from gateway.services import current_services

routes = Routes("status", "An overview of the whole service.", "/v1/status")


class StatusProblem(BaseModel):
    """A reason why jobs cannot be accepted or predicted."""

    code: str
    detail: str


class QueueStatus(BaseModel):
    """The jobs in a queue."""

    queued: int
    running: int
    oldest_s: float
    queued_bytes: int


class ModelStatus(BaseModel):
    """A model: its live version, its jobs, and the number of workers that serve it."""

    name: str
    version: str
    default: bool
    queues: dict[str, QueueStatus]
    workers: int


class HeldModel(BaseModel):
    """A version that a worker holds, or cannot load."""

    name: str
    version: str
    state: Literal["waiting", "loading", "ready", "failed"]
    problem: str


class WorkerModel(BaseModel):
    """The model that a worker serves."""

    name: str
    version: str


class WorkerStrategy(BaseModel):
    """How a worker runs batches of about this many images.

    `wide`: one call on all cores. `frozen`: the same with constant weights. `parts_8`: parts of at most 8 images, each
    on one core. `measured_ms` has the fastest call of each precision and strategy; it is empty if nothing was measured.
    """

    images: int
    strategy: str
    measured_ms: dict[str, float]


class WorkerStatus(BaseModel):
    """A worker with a valid heartbeat."""

    model: WorkerModel
    serves: list[str]
    models: list[HeldModel]
    labels: list[str]
    backend: str
    precision: str
    strategies: list[WorkerStrategy]
    busy_ratio: float
    started_at: str
    seen_at: str


class LedgerStatus(BaseModel):
    """The memory of the job ledger."""

    used_bytes: int
    max_bytes: int
    evicts: bool


class StatusObject(BaseModel):
    """The state of the service; without counts if the ledger is not responding."""

    ready: bool
    problems: list[StatusProblem]
    queues: dict[str, QueueStatus]
    models: list[ModelStatus]
    finished: dict[str, int]
    labels: dict[str, int]
    errors: dict[str, int]
    dead: int
    workers: list[WorkerStatus]
    ledger: LedgerStatus


_BEAT = Heartbeat(
    *("", "", "cats-dogs", "1", ["cat", "dog"], "tensorflow", "float32", 0.6, "", 1_772_366_400_000, 1_772_366_460_000),
    strategies=[
        ChosenStrategy(1, "parts_1", {"float32/wide": 5.6, "float32/parts_1": 4.1}),
        ChosenStrategy(32, "parts_8", {"float32/wide": 60.2, "float32/parts_8": 51.3}),
    ],
)
_STATS = LedgerStats(
    {"interactive": QueueStats(3, 32, 120, 165_000), "bulk": QueueStats()},
    {("interactive", "succeeded", "cat"): 1200, ("interactive", "failed", ""): 4},
    {"undecodable_image": 4},
)
_EXAMPLES = {
    "serving": Status(_STATS, [_BEAT], RedisServer(2_000_000), (), {"cats-dogs": "1"}, "cats-dogs").to_dict(),
    "no_worker": Status(_STATS, [], RedisServer(2_000_000), [NO_WORKER], {"cats-dogs": "1"}, "cats-dogs").to_dict(),
}


@routes.add(
    "GET",
    "",
    scope=Scope.READ,
    is_status=True,
    responses={200: JsonResponse(StatusObject, "The status, even while Redis is down.", _EXAMPLES)},
)
def status() -> dict[str, Any]:
    """Show queues, workers and totals, and whether jobs can be accepted.

    `ready` is false while uploads are refused; `problems` gives the reasons. Without a worker, jobs are accepted but
    stay queued. This needs an API key if `PAWQUEUE_METRICS_ACCESS` is `key`.
    """
    services = current_services()
    return read_status(services.ledger, services.settings.ledger_max_bytes).to_dict()
