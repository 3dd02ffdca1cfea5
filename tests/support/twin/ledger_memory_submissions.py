"""Submissions in the ledger in memory."""

from collections.abc import Sequence
from dataclasses import replace

from contract.job import Job, JobStatus
from contract.job import now_ms as wall_ms
from contract.ledger import keys
from contract.ledger.types import Submitted
from contract.submission import Submission
from tests.support.twin.ledger_memory_lists import MemoryLists


class MemorySubmissions(MemoryLists):
    """See `SubmissionLedger`; nothing has a time to live."""

    def __init__(self) -> None:
        super().__init__()
        self._jobs: dict[str, Job] = {}
        self._submissions: dict[str, Submission] = {}
        #: Submission -> ids of its jobs in order of acceptance.
        self._submission_jobs: dict[str, list[str]] = {}
        #: Submission -> the time and count that become its mark after a span.
        self._next_marks: dict[str, tuple[int, int]] = {}

    def open_submission(self, submission: Submission, ttl_s: int) -> Submitted:
        with self._lock:
            known = self._submissions.get(submission.id)
            if known is not None:
                return Submitted.REPEATED if _wish(known) == _wish(submission) else Submitted.TAKEN
            self._submissions[submission.id] = submission
            self._submission_jobs[submission.id] = []
            return Submitted.STORED

    def close_submission(self, submission_id: str, ttl_s: int, now_ms: int = 0, *, withdrawn: bool = False) -> None:
        now = now_ms or wall_ms()
        with self._lock:
            submission = self._submissions.get(submission_id)
            if submission is None:
                return
            if withdrawn and submission.finished_ms is None and submission.canceled_ms is None:
                submission = replace(submission, canceled_ms=now)
            closed_ms = now if submission.closed_ms is None else submission.closed_ms
            self._submissions[submission_id] = replace(submission, closed_ms=closed_ms)
            self._rest(submission_id, now)

    def submission(self, submission_id: str) -> Submission | None:
        with self._lock:
            return self._submissions.get(submission_id)

    def submissions(self, owner: str, count: int) -> list[Submission]:
        with self._lock:
            own = [submission for submission in self._submissions.values() if submission.owner == owner]
            return sorted(own, key=lambda submission: (submission.created_ms, submission.id), reverse=True)[:count]

    def submission_job_ids(self, submission_id: str, start: int, count: int) -> list[str]:
        with self._lock:
            return self._submission_jobs.get(submission_id, [])[start : start + count]

    def reject(self, jobs: Sequence[Job], ttl_s: int, now_ms: int = 0) -> list[bool]:
        with self._lock:
            return [self._reject_one(job, now_ms or wall_ms()) for job in jobs]

    def _reject_one(self, job: Job, now: int) -> bool:
        if job.id in self._jobs or not self._takes(job.submission):
            return False
        self._jobs[job.id] = replace(job, finished_ms=now)
        self._submission_jobs[job.submission].append(job.id)
        self._count(job.submission, "", "rejected", now)
        return True

    def _takes(self, submission_id: str) -> bool:
        submission = self._submissions.get(submission_id)
        return submission is not None and submission.closed_ms is None

    def _put(self, job: Job) -> Job:
        """Store a job, new or changed, and count it in its submission."""
        before = self._jobs.get(job.id)
        self._jobs[job.id] = job
        if job.submission in self._submissions:
            if before is None:
                self._submission_jobs[job.submission].append(job.id)
            now = job.finished_ms or job.started_ms or job.created_ms
            self._count(job.submission, str(before.status) if before else "", str(job.status), now)
        return job

    def _count(self, submission_id: str, before: str, after: str, now: int) -> None:
        if before == after:
            return
        submission = self._submissions[submission_id]
        counts = replace(submission.counts, **{after: getattr(submission.counts, after) + 1})
        if before:
            counts = replace(counts, **{before: getattr(counts, before) - 1})
        started_ms = now if after == JobStatus.RUNNING and submission.started_ms is None else submission.started_ms
        self._submissions[submission_id] = replace(submission, counts=counts, started_ms=started_ms)
        if counts.processed > submission.counts.processed:
            self._mark(submission_id, now)
        self._rest(submission_id, now)

    def _rest(self, submission_id: str, now: int) -> None:
        submission = self._submissions[submission_id]
        is_over = submission.closed_ms is not None and not submission.counts.pending
        if is_over and submission.finished_ms is None:
            self._submissions[submission_id] = replace(submission, finished_ms=now)
            self._tell(submission_id)

    def _mark(self, submission_id: str, now: int) -> None:
        submission = self._submissions[submission_id]
        here = (now, submission.counts.processed)
        at_ms, processed = self._next_marks.setdefault(submission_id, here)
        if now - at_ms < keys.RATE_SPAN_MS:
            return
        mark = here if now - at_ms > 2 * keys.RATE_SPAN_MS else (at_ms, processed)
        self._submissions[submission_id] = replace(submission, mark_ms=mark[0], mark_processed=mark[1])
        self._next_marks[submission_id] = here


def _wish(submission: Submission) -> tuple[str, str, str, float | None]:
    """What its sender has said of it."""
    return submission.owner, submission.name, submission.queue, submission.deadline_s
