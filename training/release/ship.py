"""Ship a bundle with the project: copy it to `models/cats-dogs`, with a model card generated from its metrics."""

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.locate import INCLUDED
from bundle.manifest import MANIFEST_FILE, Interval, Manifest, read_manifest
from training.errors import TrainingError, run_command
from training.files import BUNDLE, EVALUATED, RESULTS_FILE, staged_folder
from training.quality.cost import COLUMNS as COST_COLUMNS
from training.release.bundling import check_parity

_TEMPLATE = Path(__file__).with_name("model_card.md")
#: Models with a lower accuracy do not ship.
MIN_ACCURACY = 0.955


@dataclass(frozen=True)
class Measurements:
    """The files that hold the measurements of a bundle."""

    #: Output folder of the stage `evaluate`.
    evaluated: Path
    #: Output of `training.quality.cost`.
    costs: Path
    #: Output of `training.quality.elsewhere`, if it was run.
    elsewhere: Path | None = None
    #: Output of `training.quality.unfamiliar`, if it was run.
    unfamiliar: Path | None = None


def ship(
    bundle: Path,
    measurements: Measurements,
    out: Path,
    *,
    min_accuracy: float = MIN_ACCURACY,
    check: Callable[[Path], None] = check_parity,
) -> Manifest:
    """Copy the bundle to `out` with its model card, and return its manifest.

    Raises:
        BundleError: the bundle is damaged.
        TrainingError: its accuracy is below `min_accuracy`, it fails `check`, or a measurement is missing or belongs to
            another bundle.
    """
    manifest = read_manifest(bundle)
    accuracy = manifest.metrics["accuracy"].value
    if accuracy < min_accuracy:
        raise TrainingError(
            f"{bundle} has a test accuracy of {100 * accuracy:.2f} %. At least {100 * min_accuracy:.1f} % is required."
        )
    check(bundle)
    costs = _read_json(measurements.costs)
    elsewhere = _read_json(measurements.elsewhere) if measurements.elsewhere else None
    unfamiliar = _read_json(measurements.unfamiliar) if measurements.unfamiliar else None
    _check_version(manifest, [row["version"] for row in costs["bundles"]], measurements.costs)
    if elsewhere:
        _check_version(manifest, [elsewhere["version"]], measurements.elsewhere)
    if unfamiliar:
        _check_version(manifest, [unfamiliar["version"]], measurements.unfamiliar)
    results = _read_json(measurements.evaluated / RESULTS_FILE)
    card = _render_card(manifest, results, costs, {"elsewhere": elsewhere, "unfamiliar": unfamiliar})
    with staged_folder(out) as folder:
        for name in (MANIFEST_FILE, *manifest.sha256):
            shutil.copyfile(bundle / name, folder / name)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return manifest


def _check_version(manifest: Manifest, versions: list[str], file: Path | None) -> None:
    if manifest.version not in versions:
        raise TrainingError(f"{file} measures {', '.join(versions)}, not {manifest.version}. Measure again.")


def _render_card(
    manifest: Manifest, results: dict[str, Any], costs: dict[str, Any], optional: dict[str, dict[str, Any] | None]
) -> str:
    metrics = [
        f"| {name.replace('_', ' ')} | {value.value:.4f} | {value.low:.4f} to {value.high:.4f} |"
        for name, value in manifest.metrics.items()
    ]
    confusion = [
        f"| {label} | {' | '.join(map(str, row))} |"
        for label, row in zip(results["labels"], results["confusion"], strict=True)
    ]
    fields = {
        "version": manifest.version,
        "input": f"{manifest.input.height} x {manifest.input.width}",
        "lineage": _lineage(manifest),
        "elsewhere": _elsewhere_table(optional["elsewhere"]),
        "unfamiliar": _unfamiliar_text(manifest, optional["unfamiliar"]),
        "tested": manifest.data["test_pictures"],
        "temperature": f"{manifest.temperature:.3f}",
        "accuracy": _percent(manifest.metrics["accuracy"]),
        "metrics": "\n".join(metrics),
        "confusion": "\n".join(confusion),
        "robustness": "\n".join(f"| {name} | {100 * share:.1f} % |" for name, share in results["robustness"].items()),
        "cores": costs["cores"],
        "costs": "\n".join(_cost_row(row) for row in costs["bundles"]),
    }
    text = _TEMPLATE.read_text(encoding="utf-8")
    for key, value in fields.items():
        text = text.replace("{" + key + "}", str(value))
    return text


def _lineage(manifest: Manifest) -> str:
    """How the network came to its weights, as one sentence or more."""
    before = str(manifest.data.get("started_from", ""))
    trained = f"trained on {manifest.data['train_pictures']} photographs"
    if manifest.architecture == "transfer":
        return (
            f"It is a backbone with ImageNet weights (`{before}`; those of EfficientNet-Lite are published under the "
            f"Apache License 2.0) with a new head (`transfer` in `training/networks/architectures.py`), {trained}."
        )
    text = f"It is the network `{manifest.architecture}` in `training/networks/architectures.py`, {trained} without "
    if not before:
        return f"{text}pretrained weights, in a single run."
    return f"{text}pretrained weights. Its last run started from the weights of an earlier one (`{before}`)."


def _elsewhere_table(found: dict[str, Any] | None) -> str:
    if not found:
        return "Not measured."
    rows = [f"| {name} | {_percent(Interval(**share))} |" for name, share in found["sent"].items()]
    return "\n".join(
        [
            f"{found['pictures']} photographs of the test split in their original shape (320 px), encoded in different",
            "ways and decoded as workers decode them. The intervals are wide because there are few images.",
            "",
            "| encoded as | accuracy (95 %) |",
            "| --- | --- |",
            *rows,
        ]
    )


def _unfamiliar_text(manifest: Manifest, found: dict[str, Any] | None) -> str:
    """Whether the model notices images of other things."""
    if manifest.familiarity is None:
        return "This model does not measure familiarity: it labels images of other things without a warning."
    text = (
        "The model measures how familiar an image is. Below a familiarity of 0.01, a job has the warning "
        "`unfamiliar_image`."
    )
    if not found:
        return f"{text} How often it notices images of other things was not measured."
    test, other = (Interval(**found[name]["unfamiliar"]) for name in ("test", "other"))
    return (
        f"{text} {found['other']['pictures']} images of other things had it in {_percent(other)} of the cases, the "
        f"{found['test']['pictures']} test images in {_percent(test)}. The area under the ROC curve is "
        f"{found['auc']:.4f}."
    )


def _percent(share: Interval) -> str:
    return f"{100 * share.value:.2f} % ({100 * (share.low or 0):.2f} to {100 * (share.high or 1):.2f})"


def _cost_row(row: dict[str, Any]) -> str:
    accuracy = _percent(Interval(**row["accuracy"])) if row["accuracy"] else "not trained"
    times = " | ".join(f"{row[name]:.2f}" for name in COST_COLUMNS)
    network = f"`{row['architecture']}` | {row['input']} | {row['size_mb']:.1f} | {row['train_pictures'] or '-'}"
    return f"| {network} | {accuracy} | {times} |"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"Cannot read {path} ({error}).") from error
    return content


def main() -> None:
    """Read the command line and ship the bundle."""
    parser = argparse.ArgumentParser(
        prog="python -m training.release.ship",
        description=__doc__,
        epilog="example: python -m training.release.ship --costs build/cost.json --elsewhere build/elsewhere.json",
    )
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help=f"default: {BUNDLE}")
    parser.add_argument("--evaluated", type=Path, default=EVALUATED, help=f"default: {EVALUATED}")
    parser.add_argument("--costs", type=Path, required=True, help="output of `training.quality.cost BASELINE BUNDLE`")
    parser.add_argument("--elsewhere", type=Path, help="output of `training.quality.elsewhere`")
    parser.add_argument("--unfamiliar", type=Path, help="output of `training.quality.unfamiliar`")
    parser.add_argument("--out", type=Path, default=INCLUDED, help="default: the included bundle")
    parser.add_argument("--min-accuracy", type=float, default=MIN_ACCURACY, help=f"default: {MIN_ACCURACY}")
    args = parser.parse_args()
    measurements = Measurements(args.evaluated, args.costs, args.elsewhere, args.unfamiliar)
    manifest = ship(args.bundle, measurements, args.out, min_accuracy=args.min_accuracy)
    print(f"Copied {manifest.version} to {args.out}. Commit it.")


if __name__ == "__main__":
    run_command(main)
