"""Promotion: replace the served bundle with a significantly better one."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bundle.locate import bundle_to_serve, champion_folder
from bundle.manifest import BundleError, read_manifest
from bundle.staging import staged_folder
from training.errors import TrainingError
from training.quality.comparison import SIGNIFICANCE, Comparison, compare, read_predictions
from training.release.bundling import check_parity

#: Stored with the promoted bundle: when and why it was promoted, and which version it replaced.
RECORD_FILE = "promotion.json"


def current_champion(state_dir: Path) -> Path | None:
    """Return the promoted bundle's folder, or the shipped bundle's if none was promoted, or None."""
    folder = bundle_to_serve(None, state_dir)
    return folder if folder.is_dir() else None


def compare_bundles(challenger: Path, champion: Path) -> Comparison:
    """Compare two bundles by the predictions stored in them. Of a replaced bundle, only the predictions are needed.

    Raises:
        BundleError: a bundle is missing or damaged.
        TrainingError: a bundle contains no predictions, or they share no test images.
    """
    for source in (challenger, champion):
        if not source.is_file():
            read_manifest(source)
    return compare(read_predictions(challenger), read_predictions(champion))


def promote(
    challenger: Path,
    champion: Path | None,
    state_dir: Path,
    *,
    force_reason: str | None = None,
    check: Callable[[Path], None] = check_parity,
) -> Comparison | None:
    """Copy `challenger` to the champion's folder in `state_dir` if it is better than `champion`.

    Returns the comparison, or None if there was no champion. `force_reason` overrides the comparison and is recorded;
    it never overrides `check`.

    Raises:
        BundleError: the challenger is damaged.
        TrainingError: the challenger is not better, is worse calibrated, or fails `check`.
        OSError: the disk is full or not writable. The champion is unchanged.
    """
    manifest = read_manifest(challenger)
    comparison = _comparison(challenger, champion, force_reason)
    if comparison and not force_reason:
        _require_improvement(comparison)
    check(challenger)
    record = {
        "version": manifest.version,
        "replaced": _version_or_damaged(champion) if champion else None,
        "promoted_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "forced_because": force_reason,
        "comparison": comparison.to_json() if comparison else None,
    }
    with staged_folder(champion_folder(state_dir)) as folder:
        _copy_files(challenger, folder)
        (folder / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        read_manifest(folder)
    return comparison


def _copy_files(source: Path, target: Path) -> None:
    """Copy a folder. Unlike `shutil.copytree`, stop at the first file that cannot be written and raise its error."""
    for path in source.rglob("*"):
        if path.is_file():
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _comparison(challenger: Path, champion: Path | None, force_reason: str | None) -> Comparison | None:
    if champion is None:
        return None
    try:
        return compare_bundles(challenger, champion)
    except (BundleError, TrainingError):
        if force_reason:
            return None  # a champion that is damaged or cannot be compared may be replaced by force
        raise


def _require_improvement(found: Comparison) -> None:
    if not found.is_better:
        raise TrainingError(
            f"Not promoted: on {found.images} shared test images the challenger's accuracy is "
            f"{100 * found.challenger_accuracy:.2f} % and the champion's {100 * found.champion_accuracy:.2f} % "
            f"(McNemar p = {found.p_value:.3g}; required: higher accuracy and p < {SIGNIFICANCE}). "
            "Use `--force REASON` to promote it anyway."
        )
    if found.calibration_is_worse:
        raise TrainingError(
            f"Not promoted: the challenger's calibration error is {found.challenger_calibration:.4f}, significantly "
            f"larger than the champion's {found.champion_calibration:.4f}. "
            "Use `--force REASON` to promote it anyway."
        )


def _version_or_damaged(folder: Path) -> str:
    try:
        return read_manifest(folder).version
    except BundleError:
        return "damaged"
