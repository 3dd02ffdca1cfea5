"""A canary: which jobs it gets, how it begins and ends, and what happens to jobs on which it fails."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import redis

from contract.job import Job, JobError, JobResult, JobStatus, ModelRef
from contract.ledger import keys
from contract.ledger.ledger import Ledger
from contract.ledger.models import Begun, CanaryTerms, ChangeKind, Model, VersionInfo
from contract.ledger.types import Claim, Committed, Heartbeat, HeldModel, Sweep
from tests.support.ledger import LEASE_MS, NOW, cat, make_job, read, store

BIRDS = "birds"
QUEUE = "interactive.birds"
BROKEN = JobResult(error=JobError("predict_failed", "The model failed."), model=ModelRef(BIRDS, "2"))


@pytest.fixture
def ledger(ledger: Ledger) -> Ledger:
    """A ledger with a model of three versions, of which the first is live."""
    for version in ("1", "2", "3"):
        ledger.models.register(BIRDS, version, VersionInfo(["owl", "wren"], 8, 8, checksum=version), "w")
    return ledger


def settle(ledger: Ledger, revision: int, problem: str = "") -> None:
    """Let a worker load every version, or fail to, and end the change."""
    state = "failed" if problem else "ready"
    held = [HeldModel(BIRDS, version, state, problem) for version in ("1", "2", "3")]
    values = ("w", "host", BIRDS, "1", [], "numpy", "float32", 0.5, "", NOW, NOW)
    ledger.beat(Heartbeat(*values, serves=[BIRDS], models=held, prepared={BIRDS: revision}), 60_000, NOW)
    assert ledger.models.settle(BIRDS, NOW)


def begin(ledger: Ledger, version: str = "2", percent: float = 50) -> None:
    begun, revision = ledger.models.change(
        BIRDS, version, canary=CanaryTerms(percent), by="ada", limit_s=30, now_ms=NOW
    )
    assert begun is Begun.BEGUN
    settle(ledger, revision)


def promote(ledger: Ledger, version: str) -> None:
    _, revision = ledger.models.change(BIRDS, version, limit_s=30, now_ms=NOW)
    settle(ledger, revision)


def model(ledger: Ledger) -> Model:
    found = ledger.models.model(BIRDS)
    assert found
    return found


def submit(ledger: Ledger, count: int, name: str = BIRDS) -> list[Job]:
    jobs = [replace(make_job(), model=name) for _ in range(count)]
    store(ledger, jobs)
    return jobs


def claim(ledger: Ledger, count: int = 1000, now_ms: int = NOW) -> list[Claim]:
    return ledger.claim({QUEUE: count}, LEASE_MS, 60, now_ms)


def claim_for_canary(ledger: Ledger) -> Claim:
    """A claim of a job that the canary gets."""
    submit(ledger, 50)
    claims = claim(ledger)
    found = next(claim for claim in claims if claim.routed == "birds@2")
    ledger.commit([(claim, cat()) for claim in claims if claim is not found], 60, NOW)
    return found


def routed(claims: Sequence[Claim]) -> dict[str, str]:
    return {claim.job.id: claim.routed for claim in claims}


def test_a_canary_gets_its_share_of_the_jobs_and_the_same_ones_again(ledger: Ledger) -> None:
    begin(ledger, percent=20)
    submit(ledger, 1000)
    claims = claim(ledger)
    first = routed(claims)
    share = list(first.values()).count("birds@2")
    assert 140 <= share <= 260  # 200 expected, standard deviation 12.6
    assert set(first.values()) == {"birds@1", "birds@2"}
    assert all(claim.instead == ("birds@1" if claim.routed == "birds@2" else "") for claim in claims)
    ledger.release(claims)
    assert routed(claim(ledger)) == first


def test_a_larger_share_contains_the_smaller_one(ledger: Ledger) -> None:
    begin(ledger, percent=20)
    submit(ledger, 200)
    claims = claim(ledger)
    before = {claim.job.id for claim in claims if claim.routed == "birds@2"}
    ledger.release(claims)
    begin(ledger, percent=40)
    after = {claim.job.id for claim in claim(ledger) if claim.routed == "birds@2"}
    assert before < after


def test_a_job_that_pins_a_version_never_gets_to_a_canary(ledger: Ledger) -> None:
    begin(ledger)
    submit(ledger, 50, "birds@1")
    submit(ledger, 50, "birds@3")
    assert set(routed(claim(ledger)).values()) == {"birds@1", "birds@3"}


def test_a_canary_begins_when_every_worker_holds_it(ledger: Ledger) -> None:
    _, revision = ledger.models.change(
        BIRDS, "2", canary=CanaryTerms(50), by="ada", why="is it faster?", limit_s=30, now_ms=NOW
    )
    submit(ledger, 50)
    claims = claim(ledger)
    assert set(routed(claims).values()) == {"birds@1"}
    ledger.release(claims)
    assert model(ledger).canary is None
    settle(ledger, revision)
    found = model(ledger)
    assert found.canary
    assert (found.live, found.canary.version, found.canary.percent, found.canary.by) == ("1", "2", 50, "ada")
    assert set(routed(claim(ledger)).values()) == {"birds@1", "birds@2"}


def test_a_canary_that_a_worker_cannot_load_does_not_begin(ledger: Ledger) -> None:
    _, revision = ledger.models.change(BIRDS, "2", canary=CanaryTerms(50), limit_s=30, now_ms=NOW)
    settle(ledger, revision, "It is damaged.")
    found = model(ledger)
    assert (found.live, found.canary, found.change) == ("1", None, None)
    assert found.last_change
    assert (found.last_change.kind, found.last_change.problem) == (ChangeKind.CANARY, "It is damaged.")


def test_a_canary_ends_at_once_and_its_jobs_finish(ledger: Ledger) -> None:
    begin(ledger)
    job = claim_for_canary(ledger)
    assert ledger.models.end_canary(BIRDS, by="ada", why="enough", now_ms=NOW)[0] is Begun.LIVE
    submit(ledger, 50)
    assert set(routed(claim(ledger)).values()) == {"birds@1"}
    assert ledger.commit([(job, cat())], 60, NOW) == [Committed.FINISHED]
    found = model(ledger)
    assert found.last_change
    assert (found.canary, found.last_change.kind, found.last_change.why) == (None, ChangeKind.CANARY_END, "enough")
    assert ledger.models.end_canary(BIRDS)[1] == found.revision  # nothing is left to end


def test_a_canary_that_workers_are_loading_can_be_ended(ledger: Ledger) -> None:
    ledger.models.change(BIRDS, "2", canary=CanaryTerms(50), limit_s=30, now_ms=NOW)
    ledger.models.end_canary(BIRDS, now_ms=NOW)
    found = model(ledger)
    assert (found.change, found.canary) == (None, None)
    assert found.last_change
    assert found.last_change.problem == "The canary was ended before it began."


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_canary_ends_when_the_live_version_changes(ledger: Ledger, version: str) -> None:
    begin(ledger)
    promote(ledger, version)
    assert (model(ledger).live, model(ledger).canary) == (version, None)
    submit(ledger, 50)
    assert set(routed(claim(ledger)).values()) == {f"birds@{version}"}


def test_a_canary_ends_when_a_worker_makes_its_bundle_live(ledger: Ledger) -> None:
    begin(ledger)
    ledger.models.register(BIRDS, "3", VersionInfo(["owl"], 8, 8, checksum="3"), "w", live=True)
    assert model(ledger).canary is None


def test_a_canary_ends_when_another_bundle_replaces_the_live_version(ledger: Ledger) -> None:
    begin(ledger)
    ledger.models.register(BIRDS, "1", VersionInfo(["owl"], 8, 8, checksum="other"), "w", live=True)
    assert model(ledger).canary is None


def test_a_repeated_request_is_the_same_canary_and_another_share_is_another_one(ledger: Ledger) -> None:
    begin(ledger)
    before = model(ledger).revision
    again = ledger.models.change(BIRDS, "2", canary=CanaryTerms(50), by="ada", limit_s=30, now_ms=NOW)
    assert again == (Begun.LIVE, before)
    assert ledger.models.change(BIRDS, "2", canary=CanaryTerms(10), by="ada", limit_s=30, now_ms=NOW)[0] is Begun.BEGUN


def test_a_canary_is_another_version_than_the_live_one(ledger: Ledger) -> None:
    assert ledger.models.change(BIRDS, "1", canary=CanaryTerms(50), limit_s=30)[0] is Begun.IS_LIVE
    assert ledger.models.change(BIRDS, "9", canary=CanaryTerms(50), limit_s=30)[0] is Begun.UNKNOWN_VERSION
    assert ledger.models.end_canary("cars")[0] is Begun.UNKNOWN_MODEL
    assert ledger.models.end_canary(BIRDS, revision=99)[0] is Begun.CHANGED


def test_a_job_on_which_a_canary_raises_an_exception_goes_to_the_live_version(ledger: Ledger) -> None:
    begin(ledger)
    first = claim_for_canary(ledger)
    assert ledger.commit([(first, BROKEN)], 60, NOW) == [Committed.RETRIED]
    assert read(ledger, first.job).status is JobStatus.QUEUED
    assert ledger.commit([(first, cat())], 60, NOW) == [Committed.DROPPED]  # it has no answer by the canary
    (second,) = claim(ledger)
    assert (second.routed, second.instead, second.job.attempts) == ("birds@1", "", 1)
    failed = JobResult(error=BROKEN.error, model=ModelRef(BIRDS, "1"))
    assert ledger.commit([(second, failed)], 60, NOW) == [Committed.FINISHED]
    assert read(ledger, first.job).status is JobStatus.FAILED


def test_a_job_on_which_the_live_version_failed_instead_of_a_canary_fails(ledger: Ledger) -> None:
    """Its worker did not hold the canary."""
    begin(ledger)
    job = claim_for_canary(ledger)
    failed = JobResult(error=BROKEN.error, model=ModelRef(BIRDS, "1"))
    assert ledger.commit([(job, failed)], 60, NOW) == [Committed.FINISHED]
    assert read(ledger, job.job).status is JobStatus.FAILED


def test_an_image_that_cannot_be_decoded_is_not_retried(ledger: Ledger) -> None:
    begin(ledger)
    undecodable = JobResult(error=JobError("undecodable_image", "It is damaged."))
    assert ledger.commit([(claim_for_canary(ledger), undecodable)], 60, NOW) == [Committed.FINISHED]


@pytest.mark.parametrize("begun", [True, False])
def test_a_job_whose_worker_died_with_a_canary_goes_to_the_live_version(ledger: Ledger, *, begun: bool) -> None:
    begin(ledger)
    first = claim_for_canary(ledger)
    if not begun:  # the canary was being loaded
        ledger.postpone([first])
    late = NOW + LEASE_MS
    assert ledger.recover(Sweep(QUEUE, max_attempts=1, ttl_s=60), late) == 1
    (second,) = claim(ledger, now_ms=late)
    assert (second.routed, second.job.attempts, second.alone) == ("birds@1", 1, begun)
    assert ledger.recover(Sweep(QUEUE, max_attempts=1, ttl_s=60), late + LEASE_MS) == 0
    assert read(ledger, first.job).status is JobStatus.FAILED  # the live version died too


def test_a_job_that_waited_for_a_canary_that_cannot_be_loaded_goes_to_the_live_version(ledger: Ledger) -> None:
    begin(ledger)
    first = claim_for_canary(ledger)
    ledger.release([first], failed=True)
    (second,) = claim(ledger)
    assert (second.routed, second.job.attempts) == ("birds@1", 1)


def test_every_step_of_a_canary_is_in_the_stream_of_changes(ledger: Ledger, redis_client: "redis.Redis") -> None:
    begin(ledger)
    ledger.models.end_canary(BIRDS, by="grace", why="enough")
    entries = [entry for _, entry in redis_client.xrange(keys.MODEL_CHANGES)][-3:]
    assert [(entry["action"], entry["version"], entry["by"]) for entry in entries] == [
        ("changing", "2", "ada"),
        ("canary", "2", "ada"),
        ("canary_ended", "2", "grace"),
    ]
    assert entries[1]["percent"] == "50"
    assert entries[-1]["why"] == "enough"
    assert entries[-1]["revision"] == str(model(ledger).revision)
