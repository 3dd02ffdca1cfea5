"""What each version of a model did: counted when results are committed, by day, and by side while it has a canary."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from contract.job import Job, JobError, JobResult, ModelRef, Prediction, Timings
from contract.ledger import keys
from contract.ledger.counts import VersionCounts, quantile_ms, range_of, size_range
from contract.ledger.ledger import Ledger
from contract.ledger.models import CanaryTerms, Change, VersionInfo
from contract.ledger.reviews import KeptImage, ReviewLimits, ReviewReason
from contract.ledger.trials import Side, Trial
from contract.ledger.types import Claim, Heartbeat, HeldModel
from tests.support.ledger import LEASE_MS, NOW, make_job, read, store

BIRDS = "birds"
QUEUE = "interactive.birds"
DAY_MS = 86_400_000


@pytest.fixture
def ledger(ledger: Ledger) -> Ledger:
    """A ledger with a model of two versions, of which the first is live."""
    for version in ("1", "2"):
        ledger.models.register(BIRDS, version, VersionInfo(["owl", "wren"], 8, 8, checksum=version), "w")
    return ledger


def begin(ledger: Ledger) -> Change:
    """Begin a canary that gets half of the jobs."""
    _, revision = ledger.models.change(BIRDS, "2", canary=CanaryTerms(50), limit_s=30, now_ms=NOW)
    held = [HeldModel(BIRDS, version, "ready") for version in ("1", "2")]
    values = ("w", "host", BIRDS, "1", [], "numpy", "float32", 0.5, "", NOW, NOW)
    ledger.beat(Heartbeat(*values, serves=[BIRDS], models=held, prepared={BIRDS: revision}), 60_000, NOW)
    ledger.models.settle(BIRDS, NOW)
    canary = ledger.models.routes()[BIRDS].canary
    assert canary
    return canary


def claim(ledger: Ledger, count: int, name: str = BIRDS) -> list[Claim]:
    store(ledger, [replace(make_job(), model=name) for _ in range(count)])
    return ledger.claim({QUEUE: count}, LEASE_MS, 60, NOW)


def result(version: str, label: str = "owl", confidence: float = 0.75, ms: float = 8, images: int = 4) -> JobResult:
    prediction = Prediction(label, confidence, {label: confidence})
    return JobResult(prediction, None, ModelRef(BIRDS, version), images, Timings(predict_ms=ms))


def failure(version: str, code: str = "predict_failed") -> JobResult:
    return JobResult(error=JobError(code, "It failed."), model=ModelRef(BIRDS, version))


def commit(ledger: Ledger, claims: Sequence[Claim], outcome: JobResult, now_ms: int = NOW) -> None:
    """Commit the same result for all claims, as one batch."""
    first = {claims[0].job.id} if claims else set()
    ledger.commit([(claim, outcome) for claim in claims], 60, now_ms, first)


def version_of(claim: Claim) -> str:
    return claim.routed.partition("@")[2]


def trial(ledger: Ledger) -> Trial:
    canary = ledger.models.routes()[BIRDS].canary
    assert canary
    return ledger.models.trial(BIRDS, canary)


def test_jobs_errors_times_labels_and_confidences_are_counted_by_version(ledger: Ledger) -> None:
    claims = claim(ledger, 5)
    commit(ledger, claims[:2], result("1", "owl", 0.5))
    commit(ledger, claims[2:3], result("1", "wren", 0.8, ms=80))
    commit(ledger, claims[3:4], failure("1"))
    commit(ledger, claims[4:], failure("1", "undecodable_image"))  # no version is to blame
    (counts,) = ledger.counts.of_model(BIRDS, 1, NOW)
    assert (counts.version, counts.jobs, counts.errors, counts.labels) == ("1", 4, 1, {"owl": 2, "wren": 1})
    assert counts.mean_confidence == pytest.approx(0.6)
    assert counts.predict_ms(0.5) == pytest.approx(8, rel=0.06)
    assert counts.predict_ms(0.95) == pytest.approx(80, rel=0.06)
    assert counts.error_interval == pytest.approx((0.046, 0.699), abs=0.001)
    assert ledger.counts.totals() == {(BIRDS, "1", "jobs"): 4, (BIRDS, "1", "errors"): 1}


def test_a_result_that_comes_too_late_is_not_counted(ledger: Ledger) -> None:
    claims = claim(ledger, 1)
    commit(ledger, claims, result("1"))
    commit(ledger, claims, result("1"))
    (counts,) = ledger.counts.of_model(BIRDS, 1, NOW)
    assert counts.jobs == 1


def test_the_counts_of_the_last_days_are_added(ledger: Ledger) -> None:
    claims = claim(ledger, 3)
    for age, one in enumerate(claims):
        commit(ledger, [one], result("1"), NOW + age * DAY_MS)
    for days in (1, 2, 3):
        (counts,) = ledger.counts.of_model(BIRDS, days, NOW + 2 * DAY_MS)
        assert (counts.jobs, counts.labels) == (days, {"owl": days})


def test_labels_beyond_the_limit_share_a_count(ledger: Ledger) -> None:
    claims = claim(ledger, keys.LABELS_KEPT + 5)
    for number, one in enumerate(claims):
        commit(ledger, [one], result("1", f"bird {number}"))
    (counts,) = ledger.counts.of_model(BIRDS, 1, NOW)
    assert len(counts.labels) == keys.LABELS_KEPT + 1
    assert counts.labels["(other)"] == 5


def test_no_count_is_kept_without_a_model(ledger: Ledger) -> None:
    claims = claim(ledger, 1)
    ledger.commit([(claims[0], JobResult(error=JobError("undecodable_image", "It is damaged.")))], 60, NOW)
    assert ledger.counts.of_model(BIRDS, 1, NOW) == []


def test_canary_and_live_version_are_counted_since_the_canary_began(ledger: Ledger) -> None:
    early = claim(ledger, 20)
    begin(ledger)
    commit(ledger, early, result("1"))  # claimed before it began
    commit(ledger, claim(ledger, 20, "birds@1"), result("1"))  # named a version
    assert trial(ledger) == Trial(50, Side(), Side())
    claims = claim(ledger, 40)
    sides = {version: [one for one in claims if version_of(one) == version] for version in ("1", "2")}
    for version, ms in (("1", 8.0), ("2", 16.0)):
        commit(ledger, sides[version], result(version, ms=ms))
    assert trial(ledger) == Trial(
        50,
        Side(len(sides["2"]), times={2: {range_of(16): 1}}),
        Side(len(sides["1"]), times={2: {range_of(8): 1}}),
    )


def test_a_job_that_the_live_version_processes_instead_takes_no_part(ledger: Ledger) -> None:
    begin(ledger)
    claims = [one for one in claim(ledger, 40) if version_of(one) == "2"]
    commit(ledger, claims, result("1"))
    assert trial(ledger) == Trial(50, Side(), Side())


def test_the_errors_of_a_canary_count_although_its_jobs_succeed(ledger: Ledger) -> None:
    begin(ledger)
    first = [one for one in claim(ledger, 40) if version_of(one) == "2"]
    commit(ledger, first, failure("2"))
    again = ledger.claim({QUEUE: 100}, LEASE_MS, 60, NOW)
    assert {version_of(one) for one in again} == {"1"}
    commit(ledger, again, result("1"))
    assert trial(ledger) == Trial(50, Side(len(first), len(first)), Side())
    counts = {found.version: found for found in ledger.counts.of_model(BIRDS, 1, NOW)}
    assert (counts["2"].jobs, counts["2"].errors, counts["1"].jobs) == (len(first), len(first), len(first))


def test_feedback_counts_on_the_side_of_its_job_and_the_last_label_counts(ledger: Ledger) -> None:
    begin(ledger)
    jobs: dict[str, Job] = {}
    for one in claim(ledger, 40):
        commit(ledger, [one], result(version_of(one)))
        jobs[version_of(one)] = read(ledger, one.job)
    ledger.feedback.add(jobs["1"], "owl")
    ledger.feedback.add(jobs["2"], "owl")
    ledger.feedback.add(jobs["2"], "wren")
    ledger.feedback.add(jobs["2"], "wren")
    found = trial(ledger)
    assert (found.live.right, found.live.wrong) == (1, 0)
    assert (found.canary.right, found.canary.wrong) == (0, 1)


def test_labels_of_the_review_page_take_no_part(ledger: Ledger) -> None:
    begin(ledger)
    one = claim(ledger, 1)[0]
    version = version_of(one)
    commit(ledger, [one], result(version))
    values = (one.job.id, ReviewReason.LOW_CONFIDENCE, "ref", 7, "owl", 0.5, BIRDS, version, NOW // DAY_MS)
    assert ledger.reviews.keep(KeptImage(*values), one.fence, ReviewLimits(60, 10, 10**6), NOW)
    assert ledger.reviews.label(one.job.id, "ada", "wren", now_ms=NOW)
    (feedback,) = ledger.feedback.of_model(BIRDS, 1, NOW)
    assert feedback.count.total == 1
    assert trial(ledger).live.wrong + trial(ledger).canary.wrong == 0
    ledger.feedback.add(read(ledger, one.job), "owl")
    assert trial(ledger).live.right + trial(ledger).canary.right == 1
    assert trial(ledger).live.wrong + trial(ledger).canary.wrong == 0


def test_a_new_canary_begins_with_no_counts(ledger: Ledger) -> None:
    begin(ledger)
    claims = claim(ledger, 40)
    commit(ledger, claims[:20], result("1"))
    ledger.models.end_canary(BIRDS)
    begin(ledger)
    for one in claims[20:]:
        commit(ledger, [one], result(version_of(one)))
    assert trial(ledger) == Trial(50, Side(), Side())


def test_a_canary_is_taken_back_once_and_only_the_one_that_was_judged(ledger: Ledger) -> None:
    old = begin(ledger)
    ledger.models.end_canary(BIRDS)
    new = begin(ledger)
    ledger.models.end_canary(BIRDS, canary=old, problem="It is slower.")
    assert ledger.models.routes()[BIRDS].canary == new
    for _ in range(2):
        ledger.models.end_canary(BIRDS, by="w", canary=new, problem="It is slower.")
    model = ledger.models.model(BIRDS)
    assert model
    assert model.last_change
    assert (model.canary, model.taken_back, model.last_change.problem) == (None, 1, "It is slower.")


def test_ranges_of_times_and_sizes() -> None:
    assert [size_range(images) for images in (1, 2, 3, 4, 5, 8, 9, 32)] == [0, 1, 2, 2, 3, 3, 4, 5]
    for ms in (0.2, 3, 17, 400, 9000):
        assert quantile_ms({range_of(ms): 7}, 0.5) == pytest.approx(ms, rel=0.06)
    assert (range_of(0), range_of(1e9)) == (0, 199)
    assert VersionCounts("1").predict_ms(0.5) is None
    assert VersionCounts("1").mean_confidence is None
