"""Jobs of several owners in one ledger: shares of the queue, and whose job a repeated id is."""

from dataclasses import replace

from contract.broker import BULK, INTERACTIVE
from contract.job import Job, new_job_id
from contract.ledger.ledger import Ledger
from contract.ledger.types import QueueLimits, Receipt, Submit, Submitted
from tests.backends.test_ledger import cat, claimed, make_job, read


def owned(owner: str, queue: str = INTERACTIVE) -> Job:
    return replace(make_job(queue), owner=owner)  # 7 bytes


def results(ledger: Ledger, jobs: list[Job], limits: QueueLimits) -> list[Submitted]:
    return [receipt.result for receipt in ledger.submit([Submit(job) for job in jobs], limits)]


def test_the_owner_is_kept(ledger: Ledger) -> None:
    job = owned("ada")
    assert results(ledger, [job], QueueLimits(10, 1000)) == [Submitted.STORED]
    assert read(ledger, job).owner == "ada"
    assert claimed(ledger, job).job.owner == "ada"


def test_one_owner_fills_a_share_of_the_jobs_and_leaves_the_rest_to_others(ledger: Ledger) -> None:
    limits = QueueLimits(6, 1000, owner_share=0.5)
    flood = [owned("ada") for _ in range(4)]
    assert results(ledger, flood, limits) == [Submitted.STORED] * 3 + [Submitted.CROWDED]
    assert ledger.get([flood[3].id]) == [None]
    assert results(ledger, [owned("ada", BULK), owned("bob"), owned("")], limits) == [Submitted.STORED] * 3
    assert results(ledger, [owned("bob")], QueueLimits(5, 1000, 0.5)) == [Submitted.FULL]


def test_one_owner_fills_a_share_of_the_bytes(ledger: Ledger) -> None:
    limits = QueueLimits(100, 30, owner_share=0.5)
    assert results(ledger, [owned("ada") for _ in range(3)], limits) == [Submitted.STORED] * 2 + [Submitted.CROWDED]
    assert results(ledger, [owned("bob")], limits) == [Submitted.STORED]


def test_jobs_without_an_owner_are_held_to_no_share(ledger: Ledger) -> None:
    limits = QueueLimits(4, 1000, owner_share=0.5)
    assert results(ledger, [owned("") for _ in range(5)], limits) == [Submitted.STORED] * 4 + [Submitted.FULL]


def test_a_share_is_free_again_when_jobs_leave_the_queue(ledger: Ledger) -> None:
    limits = QueueLimits(4, 1000, owner_share=0.5)
    first, second, third = (owned("ada") for _ in range(3))
    assert results(ledger, [first, second, third], limits) == [Submitted.STORED] * 2 + [Submitted.CROWDED]
    claim = claimed(ledger, first)
    assert results(ledger, [third], limits) == [Submitted.STORED]
    ledger.release([claim])  # three wait now, as many as were there before
    assert results(ledger, [owned("ada")], limits) == [Submitted.CROWDED]
    ledger.cancel([second.id, third.id], 60)
    ledger.commit([(claimed(ledger, first), cat())], 60)
    assert results(ledger, [owned("ada"), owned("ada"), owned("ada")], limits)[:2] == [Submitted.STORED] * 2


def test_a_share_holds_one_job_at_least(ledger: Ledger) -> None:
    limits = QueueLimits(10, 1000, owner_share=0.01)
    assert results(ledger, [owned("ada"), owned("ada")], QueueLimits(10, 1000, 0.01)) == [
        Submitted.STORED,
        Submitted.CROWDED,
    ]
    assert limits.owner_max_bytes == 10


def test_another_owners_job_never_stands_for_ones_own(ledger: Ledger) -> None:
    limits, job = QueueLimits(10, 1000), owned("ada")
    assert ledger.submit([Submit(job, "", "print")], limits) == [Receipt(Submitted.STORED, job.id)]
    assert ledger.submit([Submit(job, "", "print")], limits) == [Receipt(Submitted.REPEATED, job.id)]
    for owner in ("bob", ""):
        other = replace(owned(owner), id=job.id)
        assert ledger.submit([Submit(other, "", "print")], limits) == [Receipt(Submitted.TAKEN, job.id)]
    assert read(ledger, job).owner == "ada"
    assert ledger.get([new_job_id()]) == [None]
