"""Drift: distances that are right, and no verdict on few images."""

import math

import pytest

from dashboard.drift import SAMPLE_MIN, Reference, feature_drift, ks, psi, reference_of, verdict
from tests.unit.dashboard.conftest import NOW, row


def test_alike_is_zero_and_apart_is_one() -> None:
    assert psi([10, 20, 30], [1, 2, 3]) == pytest.approx(0)
    assert ks([10, 20, 30], [1, 2, 3]) == pytest.approx(0)
    assert ks([1, 0], [0, 1]) == 1
    assert psi([50, 50], [75, 25]) == pytest.approx(0.25 * math.log(0.75 / 0.5) - 0.25 * math.log(0.25 / 0.5))
    assert math.isfinite(psi([1, 0], [0, 1]))


@pytest.mark.parametrize(("value", "place"), [(-1, 0), (0, 0), (0.49, 0), (0.5, 1), (1, 1), (9, 1)])
def test_values_outside_of_the_edges_count_in_the_nearest_bin(value: float, place: int) -> None:
    assert Reference((1, 1), (0, 0.5, 1)).histogram([value]) == ((1, 0), (0, 1))[place]


def test_nothing_is_said_of_few_images() -> None:
    reference = Reference((50, 50), names=("cat", "dog"))
    few = feature_drift([row("cat")] * (SAMPLE_MIN - 1), reference, "label")
    assert (few.distance, few.over_time, few.sample) == (None, (), SAMPLE_MIN - 1)
    assert verdict(few.distance, few.sample) == "No verdict: 199 of at least 200 images."
    enough = feature_drift([row("cat")] * SAMPLE_MIN, reference, "label")
    assert enough.distance
    assert enough.distance.ks is None  # names have no order
    assert verdict(enough.distance, enough.sample) == "Unlike training."


def test_windows_of_equal_size_lead_from_old_to_new() -> None:
    reference = Reference((100, 100), (0.0, 0.5, 1.0))
    old = [row(confidence=0.2 if at % 2 else 0.8, ended_s=NOW - 1000 - at) for at in range(SAMPLE_MIN)]
    new = [row(confidence=0.9, ended_s=NOW - at) for at in range(SAMPLE_MIN)]
    drift = feature_drift([*new, *old], reference, "confidence")
    assert [round(distance.psi, 1) for distance in drift.over_time] == [0.0, 4.6]
    assert [distance.at_s for distance in drift.over_time] == [NOW - 1000, NOW]
    assert drift.live == (100, 300)


def test_a_label_that_training_did_not_know_is_left_out() -> None:
    drift = feature_drift([row("bird")], Reference((1, 1), names=("cat", "dog")), "label")
    assert drift.sample == 0


def test_a_bundle_may_lack_a_reference() -> None:
    assert reference_of({}, "width") is None
    assert reference_of({"reference": {"width": None}}, "width") is None
