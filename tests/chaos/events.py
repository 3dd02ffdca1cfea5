"""A receiver of webhooks that fails at random, and what it says about the events of all jobs."""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.clients import AcceptedJob
from tests.support.receiver import Received, Receiver, receiving

_POLL_S = 0.2


@dataclass
class Events:
    """The events that arrived."""

    receiver: Receiver
    #: By job, the ids of its events that the receiver took.
    taken: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def wait_for(self, jobs: Sequence[AcceptedJob], timeout_s: float) -> None:
        """Wait until an event of each job was taken."""
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s and any(job.id not in self.taken for job in jobs):
            time.sleep(_POLL_S)

    def report(self, jobs: Sequence[AcceptedJob]) -> dict[str, Any]:
        """The numbers of a run."""
        ids: dict[str, set[str]] = defaultdict(set)
        types: dict[str, set[str]] = defaultdict(set)
        for item in list(self.receiver.received):
            ids[item.event["data"]["id"]].add(item.id)
            types[item.event["data"]["id"]].add(item.event["type"])
        statuses = {job.id: f"job.{job.results[-1]['status']}" for job in jobs if job.results}
        return {
            "event_requests": len(self.receiver.received),
            "events": dict(Counter(found for kinds in types.values() for found in kinds)),
            "jobs_without_an_event": sum(job.id not in self.taken for job in jobs),
            "jobs_with_two_events": sum(len(found) > 1 for found in ids.values()),
            "events_of_unknown_jobs": len(ids.keys() - {job.id for job in jobs}),
            "events_with_a_wrong_status": sum(types[job_id] != {status} for job_id, status in statuses.items()),
            "events_delivered_twice": sum(len(found) > 1 for found in self.taken.values()),
        }


@contextmanager
def failing_receiver(share: float, seed: int) -> Iterator[Events]:
    """A receiver that does not take a share of the events."""
    rng = random.Random(seed)
    with receiving() as receiver:
        events = Events(receiver)

        def respond(item: Received) -> tuple[int, dict[str, str]]:
            if rng.random() < share:
                return rng.choice((500, 503)), {}
            events.taken[item.event["data"]["id"]].append(item.id)
            return 204, {}

        receiver.respond = respond
        yield events
