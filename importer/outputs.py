"""Decides what the outputs of a network mean, from its last operation, its loss and its values."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from importer.request import ImportFailedError

#: What is added after the network. `shares`: each output is divided by their sum.
End = Literal["none", "softmax", "sigmoid", "shares"]
#: How far a sum may be from 1, and a value outside of 0..1.
_SLACK = 1e-3


@dataclass(frozen=True)
class Meaning:
    """What the outputs mean."""

    #: As in the manifest.
    output: Literal["sigmoid", "softmax", "multi_label"]
    end: End
    #: Number of labels.
    labels: int
    #: Why, for the user.
    text: str


def decide(  # noqa: PLR0911 - one for each case
    raw: NDArray[np.floating], last: str, loss: Any, *, multi_label: bool | None
) -> Meaning:
    """The meaning of raw outputs (images, units), of a network whose last operation is `last`.

    Raises:
        ImportFailedError: they cannot be probabilities, or it is unclear what they mean.
    """
    units = raw.shape[1]
    if not np.isfinite(raw).all():
        raise ImportFailedError(
            "The network returns values that are not finite: check --scale, and how the network was saved."
        )
    if last in ("Tanh", "Relu", "Relu6", "Elu", "Selu"):
        raise ImportFailedError(
            f"The network ends in {last.lower()}, which gives no probabilities: end it in softmax, sigmoid or no "
            "activation."
        )
    if units == 1:
        return _one_unit(raw, last, loss, multi_label=multi_label)
    if last == "Softmax":
        _require(not multi_label, "--multi-label: the network ends in softmax, so an image has exactly one label.")
        return Meaning("softmax", "none", units, f"{units} outputs, softmax")
    if last == "Sigmoid":
        return _several_sigmoids(units, multi_label=multi_label, added="none")
    kind = _loss_kind(loss)
    if multi_label is None and kind == "binary":
        return _several_sigmoids(units, multi_label=multi_label, added="sigmoid")
    if multi_label:
        is_linear = _is_linear(raw) or kind == "binary"
        text = f"{units} outputs, each label with its own probability"
        return Meaning("multi_label", "sigmoid" if is_linear else "none", units, _added(text, "sigmoid", add=is_linear))
    if not _is_linear(raw) and np.abs(raw.sum(axis=1) - 1).max() <= _SLACK:
        return Meaning("softmax", "none", units, f"{units} outputs that sum to 1")
    if kind == "categorical" or multi_label is False or _is_linear(raw):
        why = "its loss" if kind == "categorical" else "--single-label" if multi_label is False else "its values"
        text = f"{units} outputs without activation ({raw.min():.3g} to {raw.max():.3g}); softmax was added ({why})"
        return Meaning("softmax", "softmax", units, text)
    raise ImportFailedError(
        f"The network ends in {last} with values of {raw.min():.3g} to {raw.max():.3g}, so it is unclear whether they "
        "are probabilities: pass --single-label to add softmax, or --multi-label if an image can have several labels."
    )


def check_probabilities(values: NDArray[np.floating], meaning: Meaning) -> None:
    """Require that probabilities are finite, within 0..1, and sum to 1 if an image has one label."""
    is_right = np.isfinite(values).all() and values.min() >= -_SLACK and values.max() <= 1 + _SLACK
    if is_right and meaning.output == "softmax":
        is_right = bool(np.abs(values.sum(axis=1) - 1).max() <= _SLACK)
    _require(
        bool(is_right),
        f"The outputs are no probabilities: on test images they are {values.min():.3g} to {values.max():.3g} and sum "
        f"to {values.sum(axis=1).min():.3g} to {values.sum(axis=1).max():.3g}. Check how the network ends.",
    )


def _one_unit(raw: NDArray[np.floating], last: str, loss: Any, *, multi_label: bool | None) -> Meaning:
    _require(not multi_label, "--multi-label: the network has one output, which is for two labels.")
    _require(last != "Softmax", "The network ends in a softmax of one output, which is always 1.")
    if last == "Sigmoid":
        return Meaning("sigmoid", "none", 2, "1 output, sigmoid: the probability of the second label")
    if _loss_kind(loss) == "binary" or multi_label is False or _is_linear(raw):
        why = "its loss" if _loss_kind(loss) else "--single-label" if multi_label is False else "its values"
        text = f"1 output without activation ({raw.min():.3g} to {raw.max():.3g}); sigmoid was added ({why})"
        return Meaning("sigmoid", "sigmoid", 2, text)
    raise ImportFailedError(
        f"The network ends in {last} with one output of {raw.min():.3g} to {raw.max():.3g}, so it is unclear whether "
        "it is a probability: pass --single-label to add sigmoid."
    )


def _several_sigmoids(units: int, *, multi_label: bool | None, added: Literal["none", "sigmoid"]) -> Meaning:
    _require(
        multi_label is not None,
        f"The network has {units} sigmoid outputs: pass --multi-label if an image can have several labels, or "
        "--single-label if it has exactly one.",
    )
    if multi_label:
        text = f"{units} sigmoid outputs, each label with its own probability"
        return Meaning("multi_label", added, units, _added(text, "sigmoid", add=added == "sigmoid"))
    if added == "sigmoid":
        return Meaning("softmax", "softmax", units, f"{units} outputs without activation; softmax was added")
    return Meaning("softmax", "shares", units, f"{units} sigmoid outputs, divided by their sum")


def _added(text: str, activation: str, *, add: bool) -> str:
    return f"{text}; {activation} was added" if add else text


def _is_linear(raw: NDArray[np.floating]) -> bool:
    """Whether the values are outside of what probabilities can be."""
    return bool(raw.min() < -_SLACK or raw.max() > 1 + _SLACK)


def _loss_kind(loss: Any) -> Literal["binary", "categorical"] | None:
    if isinstance(loss, dict):
        config = loss.get("config")
        if not isinstance(loss.get("class_name"), str):
            return _loss_kind(next(iter(loss.values()))) if len(loss) == 1 else None
        name = config if loss["class_name"] == "function" else loss["class_name"]
    else:
        name = loss[0] if isinstance(loss, list) and len(loss) == 1 else loss
    if not isinstance(name, str):
        return None
    name = name.lower().replace("_", "")
    if "binary" in name:
        return "binary"
    return "categorical" if "categorical" in name else None


def _require(fact: bool, message: str) -> None:  # noqa: FBT001 - like `assert`
    if not fact:
        raise ImportFailedError(message)
