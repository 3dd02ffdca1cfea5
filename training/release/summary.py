"""The table at the end of `make train`."""

import json
import os
from pathlib import Path
from typing import Any

from bundle.manifest import MODEL_FILE, Interval, Manifest, read_manifest
from training.data.balance import imbalance_note

_COST_FILE = "cost.json"
_ROUNDS = 3


def render_summary(build: Path, log: Path, recorded: str) -> str:
    """Return the table for the bundle in the folder `build`; `recorded` says where MLflow keeps the result."""
    bundle = build / "bundle"
    manifest = read_manifest(bundle)
    metrics, data = manifest.metrics, manifest.data
    tested = data["test_pictures"]
    cost = _cost(build, manifest)
    rows = {
        "Model": f"{manifest.name} {manifest.version}, {manifest.input.height} x {manifest.input.width} px",
        "Classes": _names(manifest.labels),
        "Images": f"{data['train_pictures']} for training, {data['validation_pictures']} for validation, {tested} "
        "for the test",
        "Imbalance": imbalance_note(_train_counts(build)),
        "Accuracy": f"{_percent(metrics['accuracy'])} on the test images",
        "Calibration": f"confidence is off by {_percent(metrics['calibration_error'])} on average",
        "Size": f"{(bundle / MODEL_FILE).stat().st_size / 1e6:.1f} MB",
        "Cost": f"{cost['cpu_ms_batch_1']:.1f} ms of CPU for one image, {cost['cpu_ms_batch_32']:.1f} ms per image in "
        f"batches of 32 ({os.cpu_count()} cores)",
        "Bundle": str(bundle),
        "Recorded": recorded,
        "Details": f"{build / 'evaluated'}, {log}",
        "Next": f"PAWQUEUE_MODEL={bundle} make demo PHOTOS=folder",
    }
    return "\n".join(f"{name:12} {text}" for name, text in rows.items() if text)


def _cost(build: Path, manifest: Manifest) -> dict[str, Any]:
    """Measure the cost of a prediction, or read the measurement of an earlier call."""
    file = build / _COST_FILE
    if file.is_file():
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if found["version"] == manifest.version:
            return found
    from training.quality.cost import measure_cost  # noqa: PLC0415 (imports Keras, which takes seconds)

    (measured,) = measure_cost([build / "bundle"], _ROUNDS)
    file.write_text(json.dumps(measured), encoding="utf-8")
    return measured


def _train_counts(build: Path) -> dict[str, int]:
    report = json.loads((build / "prepared" / "report.json").read_text(encoding="utf-8"))
    counts: dict[str, int] = report["by_split_and_label"]["train"]
    return counts


def _names(labels: list[str]) -> str:
    shown = ", ".join(labels[:8])
    return shown if len(labels) <= 8 else f"{len(labels)}: {shown}, ..."


def _percent(share: Interval) -> str:
    low, high = (100 * (share.value if bound is None else bound) for bound in (share.low, share.high))
    return f"{100 * share.value:.1f} % (95 % interval {low:.1f} to {high:.1f})"
