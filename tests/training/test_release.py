"""What ships: only a model that is right often enough, with a card of its own figures."""

import json
from pathlib import Path

import pytest

from bundle.golden import RECIPE, fingerprint, golden_inputs
from bundle.manifest import (
    MANIFEST_FILE,
    MODEL_FILE,
    Golden,
    InputSpec,
    Interval,
    Manifest,
    read_manifest,
    sha256_of,
)
from training import release as releasing
from training.artifacts import PREDICTIONS_FILE, RESULTS_FILE
from training.cost import COLUMNS
from training.errors import TrainingError
from training.release import Measured, release


@pytest.fixture(autouse=True)
def _parity_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releasing, "check_parity", lambda _folder: None)


def write_bundle(folder: Path, accuracy: float) -> Path:
    """Write a bundle without a network."""
    folder.mkdir()
    (folder / MODEL_FILE).write_bytes(b"weights")
    (folder / PREDICTIONS_FILE).write_text("sha256,label,cat,dog\n", encoding="utf-8")
    manifest = Manifest(
        schema=1, name="cats-dogs", version="compact-new", architecture="compact", labels=["cat", "dog"],
        input=InputSpec(height=32, width=32), output="sigmoid",
        metrics={"accuracy": Interval(value=accuracy, low=accuracy - 0.01, high=accuracy + 0.01)},
        data={"train_pictures": 18332, "test_pictures": 2235, "started_from": "compact-old"},
        golden=Golden(recipe=RECIPE, inputs_sha256=fingerprint(golden_inputs(32, 32)), outputs=[[0.5, 0.5]] * 8),
        sha256={name: sha256_of(folder / name) for name in (MODEL_FILE, PREDICTIONS_FILE)},
    )  # fmt: skip
    (folder / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
    return folder


def measurements(folder: Path, version: str = "compact-new") -> Measured:
    row = dict.fromkeys(COLUMNS, 1.5) | {"input": "32 x 32", "size_mb": 9.1, "accuracy": None, "train_pictures": 0}
    share = {"value": 0.9, "low": 0.8, "high": 0.95}
    contents = {
        RESULTS_FILE: {"labels": ["cat", "dog"], "confusion": [[7, 1], [2, 8]], "robustness": {"grey": 0.9}},
        "costs.json": {"cores": 2, "bundles": [row | {"architecture": "compact", "version": version}]},
        "elsewhere.json": {"version": version, "pictures": 78, "sent": {"96 px": share}},
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return Measured(folder, folder / "costs.json", folder / "elsewhere.json")


def test_a_good_model_ships_with_its_card(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", 0.96)
    release(bundle, measurements(tmp_path), tmp_path / "shipped", 0.955)
    assert read_manifest(tmp_path / "shipped") == read_manifest(bundle)
    card = (tmp_path / "shipped" / "README.md").read_text(encoding="utf-8")
    for told in ("96.00 % (95.00 to 97.00)", "compact-old", "| cat | 7 | 1 |", "| 96 px | 90.00 %", "not trained"):
        assert told in card
    assert "{" not in card


def test_a_model_that_is_right_too_rarely_does_not_ship(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"94\.00 % of its test images right; 95\.5 are wanted"):
        release(write_bundle(tmp_path / "bundle", 0.94), measurements(tmp_path), tmp_path / "shipped", 0.955)
    assert not (tmp_path / "shipped").exists()


def test_measurements_of_another_model_do_not_ship(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", 0.96)
    with pytest.raises(TrainingError, match=r"costs\.json is of compact-else, not of compact-new"):
        release(bundle, measurements(tmp_path, "compact-else"), tmp_path / "shipped", 0.955)
