"""The outbox: events of finished jobs and submissions that wait for their delivery, and the secrets that sign them.

The scripts that finish a job write its event (`emit` in `lua/common.lua`). A notifier claims deliveries and settles
them.
"""

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import redis

from contract.job import time_text
from contract.ledger import keys
from contract.ledger.connection import read_scripts, redis_errors_as_unavailable
from contract.ledger.records import job_from_fields, pairs, submission_from_fields

_SECRET_BYTES = 32
_SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of every secret


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event that was not delivered yet; times are Unix time in milliseconds."""

    #: The `webhook-id`, the same at each try.
    id: str
    #: For example `job.succeeded`.
    type: str
    #: Id of the job or submission.
    subject: str
    url: str
    #: Id of the API key whose secret signs it; empty if none was required.
    owner: str
    #: When the job or submission finished.
    emitted_ms: int
    #: Number of failed tries since the event, or since it was redelivered.
    tries: int = 0
    tried_ms: int | None = None
    #: When it is tried next; None if it is dead.
    next_ms: int | None = None
    dead_ms: int | None = None
    #: Why the last try failed; empty before the first.
    problem: str = ""
    #: Number of the latest claim.
    claims: int = 0
    #: The deliveries that it may delay: those of its owner to its server. Only claimed deliveries have it.
    lane: str = ""
    #: The record of the job or submission.
    record: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def status(self) -> str:
        """`waiting` or `dead`."""
        return "waiting" if self.dead_ms is None else "dead"

    @property
    def is_of_job(self) -> bool:
        """Whether the event is about a job, and not about a submission."""
        return self.type.startswith("job.")

    def payload(self, prefix: str) -> dict[str, Any]:
        """The body of the request: the job or the submission as the API returns it, below the gateway's `prefix`."""
        data: dict[str, Any] = {}
        fields = dict(self.record)
        if self.is_of_job and (job := job_from_fields(self.subject, fields)):
            data = job.to_dict() | {"urls": {"self": f"{prefix}/v1/jobs/{self.subject}"}}
        elif submission := submission_from_fields(self.subject, fields):
            url = f"{prefix}/v1/submissions/{self.subject}"
            urls = {"self": url} | {name: f"{url}/{name}" for name in ("jobs", "results", "close")}
            data = submission.to_dict(self.emitted_ms) | {"urls": urls}
        return {"type": self.type, "timestamp": time_text(self.emitted_ms), "data": data}

    def to_dict(self) -> dict[str, Any]:
        """The delivery object of the HTTP API."""
        return {
            "id": self.id,
            "type": self.type,
            "subject": self.subject,
            "url": self.url,
            "status": self.status,
            "created_at": time_text(self.emitted_ms),
            "tries": self.tries,
            "last_try_at": time_text(self.tried_ms),
            "next_try_at": time_text(self.next_ms),
            "problem": self.problem or None,
        }


@dataclass(frozen=True, slots=True)
class WebhookSecrets:
    """The secrets of an owner. They are never logged."""

    current: str = field(repr=False)
    created_ms: int
    #: The one before the last rotation; empty if there is none, or if it is no longer valid.
    previous: str = field(default="", repr=False)
    previous_until_ms: int | None = None

    def valid(self, now_ms: int) -> list[str]:
        """The secrets that sign an event now."""
        is_kept = self.previous and now_ms < (self.previous_until_ms or 0)
        return [self.current, self.previous] if is_kept else [self.current]


@dataclass(frozen=True, slots=True)
class OutboxStats:
    """The state of all deliveries."""

    #: How long the first delivery that is due has waited since then, in milliseconds; 0 if none is due.
    oldest_due_ms: int
    dead: int
    #: By result: `delivered`, `failed` (tries) or `dead`. They never fall.
    totals: Mapping[str, int]


class WebhookStore:
    """Reads and changes deliveries and secrets; methods raise `UnavailableError` if Redis is not responding."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client
        scripts = read_scripts()
        names = ("claim_deliveries", "settle_delivery", "redeliver", "trim_deliveries", "rotate_secret")
        self._scripts = {name: client.register_script(scripts[name]) for name in names}

    # Deliveries

    @redis_errors_as_unavailable
    def claim(
        self,
        count: int,
        lease_ms: int,
        lane_max: int,
        max_age_ms: int,
        busy: Mapping[str, int],
        now_ms: int = 0,
    ) -> list[Delivery]:
        """Lease up to `count` due deliveries for `lease_ms`, at most `lane_max` of a lane at a time.

        `busy` is the number of deliveries that the caller is trying now, by lane. A delivery that is older than
        `max_age_ms` dies.
        """
        lanes = [value for item in busy.items() for value in item]
        rows = self._run("claim_deliveries", now_ms, lease_ms, count, lane_max, max_age_ms, *lanes)
        return [_delivery(delivery_id, dict(pairs(row)), lane) for delivery_id, lane, row in rows]

    @redis_errors_as_unavailable
    def settle(
        self, delivery: Delivery, result: str, pause_ms: int | None = None, problem: str = "", now_ms: int = 0
    ) -> bool:
        """Record a try: `delivered`, `failed`, or `gone`, which switches the endpoint off.

        `pause_ms` is the time until the next try; None if it was the last one. Returns False if the delivery was purged
        or claimed again.
        """
        pause: int = -1 if pause_ms is None else pause_ms
        return bool(self._run("settle_delivery", now_ms, delivery.id, delivery.claims, result, pause, problem))

    @redis_errors_as_unavailable
    def trim(self, ttl_s: int, now_ms: int = 0) -> int:
        """Remove dead deliveries that are older than `ttl_s`, at most 1,000; returns how many."""
        return int(self._run("trim_deliveries", now_ms, ttl_s * 1000))

    @redis_errors_as_unavailable
    def latest(self, owner: str, count: int, status: str | None = None) -> list[Delivery]:
        """Read the deliveries of an owner, or those that are `waiting` or `dead`, at most `count`, newest first."""
        found: list[Delivery] = []
        ids = cast("list[str]", self._redis.zrevrange(keys.DELIVERIES + owner, 0, -1))
        for at in range(0, len(ids), 500):
            if len(found) >= count:
                break
            found += [item for item in self._read(ids[at : at + 500]) if status in (None, item.status)]
        return found[:count]

    @redis_errors_as_unavailable
    def get(self, owner: str, delivery_id: str) -> Delivery | None:
        """Read a delivery of an owner; None if it was delivered, has expired, or is another owner's."""
        found = self._read([delivery_id])
        return found[0] if found and found[0].owner == owner else None

    @redis_errors_as_unavailable
    def redeliver(self, owner: str, delivery_id: str, now_ms: int = 0) -> Delivery | None:
        """Try a delivery again from now on; its endpoint is no longer switched off. None for an unknown id."""
        fields = dict(pairs(self._run("redeliver", now_ms, delivery_id, owner)))
        return _delivery(delivery_id, fields) if fields else None

    @redis_errors_as_unavailable
    def stats(self, now_ms: int) -> OutboxStats:
        """The state of all deliveries."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zrange(keys.LANES, 0, 0, withscores=True)
        pipeline.zcard(keys.DEAD_DELIVERIES)
        pipeline.hgetall(keys.DELIVERY_TOTALS)
        first, dead, totals = pipeline.execute()
        oldest_ms = max(0, now_ms - int(first[0][1])) if first else 0
        return OutboxStats(oldest_ms, int(dead), {name: int(count) for name, count in totals.items()})

    # Secrets

    @redis_errors_as_unavailable
    def secrets(self, owner: str) -> WebhookSecrets:
        """The secrets of an owner; the first one is created when it is needed."""
        fields = cast("dict[str, str]", self._redis.hgetall(keys.WEBHOOK_SECRET + owner))
        return _secrets(fields or dict(pairs(self._run("rotate_secret", 0, owner, _new_secret(), -1))))

    @redis_errors_as_unavailable
    def rotate(self, owner: str, keep_s: int, now_ms: int = 0) -> WebhookSecrets:
        """Create a new secret; the one before it stays valid for `keep_s`."""
        return _secrets(dict(pairs(self._run("rotate_secret", now_ms, owner, _new_secret(), keep_s * 1000))))

    def _read(self, delivery_ids: list[str]) -> list[Delivery]:
        pipeline = self._redis.pipeline(transaction=False)
        for delivery_id in delivery_ids:
            pipeline.hgetall(keys.DELIVERY + delivery_id)
        rows = pipeline.execute()
        return [_delivery(name, row) for name, row in zip(delivery_ids, rows, strict=True) if row]

    def _run(self, script: str, *arguments: str | int) -> Any:
        return self._scripts[script](args=list(arguments))


def _delivery(delivery_id: str, fields: dict[str, str], lane: str = "") -> Delivery:
    def number(name: str) -> int | None:
        return int(fields[name]) if name in fields else None

    return Delivery(
        id=delivery_id,
        type=fields["type"],
        # The id by which the client calls a job, if another owner uses it.
        subject=fields.get("called") or fields["subject"],
        url=fields["webhook"],
        owner=fields.get("owner", ""),
        emitted_ms=int(fields["emitted_ms"]),
        tries=int(fields["tries"]),
        tried_ms=number("tried_ms"),
        next_ms=number("next_ms"),
        dead_ms=number("dead_ms"),
        problem=fields.get("problem", ""),
        claims=int(fields.get("claims", 0)),
        lane=lane,
        record=fields,
    )


def _secrets(fields: Mapping[str, str]) -> WebhookSecrets:
    until = fields.get("previous_until_ms")
    return WebhookSecrets(
        fields["current"], int(fields["created_ms"]), fields.get("previous", ""), int(until) if until else None
    )


def _new_secret() -> str:
    return _SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
