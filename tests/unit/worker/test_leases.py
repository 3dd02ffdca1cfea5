"""How leases and heartbeats are renewed until the worker stops."""

from contract.job import Job, new_job_id, now_ms
from contract.ledger.ledger import Ledger
from contract.ledger.types import Claim
from contract.queues import INTERACTIVE
from tests.support.ledger import claim_jobs, store
from tests.support.services import wait_until
from tests.unit.worker.conftest import FaultyLedger, heartbeat, unavailable
from worker.upkeep.leases import LeaseKeeper


def claimed(ledger: Ledger, lease_ms: int) -> Claim:
    job = Job(new_job_id(), INTERACTIVE, now_ms())
    store(ledger, [job])
    (claim,) = claim_jobs(ledger, [job.id], lease_ms, 60)
    assert claim
    return claim


def keeper_of(ledger: Ledger, lease_s: float) -> LeaseKeeper:
    return LeaseKeeper(ledger, lease_s, heartbeat(), lambda: 0.5)


def test_a_held_lease_is_renewed_until_it_is_dropped(ledger: FaultyLedger) -> None:
    keeper, claim = keeper_of(ledger, 0.6), claimed(ledger, 600)
    keeper.hold([claim])
    keeper.start()
    end_ms = now_ms() + 800
    wait_until(lambda: now_ms() > end_ms, "the first lease to expire", 10)
    assert claim_jobs(ledger, [claim.job.id], 600, 60) == [None]
    keeper.drop([claim])
    wait_until(lambda: claim_jobs(ledger, [claim.job.id], 600, 60) != [None], "the dropped lease to expire", 10)
    keeper.stop()


def test_a_lost_lease_is_no_longer_held(ledger: FaultyLedger) -> None:
    keeper, claim = keeper_of(ledger, 0.1), claimed(ledger, 1)
    keeper.hold([claim])
    wait_until(lambda: claim_jobs(ledger, [claim.job.id], 60_000, 60) != [None], "another claim", 10)
    keeper.start()
    wait_until(lambda: not keeper.held(), "the lost lease to be dropped", 10)
    keeper.stop()


def test_a_worker_is_listed_from_start_to_stop(ledger: FaultyLedger) -> None:
    keeper = keeper_of(ledger, 10)
    assert ledger.workers() == []
    keeper.start()
    (beat,) = ledger.workers()
    assert (beat.model_name, beat.busy_ratio, beat.metrics_address) == ("brightness", 0.5, "http://x/metrics")
    keeper.stop()
    assert ledger.workers() == []


def test_heartbeats_resume_after_an_outage_of_the_ledger(ledger: FaultyLedger) -> None:
    keeper = keeper_of(ledger, 0.1)
    ledger.errors = {"beat": [unavailable(), unavailable()]}
    keeper.start()
    assert ledger.workers() == []
    assert keeper.connection_problem() == str(unavailable())
    wait_until(lambda: len(ledger.workers()) == 1, "the heartbeats to resume", 10)
    assert not keeper.connection_problem()
    keeper.stop()


def test_heartbeats_continue_after_an_unexpected_error(ledger: FaultyLedger) -> None:
    keeper = keeper_of(ledger, 0.1)
    keeper.start()
    ledger.errors = {"beat": [RuntimeError("surprise")]}
    wait_until(lambda: not ledger.errors["beat"], "the error to be raised", 10)
    since_ms = now_ms()
    wait_until(lambda: any(beat.seen_ms >= since_ms for beat in ledger.workers()), "another heartbeat", 10)
    keeper.stop()


def test_dropping_an_old_claim_keeps_a_later_one_of_the_same_job(ledger: FaultyLedger) -> None:
    keeper, old = keeper_of(ledger, 10), claimed(ledger, 1)
    (new,) = claim_jobs(ledger, [old.job.id], 60_000, 60, now_ms() + 1000)
    assert new
    keeper.hold([old])
    keeper.hold([new])
    keeper.drop([old])
    assert keeper.held() == [new]
    keeper.drop([new])
    assert keeper.held() == []
