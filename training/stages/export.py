"""Stage 4: pack the trained network as a bundle, and check its predictions in a fresh process."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.features import brightness_contrast
from bundle.manifest import MODEL_FILE, Histogram, Interval, Manifest
from training.data.splits import SPLITS, Split, read_split
from training.errors import TrainingError, run_command
from training.files import (
    BUNDLE,
    EVALUATED,
    METRICS_FILE,
    PARAMS_FILE,
    PREDICTIONS_FILE,
    PREPARED,
    RESULTS_FILE,
    TRAINED,
    parse_paths,
)
from training.networks.checkpoint import TrainingRecord, load_trained
from training.params import ExportParams, read_params
from training.quality.calibration import Calibration
from training.quality.comparison import Predictions, read_predictions
from training.quality.familiarity import FamiliarityFit, read_familiarity
from training.release.bundling import BundleFacts, check_parity, write_bundle

_BINS = 20
#: Edges of the width and height histograms in pixels. They double, so that images of any size fit.
_SIZE_EDGES = np.array([0.0, *(float(2**power) for power in range(5, 15))])


def export(prepared: Path, trained: Path, evaluated: Path, params: ExportParams, out: Path) -> Manifest:
    """Write the bundle to the folder `out` and return its manifest. A failed check leaves `out` unchanged.

    Raises:
        TrainingError: the result of an earlier stage is missing, the model file exceeds `export.limit_mb`, or the
            bundle fails the parity check.
    """
    network, record = load_trained(trained)
    metrics = _read_metrics(evaluated)
    calibration = Calibration(metrics.pop("temperature").value, _read_biases(evaluated))
    calibration.fold(network)
    familiarity = read_familiarity(evaluated)
    reference = _reference(read_split(prepared, "test"), read_predictions(evaluated), familiarity)
    facts = BundleFacts(
        name=params.name,
        labels=record.labels,
        temperature=calibration.temperature,
        biases=list(calibration.biases),
        metrics=metrics,
        data={**_describe(prepared), **_origin(record)},
        reference=reference,
        prototypes=familiarity.prototypes,
        familiarity=familiarity.scale,
        files={PREDICTIONS_FILE: (evaluated / PREDICTIONS_FILE).read_text(encoding="utf-8")},
    )
    return write_bundle(network, facts, out, check=lambda folder: _check(folder, params.limit_mb))


def _origin(record: TrainingRecord) -> dict[str, str]:
    """The networks from which this one came, without those that it did not need."""
    origin = {"started_from": record.started_from, "teacher": record.teacher}
    return {name: version for name, version in origin.items() if version}


def _check(folder: Path, limit_mb: float) -> None:
    size_mb = (folder / MODEL_FILE).stat().st_size / 1e6
    if size_mb > limit_mb:
        raise TrainingError(
            f"The model file is {size_mb:.1f} MB, more than export.limit_mb in params.yaml ({limit_mb:g}). "
            "Raise the limit or train a smaller network."
        )
    check_parity(folder)


def _read_metrics(evaluated: Path) -> dict[str, Interval]:
    try:
        content = json.loads((evaluated / METRICS_FILE).read_text(encoding="utf-8"))
        return {name: Interval(**value) for name, value in content.items()}
    except (OSError, ValueError) as error:
        raise TrainingError(f"{evaluated} contains no metrics ({error}). Run `dvc repro evaluate`.") from error


def _read_biases(evaluated: Path) -> tuple[float, ...]:
    try:
        return tuple(json.loads((evaluated / RESULTS_FILE).read_text(encoding="utf-8"))["biases"])
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"{evaluated} contains no calibration ({error}). Run `dvc repro evaluate`.") from error


def _describe(prepared: Path) -> dict[str, str | int | float]:
    """Fingerprints and sizes of the splits. Models with equal fingerprints used the same images."""
    facts: dict[str, str | int | float] = {}
    for name in SPLITS:
        split = read_split(prepared, name)
        facts[f"{name}_fingerprint"] = split.fingerprint
        facts[f"{name}_pictures"] = len(split.facts)
    return facts


def _reference(test: Split, predictions: Predictions, familiarity: FamiliarityFit) -> dict[str, Histogram]:
    """Histograms of the test images and of the predictions on them, against which the dashboard measures drift."""
    probabilities = predictions.probabilities
    light = np.array([brightness_contrast(pixels) for pixels in test.pixels])
    predicted = np.bincount(probabilities.argmax(axis=1), minlength=len(test.labels))
    shares = np.linspace(0, 1, _BINS + 1)
    return {
        "confidence": _histogram(probabilities.max(axis=1), shares),
        "familiarity": _histogram(familiarity.test, shares),
        "label": Histogram(counts=predicted.tolist(), names=test.labels),
        "brightness": _histogram(light[:, 0], shares),
        "contrast": _histogram(light[:, 1], shares / 2),  # the standard deviation of values in 0..1 is at most 0.5
        "width": _histogram(np.array([fact.width for fact in test.facts]), _SIZE_EDGES),
        "height": _histogram(np.array([fact.height for fact in test.facts]), _SIZE_EDGES),
    }


def _histogram(values: NDArray[Any], edges: NDArray[np.float64]) -> Histogram:
    counts, _ = np.histogram(values, edges)
    return Histogram(counts=counts.tolist(), edges=edges.tolist())


def main() -> None:
    """Run the stage."""
    paths = parse_paths(
        "training.stages.export",
        __doc__,
        prepared=PREPARED,
        trained=TRAINED,
        evaluated=EVALUATED,
        params=PARAMS_FILE,
        out=BUNDLE,
    )
    params = read_params(paths.params).export
    manifest = export(paths.prepared, paths.trained, paths.evaluated, params, paths.out)
    print(f"Wrote {manifest.name} {manifest.version} to {paths.out}.")


if __name__ == "__main__":
    run_command(main)
