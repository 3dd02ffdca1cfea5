"""The status of the whole service, as `GET /v1/status` returns it."""

import time
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from pawqueue.client.connection import Call, Connection
from pawqueue.client.deadline import Deadline
from pawqueue.client.errors import RefusedError


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """The service at one moment; if Redis is down, only `problems` is set."""

    #: By queue.
    queued: Counter[str] = field(default_factory=Counter)
    running: Counter[str] = field(default_factory=Counter)
    #: Age of the oldest queued job in seconds, by queue.
    oldest_s: dict[str, float] = field(default_factory=dict)
    #: Jobs finished so far, by status.
    ended: Counter[str] = field(default_factory=Counter)
    #: Predictions so far, by label.
    labels: Counter[str] = field(default_factory=Counter)
    dead: int = 0
    workers: int = 0
    ledger_up: bool = True
    #: Why the service cannot accept or predict jobs, one sentence each.
    problems: tuple[str, ...] = ()
    #: Monotonic time of the response.
    seen_s: float = field(default_factory=time.monotonic)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ServiceStatus":
        """Read the status object of the HTTP API; unknown fields are ignored."""
        queues = values["queues"]
        return cls(
            queued=Counter({name: int(queue["queued"]) for name, queue in queues.items()}),
            running=Counter({name: int(queue["running"]) for name, queue in queues.items()}),
            oldest_s={name: float(queue["oldest_s"]) for name, queue in queues.items()},
            ended=Counter(values["finished"]),
            labels=Counter(values["labels"]),
            dead=int(values["dead"]),
            workers=len(values["workers"]),
            ledger_up=all(problem["code"] != "ledger_unavailable" for problem in values["problems"]),
            problems=tuple(problem["detail"] for problem in values["problems"]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "ledger_up": self.ledger_up,
            "workers": self.workers,
            "queued": dict(self.queued),
            "running": dict(self.running),
            "oldest_s": self.oldest_s,
            "ended": dict(self.ended),
            "labels": dict(self.labels),
            "dead": self.dead,
            "problems": list(self.problems),
        }

    def rate_since(self, earlier: "ServiceStatus | None") -> float | None:
        """Jobs finished per second since an earlier status; None if there is none."""
        if earlier is None or self.seen_s <= earlier.seen_s:
            return None
        return max(0, self.ended.total() - earlier.ended.total()) / (self.seen_s - earlier.seen_s)


def read_status(connection: Connection, deadline: Deadline) -> ServiceStatus:
    """Read the status of the service; raises like `Connection.send`."""
    try:
        return connection.fetch(Call("GET", "/v1/status"), deadline, ServiceStatus.from_dict)
    except RefusedError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        detail = f"{connection.url} has no /v1/status. Upgrade the gateway, or check the address."
        raise error.with_detail(detail) from None


def is_served(connection: Connection, deadline: Deadline) -> bool:
    """Whether a worker is running; True if the gateway refuses to return the status."""
    try:
        return read_status(connection, deadline).workers > 0
    except RefusedError:
        return True


def wait_until_reachable(connection: Connection, deadline: Deadline) -> None:
    """Return as soon as the gateway responds; raises like `Connection.send`."""
    connection.send(Call("GET", "/healthz"), deadline)
