"""Ship a bundle: copy it to `models/cats-dogs`, which git keeps, with a model card made of its own figures."""

import argparse
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.manifest import MANIFEST_FILE, MODEL_FILE, Interval, Manifest
from training.artifacts import PREDICTIONS_FILE, RESULTS_FILE
from training.cost import COLUMNS as COST_COLUMNS
from training.errors import TrainingError, run_command
from training.folders import replace_folder
from training.parity import check_parity
from training.promotion import SHIPPED, open_bundle

_TEMPLATE = Path(__file__).with_name("model_card.md")
#: A model that is right less often does not ship.
LEAST_ACCURACY = 0.955


@dataclass(frozen=True)
class Measured:
    """Where the measurements of a bundle lie."""

    #: Folder of the stage `evaluate`.
    evaluated: Path
    #: What `training.cost` printed of baseline and bundle.
    costs: Path
    #: What `training.elsewhere` printed, if it was run.
    elsewhere: Path | None = None


def release(bundle: Path, measured: Measured, out: Path, least_accuracy: float) -> Manifest:
    """Copy the bundle to `out` with its card.

    Raises:
        TrainingError: the bundle is damaged, answers otherwise than it did, is right too rarely to ship, or a
            measurement is of another one.
    """
    manifest = open_bundle(bundle)
    accuracy = 100 * manifest.metrics["accuracy"].value
    if accuracy < 100 * least_accuracy:
        raise TrainingError(
            f"{bundle} has {accuracy:.2f} % of its test images right; {100 * least_accuracy:.1f} are wanted to ship."
        )
    check_parity(bundle)
    costs, elsewhere = _read_json(measured.costs), _read_json(measured.elsewhere) if measured.elsewhere else None
    _check_measured(manifest, [row["version"] for row in costs["bundles"]], measured.costs)
    if elsewhere:
        _check_measured(manifest, [elsewhere["version"]], measured.elsewhere)
    card = render_card(manifest, _read_json(measured.evaluated / RESULTS_FILE), costs, elsewhere)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        for name in (MODEL_FILE, MANIFEST_FILE, PREDICTIONS_FILE):
            shutil.copyfile(bundle / name, unfinished / name)
        (unfinished / "README.md").write_text(card, encoding="utf-8")
        replace_folder(unfinished, out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return manifest


def _check_measured(manifest: Manifest, versions: list[str], file: Path | None) -> None:
    if manifest.version not in versions:
        raise TrainingError(f"{file} is of {', '.join(versions)}, not of {manifest.version}; measure again.")


def render_card(
    manifest: Manifest, results: dict[str, Any], costs: dict[str, Any], elsewhere: dict[str, Any] | None = None
) -> str:
    """Fill the template with a model's figures."""
    figures = [
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
        "elsewhere": _elsewhere_table(elsewhere),
        "trained": manifest.data["train_pictures"],
        "tested": manifest.data["test_pictures"],
        "temperature": f"{manifest.temperature:.3f}",
        "accuracy": _percent(manifest.metrics["accuracy"]),
        "figures": "\n".join(figures),
        "confusion": "\n".join(confusion),
        "spoilt": "\n".join(f"| {name} | {100 * share:.1f} % |" for name, share in results["robustness"].items()),
        "cores": costs["cores"],
        "costs": "\n".join(_cost_row(row) for row in costs["bundles"]),
    }
    text = _TEMPLATE.read_text(encoding="utf-8")
    for key, value in fields.items():
        text = text.replace("{" + key + "}", str(value))
    return text


def _lineage(manifest: Manifest) -> str:
    if before := manifest.data.get("started_from"):
        return (
            f"Its last run went on from the weights of an earlier one (`{before}`); `docs/training.md` lists all of "
            "them, back to the one that began with drawn weights."
        )
    return "One run made it; `docs/training.md` lists all that were tried."


def _elsewhere_table(found: dict[str, Any] | None) -> str:
    if not found:
        return "Not measured."
    rows = [f"| {name} | {_percent(Interval(**share))} |" for name, share in found["sent"].items()]
    return "\n".join(
        [
            f"{found['images']} photographs of the test split at their natural shape (320 px), sent in these ways",
            "and decoded as a worker decodes them. So few images leave wide intervals.",
            "",
            "| sent as | accuracy (95 %) |",
            "| --- | --- |",
            *rows,
        ]
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
        raise TrainingError(f"{path} cannot be read ({error}).") from error
    return content


def main() -> None:
    """Read the command line and release."""
    parser = argparse.ArgumentParser(
        prog="python -m training.release",
        description=__doc__,
        epilog="example: python -m training.release --costs build/cost.json --elsewhere build/elsewhere.json",
    )
    parser.add_argument("--bundle", type=Path, default=Path("build/bundle"))
    parser.add_argument("--evaluated", type=Path, default=Path("build/evaluated"))
    parser.add_argument("--costs", type=Path, required=True, help="output of `training.cost BASELINE BUNDLE`")
    parser.add_argument("--elsewhere", type=Path, help="output of `training.elsewhere`")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--least-accuracy", type=float, default=LEAST_ACCURACY)
    given = parser.parse_args()
    measured = Measured(given.evaluated, given.costs, given.elsewhere)
    manifest = release(given.bundle, measured, given.out, given.least_accuracy)
    print(f"{manifest.version} is in {given.out}; commit it.")


if __name__ == "__main__":
    run_command(main)
