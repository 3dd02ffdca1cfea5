"""The ledger: one Redis hash per job, and one Lua script for every change of state. Needs Redis 6.2 or newer."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any, cast

import redis

from contract.errors import UnavailableError
from contract.job import Job, JobResult
from contract.ledger import keys
from contract.ledger.connection import read_scripts, unavailable_when_gone
from contract.ledger.records import (
    claim_from_row,
    code_of,
    job_from_fields,
    pairs,
    rejected_to_row,
    result_to_json,
    submission_from_fields,
    submission_to_fields,
    submit_to_row,
)
from contract.ledger.types import (
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
from contract.submission import Submission

#: How often an idle subscription pings Redis; the reply is due within the same time.
_HEALTH_CHECK_S = 5.0


class Ledger:
    """Reads and changes job records; every method handles many jobs in one round trip.

    All methods raise `UnavailableError` when Redis cannot be reached. `now_ms=0` means the clock of Redis; tests pass
    their own time instead of sleeping. Safe to share between threads.
    """

    def __init__(self, client: "redis.Redis", health_check_s: float = _HEALTH_CHECK_S) -> None:
        self._redis = client
        self._health_check_s = health_check_s
        self._scripts = {name: client.register_script(text) for name, text in read_scripts().items()}

    # Jobs

    @unavailable_when_gone
    def submit(self, submits: Sequence[Submit], limits: QueueLimits) -> list[Receipt]:
        """Store new queued jobs while their queues have room; a repeated submit returns the job it made before.

        A job that names a submission joins it, if that submission is still open.
        """
        rows = [value for submit in submits for value in submit_to_row(submit)]
        maximums = (limits.max_jobs, limits.max_bytes, limits.owner_max_jobs, limits.owner_max_bytes)
        results = self._run("submit", *maximums, IDEMPOTENCY_TTL_S, *rows)
        return [Receipt(Submitted(result), job_id) for result, job_id in results]

    @unavailable_when_gone
    def get(self, job_ids: Sequence[str]) -> list[Job | None]:
        """Read jobs; None for an unknown id."""
        rows = self._hashes([keys.job(job_id) for job_id in job_ids])
        return [job_from_fields(job_id, fields) for job_id, fields in zip(job_ids, rows, strict=True)]

    @unavailable_when_gone
    def claim(self, job_ids: Sequence[str], lease_ms: int, ttl_s: int, now_ms: int = 0) -> list[Claim | None]:
        """Lease jobs that are queued, or running on an expired lease; None for all others.

        A job whose deadline has passed expires instead, and its record is kept for `ttl_s`.
        """
        rows = self._run("claim", now_ms, lease_ms, ttl_s, result_to_json(EXPIRED), code_of(EXPIRED), *job_ids)
        return [claim_from_row(job_id, row) for job_id, row in zip(job_ids, rows, strict=True)]

    @unavailable_when_gone
    def begin(self, claims: Sequence[Claim]) -> None:
        """Count an attempt: these jobs are now being decoded."""
        self._run("begin", *_fences(claims))

    @unavailable_when_gone
    def renew(self, claims: Sequence[Claim], lease_ms: int, now_ms: int = 0) -> list[bool]:
        """Extend leases; False for one that was lost to a later claim or to the end of its job."""
        return _flags(self._run("renew", now_ms, lease_ms, *_fences(claims)))

    @unavailable_when_gone
    def release(self, claims: Sequence[Claim]) -> list[bool]:
        """Return jobs to their old place in the queue; the attempt does not count."""
        return _flags(self._run("release", *_fences(claims)))

    @unavailable_when_gone
    def commit(self, results: Sequence[tuple[Claim, JobResult]], ttl_s: int, now_ms: int = 0) -> list[bool]:
        """Finish jobs and wake those who wait; False, and no change, where the fence is not current."""
        rows: list[str | int] = []
        for claim, result in results:
            label = result.prediction.label if result.prediction else ""
            status = str(final_status(result))
            rows += [claim.job.id, claim.fence, status, label, code_of(result), result_to_json(result)]
        return _flags(self._run("commit", ttl_s, now_ms, *rows))

    @unavailable_when_gone
    def cancel(self, job_ids: Sequence[str], ttl_s: int, now_ms: int = 0) -> list[bool]:
        """Cancel jobs that are queued or running; False for all others, which stay as they are."""
        return _flags(self._run("cancel", ttl_s, now_ms, *job_ids))

    @unavailable_when_gone
    def places(self, jobs: Sequence[Job]) -> list[int | None]:
        """How many jobs of the same queue are ahead of each; None for a job that is not queued."""
        pipeline = self._redis.pipeline(transaction=False)
        for job in jobs:
            pipeline.zrank(keys.queued(job.queue), job.id)
        return cast("list[int | None]", pipeline.execute())

    # Submissions: the counts of a submission change in the same step as the states of its jobs.

    @unavailable_when_gone
    def open_submission(self, submission: Submission, ttl_s: int) -> Submitted:
        """Store a new submission.

        Returns:
            `STORED`; `REPEATED` if the same submission exists already; `TAKEN` if its id belongs to another one.
        """
        values = [value for item in submission_to_fields(submission).items() for value in item]
        head = (submission.id, submission.owner, submission.created_ms, ttl_s, len(values))
        return Submitted(self._run("open", *head, *values))

    @unavailable_when_gone
    def close_submission(self, submission_id: str, ttl_s: int, now_ms: int = 0, *, withdrawn: bool = False) -> None:
        """Accept no more jobs for it; a `withdrawn` submission that has not finished becomes canceled."""
        self._run("close", submission_id, now_ms, ttl_s, int(withdrawn))

    @unavailable_when_gone
    def submission(self, submission_id: str) -> Submission | None:
        """Read a submission; None for an unknown id."""
        return self._submissions([submission_id])[0]

    @unavailable_when_gone
    def submissions(self, owner: str, count: int) -> list[Submission]:
        """The latest submissions of an owner, at most `count`, newest first."""
        ids = cast("list[str]", self._redis.zrevrange(keys.submissions(owner), 0, -1))
        chunks = (ids[at : at + count] for at in range(0, len(ids), count))
        found = (submission for chunk in chunks for submission in self._unexpired(owner, chunk))
        return list(islice(found, count))

    def _unexpired(self, owner: str, ids: list[str]) -> list[Submission]:
        """Read submissions, and remove expired ones from the owner's list."""
        found = self._submissions(ids)
        expired = [one_id for one_id, submission in zip(ids, found, strict=True) if submission is None]
        if expired:
            self._redis.zrem(keys.submissions(owner), *expired)
        return [submission for submission in found if submission]

    def _submissions(self, ids: Sequence[str]) -> list[Submission | None]:
        rows = self._hashes([keys.submission(one_id) for one_id in ids])
        return [submission_from_fields(one_id, row) for one_id, row in zip(ids, rows, strict=True)]

    @unavailable_when_gone
    def submission_job_ids(self, submission_id: str, start: int, count: int) -> list[str]:
        """Ids of up to `count` of its jobs after the first `start`, in order of acceptance; fewer at the end."""
        key = keys.submission_jobs(submission_id)
        return cast("list[str]", self._redis.lrange(key, start, start + count - 1))

    @unavailable_when_gone
    def reject(self, jobs: Sequence[Job], ttl_s: int, now_ms: int = 0) -> list[bool]:
        """Record rejected images in their submissions, each as a failed job with the error as its result.

        Returns:
            False for an image that is already recorded, in whatever state, or whose submission is closed.
        """
        rows = [value for job in jobs for value in rejected_to_row(job)]
        return _flags(self._run("reject", now_ms, ttl_s, *rows))

    # Recovery

    @unavailable_when_gone
    def recover(self, sweep: Sweep, now_ms: int = 0) -> list[str]:
        """Requeue jobs that no worker holds; finish those with no attempts or time left.

        Returns:
            The ids that need a message.
        """
        limits = (sweep.oldest_message_ms, sweep.grace_ms, sweep.max_attempts, sweep.limit, sweep.ttl_s)
        ends = (code_of(LOST), result_to_json(LOST), code_of(EXPIRED), result_to_json(EXPIRED))
        orphans: list[str] = self._run("recover", sweep.queue, now_ms, *limits, *ends)
        return orphans

    @unavailable_when_gone
    def lead(self, worker_id: str, ttl_ms: int) -> bool:
        """Whether this worker is the one that recovers jobs, for the next `ttl_ms`."""
        return bool(self._run("lead", worker_id, ttl_ms))

    @unavailable_when_gone
    def dead(self, count: int) -> list[str]:
        """Ids of up to `count` jobs in the dead-letter list, latest first."""
        return cast("list[str]", self._redis.zrevrange(keys.DEAD, 0, count - 1))

    @unavailable_when_gone
    def dead_image(self, job_id: str) -> str | None:
        """The image reference of a job in the dead-letter list; None if it is not there."""
        pipeline = self._redis.pipeline()
        pipeline.zscore(keys.DEAD, job_id)
        pipeline.hget(keys.job(job_id), "dead_image")
        died_ms, image = pipeline.execute()
        return None if died_ms is None else image or ""

    @unavailable_when_gone
    def unbury(self, job_id: str) -> str | None:
        """Remove a job from the dead-letter list; returns its image reference, None if it is not there."""
        return cast("str | None", self._run("unbury", job_id))

    @unavailable_when_gone
    def discard(self, image: str) -> None:
        """Mark an image for deletion."""
        self._redis.rpush(keys.DISCARDED, image)

    @unavailable_when_gone
    def take_discarded(self, count: int) -> list[str]:
        """References of up to `count` images to delete; each is returned once."""
        return cast("list[str]", self._redis.lpop(keys.DISCARDED, count) or [])

    # Workers

    @unavailable_when_gone
    def beat(self, heartbeat: Heartbeat, ttl_ms: int, now_ms: int = 0) -> None:
        """Store a worker's heartbeat, valid for `ttl_ms`."""
        self._run("beat", now_ms, ttl_ms, heartbeat.id, json.dumps(asdict(heartbeat)))

    @unavailable_when_gone
    def retire(self, worker_id: str) -> None:
        """Remove a worker that shuts down in order."""
        pipeline = self._redis.pipeline()
        pipeline.hdel(keys.WORKERS, worker_id)
        pipeline.zrem(keys.WORKERS_ALIVE, worker_id)
        pipeline.execute()

    @unavailable_when_gone
    def workers(self, now_ms: int = 0) -> list[Heartbeat]:
        """Heartbeats that are still valid, oldest worker first."""
        beats = [Heartbeat.from_json(text) for text in self._run("workers", now_ms) if text]
        return sorted(beats, key=lambda beat: (beat.started_ms, beat.id))

    # Looking at the whole

    @unavailable_when_gone
    def stats(self, queues: Sequence[str], now_ms: int = 0) -> LedgerStats:
        """Count jobs by queue and by result."""
        rows, totals, errors, dead = self._run("stats", now_ms, *queues)
        return LedgerStats(
            queues={queue: QueueStats(*map(int, row)) for queue, row in zip(queues, rows, strict=True)},
            totals={_total_key(name): int(count) for name, count in pairs(totals)},
            errors={code: int(count) for code, count in pairs(errors)},
            dead=int(dead),
        )

    @unavailable_when_gone
    def memory(self) -> LedgerMemory:
        """How much memory the ledger's Redis uses, and whether it may evict keys."""
        info: dict[str, Any] = self._redis.info("memory")
        max_bytes = int(info["maxmemory"])
        evicts = max_bytes > 0 and info["maxmemory_policy"] != "noeviction"
        return LedgerMemory(int(info["used_memory"]), max_bytes, evicts=evicts)

    @unavailable_when_gone
    def recent(self, count: int, after: str = "") -> list[tuple[str, str]]:
        """The latest finished jobs, at most `count`, newest first, as (position in the stream, job id).

        `after` is a position from an earlier call: only jobs that finished later are returned.
        """
        found = self._redis.xrevrange(keys.EVENTS, "+", f"({after}" if after else "-", count)
        return [(place, fields["id"]) for place, fields in cast("list[tuple[str, dict[str, str]]]", found)]

    @unavailable_when_gone
    def ping(self) -> None:
        """Return if Redis answers."""
        self._redis.ping()

    def ended(self) -> Iterator[list[str] | None]:
        """Yield the ids of jobs and submissions as they finish; None first, once it is subscribed."""
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
                raise UnavailableError("The job ledger (Redis) stopped answering; try again shortly.")
            is_asked = message is None
            if message is None:
                self._ping_subscription(subscription)
            elif message["type"] == "message":
                yield message["data"].split(" ")

    @unavailable_when_gone
    def _subscribe(self, subscription: Any) -> None:
        subscription.subscribe(keys.DONE)

    @unavailable_when_gone
    def _next_message(self, subscription: Any) -> dict[str, Any] | None:
        return cast("dict[str, Any] | None", subscription.get_message(timeout=self._health_check_s))

    @unavailable_when_gone
    def _ping_subscription(self, subscription: Any) -> None:
        """Ask for a reply: a connection can be dead without an error."""
        subscription.ping()

    def _run(self, script: str, *arguments: str | int) -> Any:
        return self._scripts[script](args=list(arguments))

    def _hashes(self, names: Sequence[str]) -> list[dict[str, str]]:
        """Read hashes in one round trip; an empty one for a key that does not exist."""
        pipeline = self._redis.pipeline(transaction=False)
        for name in names:
            pipeline.hgetall(name)
        return cast("list[dict[str, str]]", pipeline.execute())


def _fences(claims: Sequence[Claim]) -> list[str | int]:
    return [value for claim in claims for value in (claim.job.id, claim.fence)]


def _flags(row: list[int]) -> list[bool]:
    return [bool(value) for value in row]


def _total_key(name: str) -> tuple[str, str, str]:
    queue, status, label = name.split("|", 2)
    return queue, status, label
