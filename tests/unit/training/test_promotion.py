"""No model is promoted because it looks better by luck."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from scipy.stats import binom

from bundle.golden import RECIPE, fingerprint, golden_inputs
from bundle.manifest import MANIFEST_FILE, MODEL_FILE, Golden, InputSpec, Manifest, sha256_of
from training.comparing import mcnemar
from training.errors import TrainingError
from training.models_cli import models
from training.predictions import PREDICTIONS_FILE
from training.promotion import RECORD_FILE, champion_folder, current_champion, promote

IMAGES = 400


def bundle(folder: Path, right: int, confidence: float | None = None, first: int = 0) -> Path:
    """Write a bundle without a network whose first `right` of 400 answers are right."""
    folder.mkdir(parents=True)
    (folder / MODEL_FILE).write_bytes(folder.name.encode())
    sure = right / IMAGES if confidence is None else confidence
    rows = ["sha256,label,cat,dog"]
    for index in range(IMAGES):
        truth = index % 2
        dog = sure if (truth == 1) == (index < right) else 1 - sure
        rows.append(f"image{first + index},{('cat', 'dog')[truth]},{1 - dog},{dog}")
    (folder / PREDICTIONS_FILE).write_text("\n".join(rows) + "\n")
    manifest = Manifest(
        schema=1,
        name="cats-dogs",
        version=folder.name,
        architecture="compact",
        labels=["cat", "dog"],
        input=InputSpec(height=32, width=32),
        output="sigmoid",
        golden=Golden(recipe=RECIPE, inputs_sha256=fingerprint(golden_inputs(32, 32)), outputs=[[0.5, 0.5]] * 8),
        sha256={name: sha256_of(folder / name) for name in (MODEL_FILE, PREDICTIONS_FILE)},
    )
    (folder / MANIFEST_FILE).write_text(manifest.to_json())
    return folder


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAWQUEUE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def passes(_folder: Path) -> None:
    pass


@pytest.mark.parametrize(("first", "second"), [(0, 0), (5, 5), (10, 2), (1, 9)])
def test_mcnemar_is_the_two_sided_binomial_test(first: int, second: int) -> None:
    least = min(first, second)
    expected = min(1.0, 2 * binom.cdf(least, first + second, 0.5))
    assert mcnemar(first, second) == pytest.approx(expected if first + second else 1.0)


def test_the_first_champion_needs_no_proof(tmp_path: Path) -> None:
    assert promote(bundle(tmp_path / "one", 300), passes) is None
    assert current_champion() == champion_folder()


def test_a_clearly_better_model_is_promoted_and_recorded(tmp_path: Path) -> None:
    promote(bundle(tmp_path / "one", 300), passes)
    comparison = promote(bundle(tmp_path / "two", 340), passes)
    assert comparison is not None
    assert comparison.is_better
    assert (champion_folder() / MODEL_FILE).read_bytes() == b"two"
    record = json.loads((champion_folder() / RECORD_FILE).read_text())
    assert (record["version"], record["replaced"], record["forced_because"]) == ("two", "one", None)


@pytest.mark.parametrize(
    ("right", "confidence", "message"),
    [(303, None, "McNemar"), (300, None, "McNemar"), (250, None, "McNemar"), (340, 0.55, "calibration")],
)
def test_luck_and_worse_calibration_are_refused(
    tmp_path: Path, right: int, confidence: float | None, message: str
) -> None:
    promote(bundle(tmp_path / "one", 300), passes)
    challenger = bundle(tmp_path / "two", right, confidence)
    with pytest.raises(TrainingError, match=message):
        promote(challenger, passes)
    assert (champion_folder() / MODEL_FILE).read_bytes() == b"one"
    promote(challenger, passes, "a demonstration")
    assert json.loads((champion_folder() / RECORD_FILE).read_text())["forced_because"] == "a demonstration"


def test_models_without_a_shared_test_image_cannot_be_compared(tmp_path: Path) -> None:
    promote(bundle(tmp_path / "one", 300), passes)
    with pytest.raises(TrainingError, match="share no test image"):
        promote(bundle(tmp_path / "two", 390, first=IMAGES), passes)


def test_parity_is_checked_even_when_forced(tmp_path: Path) -> None:
    def fails(_folder: Path) -> None:
        raise TrainingError("it answers otherwise")

    with pytest.raises(TrainingError, match="answers otherwise"):
        promote(bundle(tmp_path / "one", 300), fails, "in a hurry")
    assert current_champion() is None


def test_a_changed_bundle_is_not_promoted(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "one", 300)
    (folder / PREDICTIONS_FILE).write_text("sha256,label,cat,dog\n")
    with pytest.raises(TrainingError, match="differs from its checksum"):
        promote(folder, passes)


def test_the_command_compares_folders_and_names_what_it_does_not_know(tmp_path: Path) -> None:
    one, two = bundle(tmp_path / "one", 300), bundle(tmp_path / "two", 340)
    values = json.loads(CliRunner().invoke(models, ["compare", str(two), str(one), "--json"]).output)
    assert {"images", "p_value", "calibration_change", "is_better"} <= values.keys()
    said = CliRunner().invoke(models, ["compare", str(two), str(one)])
    assert said.exit_code == 0
    assert "better: yes" in said.output
    empty = CliRunner().invoke(models, ["promote", "x", "--force", " "])
    assert empty.exit_code == 1
    assert "wants a reason" in empty.output
    none = CliRunner().invoke(models, ["compare", str(one), "champion"])
    assert none.exit_code == 1
    assert "no champion yet" in none.output
