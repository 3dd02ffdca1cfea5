"""The ledger on Redis 6.2 or newer: one hash a job, every change of state one Lua script."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, cast

from contract import keys
from contract.errors import UnavailableError
from contract.job import Job, JobResult
from contract.ledger import Ledger
from contract.ledger_records import (
    claim_from_row,
    code_of,
    job_from_fields,
    pairs,
    result_to_json,
    submit_to_row,
)
from contract.ledger_redis_submissions import RedisSubmissions
from contract.ledger_types import (
    EXPIRED,
    IDEMPOTENCY_TTL_S,
    LOST,
    Claim,
    Heartbeat,
    LedgerMemory,
    LedgerStats,
    QueueLimits,
    QueueStats,
    Receipt,
    Submit,
    Submitted,
    Sweep,
    final_status,
)
from contract.redis_client import unavailable_when_gone

#: How often an idle subscription asks whether its connection lives; the answer is due within the same time.
_HEALTH_CHECK_S = 5


class RedisLedger(RedisSubmissions, Ledger):
    """See `Ledger`; safe to share between threads."""

    @unavailable_when_gone
    def submit(self, submits: Sequence[Submit], limits: QueueLimits) -> list[Receipt]:
        rows = [value for submit in submits for value in submit_to_row(submit)]
        most = (limits.max_jobs, limits.max_bytes, limits.owner_max_jobs, limits.owner_max_bytes)
        results = self._run("submit", *most, IDEMPOTENCY_TTL_S, *rows)
        return [Receipt(Submitted(result), job_id) for result, job_id in results]

    @unavailable_when_gone
    def get(self, job_ids: Sequence[str]) -> list[Job | None]:
        pipeline = self._redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipeline.hgetall(keys.job(job_id))
        return [job_from_fields(job_id, fields) for job_id, fields in zip(job_ids, pipeline.execute(), strict=True)]

    @unavailable_when_gone
    def claim(self, job_ids: Sequence[str], lease_ms: int, ttl_s: int, now_ms: int = 0) -> list[Claim | None]:
        rows = self._run("claim", now_ms, lease_ms, ttl_s, result_to_json(EXPIRED), code_of(EXPIRED), *job_ids)
        return [claim_from_row(job_id, row) for job_id, row in zip(job_ids, rows, strict=True)]

    @unavailable_when_gone
    def begin(self, claims: Sequence[Claim]) -> None:
        self._run("begin", *_fences(claims))

    @unavailable_when_gone
    def renew(self, claims: Sequence[Claim], lease_ms: int, now_ms: int = 0) -> list[bool]:
        return _flags(self._run("renew", now_ms, lease_ms, *_fences(claims)))

    @unavailable_when_gone
    def release(self, claims: Sequence[Claim]) -> list[bool]:
        return _flags(self._run("release", *_fences(claims)))

    @unavailable_when_gone
    def commit(self, job_results: Sequence[tuple[Claim, JobResult]], ttl_s: int, now_ms: int = 0) -> list[bool]:
        rows: list[str | int] = []
        for claim, job_result in job_results:
            label = job_result.prediction.label if job_result.prediction else ""
            status = str(final_status(job_result))
            rows += [claim.job.id, claim.fence, status, label, code_of(job_result), result_to_json(job_result)]
        return _flags(self._run("commit", ttl_s, now_ms, *rows))

    @unavailable_when_gone
    def cancel(self, job_ids: Sequence[str], ttl_s: int, now_ms: int = 0) -> list[bool]:
        return _flags(self._run("cancel", ttl_s, now_ms, *job_ids))

    @unavailable_when_gone
    def recover(self, sweep: Sweep, now_ms: int = 0) -> list[str]:
        limits = (sweep.oldest_message_ms, sweep.grace_ms, sweep.max_attempts, sweep.limit, sweep.ttl_s)
        ends = (code_of(LOST), result_to_json(LOST), code_of(EXPIRED), result_to_json(EXPIRED))
        orphans: list[str] = self._run("recover", sweep.queue, now_ms, *limits, *ends)
        return orphans

    @unavailable_when_gone
    def dead(self, count: int) -> list[str]:
        return cast("list[str]", self._redis.zrevrange(keys.DEAD, 0, count - 1))

    @unavailable_when_gone
    def dead_image(self, job_id: str) -> str | None:
        pipeline = self._redis.pipeline()
        pipeline.zscore(keys.DEAD, job_id)
        pipeline.hget(keys.job(job_id), "dead_image")
        died_ms, image = pipeline.execute()
        return None if died_ms is None else image or ""

    @unavailable_when_gone
    def unbury(self, job_id: str) -> str | None:
        return cast("str | None", self._run("unbury", job_id))

    @unavailable_when_gone
    def discard(self, image: str) -> None:
        self._redis.rpush(keys.DISCARDED, image)

    @unavailable_when_gone
    def take_discarded(self, count: int) -> list[str]:
        return cast("list[str]", self._redis.lpop(keys.DISCARDED, count) or [])

    @unavailable_when_gone
    def lead(self, worker_id: str, ttl_ms: int) -> bool:
        return bool(self._run("lead", worker_id, ttl_ms))

    @unavailable_when_gone
    def places(self, jobs: Sequence[Job]) -> list[int | None]:
        pipeline = self._redis.pipeline(transaction=False)
        for job in jobs:
            pipeline.zrank(keys.queued(job.queue), job.id)
        return cast("list[int | None]", pipeline.execute())

    @unavailable_when_gone
    def memory(self) -> LedgerMemory:
        info: dict[str, Any] = self._redis.info("memory")
        max_bytes = int(info["maxmemory"])
        evicts = max_bytes > 0 and info["maxmemory_policy"] != "noeviction"
        return LedgerMemory(int(info["used_memory"]), max_bytes, evicts=evicts)

    @unavailable_when_gone
    def stats(self, queues: Sequence[str], now_ms: int = 0) -> LedgerStats:
        rows, totals, errors, dead = self._run("stats", now_ms, *queues)
        return LedgerStats(
            queues={queue: QueueStats(*map(int, row)) for queue, row in zip(queues, rows, strict=True)},
            totals={_total_key(name): int(count) for name, count in pairs(totals)},
            errors={code: int(count) for code, count in pairs(errors)},
            dead=int(dead),
        )

    @unavailable_when_gone
    def beat(self, heartbeat: Heartbeat, ttl_ms: int, now_ms: int = 0) -> None:
        self._run("beat", now_ms, ttl_ms, heartbeat.id, json.dumps(asdict(heartbeat)))

    @unavailable_when_gone
    def retire(self, worker_id: str) -> None:
        pipeline = self._redis.pipeline()
        pipeline.hdel(keys.WORKERS, worker_id)
        pipeline.zrem(keys.WORKERS_ALIVE, worker_id)
        pipeline.execute()

    @unavailable_when_gone
    def workers(self, now_ms: int = 0) -> list[Heartbeat]:
        texts = self._run("workers", now_ms)
        beats = [Heartbeat(**json.loads(text)) for text in texts if text]
        return sorted(beats, key=lambda beat: (beat.started_ms, beat.id))

    def ended(self) -> Iterator[list[str] | None]:
        subscription = self._redis.pubsub()  # type: ignore[no-untyped-call]
        try:
            yield from self._follow(subscription)
        finally:
            subscription.close()

    def _follow(self, subscription: Any) -> Iterator[list[str] | None]:
        self._subscribe(subscription)
        yield None
        is_asked = False
        while True:
            message = self._next_message(subscription)
            if message is None and is_asked:
                raise UnavailableError("The job ledger (Redis) has fallen silent; try again shortly.")
            is_asked = message is None
            if message is None:
                self._ask(subscription)
            elif message["type"] == "message":
                yield message["data"].split(" ")

    @unavailable_when_gone
    def _subscribe(self, subscription: Any) -> None:
        subscription.subscribe(keys.DONE)

    @unavailable_when_gone
    def _next_message(self, subscription: Any) -> dict[str, Any] | None:
        return cast("dict[str, Any] | None", subscription.get_message(timeout=_HEALTH_CHECK_S))

    @unavailable_when_gone
    def _ask(self, subscription: Any) -> None:
        """Have the other end say that it is there: a line may be dead without a word."""
        subscription.ping()

    @unavailable_when_gone
    def recent(self, count: int, after: str = "") -> list[tuple[str, str]]:
        found = self._redis.xrevrange(keys.EVENTS, "+", f"({after}" if after else "-", count)
        return [(place, fields["id"]) for place, fields in cast("list[tuple[str, dict[str, str]]]", found)]

    @unavailable_when_gone
    def ping(self) -> None:
        self._redis.ping()


def _fences(claims: Sequence[Claim]) -> list[str | int]:
    return [value for claim in claims for value in (claim.job.id, claim.fence)]


def _flags(row: list[int]) -> list[bool]:
    return [bool(value) for value in row]


def _total_key(name: str) -> tuple[str, str, str]:
    queue, status, label = name.split("|", 2)
    return queue, status, label
