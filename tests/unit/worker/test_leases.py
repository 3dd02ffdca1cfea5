"""Leases and heartbeats are kept alive by one thread."""

import pytest

from contract.broker import INTERACTIVE
from contract.errors import UnavailableError
from contract.job import Job, new_job_id, now_ms
from contract.ledger.types import Claim
from tests.support.ledger import store
from tests.support.services import wait_until
from tests.support.twin.ledger_memory import MemoryLedger
from worker.app import heartbeat_of
from worker.leases import LeaseKeeper
from worker.model import BrightnessModel


def held_claim(ledger: MemoryLedger, lease_ms: int) -> Claim:
    job = Job(new_job_id(), INTERACTIVE, now_ms())
    store(ledger, [job], 10)
    (claim,) = ledger.claim([job.id], lease_ms, 60)
    assert claim
    return claim


def keeper_of(ledger: MemoryLedger, lease_s: float) -> LeaseKeeper:
    return LeaseKeeper(ledger, lease_s, heartbeat_of(BrightnessModel(), "w", "http://x/metrics", lambda: 0.5))


def test_a_held_lease_outlives_its_length() -> None:
    ledger = MemoryLedger()
    keeper, claim = keeper_of(ledger, 0.3), held_claim(ledger, 300)
    keeper.hold([claim])
    keeper.start()
    end_ms = now_ms() + 400
    wait_until(lambda: now_ms() > end_ms, "the lease's length passing", 10)
    assert ledger.claim([claim.job.id], 300, 60) == [None]
    keeper.drop([claim])
    wait_until(lambda: ledger.claim([claim.job.id], 300, 60) != [None], "the dropped lease ending", 10)
    keeper.stop()


def test_a_lost_lease_is_held_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = MemoryLedger()
    keeper, claim = keeper_of(ledger, 0.1), held_claim(ledger, 1)
    keeper.hold([claim])
    wait_until(lambda: ledger.claim([claim.job.id], 60_000, 60) != [None], "another claim", 10)
    keeper.start()
    wait_until(lambda: not keeper._held, "the lost lease being dropped", 10)
    keeper.stop()


def test_a_worker_is_listed_from_start_to_stop() -> None:
    ledger = MemoryLedger()
    keeper = keeper_of(ledger, 10)
    assert ledger.workers() == []
    keeper.start()
    (beat,) = ledger.workers()
    assert (beat.model_name, beat.busy_ratio, beat.metrics_address) == ("brightness", 0.5, "http://x/metrics")
    keeper.stop()
    assert ledger.workers() == []


def test_it_outlives_an_outage_of_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = MemoryLedger()
    keeper, beat, failing = keeper_of(ledger, 0.1), ledger.beat, [True]

    def flaky(*arguments: object, **options: object) -> None:
        if failing:
            raise UnavailableError("The ledger does not answer; try again.")
        beat(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ledger, "beat", flaky)
    keeper.start()
    assert ledger.workers() == []
    failing.clear()
    wait_until(lambda: len(ledger.workers()) == 1, "the heartbeat coming back", 10)
    keeper.stop()


def test_it_outlives_any_surprise(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, surprises = MemoryLedger(), [RuntimeError("surprise")]
    keeper, beat = keeper_of(ledger, 0.1), ledger.beat

    def surprising(*arguments: object, **options: object) -> None:
        if keeper._thread.is_alive() and surprises:
            raise surprises.pop()
        beat(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ledger, "beat", surprising)
    keeper.start()
    wait_until(lambda: not surprises, "the surprise", 10)
    seen_ms = ledger.workers()[0].seen_ms
    wait_until(lambda: any(beat.seen_ms > seen_ms for beat in ledger.workers()), "another heartbeat", 10)
    keeper.stop()


def test_letting_an_old_claim_go_keeps_a_later_one_of_the_same_job() -> None:
    ledger = MemoryLedger()
    keeper, old = keeper_of(ledger, 10), held_claim(ledger, 1)
    (new,) = ledger.claim([old.job.id], 60_000, 60, now_ms() + 1000)
    assert new
    keeper.hold([old])
    keeper.hold([new])
    keeper.drop([old])
    assert keeper.held() == [new]
    keeper.drop([new])
    assert keeper.held() == []
