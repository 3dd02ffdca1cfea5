"""Drift: distances, histograms, and the minimum number of images for a verdict."""

import math

import pytest

from dashboard.pages.drift import SAMPLE_MIN, Reference, compute_drift, ks, psi, read_reference, verdict
from dashboard.parts.figures import lines
from tests.unit.dashboard.conftest import NOW, row


def test_equal_distributions_have_distance_zero_and_disjoint_ones_a_ks_of_one() -> None:
    assert psi([10, 20, 30], [1, 2, 3]) == pytest.approx(0)
    assert ks([10, 20, 30], [1, 2, 3]) == pytest.approx(0)
    assert ks([1, 0], [0, 1]) == 1
    assert psi([50, 50], [75, 25]) == pytest.approx(0.25 * math.log(0.75 / 0.5) - 0.25 * math.log(0.25 / 0.5))
    assert math.isfinite(psi([1, 0], [0, 1]))


@pytest.mark.parametrize(("value", "expected"), [(-1, 0), (0, 0), (0.49, 0), (0.5, 1), (1, 1), (9, 1)])
def test_values_beyond_the_edges_count_in_the_nearest_bin(value: float, expected: int) -> None:
    assert Reference((1, 1), (0, 0.5, 1)).histogram([value]) == ((1, 0), (0, 1))[expected]


def test_a_verdict_needs_enough_images() -> None:
    reference = Reference((50, 50), names=("cat", "dog"))
    few = compute_drift([row("cat")] * (SAMPLE_MIN - 1), reference, "label")
    assert (few.distance, few.over_time, few.sample) == (None, (), SAMPLE_MIN - 1)
    assert verdict(few.distance, few.sample) == "No verdict yet: 199 of 200 images"
    enough = compute_drift([row("cat")] * SAMPLE_MIN, reference, "label")
    assert enough.distance
    assert enough.distance.ks is None  # names have no order
    assert verdict(enough.distance, enough.sample) == "Different from test images"


def test_distances_over_time_cover_windows_of_equal_size_oldest_first() -> None:
    reference = Reference((100, 100), (0.0, 0.5, 1.0))
    old = [row(confidence=0.2 if at % 2 else 0.8, finished_s=NOW - 1000 - at) for at in range(SAMPLE_MIN)]
    new = [row(confidence=0.9, finished_s=NOW - at) for at in range(SAMPLE_MIN)]
    drift = compute_drift([*new, *old], reference, "confidence")
    assert [round(distance.psi, 1) for distance in drift.over_time] == [0.0, 4.6]
    assert [distance.at_s for distance in drift.over_time] == [NOW - 1000, NOW]
    assert drift.live == (100, 300)


def test_labels_that_do_not_occur_in_the_test_images_are_not_counted() -> None:
    drift = compute_drift([row("bird")], Reference((1, 1), names=("cat", "dog")), "label")
    assert drift.sample == 0


def test_a_bundle_may_contain_no_histograms() -> None:
    assert read_reference({}, "width") is None
    assert read_reference({"reference": {"width": None}}, "width") is None


def test_the_familiarity_of_live_images_is_compared_with_that_of_the_test_images() -> None:
    reference = Reference((50, 50), (0.0, 0.5, 1.0))
    rows = [row(familiarity=0.001)] * SAMPLE_MIN + [row(familiarity=None)]
    drift = compute_drift(rows, reference, "familiarity")
    assert (drift.sample, drift.live) == (SAMPLE_MIN, (SAMPLE_MIN, 0))
    assert verdict(drift.distance, drift.sample) == "Different from test images"


def test_the_line_of_each_of_the_seven_features_has_a_style_of_its_own() -> None:
    drawn = lines([(str(index), [(NOW, 1.0), (NOW + 1, 2.0)]) for index in range(7)], "PSI", markers=True)["data"]
    assert [
        len({str(line[part][name]) for line in drawn})
        for part, name in (("line", "color"), ("line", "dash"), ("marker", "symbol"))
    ] == [7, 7, 7]
