"""Is one model better than another? Judged on images that were test images of both, so that neither knew them."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from bundle.manifest import Interval
from training.errors import TrainingError
from training.measure import (
    Classes,
    Probabilities,
    accuracy,
    calibration_error,
    calibration_error_of,
    calibration_gaps,
    recentred,
)
from training.predictions import Predictions

#: Greatest chance of such a result between equals at which a model counts as better.
SIGNIFICANCE = 0.05
_ROUNDS = 1000


@dataclass(frozen=True)
class Comparison:
    """A challenger against a champion on the same images."""

    images: int
    challenger_accuracy: float
    champion_accuracy: float
    #: Images that only the one model got right.
    only_challenger: int
    only_champion: int
    #: McNemar's exact test, two-sided.
    p_value: float
    challenger_calibration: float
    champion_calibration: float
    #: Challenger's calibration error less the champion's, with its 95 % interval.
    calibration_change: Interval

    @property
    def is_better(self) -> bool:
        """More images right, and not by luck."""
        return self.only_challenger > self.only_champion and self.p_value < SIGNIFICANCE

    @property
    def calibration_is_worse(self) -> bool:
        """A calibration error that grew by more than chance explains."""
        return (self.calibration_change.low or 0) > 0


def compare(challenger: Predictions, champion: Predictions) -> Comparison:
    """Compare two models on the test images that they share.

    Raises:
        TrainingError: they share none, or know other labels.
    """
    if challenger.labels != champion.labels:
        raise TrainingError(
            f"The models know other labels ({', '.join(challenger.labels)}; {', '.join(champion.labels)}) "
            "and cannot be compared."
        )
    place = {checksum: row for row, checksum in enumerate(champion.checksums)}
    pairs = [(row, place[checksum]) for row, checksum in enumerate(challenger.checksums) if checksum in place]
    if not pairs:
        raise TrainingError("The models share no test image; train both on the same data with the same prepare.seed.")
    mine, theirs = (np.array(rows) for rows in zip(*pairs, strict=True))
    truth, ours, others = challenger.truth[mine], challenger.answers[mine], champion.answers[theirs]
    right, right_before = ours.argmax(axis=1) == truth, others.argmax(axis=1) == truth
    only_challenger, only_champion = int((right & ~right_before).sum()), int((right_before & ~right).sum())
    return Comparison(
        len(pairs),
        accuracy(ours, truth),
        accuracy(others, truth),
        only_challenger,
        only_champion,
        mcnemar(only_challenger, only_champion),
        calibration_error(ours, truth),
        calibration_error(others, truth),
        _calibration_change(ours, others, truth),
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Give the chance that two equally good models differ at least so much, where they differ at all (exact)."""
    differing = only_first + only_second
    return float(binomtest(only_first, differing, 0.5).pvalue) if differing else 1.0


def _calibration_change(ours: Probabilities, others: Probabilities, truth: Classes) -> Interval:
    draw = np.random.default_rng(0)
    mine, theirs = calibration_gaps(ours, truth), calibration_gaps(others, truth)
    changes = []
    for _ in range(_ROUNDS):
        rows = draw.integers(len(truth), size=len(truth))
        error, before = (calibration_error_of(place[rows], gaps[rows]) for place, gaps in (mine, theirs))
        changes.append(error - before)
    return recentred(calibration_error_of(*mine) - calibration_error_of(*theirs), changes)
