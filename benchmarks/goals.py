"""What is to be reached, each figure as a ratio within one run, so that it means the same on every machine."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Goal:
    """One line of the table."""

    #: Of the measured row.
    name: str
    text: str
    reach: float
    aim: float
    better: Literal["higher", "lower"]
    unit: str = ""

    def verdict(self, value: float | None) -> str:
        """`aim`, `reached`, `missed`, or `not measured`."""
        if value is None:
            return "not measured"
        sign = 1 if self.better == "higher" else -1
        if sign * value >= sign * self.aim:
            return "aim"
        return "reached" if sign * value >= sign * self.reach else "missed"


GOALS = (
    Goal("wait-32", "one image a request, 32 clients, baseline_cnn float32, to the bare loop", 0.85, 0.92, "higher"),
    Goal("wait-128", "the same, 128 clients", 0.85, 0.92, "higher"),
    Goal("shipped-32", "the same, 32 clients, the shipped model", 0.75, 0.88, "higher"),
    Goal("poll-32", "submit, then ask by id, 32 clients, baseline_cnn float32", 0.78, 0.88, "higher"),
    Goal("bulk", "bulk through the client, its own cost included", 0.90, 0.95, "higher"),
    Goal("auto-32", "one image a request, 32 clients, precision auto, to its own bare loop", 0.75, 0.88, "higher"),
    Goal("latency-1", "one client, p50, to decode and predict of one image in a bare process", 1.7, 1.4, "lower"),
    Goal("tail-32", "p99 / p50 at 32 clients", 2.0, 1.5, "lower"),
    Goal("submit-cpu", "submit: the gateway's CPU a job, to a Flask route that only reads the body", 2.5, 2.0, "lower"),
    Goal("backlog-p50", "submit p50 behind a backlog (7 kB images), to an empty queue", 1.2, 1.0, "lower"),
    Goal("ledger-memory", "ledger memory of a queued job, image aside", 1.0, 0.5, "lower", "kB"),
    Goal("waiters-memory", "clients that wait: the gateway's memory on top", 40, 15, "lower", "MB"),
    Goal("waiters-commands", "clients that wait: Redis commands a second for each 1,000 of them", 10, 5, "lower", "/s"),
    Goal("gateway-start", "gateway ready after its start, to importing its libraries", 1.5, 1.2, "lower"),
    Goal("gateway-memory", "the gateway's memory", 110, 90, "lower", "MB"),
    Goal(
        "worker-start", "worker ready after its start, to import, load and warm-up in a bare process", 1.5, 1.1, "lower"
    ),
    Goal("two-workers", "two worker processes on the machine, to one", 1.0, 1.1, "higher"),
)
