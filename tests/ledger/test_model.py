"""Model-based test: the guarantees of the ledger hold for any sequence of operations."""

import itertools
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any
from uuid import UUID

import hypothesis.strategies as st
import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from contract.job import Job, JobError, JobResult, JobStatus, new_job_id
from contract.ledger import keys
from contract.ledger.ledger import Ledger
from contract.ledger.types import Claim, SubmitStatus, Sweep
from contract.queues import QUEUES
from contract.submission import Counts, Submission, SubmissionStatus, image_job_id
from tests.support.ledger import LEASE_MS, cat, contents, store

MAX_ATTEMPTS = 3
WEBHOOK = "https://hooks.example/"


class LedgerMachine(RuleBasedStateMachine):
    """Applies random operations to a ledger, and records independently what the ledger must contain."""

    jobs = Bundle("jobs")
    claims = Bundle("claims")
    submissions = Bundle("submissions")

    def __init__(self, client: "redis.Redis") -> None:
        super().__init__()
        self.client = client
        self.ledger = Ledger(client)
        self.now_ms = 1_000_000
        self.numbers = itertools.count()
        self.known: list[str] = []
        #: Ids of the jobs of each submission in order of acceptance, including those of rejected images.
        self.sent: dict[str, list[str]] = {}
        self.rejected: set[str] = set()
        self.closed: set[str] = set()
        #: The final status and result of each job, as first seen.
        self.finished: dict[str, tuple[JobStatus, JobResult | None]] = {}
        #: Numbers of the finished jobs of each submission, in the order in which they finished.
        self.order: dict[str, list[int]] = {}
        self.fences: dict[str, int] = {}
        #: Queues whose ticket was received since the last sweep.
        self.lost: set[str] = set()
        self.committed: dict[str, int] = {}
        self.purged: list[str] = []
        #: Number of purged jobs of each submission by final status: they stay in its counts.
        self.purged_counts: dict[str, Counter[str]] = defaultdict(Counter)

    @initialize(target=submissions)
    def open(self) -> str:
        submission = Submission(new_job_id(), QUEUES[0], self.now_ms, webhook=WEBHOOK)
        assert self.ledger.open_submission(submission, 60, 100) is SubmitStatus.STORED
        self.sent[submission.id] = []
        return submission.id

    @rule(
        target=jobs,
        queue=st.sampled_from(QUEUES),
        deadline_in_ms=st.one_of(st.none(), st.integers(1, 3000)),
        submission_id=st.just("") | submissions,
        count=st.integers(1, 5),
        webhook=st.sampled_from(["", WEBHOOK]),
    )
    def submit(self, queue: str, deadline_in_ms: int | None, submission_id: str, count: int, webhook: str) -> Any:
        deadline_ms = self.now_ms + deadline_in_ms if deadline_in_ms else None
        job = Job("", queue, self.now_ms, image="ref", deadline_ms=deadline_ms, submission=submission_id)
        job = replace(job, webhook=webhook)
        # Not random: of jobs that were accepted at the same time, the lowest id is claimed first.
        jobs = [replace(job, id=str(UUID(int=next(self.numbers)))) for _ in range(count)]
        results = store(self.ledger, jobs)
        if submission_id in self.closed:
            assert results == [SubmitStatus.CLOSED] * count
            return multiple()
        assert results == [SubmitStatus.STORED] * count
        ids = [job.id for job in jobs]
        self.known += ids
        self.sent.setdefault(submission_id, []).extend(ids)
        return multiple(*ids)

    @rule(submission_id=submissions, custom_id=st.sampled_from("abc"))
    def reject(self, submission_id: str, custom_id: str) -> None:
        job_id = image_job_id(submission_id, custom_id)
        result = JobResult(error=JobError("not_an_image", "no"))
        job = Job(job_id, QUEUES[0], self.now_ms, JobStatus.FAILED, submission=submission_id, result=result)
        (is_new,) = self.ledger.reject([job], 60, self.now_ms)
        assert is_new == (job_id not in self.rejected and submission_id not in self.closed), "counted once, while open"
        if is_new:
            self.rejected.add(job_id)
            self.sent[submission_id].append(job_id)

    @precondition(lambda self: len(self.known) > 5)  # otherwise most submissions would be closed while empty
    @rule(submission_id=submissions, cancel=st.booleans())
    def close(self, submission_id: str, cancel: bool) -> None:
        self.ledger.close_submission(submission_id, 60, self.now_ms, cancel=cancel)
        self.closed.add(submission_id)

    @rule(target=claims, counts=st.fixed_dictionaries(dict.fromkeys(QUEUES, st.integers(0, 3))))
    def claim(self, counts: dict[str, int]) -> Any:
        claims = self.ledger.claim(counts, LEASE_MS, 60, self.now_ms)
        assert sum(claim.alone for claim in claims) <= 1
        for claim in claims:
            assert claim.job.id not in self.fences or claim.fence > self.fences[claim.job.id], "fences grow"
            self.fences[claim.job.id] = claim.fence
            counts[claim.job.queue] -= 1
        assert min(counts.values()) >= 0
        return multiple(*claims)

    @rule(queue=st.sampled_from(QUEUES))
    def receive_ticket(self, queue: str) -> None:
        """A worker receives a ticket and claims until the queue is empty, or is killed before it does."""
        self.client.rpop(keys.TICKETS + queue)
        self.lost.add(queue)

    @rule(claim=claims)
    def postpone(self, claim: Claim) -> None:
        self.ledger.postpone([claim])

    @rule(claim=claims)
    def begin(self, claim: Claim) -> None:
        self.ledger.begin([claim])

    @rule(claim=claims)
    def renew(self, claim: Claim) -> None:
        (held,) = self.ledger.renew([claim], LEASE_MS, self.now_ms)
        assert not held or claim.fence == self.fences[claim.job.id], "only the latest claim can be renewed"

    @rule(claim=consumes(claims))
    def release(self, claim: Claim) -> None:
        self.ledger.release([claim])

    @rule(claim=claims, confidence=st.floats(0.5, 1))
    def commit(self, claim: Claim, confidence: float) -> None:
        (done,) = self.ledger.commit([(claim, cat(confidence))], 60, self.now_ms)
        if done:
            assert claim.fence == self.fences[claim.job.id], "only the latest claim can commit"
            self.committed[claim.job.id] = self.committed.get(claim.job.id, 0) + 1
            assert self.committed[claim.job.id] == 1, "a job is finished once"

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        self.ledger.cancel([job_id], 60, self.now_ms)

    @rule(job_id=jobs)
    def purge(self, job_id: str) -> None:
        (job,) = self.ledger.get([job_id])
        assert self.ledger.purge([job_id], 60, self.now_ms).jobs == (job_id in self.known)
        if job:
            self.forget(job)
            sent = self.sent[job.submission]
            sent[sent.index(job_id)] = ""

    @precondition(lambda self: len(self.known) > 5)
    @rule(submission_id=submissions, count=st.integers(1, 10))
    def purge_submission(self, submission_id: str, count: int) -> None:
        jobs = self.sent_jobs(submission_id)
        while self.ledger.purge_submission(submission_id, count, 60, self.now_ms).has_more:
            assert self.ledger.submission(submission_id) is None, "it is hidden from the first step on"
        for job in jobs:
            self.forget(job)
        self.purged_counts[submission_id].clear()
        self.order.pop(submission_id, None)
        self.closed.discard(submission_id)
        # The id can be used again: rules that follow find a new submission.
        submission = Submission(submission_id, QUEUES[0], self.now_ms, webhook=WEBHOOK)
        assert self.ledger.open_submission(submission, 60, 100) is SubmitStatus.STORED
        self.sent[submission_id] = []

    def forget(self, job: Job) -> None:
        status = job.status if job.status.is_final else JobStatus.CANCELED
        if job.id in self.rejected:
            self.rejected.remove(job.id)
        else:
            self.known.remove(job.id)
            self.purged.append(job.id)
            self.purged_counts[job.submission][status] += 1

    def sent_jobs(self, submission_id: str) -> list[Job]:
        return [job for job in self.ledger.get(self.sent[submission_id]) if job]

    @rule(queue=st.sampled_from(QUEUES))
    def recover(self, queue: str) -> None:
        before = self.ledger.stats(QUEUES, self.now_ms).queues[queue]
        requeued = self.ledger.recover(Sweep(queue, MAX_ATTEMPTS, 60), self.now_ms)
        after = self.ledger.stats(QUEUES, self.now_ms).queues[queue]
        assert requeued <= before.running - after.running
        self.lost.discard(queue)

    @rule(elapsed_ms=st.integers(1, 1500))
    def wait(self, elapsed_ms: int) -> None:
        self.now_ms += elapsed_ms

    @invariant()
    def waiting_jobs_have_one_ticket(self) -> None:
        for queue, stats in self.ledger.stats(QUEUES, self.now_ms).queues.items():
            count = self.client.llen(keys.TICKETS + queue)
            assert count <= 1
            assert count or not stats.queued or queue in self.lost

    @invariant()
    def jobs_keep_their_guarantees(self) -> None:
        found = dict(zip(self.known, self.ledger.get(self.known), strict=True))
        for job_id, job in found.items():
            assert job, "no job disappears"
            assert job.attempts >= 0
            if job.status.is_final:
                self.finished.setdefault(job_id, (job.status, job.result))
                assert self.finished[job_id] == (job.status, job.result), "a finished job never changes"
            else:
                assert job_id not in self.finished, "a finished job stays finished"
        self.counts_agree([job for job in found.values() if job])

    def counts_agree(self, jobs: list[Job]) -> None:
        stats = self.ledger.stats(QUEUES, self.now_ms)
        for queue in QUEUES:
            statuses = [job.status for job in jobs if job.queue == queue]
            assert stats.queues[queue].queued == statuses.count(JobStatus.QUEUED)
            assert stats.queues[queue].running == statuses.count(JobStatus.RUNNING)
        assert sum(stats.totals.values()) == sum(job.status.is_final for job in jobs) + len(self.purged)

    @invariant()
    def each_ended_job_and_submission_with_a_webhook_has_one_event(self) -> None:
        events = [(delivery.type, delivery.subject) for delivery in self.ledger.webhooks.latest("", 10_000)]
        jobs = [job for job in self.ledger.get(self.known) if job and job.webhook and job.status.is_final]
        submissions = [self.ledger.submission(name) for name in self.sent if name]
        expected = [(f"job.{job.status}", job.id) for job in jobs]
        expected += [("submission.finished", found.id) for found in submissions if found and found.finished_ms]
        assert sorted(events) == sorted(expected)

    @invariant()
    def submissions_agree_with_their_jobs(self) -> None:
        for submission_id, sent in self.sent.items():
            if not submission_id:
                continue
            assert self.ledger.submission_job_ids(submission_id, 0, 1000) == sent
            found = self.ledger.submission(submission_id)
            assert found
            assert found.counts == self.recount(submission_id)
            self.order_of_finishing_only_grows(submission_id, self.ledger.get(sent))
            assert (found.closed_ms is not None) == (submission_id in self.closed)
            assert (found.finished_ms is not None) == (submission_id in self.closed and found.counts.pending == 0)
            assert found.status is not SubmissionStatus.OPEN or submission_id not in self.closed

    def order_of_finishing_only_grows(self, submission_id: str, jobs: list[Job | None]) -> None:
        before, listed = self.order.get(submission_id, []), self.ledger.submission_finished(submission_id, 0, 1000)
        numbers = [number for number, _ in listed]
        assert numbers[: len(before)] == before
        # A purged job has no id left.
        finished = {n: job.id if job else "" for n, job in enumerate(jobs, 1) if job is None or job.status.is_final}
        assert sorted(listed) == list(finished.items()), "each job once"
        self.order[submission_id] = numbers

    def recount(self, submission_id: str) -> Counts:
        counts = self.purged_counts[submission_id].copy()
        counts.update("rejected" if job.id in self.rejected else job.status for job in self.sent_jobs(submission_id))
        return Counts(**counts)

    def teardown(self) -> None:
        left = contents(self.client)
        assert not [job_id for job_id in self.purged if job_id in left], "nothing of a purged job is left"


def test_any_sequence_of_operations_keeps_the_guarantees(redis_client: "redis.Redis") -> None:
    def fresh() -> LedgerMachine:
        redis_client.flushall()
        return LedgerMachine(redis_client)

    options = settings(
        max_examples=50,
        stateful_step_count=50,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(fresh, settings=options)
