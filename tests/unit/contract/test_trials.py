"""The sequential tests that compare a canary with the live version: false alarms and power, by simulation."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from contract.ledger.trials import FALSE_ALARMS, LEAST_JOBS, Side, Trial, slow_batches

_RUNS, _JOBS = 150, 8_000
#: At each of these numbers of jobs the tests are applied: more often does not change much, and takes longer.
_LOOKS = sorted({int(200 * 1.08**step) for step in range(48)})


def first_alarm(
    rng: np.random.Generator,
    *,
    share: float,
    errors: tuple[float, float] = (0.01, 0.01),
    wrong: tuple[float, float] = (0.1, 0.1),
    slower: float = 1.0,
) -> tuple[int, str]:
    """Simulate a canary; returns after how many jobs it was called worse, and why. (0, "") if it never was.

    `errors` and `wrong` are the rates of canary and live version; half of the jobs have feedback. Each job is a batch.
    """
    on_canary = rng.random(_JOBS) < share
    fails = rng.random(_JOBS) < np.where(on_canary, *errors)
    has_feedback = (rng.random(_JOBS) < 0.5) & ~fails
    is_wrong = rng.random(_JOBS) < np.where(on_canary, *wrong)
    # The machine is busy at times, which slows both down.
    busy = 1 + (np.sin(np.arange(_JOBS) / 700) > 0.5)
    times = np.log2(10 * busy * rng.lognormal(0, 0.2, _JOBS) * np.where(on_canary, slower, 1) / 0.05) * 8
    for count in _LOOKS:
        sides = []
        for mask in (on_canary[:count], ~on_canary[:count]):
            feedback = has_feedback[:count] & mask
            wrongs = int((is_wrong[:count] & feedback).sum())
            histogram = Counter(times[:count][mask & ~fails[:count]].astype(int).tolist())
            sides.append(
                Side(
                    int(mask.sum()),
                    int((fails[:count] & mask).sum()),
                    int(feedback.sum()) - wrongs,
                    wrongs,
                    {0: histogram},
                )
            )
        if problem := Trial(100 * share, *sides).problem():
            return count, problem
    return 0, ""


def alarms(seed: int, runs: int, **options: object) -> list[tuple[int, str]]:
    """The alarms of many simulated canaries."""
    rng = np.random.default_rng(seed)
    found = [first_alarm(rng, **options) for _ in range(runs)]  # type: ignore[arg-type]
    return [(count, problem) for count, problem in found if problem]


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_a_canary_that_is_as_good_is_hardly_ever_called_worse(share: float) -> None:
    found = alarms(1, _RUNS, share=share, errors=(0.02, 0.02), slower=1.1)
    assert len(found) <= 2 * FALSE_ALARMS * _RUNS, found


@pytest.mark.parametrize(
    ("options", "words", "jobs"),
    [
        ({"errors": (0.1, 0.01)}, "error rate", 2_500),
        ({"slower": 2.0}, "slower", 2_500),
        ({"wrong": (0.3, 0.1)}, "accuracy", 8_000),
    ],
)
def test_a_canary_that_is_worse_is_found_out(options: dict[str, object], words: str, jobs: int) -> None:
    found = alarms(2, 100, share=0.1, **options)
    counts = sorted(count for count, problem in found if words in problem)
    assert len(counts) >= 95
    assert counts[len(counts) // 2] <= jobs
    print(f"{words}: found in {len(counts)} of 100, median after {counts[len(counts) // 2]} jobs")


def test_a_canary_that_fails_on_every_job_is_found_out_after_the_least_sample() -> None:
    live = Side(jobs=950)
    assert not Trial(5, Side(LEAST_JOBS - 1, LEAST_JOBS - 1), live).problem()
    found = Trial(5, Side(LEAST_JOBS, LEAST_JOBS), live).problem()
    assert found == "Its error rate is 100.0 % (50 of 50 jobs), that of the live version 0.0 % (0 of 950)."
    assert not Trial(5, Side(LEAST_JOBS, LEAST_JOBS), Side(jobs=LEAST_JOBS - 1)).problem()


def test_a_canary_that_is_better_is_never_called_worse() -> None:
    canary, live = Side(10_000, 0, 900, 0, {0: {10: 500}}), Side(10_000, 2_000, 500, 400, {0: {40: 500}})
    assert not Trial(50, canary, live).problem()
    assert Trial(50, replace(live), canary).problem()


def test_batches_are_compared_with_batches_of_the_same_size_or_larger_ones() -> None:
    live = {1: {20: 30}, 5: {50: 30}}
    assert slow_batches({1: {22: 4, 23: 6}}, live) == (6, 10)
    assert slow_batches({3: {52: 4, 53: 6}}, live) == (6, 10)  # no batch of the live version has that size
    assert slow_batches({6: {90: 10}}, live) == (0, 0)
    assert slow_batches({1: {90: 10}}, {1: {20: 29}}) == (0, 0)


def test_the_reasons_name_both_versions() -> None:
    slow = Trial(5, Side(60, times={0: {40: 60}}), Side(900, times={0: {30: 900}})).problem()
    assert slow.startswith("It is slower: 60 of 60 batches took")
    wrong = Trial(5, Side(100, right=10, wrong=30), Side(900, right=390, wrong=10)).problem()
    assert (
        wrong == "Its accuracy by feedback is 25.0 % (10 of 40 images), that of the live version 97.5 % (390 of 400)."
    )
