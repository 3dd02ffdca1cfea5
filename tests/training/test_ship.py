"""A bundle ships only if it is accurate enough, with a model card that shows its own metrics."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.manifest import Familiarity, Interval, read_manifest
from tests.training.synthetic import write_fake_bundle
from training.errors import TrainingError
from training.files import HISTORY_FILE, PREDICTIONS_FILE, RESULTS_FILE
from training.quality.cost import COLUMNS
from training.release.ship import Measurements, ship


def write_bundle(folder: Path, accuracy: float) -> Path:
    return write_fake_bundle(
        folder,
        [],
        metrics={"accuracy": Interval(value=accuracy, low=accuracy - 0.01, high=accuracy + 0.01)},
        biases=[0.5, -0.5],
        familiarity=Familiarity(layer="last", percentiles=[0, 1]),
        data={"train_pictures": 18332, "test_pictures": 2235, "started_from": "compact-older", "teacher": "wise-1"},
    )


def write_measurements(folder: Path, version: str) -> Measurements:
    row = dict.fromkeys(COLUMNS, 1.5) | {"input": "32 x 32", "size_mb": 9.1, "accuracy": None, "train_pictures": 0}
    share = {"value": 0.9, "low": 0.8, "high": 0.95}
    contents = {
        RESULTS_FILE: {"labels": ["cat", "dog"], "confusion": [[7, 1], [2, 8]], "robustness": {"grey": 0.9}},
        "costs.json": {"cores": 2, "bundles": [row | {"architecture": "compact", "version": version}]},
        "unfamiliar.json": {"version": version, "auc": 0.9912, "test": counted(0.011), "other": counted(0.93)},
        "costs-1.json": {"cores": 1, "bundles": [row | {"architecture": "compact", "version": version}]},
        HISTORY_FILE: {"epochs": [{"seconds": 200.0}, {"seconds": 220.0}]},
        "params.yaml": {"export": {"name": "cats-dogs"}},
        "elsewhere.json": {"version": version, "pictures": 78, "sent": {"96 px": share}},
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    costs = (folder / "costs.json", folder / "costs-1.json")
    return Measurements(
        folder, folder / "params.yaml", folder, costs, folder / "elsewhere.json", folder / "unfamiliar.json"
    )


def counted(share: float) -> dict[str, object]:
    return {"pictures": 500, "unfamiliar": {"value": share, "low": share - 0.01, "high": share + 0.01}}


def passes(_folder: Path) -> None:
    pass


def fails(_folder: Path) -> None:
    raise TrainingError("different outputs")


def ship_bundle(
    folder: Path,
    *,
    version: str = "compact-new",
    accuracy: float = 0.99,
    measured_version: str = "compact-new",
    check: Callable[[Path], None] = passes,
) -> Path:
    """Ship a bundle to `folder / "models"` and return its folder there."""
    bundle = write_bundle(folder / version, accuracy)
    ship(bundle, write_measurements(folder, measured_version), folder / "models", check=check)
    return folder / "models" / "cats-dogs"


def test_an_accurate_model_ships_with_its_card(tmp_path: Path) -> None:
    shipped = ship_bundle(tmp_path)
    assert read_manifest(shipped) == read_manifest(tmp_path / "compact-new")
    assert (shipped / "params.yaml").read_bytes() == (tmp_path / "params.yaml").read_bytes()
    card = (shipped / "README.md").read_text(encoding="utf-8")
    for text in (
        "99.00 % (98.00 to 100.00)", "18332 photographs", "compact-older", "teacher was `wise-1`", "| cat | 7 | 1 |",
        "78 photographs", "| 96 px | 90.00 %", "not trained", "took 7 minutes", "| grey | 90.02 % (88.7", "On 2 cores:",
        "On 1 core:", "500 images of other things had it in 93.00 %", "0.9912",
    ):  # fmt: skip
        assert text in card
    assert "{" not in card


def test_the_predictions_of_a_replaced_bundle_are_kept(tmp_path: Path) -> None:
    shipped = ship_bundle(tmp_path, version="compact-old", measured_version="compact-old")
    predictions = (shipped / PREDICTIONS_FILE).read_bytes()
    assert not (tmp_path / "models" / "replaced").exists()
    ship_bundle(tmp_path)
    assert read_manifest(shipped).version == "compact-new"
    assert (tmp_path / "models" / "replaced" / "compact-old.csv").read_bytes() == predictions


def test_an_inaccurate_model_does_not_ship(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"test accuracy of 94\.00 %. At least 99\.0 %"):
        ship_bundle(tmp_path, accuracy=0.94)
    assert not (tmp_path / "models").exists()


def test_measurements_of_another_model_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="measures compact-else, not compact-new"):
        ship_bundle(tmp_path, measured_version="compact-else")


def test_a_model_that_fails_the_parity_check_does_not_ship(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="different outputs"):
        ship_bundle(tmp_path, check=fails)
    assert not (tmp_path / "models").exists()
