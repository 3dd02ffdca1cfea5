"""Intervals cover the value, temperature makes confidence honest."""

import numpy as np

from training.measure import FIGURES, calibration_error, log_loss, measure
from training.temperature import apply_temperature, fit_temperature

DRAW = np.random.default_rng(1)


def answers_and_truth(classes: int, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    truth = DRAW.integers(classes, size=count)
    logits = DRAW.normal(size=(count, classes)) + 1.5 * np.eye(classes)[truth]
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True), truth


def test_intervals_cover_the_value_and_are_reproducible() -> None:
    answers, truth = answers_and_truth(2)
    found = measure(answers, truth, rounds=200, seed=3)
    assert found.keys() == FIGURES.keys()
    for name, interval in found.items():
        assert interval.low < interval.value < interval.high, name
    assert measure(answers, truth, rounds=200, seed=3) == found


def test_the_interval_of_a_calibration_error_covers_it_where_there_is_none() -> None:
    sure = DRAW.uniform(0.5, 1, size=2000)
    truth = (DRAW.uniform(size=2000) > sure).astype(int)
    found = measure(np.stack([sure, 1 - sure], axis=1), truth, rounds=200, seed=3)["calibration_error"]
    assert found.low <= found.value <= found.high
    assert found.high - found.low < 0.04


def test_temperature_undoes_overconfidence() -> None:
    answers, truth = answers_and_truth(2, 4000)
    sharpened = apply_temperature(answers, 0.25)
    temperature = fit_temperature(sharpened, truth)
    mended = apply_temperature(sharpened, temperature)
    assert log_loss(mended, truth) < log_loss(sharpened, truth)
    assert calibration_error(mended, truth) < 0.5 * calibration_error(sharpened, truth)
    assert (mended.argmax(axis=1) == answers.argmax(axis=1)).all()


def test_a_class_that_is_never_predicted_has_no_division_by_zero() -> None:
    answers, truth = np.tile([0.9, 0.1], (10, 1)), np.zeros(10, dtype=int)
    assert measure(answers, truth, rounds=100, seed=0)["auc"].value == 0
