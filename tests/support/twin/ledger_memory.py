"""The ledger in memory: the fake for unit tests, held to the same behaviour tests as the real one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from contract.job import Job, JobResult, JobStatus
from contract.job import now_ms as wall_ms
from contract.ledger.types import (
    EXPIRED,
    LOST,
    Claim,
    LedgerStats,
    QueueLimits,
    QueueStats,
    Receipt,
    RedisMemory,
    Submit,
    Submitted,
    Sweep,
    final_status,
)
from tests.support.twin.ledger_memory_submissions import MemorySubmissions


class MemoryLedger(MemorySubmissions):
    """See `Ledger`; one process, no time to live."""

    def __init__(self) -> None:
        super().__init__()
        self._lease_ends_ms: dict[str, int] = {}
        self._fences = count(1)
        self._begun: set[str] = set()
        self._fingerprints: dict[str, str] = {}
        self._idempotency_keys: dict[str, str] = {}
        self._alone: set[str] = set()
        self._unseen_since_ms: dict[str, int] = {}
        self._totals: Counter[tuple[str, str, str]] = Counter()
        self._errors: Counter[str] = Counter()

    def submit(self, submits: Sequence[Submit], limits: QueueLimits) -> list[Receipt]:
        with self._lock:
            return [self._submit_one(submit, limits) for submit in submits]

    def _submit_one(self, submit: Submit, limits: QueueLimits) -> Receipt:
        job = submit.job
        if earlier := self._earlier(submit):
            return earlier
        if job.submission and not self._takes(job.submission):
            return Receipt(Submitted.CLOSED, job.id)
        if refused := self._no_room(job, limits):
            return Receipt(refused, job.id)
        self._put(job)
        self._fingerprints[job.id] = submit.fingerprint
        if submit.idempotency_key:
            self._idempotency_keys[submit.idempotency_key] = job.id
        return Receipt(Submitted.STORED, job.id)

    def _no_room(self, job: Job, limits: QueueLimits) -> Submitted | None:
        waiting = [one for one in self._jobs.values() if one.status is JobStatus.QUEUED and one.queue == job.queue]
        if len(waiting) >= limits.max_jobs or _bytes_of(waiting) + job.size_bytes > limits.max_bytes:
            return Submitted.FULL
        own = [one for one in waiting if one.owner == job.owner]
        is_crowded = len(own) >= limits.owner_max_jobs or _bytes_of(own) + job.size_bytes > limits.owner_max_bytes
        return Submitted.CROWDED if job.owner and is_crowded else None

    def _earlier(self, submit: Submit) -> Receipt | None:
        known = self._idempotency_keys.get(submit.idempotency_key, "")
        if known:
            same = self._fingerprints[known] == submit.fingerprint
            return Receipt(Submitted.REPEATED if same else Submitted.MISMATCHED, known)
        if submit.job.id in self._jobs:
            same = submit.fingerprint != "" and self._fingerprints.get(submit.job.id) == submit.fingerprint
            same = same and self._jobs[submit.job.id].owner == submit.job.owner
            return Receipt(Submitted.REPEATED if same else Submitted.TAKEN, submit.job.id)
        return None

    def get(self, job_ids: Sequence[str]) -> list[Job | None]:
        with self._lock:
            return [self._jobs.get(job_id) for job_id in job_ids]

    def claim(self, job_ids: Sequence[str], lease_ms: int, ttl_s: int, now_ms: int = 0) -> list[Claim | None]:
        now = now_ms or wall_ms()
        with self._lock:
            return [self._claim_one(job_id, now, now + lease_ms) for job_id in job_ids]

    def _claim_one(self, job_id: str, now: int, lease_end_ms: int) -> Claim | None:
        job = self._jobs.get(job_id)
        if job is None or job.status.is_final:
            return None
        if job.status is JobStatus.RUNNING and self._lease_ends_ms[job_id] > now:
            return None
        if job.deadline_ms and job.deadline_ms <= now:
            self.discard(self._end(job, JobStatus.EXPIRED, EXPIRED, now).image)
            return None
        job = self._put(replace(job, status=JobStatus.RUNNING, started_ms=now, fence=next(self._fences)))
        self._lease_ends_ms[job_id] = lease_end_ms
        self._begun.discard(job_id)
        self._unseen_since_ms.pop(job_id, None)
        return Claim(job, job.fence, alone=job_id in self._alone)

    def begin(self, claims: Sequence[Claim]) -> None:
        with self._lock:
            for claim in filter(self._is_current, claims):
                job = self._jobs[claim.job.id]
                self._put(replace(job, attempts=job.attempts + 1))
                self._begun.add(job.id)

    def renew(self, claims: Sequence[Claim], lease_ms: int, now_ms: int = 0) -> list[bool]:
        with self._lock:
            held = [self._is_current(claim) for claim in claims]
            for claim, is_held in zip(claims, held, strict=True):
                if is_held:
                    self._lease_ends_ms[claim.job.id] = (now_ms or wall_ms()) + lease_ms
            return held

    def release(self, claims: Sequence[Claim]) -> list[bool]:
        with self._lock:
            return [self._release_one(claim) for claim in claims]

    def _release_one(self, claim: Claim) -> bool:
        if not self._is_current(claim):
            return False
        job = self._jobs[claim.job.id]
        self._requeue(replace(job, attempts=job.attempts - (job.id in self._begun)))
        return True

    def _requeue(self, job: Job) -> None:
        self._put(replace(job, status=JobStatus.QUEUED, started_ms=None))
        self._begun.discard(job.id)
        del self._lease_ends_ms[job.id]

    def commit(self, results: Sequence[tuple[Claim, JobResult]], ttl_s: int, now_ms: int = 0) -> list[bool]:
        with self._lock:
            return [self._commit_one(claim, result, now_ms or wall_ms()) for claim, result in results]

    def _commit_one(self, claim: Claim, result: JobResult, now: int) -> bool:
        if not self._is_current(claim):
            return False
        self._end(self._jobs[claim.job.id], final_status(result), result, now)
        return True

    def _end(self, job: Job, status: JobStatus, result: JobResult | None, now: int) -> Job:
        """End a job for good, and tell it; returns it as it was before."""
        self._put(replace(job, status=status, result=result, finished_ms=now, image=""))
        self._lease_ends_ms.pop(job.id, None)
        self._unseen_since_ms.pop(job.id, None)
        prediction = result.prediction if result else None
        self._totals[job.queue, str(status), prediction.label if prediction else ""] += 1
        if result and result.error:
            self._errors[result.error.code] += 1
        self._events.append(job.id)
        self._tell(job.id)
        return job

    def cancel(self, job_ids: Sequence[str], ttl_s: int, now_ms: int = 0) -> list[bool]:
        with self._lock:
            return [self._cancel_one(job_id, now_ms or wall_ms()) for job_id in job_ids]

    def _cancel_one(self, job_id: str, now: int) -> bool:
        job = self._jobs.get(job_id)
        if job is None or job.status.is_final:
            return False
        self.discard(self._end(job, JobStatus.CANCELED, None, now).image)
        return True

    def recover(self, sweep: Sweep, now_ms: int = 0) -> list[str]:
        now = now_ms or wall_ms()
        with self._lock:
            jobs = [job for job in self._jobs.values() if job.queue == sweep.queue]
            running = [job for job in jobs if job.status is JobStatus.RUNNING and self._lease_ends_ms[job.id] <= now]
            waiting = [job for job in jobs if job.status is JobStatus.QUEUED]
            orphans = [job.id for job in running if self._recover_running(job, sweep.max_attempts, now)]
            return orphans + [job.id for job in waiting if self._recover_waiting(job, sweep, now)]

    def _recover_running(self, job: Job, max_attempts: int, now: int) -> bool:
        suspect = job.id in self._begun
        if suspect and job.attempts >= max_attempts:
            self._end(job, JobStatus.FAILED, LOST, now)
            self._dead[job.id] = job.image
            return False
        if suspect:
            self._alone.add(job.id)
        self._requeue(job)
        self._unseen_since_ms[job.id] = now
        return True

    def _recover_waiting(self, job: Job, sweep: Sweep, now: int) -> bool:
        if job.deadline_ms and job.deadline_ms <= now:
            self.discard(self._end(job, JobStatus.EXPIRED, EXPIRED, now).image)
            return False
        if not sweep.oldest_message_ms or job.created_ms < sweep.oldest_message_ms:
            self._unseen_since_ms.setdefault(job.id, now)
        due = self._unseen_since_ms.get(job.id, now) <= now - sweep.grace_ms
        if due:
            self._unseen_since_ms[job.id] = now
        return due

    def stats(self, queues: Sequence[str], now_ms: int = 0) -> LedgerStats:
        with self._lock:
            rows = {queue: self._queue_stats(queue, now_ms or wall_ms()) for queue in queues}
            return LedgerStats(rows, dict(self._totals), dict(self._errors), len(self._dead))

    def _queue_stats(self, queue: str, now: int) -> QueueStats:
        jobs = [job for job in self._jobs.values() if job.queue == queue]
        waiting = [job for job in jobs if job.status is JobStatus.QUEUED]
        running = sum(job.status is JobStatus.RUNNING for job in jobs)
        oldest_ms = min((job.created_ms for job in waiting), default=now)
        return QueueStats(len(waiting), running, max(0, now - oldest_ms), _bytes_of(waiting))

    def places(self, jobs: Sequence[Job]) -> list[int | None]:
        with self._lock:
            waiting = [job for job in self._jobs.values() if job.status is JobStatus.QUEUED]
            order = [(job.queue, job.created_ms, job.id) for job in waiting]
            return [self._place(job, order) for job in jobs]

    def _place(self, job: Job, order: list[tuple[str, int, str]]) -> int | None:
        found = self._jobs.get(job.id)
        if found is None or found.status is not JobStatus.QUEUED:
            return None
        return sum(row[0] == job.queue and row[1:] < (job.created_ms, job.id) for row in order)

    def memory(self) -> RedisMemory:
        return RedisMemory()

    def ping(self) -> None:
        """Answer always."""

    def _is_current(self, claim: Claim) -> bool:
        job = self._jobs.get(claim.job.id)
        return job is not None and job.status is JobStatus.RUNNING and job.fence == claim.fence


def _bytes_of(jobs: Sequence[Job]) -> int:
    return sum(job.size_bytes for job in jobs)
