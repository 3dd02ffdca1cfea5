"""Stage 3: judge the trained network on images it has never seen, and make its confidence honest."""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from training.artifacts import METRICS_FILE, PREDICTIONS_FILE, RESULTS_FILE
from training.checkpoint import load_trained
from training.errors import run_command
from training.fit import predict
from training.folders import replace_folder
from training.measure import (
    Classes,
    Probabilities,
    accuracy,
    calibration_bins,
    confusion,
    measure,
    precision_recall_f1,
)
from training.params import EvaluateParams, read_params
from training.plots import draw_plots
from training.predictions import render_predictions
from training.prepared import read_split
from training.robustness import measure_robustness
from training.temperature import fit_temperature, fold_temperature


def evaluate(prepared: Path, trained: Path, params: EvaluateParams, out: Path) -> dict[str, Any]:
    """Write metrics, tables, predictions and plots of the test split to the folder `out`, and return the metrics.

    The temperature is fitted on the validation split; all figures are of the network with it.

    Raises:
        TrainingError: the prepared images or the trained network are missing.
    """
    network, note = load_trained(trained)
    held_out, test = read_split(prepared, "validation"), read_split(prepared, "test")
    temperature = fit_temperature(predict(network, held_out.pixels).astype(float), held_out.targets)
    fold_temperature(network, temperature)
    answers, truth = predict(network, test.pixels).astype(float), test.targets
    metrics = {name: value.model_dump() for name, value in
               measure(answers, truth, rounds=params.bootstrap_rounds, seed=params.seed).items()}  # fmt: skip
    metrics["temperature"] = {"value": temperature}
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        _write_json(unfinished / METRICS_FILE, metrics)
        tables = _tables(answers, truth, note.labels) | {"robustness": measure_robustness(network, test)}
        _write_json(unfinished / RESULTS_FILE, tables)
        (unfinished / PREDICTIONS_FILE).write_text(render_predictions(test, answers), encoding="utf-8")
        draw_plots(unfinished, test, answers, trained)
        replace_folder(unfinished, out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return metrics


def _tables(answers: Probabilities, truth: Classes, labels: list[str]) -> dict[str, Any]:
    table = confusion(answers, truth)
    return {
        "labels": labels,
        "confusion": table.tolist(),
        "by_class": {
            label: {"precision": row[0], "recall": row[1], "f1": row[2], "pictures": int(table[index].sum())}
            for index, (label, row) in enumerate(zip(labels, precision_recall_f1(table).tolist(), strict=True))
        },
        "calibration": [vars(b) for b in calibration_bins(answers, truth)],
        "thresholds": _thresholds(answers, truth),
    }


def _thresholds(answers: Probabilities, truth: Classes) -> list[dict[str, float]]:
    """How much is answered, and how well, when answers below a confidence are refused."""
    confidence = answers.max(axis=1)
    rows = []
    for threshold in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99):
        sure = confidence >= threshold
        right = accuracy(answers[sure], truth[sure]) if sure.any() else 0.0
        rows.append({"confidence": threshold, "answered": float(sure.mean()), "accuracy": right})
    return rows


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line and run the stage."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description=__doc__,
        epilog="example: python -m training.evaluate --trained build/trained --out build/evaluated",
    )
    parser.add_argument("--prepared", type=Path, default=Path("build/prepared"))
    parser.add_argument("--trained", type=Path, default=Path("build/trained"))
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--out", type=Path, default=Path("build/evaluated"))
    given = parser.parse_args()
    metrics = evaluate(given.prepared, given.trained, read_params(given.params).evaluate, given.out)
    for name, value in metrics.items():
        between = f"  ({value['low']:.4f} to {value['high']:.4f})" if "low" in value else ""
        print(f"{name:18} {value['value']:.4f}{between}")


if __name__ == "__main__":
    run_command(main)
