"""Stage 4: pack the trained network as a bundle and prove that it answers as before."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.features import brightness_contrast
from bundle.manifest import MODEL_FILE, Histogram, Interval, Manifest
from training.artifacts import METRICS_FILE, PREDICTIONS_FILE
from training.bundling import BundleFacts, write_bundle
from training.checkpoint import load_trained
from training.errors import TrainingError, run_command
from training.params import ExportParams, read_params
from training.parity import check_parity
from training.predictions import Predictions, read_predictions
from training.prepared import Split, read_split
from training.survey import SPLITS
from training.temperature import fold_temperature

_BINS = 20
#: Edges of the histograms of width and height, in pixels: doubling, so that any camera fits.
_SIZE_EDGES = np.array([0.0, *(float(2**power) for power in range(5, 15))])


def export(prepared: Path, trained: Path, evaluated: Path, params: ExportParams, out: Path) -> Manifest:
    """Write the bundle to the folder `out`, which stays as it was if the bundle is too large or answers wrongly.

    Raises:
        TrainingError: an earlier stage's result is missing, or the bundle misses `export.limit_mb` or parity.
    """
    network, note = load_trained(trained)
    metrics = _read_metrics(evaluated)
    temperature = metrics.pop("temperature").value
    fold_temperature(network, temperature)
    facts = BundleFacts(
        params.name,
        note.labels,
        temperature,
        metrics,
        _describe(prepared) | ({"started_from": note.started_from} if note.started_from else {}),
        _reference(read_split(prepared, "test"), read_predictions(evaluated)),
        {PREDICTIONS_FILE: (evaluated / PREDICTIONS_FILE).read_text(encoding="utf-8")},
    )
    return write_bundle(network, facts, out, check=lambda folder: _check(folder, params.limit_mb))


def _check(folder: Path, limit_mb: float) -> None:
    size_mb = (folder / MODEL_FILE).stat().st_size / 1e6
    if size_mb > limit_mb:
        raise TrainingError(
            f"The model file has {size_mb:.1f} MB, more than the {limit_mb:g} of export.limit_mb in params.yaml; "
            "raise the limit or train a smaller network."
        )
    check_parity(folder)


def _read_metrics(evaluated: Path) -> dict[str, Interval]:
    try:
        content = json.loads((evaluated / METRICS_FILE).read_text(encoding="utf-8"))
        return {name: Interval(**value) for name, value in content.items()}
    except (OSError, ValueError) as error:
        raise TrainingError(f"{evaluated} holds no metrics ({error}); run `dvc repro evaluate`.") from error


def _describe(prepared: Path) -> dict[str, str | int | float]:
    """Fingerprints and counts of the splits, by which models trained or tested on the same images are known."""
    facts: dict[str, str | int | float] = {}
    for name in SPLITS:
        split = read_split(prepared, name)
        facts[f"{name}_fingerprint"] = split.fingerprint
        facts[f"{name}_images"] = len(split.facts)
    return facts


def _reference(test: Split, predictions: Predictions) -> dict[str, Histogram]:
    """What test images look like and what the model says of them: the yardstick for drift in service."""
    answers = predictions.answers
    light = np.array([brightness_contrast(pixels) for pixels in test.pixels])
    said = np.bincount(answers.argmax(axis=1), minlength=len(test.labels))
    shares = np.linspace(0, 1, _BINS + 1)
    return {
        "confidence": _histogram(answers.max(axis=1), shares),
        "label": Histogram(counts=said.tolist(), names=test.labels),
        "brightness": _histogram(light[:, 0], shares),
        "contrast": _histogram(light[:, 1], shares / 2),  # a spread within 0..1 is 0.5 at most
        "width": _histogram(np.array([fact.width for fact in test.facts]), _SIZE_EDGES),
        "height": _histogram(np.array([fact.height for fact in test.facts]), _SIZE_EDGES),
    }


def _histogram(values: NDArray[Any], edges: NDArray[np.float64]) -> Histogram:
    counts, _ = np.histogram(values, edges)
    return Histogram(counts=counts.tolist(), edges=edges.tolist())


def main() -> None:
    """Read the command line and run the stage."""
    parser = argparse.ArgumentParser(
        prog="python -m training.export",
        description=__doc__,
        epilog="example: python -m training.export --out build/bundle",
    )
    parser.add_argument("--prepared", type=Path, default=Path("build/prepared"))
    parser.add_argument("--trained", type=Path, default=Path("build/trained"))
    parser.add_argument("--evaluated", type=Path, default=Path("build/evaluated"))
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--out", type=Path, default=Path("build/bundle"))
    given = parser.parse_args()
    params = read_params(given.params).export
    manifest = export(given.prepared, given.trained, given.evaluated, params, given.out)
    print(f"{manifest.name} {manifest.version} is ready in {given.out}")


if __name__ == "__main__":
    run_command(main)
