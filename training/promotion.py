"""The champion: which bundle serves, and what a challenger must show to take its place."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bundle.manifest import MANIFEST_FILE, BundleError, Manifest, read_manifest
from training.comparing import SIGNIFICANCE, Comparison, compare
from training.errors import TrainingError
from training.folders import replace_folder
from training.predictions import read_predictions

SHIPPED = Path("models/cats-dogs")
#: Beside the promoted bundle: when, instead of what, and with what right.
RECORD_FILE = "promotion.json"


def champion_folder() -> Path:
    """Where promotion puts the bundle that serves next."""
    return Path(os.environ.get("PAWQUEUE_STATE_DIR") or "state") / "models" / "champion"


def current_champion() -> Path | None:
    """Find the bundle that serves now: the promoted one, else the shipped one; None if there is neither."""
    return next((folder for folder in (champion_folder(), SHIPPED) if (folder / MANIFEST_FILE).is_file()), None)


def open_bundle(folder: Path) -> Manifest:
    """Read a bundle's manifest, its files verified.

    Raises:
        TrainingError: it is missing or damaged.
    """
    try:
        return read_manifest(folder)
    except BundleError as error:
        raise TrainingError(str(error)) from error


def read_version(folder: Path) -> str:
    """Version of a bundle, or "damaged"."""
    try:
        return open_bundle(folder).version
    except TrainingError:
        return "damaged"


def compare_bundles(challenger: Path, champion: Path) -> Comparison:
    """Compare two bundles by the answers to test images that each carries.

    Raises:
        TrainingError: one is damaged or carries none, or they share no test image.
    """
    for folder in (challenger, champion):
        open_bundle(folder)
    return compare(read_predictions(challenger), read_predictions(champion))


def promote(
    challenger: Path, check_parity: Callable[[Path], None], force_reason: str | None = None
) -> Comparison | None:
    """Copy the bundle `challenger` to the champion's folder, if it has earned it; None: there was no champion.

    Parity is checked whatever the reason given; a reason overrides the comparison alone and is recorded.

    Raises:
        TrainingError: the challenger is damaged, fails parity, is not better or is worse calibrated.
    """
    manifest = open_bundle(challenger)
    champion = current_champion()
    comparison = _comparison(challenger, champion, force_reason)
    if comparison and not force_reason:
        _refuse_unless_earned(comparison)
    check_parity(challenger)
    record: dict[str, object] = {
        "version": manifest.version,
        "replaced": read_version(champion) if champion else None,
        "promoted_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "forced_because": force_reason,
        "comparison": _as_json(comparison),
    }
    _install(challenger, champion_folder(), record)
    return comparison


def _comparison(challenger: Path, champion: Path | None, force_reason: str | None) -> Comparison | None:
    if champion is None:
        return None
    try:
        return compare_bundles(challenger, champion)
    except TrainingError:
        if force_reason:
            return None  # a damaged or incomparable champion is one of the reasons to force
        raise


def _refuse_unless_earned(found: Comparison) -> None:
    if not found.is_better:
        raise TrainingError(
            f"Refused: on {found.images} shared test images the challenger has "
            f"{100 * found.challenger_accuracy:.2f} % right, the champion {100 * found.champion_accuracy:.2f} % "
            f"(McNemar p = {found.p_value:.3g}; better and p < {SIGNIFICANCE} is wanted). "
            "Give `--force REASON` to promote it all the same."
        )
    if found.calibration_is_worse:
        raise TrainingError(
            f"Refused: the challenger's calibration error is {found.challenger_calibration:.4f}, the champion's "
            f"{found.champion_calibration:.4f}, more than chance explains. "
            "Give `--force REASON` to promote it all the same."
        )


def _as_json(comparison: Comparison | None) -> dict[str, object] | None:
    if comparison is None:
        return None
    return {**asdict(comparison), "calibration_change": comparison.calibration_change.model_dump()}


def _install(bundle: Path, folder: Path, record: dict[str, object]) -> None:
    """Copy the bundle with its record, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        shutil.copytree(bundle, unfinished, dirs_exist_ok=True)
        (unfinished / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        open_bundle(unfinished)
        replace_folder(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
