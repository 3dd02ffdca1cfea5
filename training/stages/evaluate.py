"""Stage 3: calibrate the trained network on the validation split and measure it on the test split."""

import json
from pathlib import Path
from typing import Any

from bundle.familiarity import UNFAMILIAR_BELOW
from bundle.staging import staged_folder
from training.data.splits import read_split
from training.errors import run_command
from training.files import (
    EVALUATED,
    METRICS_FILE,
    PARAMS_FILE,
    PREDICTIONS_FILE,
    PREPARED,
    RESULTS_FILE,
    TRAINED,
    parse_paths,
)
from training.networks.architectures import predict
from training.networks.checkpoint import load_trained
from training.params import EvaluateParams, read_params
from training.quality.calibration import Classes, Probabilities, calibration_bins, fit_calibration
from training.quality.comparison import render_predictions
from training.quality.familiarity import fit_familiarity, write_familiarity
from training.quality.metrics import accuracy, confusion, measure, precision_recall_f1
from training.quality.plots import draw_plots
from training.quality.robustness import measure_robustness


def evaluate(prepared: Path, trained: Path, params: EvaluateParams, out: Path) -> dict[str, Any]:
    """Write metrics, tables, predictions and plots to the folder `out`, and return the metrics.

    The calibration is fitted on the validation split. All results are for the calibrated network.
    Familiarity is fitted on the training and validation splits.

    Raises:
        TrainingError: the prepared images or the trained network are missing.
    """
    network, record = load_trained(trained)
    validation, test = read_split(prepared, "validation"), read_split(prepared, "test")
    calibration = fit_calibration(predict(network, validation.pixels).astype(float), validation.targets)
    calibration.fold(network)
    familiarity = fit_familiarity(network, read_split(prepared, "train"), validation, test, params.seed)
    probabilities, truth = predict(network, test.pixels).astype(float), test.targets
    measured = measure(probabilities, truth, rounds=params.bootstrap_rounds, seed=params.seed)
    metrics: dict[str, Any] = {name: value.model_dump() for name, value in measured.items()}
    metrics["temperature"] = {"value": calibration.temperature}
    with staged_folder(out) as folder:
        _write_json(folder / METRICS_FILE, metrics)
        tables = _tables(probabilities, truth, record.labels) | {"robustness": measure_robustness(network, test)}
        tables["biases"] = calibration.biases
        tables["familiar"] = float((familiarity.test >= UNFAMILIAR_BELOW).mean())
        _write_json(folder / RESULTS_FILE, tables)
        (folder / PREDICTIONS_FILE).write_text(render_predictions(test, probabilities), encoding="utf-8")
        write_familiarity(familiarity, folder)
        draw_plots(folder, test, probabilities, trained)
    return metrics


def _tables(probabilities: Probabilities, truth: Classes, labels: list[str]) -> dict[str, Any]:
    table = confusion(probabilities, truth)
    scores = precision_recall_f1(probabilities, truth).tolist()
    return {
        "labels": labels,
        "confusion": table.tolist(),
        "by_class": {
            label: {"precision": precision, "recall": recall, "f1": f1, "pictures": int(table[index].sum())}
            for index, (label, (precision, recall, f1)) in enumerate(zip(labels, scores, strict=True))
        },
        "calibration": [vars(b) for b in calibration_bins(probabilities, truth)],
        "thresholds": _thresholds(probabilities, truth),
    }


def _thresholds(probabilities: Probabilities, truth: Classes) -> list[dict[str, float]]:
    """Coverage and accuracy if predictions below a confidence threshold are discarded."""
    confidence = probabilities.max(axis=1)
    rows = []
    for threshold in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99):
        kept = confidence >= threshold
        share = accuracy(probabilities[kept], truth[kept]) if kept.any() else 0.0
        rows.append({"confidence": threshold, "answered": float(kept.mean()), "accuracy": share})
    return rows


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Run the stage and print the metrics."""
    paths = parse_paths(
        "training.stages.evaluate", __doc__, prepared=PREPARED, trained=TRAINED, params=PARAMS_FILE, out=EVALUATED
    )
    metrics = evaluate(paths.prepared, paths.trained, read_params(paths.params).evaluate, paths.out)
    for name, value in metrics.items():
        interval = f"  ({value['low']:.4f} to {value['high']:.4f})" if "low" in value else ""
        print(f"{name:18} {value['value']:.4f}{interval}")


if __name__ == "__main__":
    run_command(main)
