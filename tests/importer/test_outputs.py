"""What the outputs of a network mean is decided from its last operation, its loss and its values, or asked for."""

from typing import Any

import numpy as np
import pytest

from importer.outputs import check_probabilities, decide
from importer.request import ImportFailedError

LOGITS = np.array([[3.0, -2.0, 0.5], [8.8, 0.1, -1.0]])
SHARES = np.array([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]])
SMALL = np.array([[0.1, 0.2, 0.3], [0.9, 0.8, 0.1]])
ONE, ONE_SMALL = LOGITS[:, :1], SMALL[:, :1]
BINARY = {"module": "keras.losses", "class_name": "BinaryCrossentropy", "config": {"from_logits": True}}


@pytest.mark.parametrize(
    ("raw", "last", "loss", "multi_label", "expected"),
    [
        (SHARES, "Softmax", None, None, ("softmax", "none", 3)),
        (SHARES, "RealDiv", None, None, ("softmax", "none", 3)),
        (LOGITS, "BiasAdd", None, None, ("softmax", "softmax", 3)),
        (SMALL, "BiasAdd", "sparse_categorical_crossentropy", None, ("softmax", "softmax", 3)),
        (SMALL, "BiasAdd", None, False, ("softmax", "softmax", 3)),
        (LOGITS, "BiasAdd", None, True, ("multi_label", "sigmoid", 3)),
        (SMALL, "Sigmoid", None, True, ("multi_label", "none", 3)),
        (SMALL, "Sigmoid", None, False, ("softmax", "shares", 3)),
        (LOGITS, "BiasAdd", BINARY, True, ("multi_label", "sigmoid", 3)),
        (ONE_SMALL, "Sigmoid", None, None, ("sigmoid", "none", 2)),
        (ONE, "BiasAdd", None, None, ("sigmoid", "sigmoid", 2)),
        (ONE_SMALL, "BiasAdd", BINARY, None, ("sigmoid", "sigmoid", 2)),
        (ONE_SMALL, "BiasAdd", ["binary_crossentropy"], None, ("sigmoid", "sigmoid", 2)),
        (ONE_SMALL, "BiasAdd", None, False, ("sigmoid", "sigmoid", 2)),
    ],
)
def test_the_meaning_is_known(raw: Any, last: str, loss: Any, multi_label: bool | None, expected: Any) -> None:
    found = decide(raw, last, loss, multi_label=multi_label)
    assert (found.output, found.end, found.labels) == expected


@pytest.mark.parametrize(
    ("raw", "last", "loss", "multi_label", "reason"),
    [
        (SMALL, "Sigmoid", None, None, "--multi-label if an image can have several labels, or --single-label"),
        (LOGITS, "BiasAdd", BINARY, None, "3 sigmoid outputs"),
        (SMALL, "BiasAdd", None, None, "unclear whether they are probabilities"),
        (ONE_SMALL, "BiasAdd", None, None, "unclear whether it is a probability"),
        (SHARES, "Softmax", None, True, "exactly one label"),
        (ONE_SMALL, "Sigmoid", None, True, "one output, which is for two labels"),
        (np.ones((2, 1)), "Softmax", None, None, "always 1"),
        (LOGITS, "Tanh", None, None, "ends in tanh"),
        (LOGITS * np.nan, "BiasAdd", None, None, "not finite"),
    ],
)
def test_what_is_unclear_is_asked_for(raw: Any, last: str, loss: Any, multi_label: bool | None, reason: str) -> None:
    with pytest.raises(ImportFailedError, match=reason) as caught:
        decide(raw, last, loss, multi_label=multi_label)
    assert "\n" not in str(caught.value)


def test_probabilities_are_within_bounds_and_sum_to_one() -> None:
    softmax = decide(SHARES, "Softmax", None, multi_label=None)
    check_probabilities(SHARES, softmax)
    for wrong in (SMALL, LOGITS, SHARES * np.nan):
        with pytest.raises(ImportFailedError, match="no probabilities"):
            check_probabilities(wrong, softmax)
    check_probabilities(SMALL, decide(SMALL, "Sigmoid", None, multi_label=True))
