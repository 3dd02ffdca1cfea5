"""Values and confidence intervals of the metrics, and calibration."""

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from training.networks.architectures import NetworkSpec, build_network, predict
from training.quality.calibration import Calibration, calibration_error, fit_calibration, log_loss
from training.quality.metrics import accuracy, area_under_curve, confusion, measure, precision_recall_f1

RNG = np.random.default_rng(1)
METRICS = {"accuracy", "precision", "recall", "f1", "auc", "log_loss", "calibration_error"}


def probabilities_and_truth(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    truth = RNG.integers(2, size=count)
    logits = RNG.normal(size=(count, 2)) + 1.5 * np.eye(2)[truth]
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True), truth


def test_metrics_are_correct_for_three_classes() -> None:
    truth = np.array([0, 0, 1, 1, 2, 2])
    probabilities = np.array(
        [[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.1, 0.7, 0.2], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7], [0.5, 0.1, 0.4]]
    )
    assert accuracy(probabilities, truth) == pytest.approx(4 / 6)
    assert confusion(probabilities, truth).tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]
    expected = [[1 / 2, 1 / 2, 1 / 2], [2 / 3, 1, 4 / 5], [1, 1 / 2, 2 / 3]]
    assert precision_recall_f1(probabilities, truth) == pytest.approx(np.array(expected))
    # 7 of 8 pairs are in order for class 0 and for class 1, all of them for class 2.
    assert area_under_curve(probabilities, truth) == pytest.approx((7 / 8 + 7 / 8 + 1) / 3)
    assert log_loss(probabilities, truth) == pytest.approx(-np.log([0.8, 0.3, 0.7, 0.5, 0.7, 0.4]).mean())


@pytest.mark.parametrize("digits", [1, 16])
def test_the_area_under_the_curve_is_the_same_as_in_scikit_learn(digits: int) -> None:
    probabilities, truth = probabilities_and_truth()
    probabilities = np.round(probabilities, digits)  # one digit gives many ties
    expected = np.mean([roc_auc_score(truth == label, probabilities[:, label]) for label in (0, 1)])
    assert area_under_curve(probabilities, truth) == pytest.approx(expected, abs=1e-12)


def test_intervals_contain_the_value_and_are_reproducible() -> None:
    probabilities, truth = probabilities_and_truth()
    found = measure(probabilities, truth, rounds=100, seed=3)
    assert found.keys() == METRICS
    for name, interval in found.items():
        assert interval.low < interval.value < interval.high, name
    assert measure(probabilities, truth, rounds=100, seed=3) == found


def test_the_interval_of_the_calibration_error_contains_the_error_of_a_calibrated_model() -> None:
    confidence = RNG.uniform(0.5, 1, size=2000)
    truth = (RNG.uniform(size=2000) > confidence).astype(int)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    found = measure(probabilities, truth, rounds=100, seed=3)["calibration_error"]
    assert found.low <= found.value <= found.high
    assert found.high - found.low < 0.04


def test_calibration_corrects_overconfidence() -> None:
    probabilities, truth = probabilities_and_truth(4000)
    sharpened = Calibration(0.25, (0.0, 0.0)).apply(probabilities)
    corrected = fit_calibration(sharpened, truth).apply(sharpened)
    assert log_loss(corrected, truth) < log_loss(sharpened, truth)
    assert calibration_error(corrected, truth) < 0.5 * calibration_error(sharpened, truth)
    assert (corrected.argmax(axis=1) == probabilities.argmax(axis=1)).mean() > 0.98


def test_calibration_corrects_a_network_that_favors_a_class() -> None:
    truth = RNG.integers(3, size=3000)
    logits = RNG.normal(size=(3000, 3)) + 1.5 * np.eye(3)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    favored = Calibration(1.0, (1.2, -0.6, -0.6)).apply(probabilities)
    found = fit_calibration(favored, truth)
    assert sum(found.biases) == pytest.approx(0)
    assert accuracy(found.apply(favored), truth) > accuracy(favored, truth) + 0.02
    expected = fit_calibration(probabilities, truth).apply(probabilities)
    assert log_loss(found.apply(favored), truth) == pytest.approx(log_loss(expected, truth), abs=0.005)


def test_the_biases_of_few_images_are_small() -> None:
    probabilities, truth = np.full((4, 2), 0.5), np.array([0, 0, 0, 0])
    assert max(np.abs(fit_calibration(probabilities, truth).biases)) < 2


@pytest.mark.parametrize("classes", [2, 3])
def test_a_folded_calibration_gives_the_same_probabilities(classes: int) -> None:
    keras.utils.set_random_seed(1)
    network = build_network(NetworkSpec("compact", 32, 32, classes=classes))
    pixels = RNG.integers(256, size=(4, 32, 32, 3), dtype=np.uint8)
    calibration = Calibration(0.5, (0.3, -0.3) if classes == 2 else (0.5, -0.1, -0.4))
    expected = calibration.apply(predict(network, pixels).astype(float))
    calibration.fold(network)
    assert np.allclose(predict(network, pixels), expected, atol=1e-5)


def test_metrics_are_defined_if_a_class_is_missing() -> None:
    probabilities, truth = np.tile([0.9, 0.1], (10, 1)), np.zeros(10, dtype=int)
    found = measure(probabilities, truth, rounds=100, seed=0)
    assert found["auc"].value == 0
    assert found["precision"].value == found["recall"].value == 0.5
