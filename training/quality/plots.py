"""Plots of a result: learning curves, confusion matrix, calibration and the worst wrong predictions.

`mistakes.png` shows images of the data set; do not publish it.
"""

import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import ConfusionMatrixDisplay

from training.data.splits import Split
from training.files import HISTORY_FILE
from training.quality.calibration import Classes, Probabilities, calibration_bins
from training.quality.metrics import confusion

_WORST = 40
_DPI = 110
_BLUE, _ORANGE = "#3b6ea8", "#d9822b"

mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 10})


def draw_plots(folder: Path, test: Split, probabilities: Probabilities, trained: Path) -> None:
    """Write `curves.png`, `confusion.png`, `calibration.png` and `mistakes.png` into `folder`."""
    truth = test.targets
    figures = {
        "curves": _curves(json.loads((trained / HISTORY_FILE).read_text(encoding="utf-8"))["epochs"]),
        "confusion": _confusion(probabilities, truth, test.labels),
        "calibration": _calibration(probabilities, truth),
        "mistakes": _mistakes(test, probabilities, truth),
    }
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=_DPI)


def _curves(epochs: list[dict[str, float]]) -> Figure:
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    numbers = [row["epoch"] for row in epochs]
    losses.plot(
        numbers, [row.get("loss", np.nan) for row in epochs], color=_ORANGE, marker=".", label="training, augmented"
    )
    losses.plot(numbers, [row["val_loss"] for row in epochs], color=_BLUE, marker=".", label="validation")
    losses.set(xlabel="epoch", ylabel="loss (nats)", title="Loss")
    losses.legend(frameon=False)
    accuracies.plot(numbers, [100 * row["val_accuracy"] for row in epochs], color=_BLUE, marker=".")
    accuracies.set(xlabel="epoch", ylabel="accuracy (%)", title="Validation accuracy")
    for axes in (losses, accuracies):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _confusion(probabilities: Probabilities, truth: Classes, labels: list[str]) -> Figure:
    side = 2.2 + 0.8 * len(labels)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    table = confusion(probabilities, truth)
    ConfusionMatrixDisplay(table, display_labels=labels).plot(ax=axes, cmap="Blues", colorbar=False)
    axes.set(xlabel="predicted", ylabel="true", title=f"{len(truth)} test images")
    return figure


def _calibration(probabilities: Probabilities, truth: Classes) -> Figure:
    bins = [b for b in calibration_bins(probabilities, truth) if b.count]
    figure = Figure(figsize=(5, 5.4), layout="constrained")
    curve, counts = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    curve.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    curve.plot([b.confidence for b in bins], [b.accuracy for b in bins], color=_BLUE, marker="o", label="test images")
    curve.set(ylabel="accuracy", title="Calibration", xlim=(1 / probabilities.shape[1] - 0.05, 1.02), ylim=(0, 1.02))
    curve.legend(frameon=False)
    counts.bar([(b.low + b.high) / 2 for b in bins], [b.count for b in bins], width=0.06, color=_BLUE)
    # The axis starts below 1, so that a bin with one image is visible.
    counts.set(xlabel="confidence", ylabel="images", yscale="log", ylim=(0.5, None))
    return figure


def _mistakes(test: Split, probabilities: Probabilities, truth: Classes) -> Figure:
    """Show the wrong predictions with the highest confidence."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != truth)
    worst = wrong[np.argsort(-probabilities[wrong].max(axis=1))][:_WORST]
    figure = Figure(figsize=(13, 9.5), layout="constrained")
    for axes, row in zip(figure.subplots(5, 8).flat, [*worst, *[None] * (_WORST - len(worst))], strict=True):
        axes.axis("off")
        if row is not None:
            axes.imshow(test.pixels[row])
            predicted = test.labels[int(probabilities[row].argmax())]
            axes.set_title(
                f"{predicted} {100 * probabilities[row].max():.0f} %\nis {test.facts[row].label}", fontsize=8
            )
    figure.suptitle(f"The worst of {len(wrong)} wrong predictions on {len(truth)} test images")
    return figure
