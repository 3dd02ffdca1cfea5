"""Ship a bundle with the project: copy it to `models/`, with a model card generated from its measurements.

The predictions of the bundle that it replaces are kept in `models/replaced`, for `pawqueue models compare`.
"""

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.locate import INCLUDED
from bundle.manifest import MANIFEST_FILE, Interval, Manifest, read_manifest
from bundle.staging import staged_folder
from training.errors import TrainingError, run_command
from training.files import (
    BUNDLE,
    EVALUATED,
    HISTORY_FILE,
    PARAMS_FILE,
    PREDICTIONS_FILE,
    RESULTS_FILE,
    TRAINED,
)
from training.networks.transfer import BACKBONES
from training.quality.cost import COLUMNS as COST_COLUMNS
from training.quality.elsewhere import share_with_interval
from training.release.bundling import check_parity

_TEMPLATE = Path(__file__).with_name("model_card.md")
#: Titles of `COST_COLUMNS`.
_COST_TITLES = ("CPU, batch 1", "CPU, batch 32", "wall, batch 1", "wall, batch 32")
#: The models that ship, by name, and the accuracy that each must have.
MIN_ACCURACY = {"cats-dogs": 0.99, "cats-dogs-fast": 0.975}


@dataclass(frozen=True)
class Measurements:
    """The files from which the model card is written."""

    #: Output folder of the stage `train`.
    trained: Path
    #: The parameters of the run.
    params: Path
    #: Output folder of the stage `evaluate`.
    evaluated: Path
    #: Outputs of `training.quality.cost`.
    costs: tuple[Path, ...]
    #: Output of `training.quality.elsewhere`, if it was run.
    elsewhere: Path | None = None
    #: Output of `training.quality.unfamiliar`, if it was run.
    unfamiliar: Path | None = None


def ship(
    bundle: Path,
    measurements: Measurements,
    models: Path,
    *,
    check: Callable[[Path], None] = check_parity,
) -> Manifest:
    """Copy the bundle to its folder in `models`, with its parameters and model card, and return its manifest.

    Raises:
        BundleError: the bundle is damaged.
        TrainingError: no model of this name ships, its accuracy is too low, it fails `check`, or a measurement is
            missing or belongs to another bundle.
    """
    manifest = read_manifest(bundle)
    _check_accuracy(manifest, bundle)
    check(bundle)
    card = _render_card(manifest, measurements)
    out = models / manifest.name
    _keep_predictions(out, manifest.version, models / "replaced")
    with staged_folder(out) as folder:
        for name in (MANIFEST_FILE, *manifest.sha256):
            shutil.copyfile(bundle / name, folder / name)
        shutil.copyfile(measurements.params, folder / PARAMS_FILE)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return manifest


def _check_accuracy(manifest: Manifest, bundle: Path) -> None:
    if manifest.name not in MIN_ACCURACY:
        raise TrainingError(
            f"{bundle} has the name {manifest.name}. Set export.name to one of {', '.join(MIN_ACCURACY)}."
        )
    accuracy, required = manifest.metrics["accuracy"].value, MIN_ACCURACY[manifest.name]
    if accuracy < required:
        raise TrainingError(
            f"{bundle} has a test accuracy of {100 * accuracy:.2f} %. At least {100 * required:.1f} % is required."
        )


def _keep_predictions(old: Path, new_version: str, folder: Path) -> None:
    """Copy the predictions of the bundle in `old`, if there is one and it is another, to `folder`."""
    if not (old / MANIFEST_FILE).is_file():
        return
    version = read_manifest(old).version
    if version != new_version:
        folder.mkdir(exist_ok=True)
        shutil.copyfile(old / PREDICTIONS_FILE, folder / f"{version}.csv")


def _check_version(manifest: Manifest, versions: list[str], file: Path) -> None:
    if manifest.version not in versions:
        raise TrainingError(f"{file} measures {', '.join(versions)}, not {manifest.version}. Measure again.")


def _render_card(manifest: Manifest, measurements: Measurements) -> str:
    results, history = (
        _read_json(file) for file in (measurements.evaluated / RESULTS_FILE, measurements.trained / HISTORY_FILE)
    )
    elsewhere, unfamiliar = (
        _read_measured(file, manifest) for file in (measurements.elsewhere, measurements.unfamiliar)
    )
    costs = [_read_json(file) for file in measurements.costs]
    for file, cost in zip(measurements.costs, costs, strict=True):
        _check_version(manifest, [row["version"] for row in cost["bundles"]], file)
    tested = int(manifest.data["test_pictures"])
    metrics = [
        f"| {name.replace('_', ' ')} | {value.value:.4f} | {value.low:.4f} to {value.high:.4f} |"
        for name, value in manifest.metrics.items()
    ]
    confusion = [
        f"| {label} | {' | '.join(map(str, row))} |"
        for label, row in zip(results["labels"], results["confusion"], strict=True)
    ]
    robustness = [
        f"| {name} | {_percent(share_with_interval(round(share * tested), tested))} |"
        for name, share in results["robustness"].items()
    ]
    fields = {
        "name": manifest.name,
        "version": manifest.version,
        "input": f"{manifest.input.height} x {manifest.input.width}",
        "lineage": _lineage(manifest),
        "elsewhere": _elsewhere_table(elsewhere),
        "unfamiliar": _unfamiliar_text(manifest, unfamiliar),
        "tested": tested,
        "minutes": f"{sum(row['seconds'] for row in history['epochs']) / 60:.0f}",
        "temperature": f"{manifest.temperature:.3f}",
        "biases": ", ".join(
            f"{bias:+.2f} for {label}" for label, bias in zip(manifest.labels, manifest.biases, strict=True)
        ),
        "accuracy": _percent(manifest.metrics["accuracy"]),
        "metrics": "\n".join(metrics),
        "confusion": "\n".join(confusion),
        "robustness": "\n".join(robustness),
        "costs": "\n\n".join(_cost_table(cost) for cost in costs),
    }
    text = _TEMPLATE.read_text(encoding="utf-8")
    for key, value in fields.items():
        text = text.replace("{" + key + "}", str(value))
    return text


def _lineage(manifest: Manifest) -> str:
    """How the network came to its weights, as one sentence or more."""
    before, teacher = (str(manifest.data.get(key, "")) for key in ("started_from", "teacher"))
    network = f"the network `{manifest.architecture}` in `training/networks/architectures.py`"
    text = f"It is {network}, trained on {manifest.data['train_pictures']} photographs"
    if before.startswith(tuple(BACKBONES)):
        text += f". Its backbone is pretrained (`{before}`)"
    elif before:
        text += f". Its last run started from the weights of `{before}`"
    return f"{text}. Its teacher was `{teacher}`." if teacher else f"{text}."


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


def _cost_table(costs: dict[str, Any]) -> str:
    cores = costs["cores"]
    columns = ("network", "input", "MB", "training images", "accuracy (95 %)", *_COST_TITLES)
    rows = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}", *(_cost_row(row) for row in costs["bundles"])]
    return "\n".join([f"On {cores} core{'s' if cores > 1 else ''}:", "", *rows])


def _cost_row(row: dict[str, Any]) -> str:
    accuracy = _percent(Interval(**row["accuracy"])) if row["accuracy"] else "not trained"
    times = " | ".join(f"{row[name]:.2f}" for name in COST_COLUMNS)
    network = f"`{row['architecture']}` | {row['input']} | {row['size_mb']:.1f} | {row['train_pictures'] or '-'}"
    return f"| {network} | {accuracy} | {times} |"


def _read_measured(file: Path | None, manifest: Manifest) -> dict[str, Any] | None:
    """Return an optional measurement, which must be of this bundle."""
    if file is None:
        return None
    content = _read_json(file)
    _check_version(manifest, [content["version"]], file)
    return content


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
        epilog="example: python -m training.release.ship --costs build/costs.json --elsewhere build/elsewhere.json",
    )
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help=f"default: {BUNDLE}")
    parser.add_argument("--trained", type=Path, default=TRAINED, help=f"default: {TRAINED}")
    parser.add_argument("--params", type=Path, default=PARAMS_FILE, help=f"default: {PARAMS_FILE}")
    parser.add_argument("--evaluated", type=Path, default=EVALUATED, help=f"default: {EVALUATED}")
    parser.add_argument(
        "--costs", type=Path, nargs="+", required=True, help="outputs of `training.quality.cost BASELINE BUNDLE`"
    )
    parser.add_argument("--elsewhere", type=Path, help="output of `training.quality.elsewhere`")
    parser.add_argument("--unfamiliar", type=Path, help="output of `training.quality.unfamiliar`")
    args = parser.parse_args()
    models = INCLUDED.parent
    measurements = Measurements(
        args.trained, args.params, args.evaluated, tuple(args.costs), args.elsewhere, args.unfamiliar
    )
    manifest = ship(args.bundle, measurements, models)
    print(f"Copied {manifest.version} to {models / manifest.name}. Commit it.")


if __name__ == "__main__":
    run_command(main)
