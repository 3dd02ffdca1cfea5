"""Group commit: what gathers while a group is written goes into the next one."""

import threading
from collections.abc import Sequence

import pytest

from contract.broker import BULK, INTERACTIVE
from contract.errors import ConflictError, QueueFullError, UnavailableError
from contract.job import Job, new_job_id
from contract.ledger.types import QueueLimits, Receipt, Submit
from gateway.committer import GroupCommitter
from gateway.load import LoadMeter
from tests.support.services import wait_until
from tests.support.twin.ledger_memory import MemoryLedger


class Broker:
    """Takes messages, one at a time, when it is let."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, list[str]]] = []
        self.entered: list[str] = []
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None

    def publish(self, queue: str, job_ids: Sequence[str]) -> None:
        self.entered.extend(job_ids)
        assert self.open.wait(10)
        if self.error:
            raise self.error
        self.messages.append((queue, list(job_ids)))


def started(broker: Broker, ledger: MemoryLedger, *, queue_max_jobs: int = 1000) -> GroupCommitter:
    limits = QueueLimits(queue_max_jobs, max_bytes=10**9)
    committer = GroupCommitter(ledger, broker.publish, LoadMeter(ledger, 10**9), limits, group_max_jobs=4)
    committer.start()
    return committer


def test_a_lone_job_is_written_at_once() -> None:
    broker, ledger, job = Broker(), MemoryLedger(), Job(new_job_id(), INTERACTIVE, 1)
    started(broker, ledger).commit(Submit(job))
    assert broker.messages == [(INTERACTIVE, [job.id])]
    assert ledger.get([job.id]) == [job]


def test_jobs_that_gather_share_messages_of_bounded_size_and_one_queue_each() -> None:
    broker, ledger = Broker(), MemoryLedger()
    committer = started(broker, ledger)
    jobs = [Job(new_job_id(), BULK if n % 3 == 0 else INTERACTIVE, n) for n in range(9)]
    broker.open.clear()
    threads = [threading.Thread(target=committer.commit, args=(Submit(job),)) for job in jobs]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(broker.entered) > 0 and in_sight(committer, ledger) == len(jobs), "all jobs waiting", 10)
    broker.open.set()
    for thread in threads:
        thread.join(10)
    assert sorted(job_id for _, ids in broker.messages for job_id in ids) == sorted(job.id for job in jobs)
    assert len(broker.messages) < len(jobs)
    assert all(len(ids) <= 4 for _, ids in broker.messages)
    queue_of = {job.id: job.queue for job in jobs}
    assert all(queue_of[job_id] == queue for queue, ids in broker.messages for job_id in ids)


def in_sight(committer: GroupCommitter, ledger: MemoryLedger) -> int:
    return committer._pending.qsize() + len(ledger._jobs)


def test_a_full_queue_is_told_to_the_one_it_concerns() -> None:
    committer = started(Broker(), MemoryLedger(), queue_max_jobs=1)
    committer.commit(Submit(Job(new_job_id(), INTERACTIVE, 1)))
    with pytest.raises(QueueFullError) as refusal:
        committer.commit(Submit(Job(new_job_id(), INTERACTIVE, 2)))
    assert refusal.value.retry_after_s
    committer.commit(Submit(Job(new_job_id(), BULK, 3)))


def test_a_taken_id_is_a_conflict() -> None:
    committer, job = started(Broker(), MemoryLedger()), Job(new_job_id(), INTERACTIVE, 1)
    committer.commit(Submit(job))
    with pytest.raises(ConflictError):
        committer.commit(Submit(Job(job.id, INTERACTIVE, 2)))


@pytest.mark.parametrize("error", [UnavailableError("The queue does not answer; try again."), RuntimeError("surprise")])
def test_what_is_written_is_accepted_even_if_no_message_was_sent(error: Exception) -> None:
    broker, ledger, job = Broker(), MemoryLedger(), Job(new_job_id(), INTERACTIVE, 1)
    committer = started(broker, ledger)
    broker.error = error
    assert committer.commit(Submit(job)).is_new
    assert ledger.get([job.id]) == [job]


def test_whoever_came_during_an_outage_is_refused_with_it() -> None:
    ledger, asked, answer = MemoryLedger(), [], threading.Event()

    def silent(submits: Sequence[Submit], _: object) -> list[Receipt]:
        asked.extend(submits)
        assert answer.wait(10)
        raise UnavailableError("The ledger does not answer; try again.")

    ledger.submit = silent  # type: ignore[method-assign]
    committer, refused = started(Broker(), ledger), []

    def submit() -> None:
        try:
            committer.commit(Submit(Job(new_job_id(), INTERACTIVE, 1)))
        except UnavailableError:
            refused.append(1)

    threads = [threading.Thread(target=submit) for _ in range(12)]  # three groups
    for thread in threads:
        thread.start()
    waiting = committer._pending.qsize
    wait_until(lambda: bool(asked) and len(asked) + waiting() == len(threads), "the others waiting", 10)
    ledger.submit = MemoryLedger().submit  # type: ignore[method-assign]
    answer.set()
    for thread in threads:
        thread.join(10)
    assert len(refused) == len(threads)


def test_a_surprise_does_not_end_the_committer(monkeypatch: pytest.MonkeyPatch) -> None:
    broker, ledger, job = Broker(), MemoryLedger(), Job(new_job_id(), INTERACTIVE, 1)
    committer = started(broker, ledger)

    def surprise(*_: object) -> list[Receipt]:
        raise RuntimeError("surprise")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "submit", surprise)
        with pytest.raises(RuntimeError):
            committer.commit(Submit(job))
    committer.commit(Submit(job))
