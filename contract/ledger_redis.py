"""The ledger on Redis 6.2 or newer: one hash a job, every change of state one Lua script."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import wraps
from importlib import resources
from typing import Any, ParamSpec, TypeVar, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from contract import keys
from contract.errors import UnavailableError
from contract.job import SCHEMA, Job, JobStatus, Outcome
from contract.ledger import Claim, Heartbeat, Ledger, LedgerStats, QueueStats, Submitted, final_status, job_to_fields

P = ParamSpec("P")
R = TypeVar("R")

#: Longest wait for an answer; a ledger that is slower counts as gone.
_SOCKET_TIMEOUT_S = 1.5
#: How often an idle subscription checks that its connection lives.
_HEALTH_CHECK_S = 5


def connect(url: str) -> "redis.Redis":
    """Open a client that fails at once instead of retrying: the caller says 503 and is asked again."""
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=_SOCKET_TIMEOUT_S,
        socket_connect_timeout=_SOCKET_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


def _unavailable(method: Callable[P, R]) -> Callable[P, R]:
    """Turn any failure of Redis into `UnavailableError`."""

    @wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except redis.RedisError as error:
            raise UnavailableError("The job ledger (Redis) does not answer; try again shortly.") from error

    return guarded


class RedisLedger(Ledger):
    """See `Ledger`; safe to share between threads."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client
        self._scripts = {name: client.register_script(text) for name, text in _read_scripts().items()}

    def _run(self, script: str, *arguments: str | int) -> Any:
        return self._scripts[script](args=list(arguments))

    @_unavailable
    def submit(self, jobs: Sequence[Job], queue_max_jobs: int) -> list[Submitted]:
        arguments: list[str | int] = []
        for job in jobs:
            fields = {"v": SCHEMA, **job_to_fields(job)}
            arguments += [job.id, job.queue, job.created_ms, len(fields) * 2]
            for name, value in fields.items():
                arguments += [name, value]
        rows = self._run("submit", keys.JOB, keys.QUEUED, queue_max_jobs, *arguments)
        return [Submitted(row) for row in rows]

    @_unavailable
    def withdraw(self, job_ids: Sequence[str]) -> None:
        self._run("withdraw", keys.JOB, keys.QUEUED, *job_ids)

    @_unavailable
    def get(self, job_ids: Sequence[str]) -> list[Job | None]:
        pipeline = self._redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipeline.hgetall(keys.job(job_id))
        return [_job_from_fields(job_id, fields) for job_id, fields in zip(job_ids, pipeline.execute(), strict=True)]

    @_unavailable
    def claim(self, job_ids: Sequence[str], lease_ms: int, now_ms: int = 0) -> list[Claim | None]:
        rows = self._run("claim", keys.JOB, keys.QUEUED, keys.RUNNING, now_ms, lease_ms, *job_ids)
        return [_claim_from_row(job_id, row) for job_id, row in zip(job_ids, rows, strict=True)]

    @_unavailable
    def begin(self, claims: Sequence[Claim]) -> None:
        self._run("begin", keys.JOB, *_fences(claims))

    @_unavailable
    def renew(self, claims: Sequence[Claim], lease_ms: int, now_ms: int = 0) -> list[bool]:
        return _flags(self._run("renew", keys.JOB, keys.RUNNING, now_ms, lease_ms, *_fences(claims)))

    @_unavailable
    def release(self, claims: Sequence[Claim]) -> list[bool]:
        return _flags(self._run("release", keys.JOB, keys.QUEUED, keys.RUNNING, *_fences(claims)))

    @_unavailable
    def commit(self, outcomes: Sequence[tuple[Claim, Outcome]], ttl_s: int, now_ms: int = 0) -> list[bool]:
        rows: list[str | int] = []
        for claim, outcome in outcomes:
            label = outcome.prediction.label if outcome.prediction else ""
            code = outcome.error.code if outcome.error else ""
            text = json.dumps(outcome.to_dict(), separators=(",", ":"), ensure_ascii=False)
            rows += [claim.job.id, claim.fence, str(final_status(outcome)), label, code, text]
        names = (keys.JOB, keys.RUNNING, keys.TOTALS, keys.ERRORS, keys.COUNTERS, keys.EVENTS, keys.DONE)
        return _flags(self._run("commit", *names, keys.EVENTS_KEPT, ttl_s, now_ms, *rows))

    @_unavailable
    def stats(self, queues: Sequence[str], now_ms: int = 0) -> LedgerStats:
        rows, totals, errors = self._run("stats", keys.QUEUED, keys.RUNNING, keys.TOTALS, keys.ERRORS, now_ms, *queues)
        return LedgerStats(
            queues={queue: QueueStats(*map(int, row)) for queue, row in zip(queues, rows, strict=True)},
            totals={_total_key(name): int(count) for name, count in _pairs(totals)},
            errors={code: int(count) for code, count in _pairs(errors)},
        )

    @_unavailable
    def beat(self, heartbeat: Heartbeat, ttl_ms: int, now_ms: int = 0) -> None:
        text = json.dumps(asdict(heartbeat))
        self._run("beat", keys.WORKERS, keys.WORKERS_ALIVE, now_ms, ttl_ms, heartbeat.id, text)

    @_unavailable
    def retire(self, worker_id: str) -> None:
        pipeline = self._redis.pipeline()
        pipeline.hdel(keys.WORKERS, worker_id)
        pipeline.zrem(keys.WORKERS_ALIVE, worker_id)
        pipeline.execute()

    @_unavailable
    def workers(self, now_ms: int = 0) -> list[Heartbeat]:
        texts = self._run("workers", keys.WORKERS, keys.WORKERS_ALIVE, now_ms)
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
        while True:
            message = self._next_message(subscription)
            if message is None:
                continue
            if message["type"] == "message":
                yield message["data"].split(" ")

    @_unavailable
    def _subscribe(self, subscription: Any) -> None:
        subscription.subscribe(keys.DONE)

    @_unavailable
    def _next_message(self, subscription: Any) -> dict[str, Any] | None:
        message = subscription.get_message(timeout=_HEALTH_CHECK_S)
        if message is None:
            subscription.ping()
        return cast("dict[str, Any] | None", message)

    @_unavailable
    def ping(self) -> None:
        self._redis.ping()


def _read_scripts() -> dict[str, str]:
    """Every Lua script by name, each with `clock.lua` before it."""
    files = {path.name: path.read_text() for path in resources.files("contract").joinpath("lua").iterdir()}
    clock = files.pop("clock.lua")
    return {name.removesuffix(".lua"): clock + text for name, text in files.items() if name.endswith(".lua")}


def _fences(claims: Sequence[Claim]) -> list[str | int]:
    return [value for claim in claims for value in (claim.job.id, claim.fence)]


def _flags(row: list[int]) -> list[bool]:
    return [bool(value) for value in row]


def _pairs(flat: list[str]) -> list[tuple[str, str]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _total_key(name: str) -> tuple[str, str, str]:
    queue, status, label = name.split("|", 2)
    return queue, status, label


def _claim_from_row(job_id: str, row: list[str] | None) -> Claim | None:
    if not row:
        return None
    job = _job_from_fields(job_id, dict(_pairs(row)))
    return Claim(job, job.fence) if job else None


def _job_from_fields(job_id: str, fields: dict[str, str]) -> Job | None:
    if not fields:
        return None
    outcome = fields.get("outcome")
    return Job(
        id=job_id,
        queue=fields["queue"],
        status=JobStatus(fields["status"]),
        created_ms=int(fields["created_ms"]),
        file=fields.get("file", ""),
        size_bytes=int(fields.get("size_bytes", 0)),
        image=fields.get("image", ""),
        started_ms=_int_or_none(fields.get("started_ms")),
        finished_ms=_int_or_none(fields.get("finished_ms")),
        attempts=int(fields.get("attempts", 0)),
        fence=int(fields.get("fence", 0)),
        outcome=Outcome.from_dict(json.loads(outcome)) if outcome else None,
    )


def _int_or_none(text: str | None) -> int | None:
    return None if text is None else int(text)
