"""The ledger: one Redis hash per job, one Lua script per state change. Requires Redis 6.2 or later."""

import json
import secrets
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from types import MappingProxyType
from typing import Any, cast

import redis

from contract.errors import UnavailableError
from contract.job import Job, JobResult
from contract.ledger import keys
from contract.ledger.connection import read_scripts, redis_errors_as_unavailable
from contract.ledger.counts import ModelCounts, count_arguments
from contract.ledger.feedback import FeedbackStore
from contract.ledger.models import ModelRegistry
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
from contract.ledger.reviews import ReviewStore
from contract.ledger.shadows import ShadowStore
from contract.ledger.tickets import new_ticket
from contract.ledger.types import (
    EMPTY_SUBMISSION_TTL_S,
    EXPIRED,
    IDEMPOTENCY_TTL_S,
    LOST,
    Change,
    Claim,
    Committed,
    Heartbeat,
    LedgerStats,
    Purged,
    QueueLimits,
    QueueStats,
    Receipt,
    RedisServer,
    Submit,
    SubmitStatus,
    Sweep,
    final_status,
)
from contract.ledger.webhooks import WebhookStore
from contract.queues import queue_names
from contract.submission import Submission

#: How often an idle subscription pings Redis. Without a reply within this time, the connection counts as dead.
_HEALTH_CHECK_S = 5.0
_SECRET_BYTES = 32
#: How many jobs a script examines in one call, so that it does not block Redis for long.
_LIST_CHUNK = 2_000


class Ledger:
    """Reads and changes job records, many jobs per round trip.

    All methods raise `UnavailableError` if Redis is not responding. With `now_ms=0` they use the Redis clock; tests
    pass a time instead of sleeping. Safe to share between threads.
    """

    def __init__(self, client: "redis.Redis", health_check_s: float = _HEALTH_CHECK_S) -> None:
        self._redis = client
        self._health_check_s = health_check_s
        self.models = ModelRegistry(client)
        self.feedback = FeedbackStore(client)
        self.counts = ModelCounts(client)
        self.reviews = ReviewStore(client)
        self.shadows = ShadowStore(client)
        self.webhooks = WebhookStore(client)
        self._scripts = {name: client.register_script(text) for name, text in read_scripts().items()}

    # Jobs

    @redis_errors_as_unavailable
    def submit(self, submits: Sequence[Submit], limits: QueueLimits) -> list[Receipt]:
        """Store new jobs, up to the limits of their queues, and wake a worker.

        A repeated submit returns the id of the existing job. A job with a submission is added to it, or rejected if the
        submission is closed.
        """
        rows = [value for submit in submits for value in submit_to_row(submit)]
        maximums = (limits.max_jobs, limits.max_bytes, limits.owner_max_jobs, limits.owner_max_bytes)
        results = self._run("submit", *maximums, IDEMPOTENCY_TTL_S, new_ticket(), *rows)
        return [Receipt(SubmitStatus(result), job_id) for result, job_id in results]

    @redis_errors_as_unavailable
    def get(self, job_ids: Sequence[str]) -> list[Job | None]:
        """Read jobs; None for an unknown id."""
        rows = self._hashes([keys.job(job_id) for job_id in job_ids])
        return [job_from_fields(job_id, fields) for job_id, fields in zip(job_ids, rows, strict=True)]

    @redis_errors_as_unavailable
    def exist(self, job_ids: Sequence[str]) -> list[bool]:
        """Whether the record of each job exists."""
        pipeline = self._redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipeline.exists(keys.job(job_id))
        return _flags(pipeline.execute())

    @redis_errors_as_unavailable
    def claim(self, counts: Mapping[str, int], lease_ms: int, ttl_s: int, now_ms: int = 0) -> list[Claim]:
        """Lease the oldest waiting jobs, at most `counts` of each queue, and count an attempt for them.

        At most one of them must be processed alone. A job whose deadline has passed expires instead; its record is kept
        for `ttl_s`. If jobs are left, another worker is woken.
        """
        queues = [value for item in counts.items() for value in item]
        expired = (result_to_json(EXPIRED), code_of(EXPIRED))
        rows = self._run("claim", now_ms, lease_ms, ttl_s, *expired, new_ticket(), *queues)
        return [claim_from_row(job_id, row) for job_id, row in rows]

    @redis_errors_as_unavailable
    def postpone(self, claims: Sequence[Claim]) -> None:
        """Take back the attempt of jobs that wait in their worker, where they cannot kill it."""
        self._run("postpone", *_claim_arguments(claims))

    @redis_errors_as_unavailable
    def begin(self, claims: Sequence[Claim]) -> None:
        """Count an attempt for postponed jobs; call this before decoding them."""
        self._run("begin", *_claim_arguments(claims))

    @redis_errors_as_unavailable
    def fetched(self, claim: Claim, image: str, size_bytes: int) -> bool:
        """Store the reference of a job's image, which was fetched; False if the claim is not current."""
        return bool(self._run("fetched", claim.job.id, claim.fence, image, size_bytes))

    @redis_errors_as_unavailable
    def renew(self, claims: Sequence[Claim], lease_ms: int, now_ms: int = 0) -> list[bool]:
        """Extend leases; False for a job that was claimed again or is finished."""
        return _flags(self._run("renew", now_ms, lease_ms, *_claim_arguments(claims)))

    @redis_errors_as_unavailable
    def release(self, claims: Sequence[Claim], *, failed: bool = False) -> list[bool]:
        """Return jobs to their old position in the queue, without counting the attempt, and wake a worker.

        With `failed`, their version cannot be loaded; if that is a canary, the live version processes them.
        """
        return _flags(self._run("release", new_ticket(), int(failed), *_claim_arguments(claims)))

    @redis_errors_as_unavailable
    def commit(
        self,
        results: Sequence[tuple[Claim, JobResult]],
        ttl_s: int,
        now_ms: int = 0,
        first_of_batch: Collection[str] = frozenset(),
    ) -> list[Committed]:
        """Finish jobs and notify waiting clients.

        A job that was claimed again is left unchanged. A job on which a canary failed is returned to its queue.
        `first_of_batch` holds the id of one job of each batch, whose predict time stands for the batch.
        """
        rows: list[str | int] = []
        for claim, result in results:
            label = result.prediction.label if result.prediction else ""
            rows += [claim.job.id, claim.fence, str(final_status(result)), label, code_of(result)]
            rows += [result_to_json(result), *count_arguments(result, is_first=claim.job.id in first_of_batch)]
        return [Committed(done) for done in self._run("commit", ttl_s, now_ms, new_ticket(), *rows)]

    @redis_errors_as_unavailable
    def cancel(self, job_ids: Sequence[str], ttl_s: int, now_ms: int = 0) -> list[bool]:
        """Cancel jobs that are queued or running; False for all others."""
        return _flags(self._run("cancel", ttl_s, now_ms, *job_ids))

    @redis_errors_as_unavailable
    def purge(self, job_ids: Sequence[str], ttl_s: int, now_ms: int = 0) -> Purged:
        """Remove jobs and everything that is stored about them; unfinished ones are canceled first.

        Their images are marked for deletion. Deleting them, and then calling `remove_discarded`, is up to the caller.
        """
        return _purged(self._run("purge", now_ms, ttl_s, "", 0, *job_ids))

    @redis_errors_as_unavailable
    def positions(self, jobs: Sequence[Job]) -> list[int | None]:
        """The number of jobs ahead of each job in its queue; None for a job that is not queued."""
        pipeline = self._redis.pipeline(transaction=False)
        for job in jobs:
            pipeline.zrank(keys.queued(job.queue_name), job.id)
        return cast("list[int | None]", pipeline.execute())

    @redis_errors_as_unavailable
    def owner_records(self, now_ms: int) -> Counter[str]:
        """Count the jobs and rejected images that each owner sent in the last `keys.OWNER_RECORDS_HOURS` hours."""
        hour = now_ms // 3_600_000
        rows = self._hashes([keys.owner_records(hour - age) for age in range(keys.OWNER_RECORDS_HOURS)])
        numbers: Counter[str] = Counter()
        for row in rows:
            numbers.update({owner: int(number) for owner, number in row.items()})
        return numbers

    # Submissions. Every script that changes the status of a job also updates the counts of its submission.

    @redis_errors_as_unavailable
    def open_submission(self, submission: Submission, ttl_s: int, max_open: int, own_id: str = "") -> SubmitStatus:
        """Store a new submission, unless its owner has `max_open` already; it expires early unless images are added.

        If a submission of another owner has its id, it is stored under `own_id`.

        Returns:
            `STORED`; `REPEATED` if the same submission exists; `TAKEN` if a different one has the same id; `PURGING`;
            `TOO_MANY_OPEN`.
        """
        values = [value for item in submission_to_fields(submission).items() for value in item]
        head = (submission.id, submission.owner, submission.created_ms, _empty_ttl_s(ttl_s), max_open, own_id)
        return SubmitStatus(self._run("open", *head, len(values), *values))

    @redis_errors_as_unavailable
    def close_submission(self, submission_id: str, ttl_s: int, now_ms: int = 0, *, cancel: bool = False) -> None:
        """Stop accepting jobs for a submission; with `cancel`, also mark it as canceled unless it is finished."""
        self._run("close", submission_id, now_ms, ttl_s, int(cancel), _empty_ttl_s(ttl_s))

    @redis_errors_as_unavailable
    def purge_submission(self, submission_id: str, count: int, ttl_s: int, now_ms: int = 0) -> Purged:
        """Hide a submission from readers and purge `count` of its jobs; repeat this until it has no more.

        The last step removes the submission itself.
        """
        return _purged(self._run("purge", now_ms, ttl_s, submission_id, count))

    @redis_errors_as_unavailable
    def stalled_purges(self, grace_ms: int, now_ms: int = 0) -> list[str]:
        """Read the ids of submissions whose purge has made no progress for `grace_ms`."""
        if not now_ms:
            seconds, microseconds = self._redis.time()
            now_ms = seconds * 1000 + microseconds // 1000
        return cast("list[str]", self._redis.zrangebyscore(keys.PURGING, "-inf", now_ms - grace_ms))

    @redis_errors_as_unavailable
    def purged_count(self) -> int:
        """The number of jobs purged so far."""
        return int(cast("str | None", self._redis.hget(keys.COUNTERS, "purged")) or 0)

    @redis_errors_as_unavailable
    def submission(self, submission_id: str, *, own_id: str = "", include_hidden: bool = False) -> Submission | None:
        """Read a submission, if it exists the one with `own_id`.

        None for an unknown id and, unless `include_hidden`, for a submission that is being purged.
        """
        ids = [own_id, submission_id] if own_id else [submission_id]
        return next(filter(None, self._submissions(ids, include_hidden=include_hidden)), None)

    @redis_errors_as_unavailable
    def read_submissions(self, ids: Sequence[str]) -> list[Submission | None]:
        """Read submissions; None for an unknown id, and for a submission that is being purged."""
        return self._submissions(ids)

    @redis_errors_as_unavailable
    def submissions(self, owner: str, count: int) -> list[Submission]:
        """Read the latest submissions of an owner, at most `count`, newest first."""
        ids = cast("list[str]", self._redis.zrevrange(keys.submissions(owner), 0, -1))
        size = max(count, 100)  # some may have expired
        chunks = (ids[at : at + size] for at in range(0, len(ids), size))
        found = (submission for chunk in chunks for submission in self._submissions(chunk) if submission)
        return list(islice(found, count))

    def _submissions(self, ids: Sequence[str], *, include_hidden: bool = False) -> list[Submission | None]:
        rows = self._hashes([keys.submission(submission_id) for submission_id in ids])
        return [
            submission_from_fields(submission_id, row) if include_hidden or "purging_ms" not in row else None
            for submission_id, row in zip(ids, rows, strict=True)
        ]

    @redis_errors_as_unavailable
    def submission_job_ids(self, submission_id: str, start: int, count: int) -> list[str]:
        """Read the ids of up to `count` jobs of a submission, from position `start`, in order of acceptance."""
        key = keys.submission_jobs(submission_id)
        return cast("list[str]", self._redis.lrange(key, start, start + count - 1))

    @redis_errors_as_unavailable
    def submission_finished(self, submission_id: str, start: int, count: int) -> list[tuple[int, str]]:
        """Read number and id of up to `count` jobs of a submission, from position `start` in order of finishing.

        A job's number is its place in the order of acceptance, from 1. The order of finishing only grows at its end.
        """
        found = self._run("finished", submission_id, start, count)
        return [(int(number), job_id) for number, job_id in pairs(found)]

    @redis_errors_as_unavailable
    def list_finished(self, submission_id: str) -> None:
        """Add jobs that version 0.1 finished to the order of finishing, which that version does not write."""
        first = 1
        while first:
            first = self._run("list_finished", submission_id, first, _LIST_CHUNK)

    @redis_errors_as_unavailable
    def reject(
        self, jobs: Sequence[Job], ttl_s: int, now_ms: int = 0, own_ids: Mapping[str, str] = MappingProxyType({})
    ) -> list[bool]:
        """Record rejected images in their submissions, each as a failed job; `own_ids` by job id, as in `Submit`.

        Returns:
            False for an image that is already recorded, or whose submission is closed.
        """
        rows = [value for job in jobs for value in rejected_to_row(job, own_ids.get(job.id, ""))]
        return _flags(self._run("reject", now_ms, ttl_s, *rows))

    @redis_errors_as_unavailable
    def secret(self) -> bytes:
        """A random secret that all gateways share, created when it is first needed."""
        if not (known := cast("str | None", self._redis.get(keys.SECRET))):
            self._redis.set(keys.SECRET, secrets.token_hex(_SECRET_BYTES), nx=True)
            known = cast("str", self._redis.get(keys.SECRET))
        return bytes.fromhex(known)

    # Recovery

    @redis_errors_as_unavailable
    def recover(self, sweep: Sweep, now_ms: int = 0) -> int:
        """Requeue running jobs whose lease has expired; finish those that have no attempts or no time left.

        Wakes a worker if jobs are waiting. Returns the number of requeued jobs.
        """
        limits = (sweep.max_attempts, sweep.limit, sweep.ttl_s)
        final_results = (code_of(LOST), result_to_json(LOST), code_of(EXPIRED), result_to_json(EXPIRED))
        return int(self._run("recover", sweep.queue, now_ms, *limits, *final_results, new_ticket()))

    @redis_errors_as_unavailable
    def lead(self, worker_id: str, ttl_ms: int) -> bool:
        """Become or stay the leader, which recovers lost jobs, for `ttl_ms`; False if another worker is the leader."""
        return bool(self._run("lead", worker_id, ttl_ms))

    @redis_errors_as_unavailable
    def dead(self, count: int) -> list[str]:
        """Read the ids of up to `count` jobs in the dead-letter list, latest first."""
        return cast("list[str]", self._redis.zrevrange(keys.DEAD, 0, count - 1))

    @redis_errors_as_unavailable
    def dead_image(self, job_id: str) -> str | None:
        """Read the image reference of a job in the dead-letter list; None if it is not there."""
        pipeline = self._redis.pipeline()
        pipeline.zscore(keys.DEAD, job_id)
        pipeline.hget(keys.job(job_id), "dead_image")
        died_ms, image = pipeline.execute()
        return None if died_ms is None else image or ""

    @redis_errors_as_unavailable
    def remove_dead(self, job_id: str, retried_as: str = "") -> str | None:
        """Remove a job from the dead-letter list; returns its image reference, or None if it is not there.

        `retried_as` is the id of the job that retries it, which a purge of this job removes too.
        """
        return cast("str | None", self._run("remove_dead", job_id, retried_as))

    @redis_errors_as_unavailable
    def discard(self, images: Sequence[str]) -> None:
        """Mark images for deletion."""
        if images:
            self._redis.rpush(keys.DISCARDED, *images)

    @redis_errors_as_unavailable
    def discarded(self, count: int) -> list[str]:
        """Read the references of up to `count` images that are marked for deletion."""
        return cast("list[str]", self._redis.lrange(keys.DISCARDED, 0, count - 1))

    @redis_errors_as_unavailable
    def remove_discarded(self, images: Sequence[str]) -> None:
        """Remove the marks of images that have been deleted."""
        pipeline = self._redis.pipeline(transaction=False)
        for image in images:
            pipeline.lrem(keys.DISCARDED, 1, image)
        pipeline.execute()

    # Workers

    @redis_errors_as_unavailable
    def beat(self, heartbeat: Heartbeat, ttl_ms: int, now_ms: int = 0) -> None:
        """Store a worker's heartbeat, valid for `ttl_ms`."""
        self._run("beat", now_ms, ttl_ms, heartbeat.id, json.dumps(asdict(heartbeat)))

    @redis_errors_as_unavailable
    def retire(self, worker_id: str) -> None:
        """Remove the heartbeat of a worker that is shutting down."""
        pipeline = self._redis.pipeline()
        pipeline.hdel(keys.WORKERS, worker_id)
        pipeline.zrem(keys.WORKERS_ALIVE, worker_id)
        pipeline.execute()

    @redis_errors_as_unavailable
    def workers(self, now_ms: int = 0) -> list[Heartbeat]:
        """Read the heartbeats of all live workers, oldest worker first."""
        beats = [Heartbeat.from_json(text) for text in self._run("workers", now_ms) if text]
        return sorted(beats, key=lambda beat: (beat.started_ms, beat.id))

    # Status

    def queue_names(self) -> list[str]:
        """The queues of all models, in order of priority."""
        return queue_names(self.models.names())

    @redis_errors_as_unavailable
    def stats(self, queues: Sequence[str] = (), now_ms: int = 0) -> LedgerStats:
        """Count jobs by queue, status, label and error code, in these queues, or in those of all models."""
        queues = queues or self.queue_names()
        rows, totals, errors, dead = self._run("stats", now_ms, *queues)
        return LedgerStats(
            queues={queue: QueueStats(*map(int, row)) for queue, row in zip(queues, rows, strict=True)},
            totals={_total_key(name): int(count) for name, count in pairs(totals)},
            errors={code: int(count) for code, count in pairs(errors)},
            dead=int(dead),
        )

    @redis_errors_as_unavailable
    def server(self) -> RedisServer:
        """Read the state of the Redis server; without the right to call INFO, all values are defaults."""
        try:
            info: dict[str, Any] = self._redis.info()
        except redis.ResponseError:  # the check at start has logged a warning
            return RedisServer()
        return RedisServer.from_info(info)

    @redis_errors_as_unavailable
    def recent(self, count: int, after: str = "") -> list[tuple[str, str]]:
        """Read the latest finished jobs, at most `count`, newest first, as pairs of stream position and job id.

        `after` is a position from an earlier call; only jobs that finished later are returned.
        """
        found = self._redis.xrevrange(keys.EVENTS, "+", f"({after}" if after else "-", count)
        return [(position, fields["id"]) for position, fields in cast("list[tuple[str, dict[str, str]]]", found)]

    @redis_errors_as_unavailable
    def ping(self) -> None:
        """Raise `UnavailableError` unless Redis responds."""
        self._redis.ping()

    def changes(self) -> Iterator[Change | None]:
        """Yield what changes, as it changes; yields None first, when the subscription is active."""
        subscription = self._redis.pubsub()  # type: ignore[no-untyped-call]
        try:
            yield from self._follow(subscription)
        finally:
            subscription.close()

    def _follow(self, subscription: Any) -> Iterator[Change | None]:
        self._subscribe(subscription)
        yield None
        is_ping_pending = False
        while True:
            message = self._next_message(subscription)
            if message is None and is_ping_pending:
                raise UnavailableError("The job ledger (Redis) stopped responding. Try again shortly.")
            is_ping_pending = message is None
            if message is None:
                self._ping_subscription(subscription)
            elif message["type"] == "message":
                ids = message["data"].split(" ")
                yield Change(ids[1:], finished=False) if ids[0] == keys.CHANGED else Change(ids, finished=True)

    @redis_errors_as_unavailable
    def _subscribe(self, subscription: Any) -> None:
        subscription.subscribe(keys.DONE)

    @redis_errors_as_unavailable
    def _next_message(self, subscription: Any) -> dict[str, Any] | None:
        return cast("dict[str, Any] | None", subscription.get_message(timeout=self._health_check_s))

    @redis_errors_as_unavailable
    def _ping_subscription(self, subscription: Any) -> None:
        """Request a reply, because a dead connection does not always raise an error."""
        subscription.ping()

    def _run(self, script: str, *arguments: str | int) -> Any:
        return self._scripts[script](args=list(arguments))

    def _hashes(self, names: Sequence[str]) -> list[dict[str, str]]:
        """Read hashes in one round trip; an unknown key gives an empty one."""
        pipeline = self._redis.pipeline(transaction=False)
        for name in names:
            pipeline.hgetall(name)
        return cast("list[dict[str, str]]", pipeline.execute())


def _claim_arguments(claims: Sequence[Claim]) -> list[str | int]:
    return [value for claim in claims for value in (claim.job.id, claim.fence)]


def _empty_ttl_s(ttl_s: int) -> int:
    return min(ttl_s, EMPTY_SUBMISSION_TTL_S)


def _flags(row: list[int]) -> list[bool]:
    return [bool(value) for value in row]


def _purged(row: tuple[int, int, list[str]]) -> Purged:
    jobs, has_more, images = row
    return Purged(jobs, images, bool(has_more))


def _total_key(name: str) -> tuple[str, str, str]:
    queue, status, label = name.split("|", 2)
    return queue, status, label
